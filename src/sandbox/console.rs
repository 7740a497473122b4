//! A terminal for the container: opened in its own devpts instance, handed to the engine as a descriptor.
//!
//! No path of the container is trusted: the master comes from the devpts mount itself and the slave from
//! the master by `TIOCGPTPEER`, so that nothing the image puts at /dev/pts matters (CVE-2025-52565).
//! Everything here runs between clone and execve; nothing allocates or locks.
use crate::sys::descriptor;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::SendFlags;
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;
use std::ffi::CStr;
use std::os::fd::{BorrowedFd, OwnedFd};

/// `statfs(2)` type of devpts, linux/magic.h.
const DEVPTS_SUPER_MAGIC: u64 = 0x1cd1;

/// Both ends of a terminal.
pub(super) struct Terminal {
    pub(super) master: OwnedFd,
    pub(super) slave: OwnedFd,
}

/// Opens a new terminal through the multiplexer of a devpts mount; the size is rows and columns.
pub(super) fn open(devpts: BorrowedFd<'_>, ptmx: &CStr, size: Option<(u16, u16)>) -> Result<Terminal, Errno> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let master = rustix::fs::openat(devpts, ptmx, flags, Mode::empty())?;
    rustix::pty::unlockpt(&master)?;
    if let Some((rows, columns)) = size {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&master, size)?;
    }
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
    Ok(Terminal { master, slave })
}

/// Refuses what stands at /dev/pts of a running container when it is no devpts.
pub(super) fn check_devpts(directory: BorrowedFd<'_>) -> Result<(), Errno> {
    let kind = rustix::fs::fstatfs(directory)?.f_type as u64;
    if kind == DEVPTS_SUPER_MAGIC { Ok(()) } else { Err(Errno::NOTTY) }
}

/// Sends the master with `SCM_RIGHTS`, as runc's console sockets expect it.
///
/// # Errors
/// The kernel's, see `sendmsg(2)`.
pub fn send_master(socket: BorrowedFd<'_>, master: BorrowedFd<'_>) -> Result<(), Errno> {
    descriptor::send(socket, b"/dev/ptmx", Some(master), SendFlags::empty())
}
