//! How a process ended, whoever its parent is.
use crate::service::Exit;
use crate::sys::pidfd;
use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, waitid};
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

/// Looks at a process that has ended and waits to be reaped by somebody else, and time between them.
const LOOKS: u32 = 100;
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Reaps our child.
pub(super) fn exit_of_child(pidfd: &OwnedFd) -> Exit {
    let status = loop {
        match waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED) {
            Err(Errno::INTR) => {}
            other => break other.ok().flatten(),
        }
    };
    let Some(status) = status else { return Exit::Unknown };
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Exit::Code(u8::try_from(code & 0xff).unwrap_or(u8::MAX)),
        (None, Some(signal)) => Exit::Signal(signal),
        (None, None) => Exit::Unknown,
    }
}

/// How an adopted process ended, which the host's process 1 reaps, soon or never: until then its status
/// stands in proc_pid_stat(5), and afterwards the kernel tells it to holders of a pidfd (from Linux 6.15).
pub(super) fn exit_of_adopted(pidfd: &OwnedFd, pid: i32) -> Exit {
    for _ in 0..LOOKS {
        let reaped = pidfd::exit_status(pidfd.as_fd());
        if let Ok(Some(status)) = reaped {
            return Exit::from_wait_status(status);
        }
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if let Some(status) = zombie_status(&stat) {
            return Exit::from_wait_status(status);
        }
        if reaped.is_err() {
            return Exit::Unknown;
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Exit::Unknown
}

/// Field 52 of a zombie's line. The pid is its own for as long as it is a zombie.
fn zombie_status(stat: &str) -> Option<i32> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let is_zombie = fields.next()? == "Z";
    // The state is field 3.
    is_zombie.then(|| fields.nth(48)?.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn the_status_of_a_zombie_is_read_before_anyone_reaps_it() {
        let mut child = Command::new("sh").args(["-c", "exit 7"]).stdin(Stdio::null()).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let raw = rustix::process::Pid::from_raw(pid).unwrap();
        let pidfd = rustix::process::pidfd_open(raw, rustix::process::PidfdFlags::empty()).unwrap();
        let mut polled = [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut polled, None).unwrap();
        assert_eq!(exit_of_adopted(&pidfd, pid), Exit::Code(7));
        child.wait().unwrap();
    }

    #[test]
    fn only_a_zombies_line_has_a_status() {
        let fields = ["0"; 48].join(" ");
        assert_eq!(zombie_status(&format!("1 (a) b) Z {fields} 9")), Some(9));
        assert_eq!(zombie_status(&format!("1 (a) b) S {fields} 9")), None);
        assert_eq!(zombie_status(""), None);
    }
}
