//! What is known of an instance: written by its supervisor, read by every command.
use super::restart::Streak;
use super::size::size_in_words;
use crate::network::Lease;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::{Duration, SystemTime};

/// Where an instance is in its life.
///
/// ```text
///            start            ends, policy says again
/// created ─────────▶ running ─────────────────────────▶ restarting
///                    ▲  │ ends for good                     │ time is up
///              start │  ▼                                   ▼
///                   stopped ◀──────── stop ────────────── running
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Never started, or being started for the first time.
    Created,
    /// Its process runs.
    Running,
    /// Ended, and waiting to be started again.
    Restarting,
    /// Ended for good, until the user starts it.
    Stopped,
}

impl Status {
    /// Whether a supervisor should be at work on it.
    pub fn is_active(self) -> bool {
        matches!(self, Self::Running | Self::Restarting)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Restarting => "restarting",
            Self::Stopped => "stopped",
        })
    }
}

/// `state.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct State {
    /// Where it is in its life.
    pub status: Status,
    /// Boot during which this was written; after another boot nothing of it runs.
    pub boot_id: String,
    /// Host pid of its first process while it runs.
    pub pid: Option<i32>,
    /// RFC 3339, of the latest start.
    pub started_at: Option<String>,
    /// Restarts by policy since the user started it.
    pub restart_count: u32,
    /// What the restart policy remembers.
    pub streak: Streak,
    /// RFC 3339, when a restarting instance is started again.
    pub next_start_at: Option<String>,
    /// Processes of it that were killed for want of memory, earlier starts included.
    pub oom_kills: u64,
    /// How it last ended.
    pub last_exit: Option<LastExit>,
    /// Its place on the bridge, its own from the first start until it is removed.
    pub lease: Option<Lease>,
    /// Whether links and rules of its lease may exist.
    pub attached: bool,
    /// Why it could not be started the last time it was tried.
    pub start_error: Option<String>,
}

impl State {
    /// Of an instance that was just made.
    pub fn created() -> Self {
        Self {
            status: Status::Created,
            boot_id: boot_id(),
            pid: None,
            started_at: None,
            restart_count: 0,
            streak: Streak::default(),
            next_start_at: None,
            oom_kills: 0,
            last_exit: None,
            lease: None,
            attached: false,
            start_error: None,
        }
    }

    /// Of an instance that was being started when the power failed.
    pub(super) fn lost() -> Self {
        let last_exit = Some(LastExit::by_reboot());
        Self { status: Status::Stopped, boot_id: String::new(), last_exit, ..Self::created() }
    }

    /// The lease of which links and rules may exist.
    pub(super) fn attached(&self) -> Option<&Lease> {
        self.lease.as_ref().filter(|_| self.attached)
    }

    /// How long ago it was started.
    pub fn running_for(&self) -> Duration {
        elapsed_since(self.started_at.as_deref())
    }
}

/// How the first process of an instance ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// By itself.
    Code(u8),
    /// By a signal.
    Signal(i32),
    /// Unseen: neither its supervisor nor the kernel can tell any more.
    Unknown,
}

impl Exit {
    /// From a status as wait(2) gives it.
    pub fn from_wait_status(status: i32) -> Self {
        match status & 0x7f {
            0 => Self::Code(u8::try_from((status >> 8) & 0xff).unwrap_or(u8::MAX)),
            signal => Self::Signal(signal),
        }
    }

    /// Exit status a shell would show: 128 and the signal's number.
    pub fn shell_code(&self) -> u8 {
        match self {
            Self::Code(code) => *code,
            Self::Signal(signal) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
            Self::Unknown => super::error::OWN_FAILURE,
        }
    }
}

/// The last end of an instance, as told to users and programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastExit {
    /// Exit status, when it ended by itself.
    pub code: Option<u8>,
    /// Signal that ended it.
    pub signal: Option<i32>,
    /// Whether the kernel killed a process of it for want of memory.
    pub oom: bool,
    /// RFC 3339.
    pub at: String,
    /// In words.
    pub reason: String,
}

