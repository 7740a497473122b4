//! `--pidfd-socket`.
use crate::container::{Child, connect_socket};
use crate::sys::descriptor;
use anyhow::Context as _;
use rustix::net::SendFlags;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

/// Where the pidfd of a process that is yet to come will be sent.
#[derive(Debug)]
pub(super) struct PidfdSocket(Option<(PathBuf, OwnedFd)>);

impl PidfdSocket {
    /// Connects now, so that a wrong path is told before anything exists.
    pub(super) fn connect(path: Option<&Path>) -> anyhow::Result<Self> {
        let connect = |path: &Path| {
            let socket = connect_socket(path);
            socket
                .map(|socket| (path.to_owned(), socket))
                .with_context(|| format!("connect to --pidfd-socket {}", path.display()))
        };
        Ok(Self(path.map(connect).transpose()?))
    }

    /// Sends the pidfd, with the word `pidfd` as runc does.
    pub(super) fn send(&self, child: &Child) -> anyhow::Result<()> {
        let Some((path, socket)) = &self.0 else { return Ok(()) };
        descriptor::send(socket.as_fd(), b"pidfd", Some(child.pidfd.as_fd()), SendFlags::empty())
            .with_context(|| format!("send the pidfd to --pidfd-socket {}", path.display()))
    }
}
