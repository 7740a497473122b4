//! Staying with a process of a container until it ends.
use crate::cli::terminal::{self, Signals};
use crate::container::Child;
use crate::sys::signal::pidfd_send_signal;
use anyhow::Context as _;
use rustix::fd::{AsFd as _, OwnedFd};
use rustix::process::{WaitId, WaitIdOptions, waitid};

/// Forwards signals and copies the terminal until the process has ended, reaps it, and returns the exit
/// status that stands for its own.
pub(super) fn attend(child: &Child, master: Option<OwnedFd>, signals: &Signals) -> anyhow::Result<u8> {
    let pidfd = child.pidfd.as_fd();
    let mut forward = |signal| {
        // The process may have ended meanwhile, which the next turn of the loop notices.
        let _ = pidfd_send_signal(pidfd, signal);
    };
    let attended = terminal::attend(pidfd, master, signals, &mut forward);
    if attended.is_err() {
        let _ = pidfd_send_signal(pidfd, libc::SIGKILL);
    }
    let status = reap(child);
    attended.context("copy between the terminal and the container")?;
    status
}

/// Waits for the end of the process; 128+n when signal n ended it.
pub(super) fn reap(child: &Child) -> anyhow::Result<u8> {
    let waited = loop {
        match waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other.context("wait for the container's process")?,
        }
    };
    let status = waited.context("the container's process has no exit status")?;
    let number = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code & 0xff,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 255,
    };
    Ok(u8::try_from(number).unwrap_or(u8::MAX))
}
