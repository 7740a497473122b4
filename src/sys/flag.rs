//! A flag that one process sets and another waits for without a system call, which is all that is left
//! to a process whose seccomp filter may answer any of them.
use super::clone::last_errno;
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::io::Errno;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

/// The waiting side. It stays mapped until execve.
#[derive(Debug)]
pub struct Flag {
    word: NonNull<AtomicU32>,
}

impl Flag {
    /// A flag that is not set, and the memory through which it is set; see `memfd_create(2)`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new() -> Result<(Self, OwnedFd), Errno> {
        let memory = memfd_create(c"wharf-flag", MemfdFlags::CLOEXEC)?;
        ftruncate(&memory, size_of::<AtomicU32>() as u64)?;
        // SAFETY: a new shared mapping at an address of the kernel's choice, as long as the file.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size_of::<AtomicU32>(),
                libc::PROT_READ,
                libc::MAP_SHARED,
                memory.as_raw_fd(),
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(last_errno());
        }
        let word = NonNull::new(address.cast::<AtomicU32>()).ok_or(Errno::NOMEM)?;
        Ok((Self { word }, memory))
    }

    /// Waits by looking, for some seconds at most; returns whether it was set.
    pub fn wait(&self) -> bool {
        // SAFETY: the mapping is aligned to a page, holds a whole AtomicU32, is never unmapped, and the
        // file keeps its length; it is only read here.
        let word = unsafe { self.word.as_ref() };
        for _ in 0..LOOKS {
            if word.load(Ordering::Acquire) != 0 {
                return true;
            }
            std::hint::spin_loop();
        }
        false
    }
}

/// Between two and twenty seconds, by what the processor makes of a pause.
const LOOKS: u32 = 200_000_000;

/// Sets the flag of this memory.
///
/// # Errors
/// The kernel's.
pub fn set(memory: BorrowedFd<'_>) -> Result<(), Errno> {
    rustix::io::pwrite(memory, &1u32.to_ne_bytes(), 0).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd as _;

    #[test]
    fn a_flag_is_seen_once_it_is_set() {
        let (flag, memory) = Flag::new().unwrap();
        let setter = std::thread::spawn(move || set(memory.as_fd()).unwrap());
        assert!(flag.wait());
        setter.join().unwrap();
    }
}