impl LastExit {
    /// Puts an end into words.
    pub fn new(exit: &Exit, oom: bool, memory_limit_bytes: Option<u64>) -> Self {
        let (code, signal) = match exit {
            Exit::Code(code) => (Some(*code), None),
            Exit::Signal(signal) => (None, Some(*signal)),
            Exit::Unknown => (None, None),
        };
        Self { code, signal, oom, at: now(), reason: reason(exit, oom, memory_limit_bytes) }
    }

    /// Of an instance that was running when the machine went down.
    pub fn by_reboot() -> Self {
        let reason = "ended with the machine's previous boot".to_owned();
        Self { code: None, signal: None, oom: false, at: now(), reason }
    }

    /// The exit again.
    pub fn exit(&self) -> Exit {
        match (self.code, self.signal) {
            (Some(code), _) => Exit::Code(code),
            (None, Some(signal)) => Exit::Signal(signal),
            (None, None) => Exit::Unknown,
        }
    }
}

fn reason(exit: &Exit, oom: bool, memory_limit_bytes: Option<u64>) -> String {
    let limit =
        memory_limit_bytes.map(|bytes| format!(", limit {}", size_in_words(bytes))).unwrap_or_default();
    let killed = *exit == Exit::Signal(libc::SIGKILL);
    match exit {
        _ if oom && killed => format!("killed: out of memory{limit}"),
        Exit::Code(code) if oom => format!("exited {code}; a process was killed: out of memory{limit}"),
        Exit::Code(code) => format!("exited {code}"),
        Exit::Signal(signal) => {
            let name = nix::sys::signal::Signal::try_from(*signal).map(nix::sys::signal::Signal::as_str);
            let end = format!("killed by {}", name.unwrap_or("a real-time signal"));
            if oom { format!("{end}; a process was killed: out of memory{limit}") } else { end }
        }
        Exit::Unknown if oom => format!("ended unseen; a process was killed: out of memory{limit}"),
        Exit::Unknown => "ended unseen: its supervisor was not running".to_owned(),
    }
}

/// This moment, RFC 3339.
pub(super) fn now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

/// Time since an RFC 3339 text; zero when there is none or the clock was set back.
pub fn elapsed_since(text: Option<&str>) -> Duration {
    let at = text.and_then(|text| humantime::parse_rfc3339(text).ok());
    at.and_then(|at| at.elapsed().ok()).unwrap_or_default()
}

/// The running boot, random_boot_id of proc_sys_kernel(5); empty where it cannot be read.
pub(super) fn boot_id() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    text.map(|text| text.trim_end().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_told_in_words() {
        let limit = Some(64 << 20);
        let table = [
            (Exit::Code(0), false, "exited 0"),
            (Exit::Code(3), false, "exited 3"),
            (Exit::Signal(15), false, "killed by SIGTERM"),
            (Exit::Signal(9), false, "killed by SIGKILL"),
            (Exit::Signal(9), true, "killed: out of memory, limit 64 MiB"),
            (Exit::Code(137), true, "exited 137; a process was killed: out of memory, limit 64 MiB"),
            (Exit::Unknown, false, "ended unseen: its supervisor was not running"),
        ];
        for (exit, oom, words) in table {
            assert_eq!(LastExit::new(&exit, oom, limit).reason, words);
        }
        assert_eq!(LastExit::new(&Exit::Signal(9), true, None).reason, "killed: out of memory");
    }

    #[test]
    fn wait_statuses_are_read_as_wait_macros_do() {
        for (status, exit, code) in [
            (0, Exit::Code(0), 0),
            (0x0300, Exit::Code(3), 3),
            (0x0009, Exit::Signal(9), 137),
            (0x008b, Exit::Signal(11), 139),
        ] {
            assert_eq!(Exit::from_wait_status(status), exit);
            assert_eq!(exit.shell_code(), code);
            assert_eq!(LastExit::new(&exit, false, None).exit(), exit);
        }
    }
}
