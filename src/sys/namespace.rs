//! `unshare(2)` for namespaces.
use rustix::io::Errno;
use rustix::thread::UnshareFlags;

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
