//! Signals by number.
use super::clone::last_errno;
use rustix::io::Errno;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Sends any signal, real-time ones included, which rustix's type cannot express; see
/// `pidfd_send_signal(2)`.
///
/// # Errors
/// The kernel's: `ESRCH` when the process has ended, `EINVAL` for a number that is no signal.
pub fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<(), Errno> {
    // SAFETY: the call reads no memory of ours: a null siginfo asks for the default one.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}
