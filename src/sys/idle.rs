//! Waiting with as little memory as possible.
use super::heap::{PAGE, give_back_stack, read_only_parts};
use super::itself::checked;
use rustix::io::Errno;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use syscalls::raw::{syscall3, syscall4};

/// Takes the next connection to a listening socket (`accept4(2)`), in a process between clone and execve that may wait
/// for days beside thousands of others: the pages of the program's code and constants are given back before, and come
/// back from the page cache as they are used, and so is the stack below the caller's frame. Neither allocates nor locks.
///
/// # Errors
/// The kernel's.
#[inline(never)]
pub fn accept(socket: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let forget = libc::MADV_DONTNEED as usize;
    let (madvise, accept4) = (libc::SYS_madvise as usize, libc::SYS_accept4 as usize);
    give_back_stack();
    // The kernel maps all that it holds together of a file where a page of it is used, up to the bounds of a mapping: these
    // two pages, which hold this function, become one of their own by an advice that the others do not have.
    let own = accept as fn(BorrowedFd<'_>) -> Result<OwnedFd, Errno> as usize & !(PAGE - 1);
    // SAFETY: it only keeps the pages out of a core dump.
    unsafe { syscall3(madvise, own, 2 * PAGE, libc::MADV_DONTDUMP as usize) };
    let read_only = read_only_parts();
    loop {
        // The system calls are made right here and counted by hand, so that no other code waits with the process.
        let mut part = 0;
        while part < read_only.len() {
            let (start, length) = read_only[part];
            part += 1;
            // SAFETY: as `read_only_parts` says, what is dropped is read back unchanged.
            unsafe { syscall3(madvise, start, length, forget) };
        }
        let flags = libc::SOCK_CLOEXEC as usize;
        // SAFETY: null pointers say that the peer's address is not wanted.
        let accepted = unsafe { syscall4(accept4, socket.as_raw_fd() as usize, 0, 0, flags) };
        match checked(accepted) {
            // SAFETY: the kernel has made this descriptor, and nothing else knows of it.
            Ok(fd) => return Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) }),
            Err(Errno::INTR | Errno::CONNABORTED) => {}
            Err(errno) => return Err(errno),
        }
    }
}
