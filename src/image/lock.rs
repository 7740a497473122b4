//! Locks on files and directories of the store: flock(2), which the kernel ends with the process that holds it.
use super::Error;
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Waits for the lock on a file. `path` names it in an error.
pub(super) fn lock(file: &File, path: &Path) -> Result<(), Error> {
    flock(file, FlockOperation::LockExclusive).map_err(|errno| Error::file("lock", path)(errno.into()))
}

/// Takes the lock if nobody has it.
pub(super) fn is_free(file: &File) -> bool {
    flock(file, FlockOperation::NonBlockingLockExclusive).is_ok()
}

/// Whether a file has its name still, or was renamed or removed while we waited for its lock.
pub(super) fn is_still(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}
