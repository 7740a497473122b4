//! Descriptors in bulk, and at fixed numbers.
use super::clone::last_errno;
use rustix::io::Errno;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Marks every descriptor from `first` upwards close-on-exec; see `close_range(2)`.
///
/// # Errors
/// The kernel's.
pub fn close_on_exec_from(first: u32) -> Result<(), Errno> {
    // SAFETY: with CLOSE_RANGE_CLOEXEC nothing is closed, only flags of this process's descriptors change.
    let result =
        unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

/// Closes every descriptor from `first` to `last`; see `close_range(2)`. For a process between clone and
/// execve, which never drops what it owns.
///
/// # Errors
/// The kernel's.
pub fn close_between(first: u32, last: u32) -> Result<(), Errno> {
    // SAFETY: the caller's process ends in execve or _exit and runs no destructors, so no descriptor of
    // the range is used or closed again.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

/// Makes `fd` the standard stream `number` (0, 1 or 2), without close-on-exec; see `dup2(2)`.
///
/// # Errors
/// The kernel's.
pub fn become_standard_stream(fd: BorrowedFd<'_>, number: u8) -> Result<(), Errno> {
    let number = RawFd::from(number.min(2));
    if fd.as_raw_fd() == number {
        return rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty());
    }
    // SAFETY: replaces one of the three standard streams, which nothing in this process owns.
    if unsafe { libc::dup2(fd.as_raw_fd(), number) } == -1 { Err(last_errno()) } else { Ok(()) }
}

/// Takes ownership of a descriptor that a service manager passed by number, such as `LISTEN_FDS`.
///
/// # Errors
/// `EBADF` when it is not open, or is one of the three standard streams.
pub fn adopt(number: RawFd) -> Result<OwnedFd, Errno> {
    // SAFETY: F_GETFD on any number is harmless and tells whether it is open.
    if number < 3 || unsafe { libc::fcntl(number, libc::F_GETFD) } == -1 {
        return Err(Errno::BADF);
    }
    // SAFETY: the descriptor is open, and the caller was given it by the process that executed us.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
