//! Signals by number.
use super::clone::last_errno;
use nix::sys::signal::SigSet;
use nix::unistd::Pid;
use rustix::io::Errno;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Every signal that programs send each other: all but 32 and 33, which every C library keeps for its threads. musl's
/// `sigfillset(3)` leaves out 34, too, which is SIGRTMIN of glibc.
pub fn all() -> SigSet {
    let kept = 1 << (32 - 1) | 1 << (33 - 1);
    // SAFETY: an all-zero sigset_t is valid, and begins with the kernel's 64 bits, of which the first is signal 1;
    // it is larger than that and aligned to it on the 64-bit architectures that wharf knows.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        (&raw mut set).cast::<u64>().write(!kept);
        SigSet::from_sigset_t_unchecked(set)
    }
}

/// Waits for one of these signals, which are blocked, and takes it: its number. See `sigwaitinfo(2)`.
///
/// # Errors
/// The kernel's: `EINTR`.
pub fn wait(awaited: &SigSet) -> Result<i32, Errno> {
    // SAFETY: the set outlives the call, and a null pointer says that nothing but the number is wanted.
    let signal = unsafe { libc::sigwaitinfo(awaited.as_ref(), std::ptr::null_mut()) };
    if signal > 0 { Ok(signal) } else { Err(last_errno()) }
}

/// Sends any signal to a child that has not been waited for; see `kill(2)`.
///
/// # Errors
/// The kernel's.
pub fn send(child: Pid, signal: i32) -> Result<(), Errno> {
    // SAFETY: the call takes two numbers.
    let result = unsafe { libc::kill(child.as_raw(), signal) };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

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
