//! Unix sockets at paths of any length, below a directory that is held open.
//!
//! `sun_path` has room for 107 bytes (`unix(7)`) and a state root may be deeper than that, so a socket is
//! named through `/proc/self/fd`.
use rustix::fs::{Mode, OFlags, fchmod, open};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

/// A new close-on-exec socket.
pub(super) fn unix_socket(kind: SocketType) -> Result<OwnedFd, Errno> {
    rustix::net::socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)
}

/// Binds the socket with mode 0600 as `name` in the directory and listens.
pub(super) fn listen_in(socket: BorrowedFd<'_>, directory: BorrowedFd<'_>, name: &str) -> Result<(), Errno> {
    // bind(2) gives the new inode the socket's own mode, so there is no moment with a wider one.
    fchmod(socket, Mode::RUSR | Mode::WUSR)?;
    rustix::net::bind(socket, &address_in(directory, name)?)?;
    rustix::net::listen(socket, 1)
}

/// Connects to the socket `name` of the directory.
pub(super) fn connect_in(kind: SocketType, directory: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Errno> {
    let socket = unix_socket(kind)?;
    rustix::net::connect(&socket, &address_in(directory, name)?)?;
    Ok(socket)
}

/// Connects to a stream socket anywhere.
pub(super) fn connect(path: &Path) -> Result<OwnedFd, Errno> {
    match SocketAddrUnix::new(path) {
        Ok(address) => {
            let socket = unix_socket(SocketType::STREAM)?;
            rustix::net::connect(&socket, &address)?;
            Ok(socket)
        }
        Err(Errno::NAMETOOLONG) => {
            let parent = path.parent().ok_or(Errno::NAMETOOLONG)?;
            let name = path.file_name().and_then(|name| name.to_str()).ok_or(Errno::NAMETOOLONG)?;
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let directory = open(parent, flags, Mode::empty())?;
            connect_in(SocketType::STREAM, std::os::fd::AsFd::as_fd(&directory), name)
        }
        Err(errno) => Err(errno),
    }
}

fn address_in(directory: BorrowedFd<'_>, name: &str) -> Result<SocketAddrUnix, Errno> {
    SocketAddrUnix::new(format!("/proc/self/fd/{}/{name}", directory.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd as _;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_socket_below_a_very_deep_directory_is_private_and_can_be_connected_to() {
        let scratch = tempfile::tempdir().expect("tempdir");
        let deep = scratch.path().join("x".repeat(120));
        std::fs::create_dir(&deep).expect("directory");
        let directory = std::fs::File::open(&deep).expect("open");
        let socket = unix_socket(SocketType::SEQPACKET).expect("socket");
        listen_in(socket.as_fd(), directory.as_fd(), "start.sock").expect("listen");
        let mode = std::fs::metadata(deep.join("start.sock")).expect("metadata").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        connect_in(SocketType::SEQPACKET, directory.as_fd(), "start.sock").expect("connect");
    }

    #[test]
    fn a_console_socket_with_a_long_path_is_reached() {
        let scratch = tempfile::tempdir().expect("tempdir");
        let deep = scratch.path().join("y".repeat(120));
        std::fs::create_dir(&deep).expect("directory");
        let directory = std::fs::File::open(&deep).expect("open");
        let socket = unix_socket(SocketType::STREAM).expect("socket");
        listen_in(socket.as_fd(), directory.as_fd(), "console.sock").expect("listen");
        connect(&deep.join("console.sock")).expect("connect");
        assert_eq!(connect(&deep.join("absent")).expect_err("absent"), Errno::NOENT);
    }
}
