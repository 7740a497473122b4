//! A layer's directory while it is being made: `.unpacking-HEX`, ours alone for as long as we hold the lock
//! on it. The kernel ends the lock with the process, so what a killed one left is known for what it is.
use super::super::lock::{self, is_free, is_still};
use super::super::store::random_name;
use super::super::{Digest, Error};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

const UNPACKING: &str = ".unpacking-";
const REMOVED: &str = ".removed-";

/// A new directory, locked.
#[derive(Debug)]
pub(super) struct Claim {
    directory: File,
    path: PathBuf,
    done: PathBuf,
}

impl Claim {
    /// Takes the place of a layer below `layers`; waits for another process that unpacks it just now. `None`
    /// when the layer is there.
    pub(super) fn take(layers: &Path, diff_id: &Digest, done: &Path) -> Result<Option<Self>, Error> {
        let path = layers.join(format!("{UNPACKING}{}", diff_id.hex()));
        loop {
            if done.exists() {
                return Ok(None);
            }
            match fs::DirBuilder::new().mode(0o755).create(&path) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                made => made.map_err(Error::file("create", &path))?,
            }
            let Some(directory) = open_locked(&path)? else { continue };
            if done.exists() {
                // The place was free because the other process had just finished.
                let _ = fs::remove_dir(&path);
                return Ok(None);
            }
            if fs::read_dir(&path).map_err(Error::file("list", &path))?.next().is_some() {
                remove_aside(layers, &path)?;
                continue;
            }
            return Ok(Some(Self { directory, path, done: done.to_owned() }));
        }
    }

    /// A directory of no layer's place, to compare `done` with, or to put in its place.
    pub(super) fn aside(layers: &Path, done: &Path) -> Result<Self, Error> {
        loop {
            let path = layers.join(format!("{UNPACKING}{}", random_name()?));
            let made = fs::DirBuilder::new().mode(0o755).create(&path);
            made.map_err(Error::file("create", &path))?;
            if let Some(directory) = open_locked(&path)? {
                return Ok(Self { directory, path, done: done.to_owned() });
            }
        }
    }

    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// Gives the layer its name: from here on it is complete, and on disk.
    pub(super) fn commit(self) -> Result<(), Error> {
        rustix::fs::syncfs(&self.directory)
            .map_err(|errno| Error::file("write", &self.path)(errno.into()))?;
        fs::rename(&self.path, &self.done).map_err(Error::file("create", &self.done))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if is_still(&self.directory, &self.path) {
            // What cannot be removed now is removed by the next one who wants the place.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Opens and locks a directory of ours; `None` when it went while we waited.
fn open_locked(path: &Path) -> Result<Option<File>, Error> {
    let directory = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(Error::file("open", path))?,
    };
    lock::lock(&directory, path)?;
    if !is_still(&directory, path) {
        return Ok(None);
    }
    // What a umask has taken away of it.
    let mode = fs::Permissions::from_mode(0o755);
    directory.set_permissions(mode).map_err(Error::file("chmod", path))?;
    Ok(Some(directory))
}

/// Takes a directory out of the way at once, and then removes it.
pub(super) fn remove_aside(layers: &Path, path: &Path) -> Result<(), Error> {
    let aside = layers.join(format!("{REMOVED}{}", random_name()?));
    match fs::rename(path, &aside) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        renamed => renamed.map_err(Error::file("remove", path))?,
    }
    fs::remove_dir_all(&aside).map_err(Error::file("remove", &aside))
}

/// Removes what killed processes left.
pub(super) fn sweep(layers: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(layers).map_err(Error::file("list", layers))?.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        // One that cannot be removed is in nobody's way.
        if name.starts_with(REMOVED) {
            let _ = fs::remove_dir_all(entry.path());
        } else if name.starts_with(UNPACKING)
            && let Ok(directory) = File::open(entry.path())
            && is_free(&directory)
            && is_still(&directory, &entry.path())
        {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    Ok(())
}
