//! Directories and files of a cgroup hierarchy.
use super::{CgroupPath, Error};
use crate::sys::record;
use rustix::io::Errno;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long dying tasks may keep a cgroup busy.
const REMOVE_ATTEMPTS: u32 = 12;

/// Makes every directory of `path` below `mount`; `entered` is called for each level, parents first, with
/// the parent's and the level's own directory, before and after it exists. Returns those that were made.
pub(super) fn make(
    mount: &Path,
    path: &CgroupPath,
    mut prepare: impl FnMut(&Path, &Path) -> Result<(), Error>,
) -> Result<Made, Error> {
    let mut made = Made { leaf: mount.to_owned(), created: Vec::new() };
    for name in path.names() {
        let parent = std::mem::take(&mut made.leaf);
        made.leaf = parent.join(name);
        let step = match fs::create_dir(&made.leaf) {
            Ok(()) => {
                made.created.push(made.leaf.clone());
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(Error::file("create", &made.leaf)(error)),
        };
        if let Err(error) = step.and_then(|()| prepare(&parent, &made.leaf)) {
            made.undo();
            return Err(error);
        }
    }
    Ok(made)
}

/// The directories of one cgroup in one hierarchy.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) leaf: PathBuf,
    created: Vec<PathBuf>,
}

impl Made {
    /// Whether the group itself was made, and not found.
    pub(super) fn is_new(&self) -> bool {
        self.created.last() == Some(&self.leaf)
    }

    /// Removes what was made, for an error's sake.
    pub(super) fn undo(&self) {
        for directory in self.created.iter().rev() {
            // Somebody else may have put a cgroup below a shared parent meanwhile.
            let _ = fs::remove_dir(directory);
        }
    }
}

/// Writes one value with one write(2), as cgroup files want it.
pub(super) fn write(directory: &Path, file: &str, value: &str) -> Result<(), Error> {
    let path = directory.join(file);
    let done =
        fs::File::options().write(true).open(&path).and_then(|mut open| open.write_all(value.as_bytes()));
    done.map_err(|source| Error::File {
        action: "write",
        path: format!("{value:?} to {}", path.display()),
        source,
    })
}

/// Opens a file for what is to be written later.
pub(super) fn open_to_write(directory: &Path, file: &str) -> Result<fs::File, Error> {
    let path = directory.join(file);
    fs::File::options().write(true).open(&path).map_err(Error::file("open", &path))
}

/// Reads a file of one record whole.
pub(super) fn read(directory: &Path, file: &str) -> Result<String, Error> {
    let path = directory.join(file);
    let text = record::read(&path).map_err(|errno| Error::file("read", &path)(errno.into()))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Removes a cgroup and those that were made inside it, deepest first. Waits a bounded time for tasks
/// that are still dying. A missing directory is no error.
pub(super) fn remove(directory: &Path) -> Result<(), Error> {
    let mut pause = Duration::from_micros(500);
    for attempt in 1..=REMOVE_ATTEMPTS {
        match remove_once(directory) {
            Err(error)
                if error.raw_os_error() == Some(Errno::BUSY.raw_os_error()) && attempt < REMOVE_ATTEMPTS =>
            {
                std::thread::sleep(pause);
                pause *= 2;
            }
            done => return done.map_err(Error::file("remove", directory)),
        }
    }
    Ok(())
}

fn remove_once(directory: &Path) -> std::io::Result<()> {
    match fs::remove_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) if error.raw_os_error() != Some(Errno::BUSY.raw_os_error()) => return Err(error),
        Err(_) => {}
        Ok(()) => return Ok(()),
    }
    for child in children(directory)? {
        remove_once(&child)?;
    }
    fs::remove_dir(directory)
}

/// Directories directly below.
pub(super) fn children(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}
