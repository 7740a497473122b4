//! `seccomp(2)`.
use super::clone::last_errno;
use crate::sandbox::seccomp::Program;
use rustix::io::Errno;

/// Installs a filter on the calling thread.
///
/// # Errors
/// The kernel's.
pub fn install(program: &Program) -> Result<(), Errno> {
    let filter = libc::sock_fprog {
        len: u16::try_from(program.instructions.len()).map_err(|_| Errno::INVAL)?,
        filter: program.instructions.as_ptr().cast::<libc::sock_filter>().cast_mut(),
    };
    // SAFETY: seccompiler's sock_filter has the kernel's layout, and the program outlives the call.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, program.flags, &raw const filter)
    };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}
