//! `unshare(2)` for namespaces, and whose they are.
use super::clone::last_errno;
use rustix::io::Errno;
use rustix::thread::UnshareFlags;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

/// Moves the calling thread into new namespaces of these kinds; `FILES` and other flags that do not
/// concern namespaces are ignored.
///
/// # Errors
/// The kernel's.
pub fn unshare(namespaces: UnshareFlags) -> Result<(), Errno> {
    let allowed = UnshareFlags::NEWCGROUP
        | UnshareFlags::NEWIPC
        | UnshareFlags::NEWNET
        | UnshareFlags::NEWNS
        | UnshareFlags::NEWPID
        | UnshareFlags::NEWTIME
        | UnshareFlags::NEWUSER
        | UnshareFlags::NEWUTS;
    // SAFETY: only CLONE_FILES can make a descriptor mean something else in another thread, and it is
    // masked out.
    unsafe { rustix::thread::unshare_unsafe(namespaces & allowed) }
}

/// The user namespace that owns this namespace, see `ioctl_nsfs(2)` NS_GET_USERNS.
///
/// # Errors
/// `EPERM` when the owner is an ancestor of the caller's user namespace, over which it has no say.
pub fn owner(namespace: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    /// `_IO(0xb7, 0x1)`, linux/nsfs.h.
    const GET_USERNS: libc::c_ulong = 0xb701;
    // SAFETY: the request takes no argument; the kernel returns a new descriptor.
    let number = unsafe { libc::ioctl(namespace.as_raw_fd(), GET_USERNS as _) };
    if number == -1 {
        return Err(last_errno());
    }
    // SAFETY: the kernel has just made this descriptor, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
