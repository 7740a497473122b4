//! `seccomp(2)`.
use super::clone::last_errno;
use crate::sandbox::seccomp::Program;
use rustix::io::Errno;
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};

/// Installs a filter on the calling thread; returns the listener of one that notifies.
///
/// # Errors
/// The kernel's.
pub fn install(program: &Program) -> Result<Option<OwnedFd>, Errno> {
    let filter = libc::sock_fprog {
        len: u16::try_from(program.instructions.len()).map_err(|_| Errno::INVAL)?,
        filter: program.instructions.as_ptr().cast::<libc::sock_filter>().cast_mut(),
    };
    // SAFETY: seccompiler's sock_filter has the kernel's layout, and the program outlives the call.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, program.flags, &raw const filter)
    };
    match (result, program.listener) {
        (0.., true) => {
            let number = RawFd::try_from(result).map_err(|_| Errno::BADF)?;
            // SAFETY: SECCOMP_FILTER_FLAG_NEW_LISTENER made the kernel return a new descriptor, which
            // nothing else owns.
            Ok(Some(unsafe { OwnedFd::from_raw_fd(number) }))
        }
        (0, false) => Ok(None),
        // A thread that cannot follow, by its id (SECCOMP_FILTER_FLAG_TSYNC).
        (1.., false) => Err(Errno::SRCH),
        _ => Err(last_errno()),
    }
}

/// Whether the kernel knows these `SECCOMP_FILTER_FLAG_*`; nothing is installed.
pub fn takes_flags(flags: u64) -> bool {
    let none = std::ptr::null::<libc::sock_fprog>();
    // SAFETY: flags are looked at before the filter, and a null filter is refused with EFAULT.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, none) };
    result == -1 && last_errno() == Errno::FAULT
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::seccomp::default_profile;

    fn call(number: libc::c_long, args: [u64; 3]) -> Result<(), Errno> {
        // SAFETY: every call made here fails for its arguments where no filter refuses it: they are null
        // pointers, bad descriptors or numbers that no kernel has; a socket is closed with the process.
        let result = unsafe { libc::syscall(number, args[0], args[1], args[2]) };
        if result >= 0 { Ok(()) } else { Err(last_errno()) }
    }

    /// A filter binds the thread that installs it, so a thread is all the sandbox this needs.
    fn under_the_default_profile<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> T {
        let program = crate::sandbox::seccomp::compile(&default_profile(&["CAP_CHOWN"])).unwrap();
        let thread = std::thread::spawn(move || {
            rustix::thread::set_no_new_privs(true).unwrap();
            install(&program).unwrap();
            body()
        });
        thread.join().unwrap()
    }

    #[test]
    fn the_kernel_takes_the_default_profile_and_keeps_to_it() {
        let stream = 1;
        let results = under_the_default_profile(move || {
            [
                ("unix socket", call(libc::SYS_socket, [1, stream, 0]), Ok(())),
                ("AF_ALG", call(libc::SYS_socket, [38, 5, 0]), Err(Errno::PERM)),
                ("AF_ALG with a high bit", call(libc::SYS_socket, [1 << 32 | 38, 5, 0]), Err(Errno::PERM)),
                ("AF_VSOCK", call(libc::SYS_socket, [40, stream, 0]), Err(Errno::PERM)),
                ("unshare", call(libc::SYS_unshare, [0x0400_0000, 0, 0]), Err(Errno::PERM)),
                ("clone3", call(libc::SYS_clone3, [0, 0, 0]), Err(Errno::NOSYS)),
                ("clone of a user namespace", call(libc::SYS_clone, [0x1000_0000, 0, 0]), Err(Errno::PERM)),
                ("keyctl", call(libc::SYS_keyctl, [0, 0, 0]), Err(Errno::PERM)),
                ("io_uring_setup", call(libc::SYS_io_uring_setup, [1, 0, 0]), Err(Errno::PERM)),
                ("userfaultfd", call(libc::SYS_userfaultfd, [0, 0, 0]), Err(Errno::PERM)),
                ("a call of the future", call(1000, [0, 0, 0]), Err(Errno::NOSYS)),
            ]
        });
        for (what, got, expected) in results {
            assert_eq!(got, expected, "{what}");
        }
    }

    #[test]
    fn without_a_filter_the_same_calls_reach_the_kernel() {
        assert_ne!(call(libc::SYS_clone3, [0, 0, 0]), Err(Errno::NOSYS));
        assert_eq!(call(libc::SYS_keyctl, [u64::MAX, 0, 0]), Err(Errno::OPNOTSUPP));
    }
}
