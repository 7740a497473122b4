//! Session keyrings; see `keyctl(2)`.
use super::clone::last_errno;
use rustix::io::Errno;

const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;

/// Gives the process a new anonymous session keyring, so that it does not see the caller's keys.
///
/// # Errors
/// The kernel's; `ENOSYS` where it has no keyrings.
pub fn new_session_keyring() -> Result<(), Errno> {
    // SAFETY: a null name asks for an anonymous keyring; nothing is read or written through pointers.
    let result = unsafe {
        libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<libc::c_char>())
    };
    if result == -1 { Err(last_errno()) } else { Ok(()) }
}
