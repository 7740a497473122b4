//! Leases: what a running load or pull relies on, and what a removal of images must therefore leave alone.
//!
//! A lease is a file `.lease-RANDOM` of digests, locked by the process that wrote it. A digest is written
//! down, under the store's lock, before one looks whether its content is there. The kernel ends the lock with
//! the process, so a killed one leaves nothing that holds anything.
use super::super::lock::{is_free, lock};
use super::super::{Digest, Error};
use super::random_name;
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

const PREFIX: &str = ".lease-";

/// Holds content until it is dropped.
#[derive(Debug)]
pub(in crate::image) struct Lease {
    file: File,
    path: PathBuf,
}

impl Lease {
    /// Makes an empty one. The caller holds the store's lock.
    pub(super) fn new(layout: &Path) -> Result<Self, Error> {
        let path = layout.join(format!("{PREFIX}{}", random_name()?));
        let file = File::options().append(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(Error::file("create", &path))?;
        lock(&file, &path)?;
        Ok(Self { file, path })
    }

    /// Holds these too. The caller holds the store's lock.
    pub(super) fn add<'a>(&self, digests: impl IntoIterator<Item = &'a Digest>) -> Result<(), Error> {
        let lines: String = digests.into_iter().map(|digest| format!("{}\n", digest.hex())).collect();
        (&self.file).write_all(lines.as_bytes()).map_err(Error::file("write", &self.path))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Without the lock it holds nothing, and goes with the next removal.
        let _ = fs::remove_file(&self.path);
    }
}

/// Removes leases of ended processes. The caller holds the store's lock.
pub(super) fn sweep(layout: &Path) -> Result<(), Error> {
    held(layout).map(drop)
}

/// The digits of all that is held. Leases of ended processes are removed. The caller holds the store's lock.
pub(super) fn held(layout: &Path) -> Result<HashSet<String>, Error> {
    let mut held = HashSet::new();
    for entry in fs::read_dir(layout).map_err(Error::file("list", layout))?.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let path = entry.path();
        let mut file = match File::open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            opened => opened.map_err(Error::file("open", &path))?,
        };
        if is_free(&file) {
            let _ = fs::remove_file(&path);
            continue;
        }
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(Error::file("read", &path))?;
        held.extend(text.lines().map(str::to_owned));
    }
    Ok(held)
}
