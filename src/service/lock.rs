//! The lock by which a supervisor's life is known.
//!
//! It is a process-associated lock (`F_SETLK`): the kernel drops it when the supervisor ends in any way,
//! a clone of the supervisor that has not executed the instance's program yet does not hold it, and
//! `F_GETLK` names its holder. What the kernel says here is the truth, not a pid in a file.
use super::Error;
use rustix::fs::{FlockOperation, Mode, OFlags, fcntl_lock};
use rustix::io::Errno;
use rustix::process::{Flock, FlockOffsetType, FlockType, Pid, fcntl_getlk};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

/// Held for as long as this value lives.
///
/// Any other descriptor of the same file that this process closes would drop the lock, so a process
/// that holds it must not call [`holder`] for the same path.
#[derive(Debug)]
pub(super) struct SupervisorLock {
    _file: OwnedFd,
}

impl SupervisorLock {
    /// Takes the lock; `None` when another process holds it.
    pub(super) fn take(path: &Path) -> Result<Option<Self>, Error> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file =
            rustix::fs::open(path, flags, Mode::from_raw_mode(0o600)).map_err(Error::file("open", path))?;
        match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(Errno::AGAIN | Errno::ACCESS) => Ok(None),
            Err(errno) => Err(Error::file("lock", path)(errno)),
        }
    }

    /// Takes the lock of a supervisor that is about to end.
    pub(super) fn take_within(path: &Path, patience: Duration) -> Result<Option<Self>, Error> {
        let begun = Instant::now();
        loop {
            let lock = Self::take(path)?;
            if lock.is_some() || begun.elapsed() >= patience {
                return Ok(lock);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Host pid of the process that holds the lock.
pub(super) fn holder(path: &Path) -> Result<Option<Pid>, Error> {
    let file = match rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(Error::file("open", path)(errno)),
    };
    let asked = Flock {
        start: 0,
        length: 0,
        pid: None,
        typ: FlockType::WriteLock,
        offset_type: FlockOffsetType::Set,
    };
    let found = fcntl_getlk(&file, &asked).map_err(Error::file("ask for the lock on", path))?;
    Ok(found.and_then(|lock| lock.pid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_lock_has_no_holder() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("lock");
        assert_eq!(holder(&path).unwrap(), None);
        drop(SupervisorLock::take(&path).unwrap().expect("free"));
        assert_eq!(holder(&path).unwrap(), None);
        assert!(SupervisorLock::take(&path).unwrap().is_some());
    }
}
