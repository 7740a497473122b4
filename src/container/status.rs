//! Whether a process lives, by the kernel's word.
//!
//! A pid alone says nothing once its process has ended: the number is given out again. A process is
//! therefore remembered with its start time (field 22 of `/proc/PID/stat`) and the boot it belongs to,
//! and both are checked again after a pidfd holds the process still.
use crate::sys::record;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;

/// Status of a container, runtime-spec runtime.md#state, and `paused`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Being created.
    Creating,
    /// Created, the user's process not started.
    Created,
    /// Running.
    Running,
    /// Frozen.
    Paused,
    /// Its first process has ended.
    Stopped,
}

impl fmt::Display for Status {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        })
    }
}

/// What tells one process from every other on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ProcessIdentity {
    /// Host pid, never 0.
    pid: i32,
    /// Clock ticks after boot.
    start_time: u64,
    boot_id: String,
}

/// How far a living process has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// It has not executed a program since it was cloned: it awaits `start`.
    Waiting,
    /// It has executed the user's program.
    Executed,
}

/// The pid that a process has in its own pid namespace, see `NSpid` in `proc_pid_status(5)`.
pub(super) fn pid_inside(pid: Pid) -> io::Result<i32> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero()))?;
    let pids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    let last = pids.and_then(|pids| pids.split_whitespace().last()).and_then(|pid| pid.parse().ok());
    last.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no NSpid"))
}

impl ProcessIdentity {
    /// Remembers a living process. The caller is its parent and has not reaped it, so the pid is its own.
    pub(super) fn of_child(pid: Pid) -> io::Result<Self> {
        let stat = Stat::read(pid)?.ok_or(Errno::SRCH)?;
        let boot_id = boot_id()?.to_owned();
        Ok(Self { pid: pid.as_raw_nonzero().get(), start_time: stat.start_time, boot_id })
    }

    pub(super) fn pid(&self) -> Option<Pid> {
        Pid::from_raw(self.pid)
    }

    /// How far the process has come; `None` when it has ended or is ending, as a zombie too.
    pub(super) fn progress(&self) -> io::Result<Option<Progress>> {
        let stat = self.stat()?.filter(|stat| !stat.exiting());
        Ok(stat.map(|stat| if stat.executed() { Progress::Executed } else { Progress::Waiting }))
    }

    /// A pidfd of the process, also while it is ending; `None` when it has ended.
    pub(super) fn pidfd(&self) -> io::Result<Option<OwnedFd>> {
        let Some(pid) = self.pid() else { return Ok(None) };
        let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(Errno::SRCH | Errno::INVAL) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        // Only now, with the process held, does its start time tell whose pid it is.
        Ok(self.stat()?.map(|_| pidfd))
    }

    /// What the kernel tells of this very process; `None` when it has ended.
    fn stat(&self) -> io::Result<Option<Stat>> {
        let Some(pid) = self.pid() else { return Ok(None) };
        let Some(stat) = Stat::read(pid)? else { return Ok(None) };
        let ours = stat.start_time == self.start_time && !stat.ended() && boot_id()? == self.boot_id;
        Ok(ours.then_some(stat))
    }
}

/// The fields of `/proc/PID/stat` that matter here, see `proc_pid_stat(5)`.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    state: u8,
    flags: u32,
    start_time: u64,
}

/// `include/linux/sched.h`: set when a process begins to exit. The first process of a pid namespace may
/// stay so for a while: until every other process of the namespace has been reaped by its parent.
const PF_EXITING: u32 = 0x4;

/// `include/linux/sched.h`: set by fork, cleared by execve.
const PF_FORKNOEXEC: u32 = 0x40;

impl Stat {
    fn read(pid: Pid) -> io::Result<Option<Self>> {
        let path = format!("/proc/{}/stat", pid.as_raw_nonzero());
        let text = match record::read(&path) {
            Ok(text) => text,
            Err(Errno::NOENT | Errno::SRCH) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        Self::parse(&text).map(Some).ok_or_else(|| io::Error::other(format!("{path} is not understood")))
    }

    fn parse(text: &[u8]) -> Option<Self> {
        // The command name, in parentheses, may hold anything, parentheses and spaces too.
        let end_of_name = text.iter().rposition(|byte| *byte == b')')?;
        let rest = std::str::from_utf8(text.get(end_of_name + 1..)?).ok()?;
        let mut fields = rest.split_ascii_whitespace();
        let state = *fields.next()?.as_bytes().first()?;
        let flags = fields.nth(5)?.parse().ok()?;
        let start_time = fields.nth(12)?.parse().ok()?;
        Some(Self { state, flags, start_time })
    }

    fn ended(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }

    fn exiting(&self) -> bool {
        self.flags & PF_EXITING != 0
    }

    fn executed(&self) -> bool {
        self.flags & PF_FORKNOEXEC == 0
    }
}

/// Random number of this boot, see `random(4)`; it cannot change while we run.
fn boot_id() -> io::Result<&'static str> {
    static BOOT_ID: OnceLock<String> = OnceLock::new();
    if let Some(known) = BOOT_ID.get() {
        return Ok(known);
    }
    let text = record::read("/proc/sys/kernel/random/boot_id")?;
    Ok(BOOT_ID.get_or_init(|| String::from_utf8_lossy(&text).trim_end().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command, Stdio};

    fn sleeper() -> (Child, Pid) {
        let child = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().expect("sleep");
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("pid")).expect("not 0");
        (child, pid)
    }

    #[test]
    fn a_zombie_and_a_reaped_process_have_ended() {
        let (mut child, pid) = sleeper();
        let identity = ProcessIdentity::of_child(pid).expect("alive");
        assert_eq!(identity.progress().expect("stat"), Some(Progress::Executed));
        let pidfd = identity.pidfd().expect("pidfd").expect("alive");
        child.kill().expect("kill");
        let mut poll = [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut poll, None).expect("poll");
        assert_eq!(identity.progress().expect("stat"), None, "a zombie");
        assert!(identity.pidfd().expect("pidfd").is_none());
        child.wait().expect("wait");
        assert_eq!(identity.progress().expect("stat"), None, "reaped");
    }

    #[test]
    fn another_process_with_the_same_pid_is_not_taken_for_ours() {
        let (mut child, pid) = sleeper();
        let identity = ProcessIdentity::of_child(pid).expect("alive");
        let earlier = ProcessIdentity { start_time: identity.start_time - 1, ..identity.clone() };
        assert_eq!(earlier.progress().expect("stat"), None);
        assert!(earlier.pidfd().expect("pidfd").is_none());
        let other_boot = ProcessIdentity { boot_id: "another".to_owned(), ..identity };
        assert_eq!(other_boot.progress().expect("stat"), None);
        child.kill().expect("kill");
        child.wait().expect("wait");
    }

    #[test]
    fn a_command_name_full_of_parentheses_does_not_shift_the_fields() {
        let text = b"42 (a) S 1 (b)) R 1 42 42 0 -1 4194368 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2";
        let stat = Stat { state: b'R', flags: 4_194_368, start_time: 987_654 };
        assert_eq!(Stat::parse(text), Some(stat));
        assert_eq!(Stat::parse(b"42 (a"), None);
        assert_eq!(Stat::parse(b"42 (a) S 1"), None);
    }

    #[test]
    fn flags_tell_what_a_process_has_come_to() {
        let stat = |flags| Stat { state: b'S', flags, start_time: 1 };
        assert!(!stat(0x0040_0040).executed());
        assert!(stat(0x0040_0000).executed());
        assert!(stat(0x0040_050c).exiting() && !stat(0x0040_0000).exiting());
    }
}
