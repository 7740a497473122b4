//! `kill`: signals to a container's first process, or to all of its processes.
use super::{Container, Error, members};
use crate::sys::signal::pidfd_send_signal;
use crate::sys::signal_name;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::collections::BTreeSet;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

/// How long a process may take to end after SIGKILL.
const DEATH_LIMIT: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// A signal by name or number, such as `TERM`, `SIGTERM`, `15` or `RTMIN+3`.
///
/// # Errors
/// [`Error::UnknownSignal`].
pub fn parse_signal(text: &str) -> Result<i32, Error> {
    signal_name::number(text).ok_or_else(|| Error::UnknownSignal(text.to_owned()))
}

pub(super) fn kill(container: &Container, signal: i32, all: bool) -> Result<(), Error> {
    if all {
        return kill_all(container, signal);
    }
    let pidfd = container.pidfd()?;
    send(container, pidfd.as_fd(), signal)
}

/// Every process of the container. It may be stopped: with the host's pid namespace, processes outlive
/// the first one.
fn kill_all(container: &Container, signal: i32) -> Result<(), Error> {
    let cgroup = container.own_cgroup();
    let processes = hold(container)?;
    if processes.is_empty() {
        return Err(Error::NotRunning(container.record.id.to_string()));
    }
    if signal == libc::SIGKILL && !cgroup.record().is_empty() {
        return Ok(cgroup.kill()?);
    }
    for (pid, pidfd) in &processes {
        match pidfd_send_signal(pidfd.as_fd(), signal) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(errno) => return Err(signal_error(pid.as_raw_nonzero().get(), errno)),
        }
    }
    Ok(())
}

/// pidfds of the processes of a container. A pid that was given out again between the listing and the
/// opening is not in the second listing, and is left alone.
fn hold(container: &Container) -> Result<Vec<(Pid, OwnedFd)>, Error> {
    let open = |pid: Pid| pidfd_open(pid, PidfdFlags::empty()).ok().map(|pidfd| (pid, pidfd));
    let held: Vec<_> = members::of(container)?.into_iter().filter_map(open).collect();
    let still: BTreeSet<i32> = members::of(container)?.iter().map(|pid| pid.as_raw_nonzero().get()).collect();
    Ok(held.into_iter().filter(|(pid, _)| still.contains(&pid.as_raw_nonzero().get())).collect())
}

fn send(container: &Container, pidfd: BorrowedFd<'_>, signal: i32) -> Result<(), Error> {
    pidfd_send_signal(pidfd, signal).map_err(|errno| match errno {
        Errno::SRCH => Error::NotRunning(container.record.id.to_string()),
        errno => signal_error(container.raw_pid(), errno),
    })
}

fn signal_error(pid: i32, errno: Errno) -> Error {
    Error::Process { action: "signal", pid, source: errno.into() }
}

/// Ends every process of the container, frozen ones too, and waits until the first has ended.
pub(super) fn kill_everything(container: &Container) -> Result<(), Error> {
    let current = container.current_record()?;
    let pidfd = match &current.process {
        Some(identity) => identity.pidfd().map_err(|source| container.process_error("open", source))?,
        None => None,
    };
    // Without a cgroup, only as long as the first process lives can the others be told by it.
    let descendants = match container.own_cgroup().record().is_empty() {
        true => hold(container)?,
        false => Vec::new(),
    };
    if let Some(pidfd) = &pidfd {
        match pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(errno) => return Err(signal_error(container.raw_pid(), errno)),
        }
    }
    for (_, pidfd) in descendants {
        // One that is gone by now is what was wanted.
        let _ = pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL);
    }
    container.own_cgroup().kill()?;
    pidfd.map_or(Ok(()), |pidfd| await_end(pidfd.as_fd(), container.raw_pid()))
}

/// Waits until a killed process has ended; its parent may not have reaped it yet.
pub(super) fn await_end(pidfd: BorrowedFd<'_>, pid: i32) -> Result<(), Error> {
    loop {
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&DEATH_LIMIT)) {
            Ok(0) => return Err(Error::StillAlive(pid)),
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::Process { action: "wait for", pid, source: errno.into() }),
        }
    }
}
