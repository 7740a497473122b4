//! Seccomp agents: processes that answer the system calls a profile notifies about. The listener of each
//! process goes to the socket at `linux.seccomp.listenerPath`; config-linux.md#containerprocessstate.
//!
//! ```text
//! child                                        parent (create's spawn, exec, or start)
//! Listening(number), with a flag ────────────▶ pidfd_getfd(number) until it is there
//! seccomp(): the listener gets that number     agent ◀── listener and state
//! looks at the flag, makes no call      ◀───── sets the flag
//! execve
//! ```
//! The child makes no system call between the filter and the flag, so that a profile may notify about
//! any of them.
use crate::sandbox::spawn::{Init, SpawnError};
use crate::sys::{descriptor, flag};
use oci_spec::runtime::LinuxSeccomp;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::process::{PidfdGetfdFlags, pidfd_getfd};
use serde_json::{Value, json};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::time::Duration;

/// Who gets the listeners of a container, and what it is told.
#[derive(Debug, Clone)]
pub struct Agent {
    path: PathBuf,
    metadata: Option<String>,
    state: Value,
}

/// A child that installs its filter now, and waits until its listener has been taken.
#[derive(Debug)]
pub struct Listening {
    /// The descriptor that the listener will be, in the child.
    pub(in crate::sandbox) number: RawFd,
    pub(in crate::sandbox) flag: OwnedFd,
}

/// How long an agent may take to accept a connection.
const PATIENCE: Duration = Duration::from_secs(10);

impl Agent {
    /// The agent that a profile names, if it notifies at all. `state` is the container's, runtime.md#state.
    pub fn of(profile: Option<&LinuxSeccomp>, state: impl FnOnce() -> Value) -> Option<Self> {
        let profile = profile.filter(|profile| super::notifies(profile))?;
        let path = profile.listener_path().clone()?;
        Some(Self { path, metadata: profile.listener_metadata().clone(), state: state() })
    }

    /// Takes the listener of a process and hands it over. Does nothing when the process has said
    /// something else meanwhile, which can only be that it failed.
    ///
    /// # Errors
    /// When the agent cannot be reached; the process must then be killed.
    pub fn attend(
        &self,
        listening: &Listening,
        init: &Init,
        reports: BorrowedFd<'_>,
    ) -> Result<(), SpawnError> {
        let failed = |errno: Errno| SpawnError::Agent { path: self.path.clone(), source: errno.into() };
        let Some(listener) = take(listening.number, init, reports).map_err(failed)? else { return Ok(()) };
        self.send(init, listener.as_fd()).map_err(failed)?;
        flag::set(listening.flag.as_fd()).map_err(failed)
    }

    fn send(&self, init: &Init, listener: BorrowedFd<'_>) -> Result<(), Errno> {
        let mut message = json!({
            "ociVersion": self.state.get("ociVersion"),
            "fds": ["seccompFd"],
            "pid": init.pid.as_raw_nonzero().get(),
            "state": self.state,
        });
        if let Some(metadata) = &self.metadata {
            message["metadata"] = metadata.as_str().into();
        }
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE))?;
        connect(&socket, &SocketAddrUnix::new(&self.path)?)?;
        descriptor::send(socket.as_fd(), message.to_string().as_bytes(), Some(listener), SendFlags::empty())
    }
}

/// Waits for the descriptor to be the listener it is to become.
fn take(number: RawFd, init: &Init, reports: BorrowedFd<'_>) -> Result<Option<OwnedFd>, Errno> {
    let interval = Timespec { tv_sec: 0, tv_nsec: 200_000 };
    loop {
        match pidfd_getfd(&init.pidfd, number, PidfdGetfdFlags::empty()) {
            Ok(listener) if is_listener(&listener) => return Ok(Some(listener)),
            Ok(_) => return Err(Errno::BADF),
            Err(Errno::BADF) => {}
            Err(errno) => return Err(errno),
        }
        let mut said = [PollFd::new(&reports, PollFlags::IN)];
        match poll(&mut said, Some(&interval)) {
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return Ok(None),
            Err(errno) => return Err(errno),
        }
    }
}

fn is_listener(fd: &OwnedFd) -> bool {
    let link = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()));
    link.is_ok_and(|link| link.as_os_str() == "anon_inode:seccomp notify")
}
