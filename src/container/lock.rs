//! One command at a time on one container.
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::os::fd::BorrowedFd;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// An exclusive `flock(2)` on a container's state directory, given back when dropped.
///
/// The container's first process inherits the open file description until it executes the user's
/// program. The lock is therefore unlocked explicitly, which frees it for all holders of the
/// description; closing alone would leave it with that process.
#[derive(Debug)]
pub(super) struct Lock<'a> {
    directory: BorrowedFd<'a>,
}

/// How long a command waits for another one on the same container.
const PATIENCE: Duration = Duration::from_secs(10);
const INTERVAL: Duration = Duration::from_millis(5);

impl<'a> Lock<'a> {
    /// Waits for the lock; `None` when another holder keeps it for ten seconds.
    pub(super) fn acquire(directory: BorrowedFd<'a>) -> Result<Option<Self>, Errno> {
        let start = Instant::now();
        loop {
            if let Some(lock) = Self::try_acquire(directory)? {
                return Ok(Some(lock));
            }
            if start.elapsed() > PATIENCE {
                return Ok(None);
            }
            sleep(INTERVAL);
        }
    }

    /// Keeps the lock beyond this value, until [`Lock::kept`] is dropped, or the descriptor is closed.
    pub(super) fn keep(self) {
        std::mem::forget(self);
    }

    /// The lock that is kept on this very descriptor.
    pub(super) fn kept(directory: BorrowedFd<'a>) -> Self {
        Self { directory }
    }

    /// Takes the lock if it is free.
    pub(super) fn try_acquire(directory: BorrowedFd<'a>) -> Result<Option<Self>, Errno> {
        match flock(directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self { directory })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(errno),
        }
    }
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        // Unlocking a valid descriptor does not fail.
        let _ = flock(self.directory, FlockOperation::Unlock);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd as _;

    #[test]
    fn a_second_holder_waits_until_the_first_has_gone() {
        let directory = tempfile::tempdir().expect("tempdir");
        let open = || std::fs::File::open(directory.path()).expect("open");
        let (first, second) = (open(), open());
        let held = Lock::try_acquire(first.as_fd()).expect("flock").expect("free");
        assert!(Lock::try_acquire(second.as_fd()).expect("flock").is_none());
        drop(held);
        assert!(Lock::acquire(second.as_fd()).expect("flock").is_some());
    }

    #[test]
    fn a_process_that_inherited_the_directory_does_not_keep_the_lock() {
        let directory = tempfile::tempdir().expect("tempdir");
        let first = std::fs::File::open(directory.path()).expect("open");
        let inherited = first.try_clone().expect("dup");
        drop(Lock::try_acquire(first.as_fd()).expect("flock").expect("free"));
        let second = std::fs::File::open(directory.path()).expect("open");
        assert!(Lock::try_acquire(second.as_fd()).expect("flock").is_some());
        drop(inherited);
    }
}
