//! Blobs on their way from a registry: `images/.ingest`. What is there of a blob outlives the process that
//! fetched it, so that the next one goes on where it ended.
//!
//! `HEX.partial` is being written by whoever holds the lock on it. `HEX` is complete and verified, is never
//! written again, and takes its place among the blobs when all of an image is there. Neither is ever taken
//! for part of an image, so a removal of images need not know of them.
use super::super::lock::{is_free, is_still, lock};
use super::super::unpack::Arrival;
use super::super::{Digest, Error};
use sha2::{Digest as _, Sha256};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// What nobody has gone on with for so long is removed.
const ABANDONED: Duration = Duration::from_secs(7 * 24 * 3600);
const BUFFER: usize = 256 << 10;

/// The directory.
#[derive(Debug)]
pub(in crate::image) struct Ingest {
    directory: PathBuf,
}

/// What there is of a blob.
#[derive(Debug)]
pub(in crate::image) enum Claim {
    /// All.
    Complete,
    /// Some or none, and ours alone to write.
    Partial(Partial),
    /// Another process is writing it.
    Busy,
}

impl Ingest {
    /// Opens the directory, and removes what was given up long ago.
    pub(super) fn open(layout: &Path) -> Result<Self, Error> {
        let directory = layout.join(".ingest");
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory);
        made.map_err(Error::file("create", &directory))?;
        for entry in fs::read_dir(&directory).map_err(Error::file("list", &directory))?.flatten() {
            remove_if_abandoned(&entry.path());
        }
        Ok(Self { directory })
    }

    /// Where a complete blob lies until its image is made.
    pub(in crate::image) fn complete(&self, digest: &Digest) -> PathBuf {
        self.directory.join(digest.hex())
    }

    /// Takes a blob to write it. `wait` for a process that writes it already.
    pub(in crate::image) fn claim(&self, digest: &Digest, wait: bool) -> Result<Claim, Error> {
        let path = self.directory.join(format!("{}.partial", digest.hex()));
        loop {
            if self.complete(digest).exists() {
                return Ok(Claim::Complete);
            }
            let mut options = File::options();
            let file = options.read(true).append(true).create(true).mode(0o600).open(&path);
            let file = file.map_err(Error::file("open", &path))?;
            if wait {
                lock(&file, &path)?;
            } else if !is_free(&file) {
                return Ok(Claim::Busy);
            }
            // Whoever held the lock may have finished the file, or removed it.
            if is_still(&file, &path) && !self.complete(digest).exists() {
                let partial = Partial {
                    file,
                    path,
                    done: self.complete(digest),
                    length: 0,
                    hasher: Sha256::new(),
                    reader: None,
                };
                return partial.digest_what_is_there().map(Claim::Partial);
            }
        }
    }
}

/// A file that cannot be looked at or removed is in nobody's way.
fn remove_if_abandoned(path: &Path) {
    let age = fs::metadata(path).and_then(|data| data.modified()).map(|at| at.elapsed().unwrap_or_default());
    if !age.is_ok_and(|age| age > ABANDONED) {
        return;
    }
    let Ok(file) = File::open(path) else { return };
    if is_free(&file) {
        let _ = fs::remove_file(path);
    }
}

/// A blob of which the beginning is there. Locked for as long as this lives.
#[derive(Debug)]
pub(in crate::image) struct Partial {
    file: File,
    path: PathBuf,
    done: PathBuf,
    length: u64,
    hasher: Sha256,
    reader: Option<Arc<Arrival>>,
}

impl Partial {
    /// Lets somebody read along.
    pub(in crate::image) fn announce(&mut self, reader: &Arc<Arrival>) -> Result<(), Error> {
        // Not a copy of our descriptor, which would hold our lock.
        let file = File::open(&self.path).map_err(Error::file("open", &self.path))?;
        reader.begun(file, self.length);
        self.reader = Some(Arc::clone(reader));
        Ok(())
    }

    fn digest_what_is_there(mut self) -> Result<Self, Error> {
        let failed = |path: &Path| Error::file("read", path);
        self.file.rewind().map_err(failed(&self.path))?;
        let mut buffer = vec![0; BUFFER];
        loop {
            match self.file.read(&mut buffer) {
                Ok(0) => return Ok(self),
                Ok(length) => {
                    self.hasher.update(&buffer[..length]);
                    self.length += length as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(&self.path)(error)),
            }
        }
    }

    /// How much is there.
    pub(in crate::image) fn length(&self) -> u64 {
        self.length
    }

    /// Adds what follows.
    pub(in crate::image) fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file.write_all(bytes).map_err(Error::file("write", &self.path))?;
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        if let Some(reader) = &self.reader {
            reader.grown(self.length);
        }
        Ok(())
    }

    /// Begins again.
    pub(in crate::image) fn restart(&mut self) -> Result<(), Error> {
        if let Some(reader) = &self.reader {
            reader.restarted();
        }
        self.file.set_len(0).map_err(Error::file("truncate", &self.path))?;
        self.hasher = Sha256::new();
        self.length = 0;
        Ok(())
    }

    /// Gives the blob its name when it is what it should be; else says which digest it has, and begins again.
    pub(in crate::image) fn finish(&mut self, expected: &Digest) -> Result<Result<(), Digest>, Error> {
        let found = Digest::of_hasher(self.hasher.clone());
        if found != *expected {
            self.restart()?;
            return Ok(Err(found));
        }
        let named: io::Result<()> = self.file.sync_all().and_then(|()| fs::rename(&self.path, &self.done));
        named.map_err(Error::file("write", &self.path))?;
        if let Some(reader) = &self.reader {
            reader.completed();
        }
        Ok(Ok(()))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Nothing of it came: an empty file says nothing to the next one.
        if self.length == 0 && is_still(&self.file, &self.path) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partial(ingest: &Ingest, digest: &Digest) -> Partial {
        match ingest.claim(digest, false).unwrap() {
            Claim::Partial(partial) => partial,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_blob_goes_on_where_another_process_left_it() {
        let scratch = tempfile::tempdir().unwrap();
        let ingest = Ingest::open(scratch.path()).unwrap();
        let digest = Digest::of(b"first second");
        partial(&ingest, &digest).write(b"first ").unwrap();
        let mut again = partial(&ingest, &digest);
        assert_eq!(again.length(), 6);
        assert!(matches!(ingest.claim(&digest, false).unwrap(), Claim::Busy));
        again.write(b"second").unwrap();
        assert_eq!(again.finish(&digest).unwrap(), Ok(()));
        drop(again);
        assert!(matches!(ingest.claim(&digest, false).unwrap(), Claim::Complete));
        assert_eq!(fs::read(ingest.complete(&digest)).unwrap(), b"first second");
    }

    #[test]
    fn what_has_another_digest_is_never_complete() {
        let scratch = tempfile::tempdir().unwrap();
        let ingest = Ingest::open(scratch.path()).unwrap();
        let digest = Digest::of(b"right");
        let mut blob = partial(&ingest, &digest);
        blob.write(b"wrong").unwrap();
        assert_eq!(blob.finish(&digest).unwrap(), Err(Digest::of(b"wrong")));
        assert_eq!(blob.length(), 0);
        drop(blob);
        assert_eq!(fs::read_dir(scratch.path().join(".ingest")).unwrap().count(), 0);
    }

    #[test]
    fn what_was_given_up_long_ago_is_removed_unless_somebody_writes_it() {
        let scratch = tempfile::tempdir().unwrap();
        let ingest = Ingest::open(scratch.path()).unwrap();
        let (old, held) = (Digest::of(b"old"), Digest::of(b"held"));
        let mut holder = partial(&ingest, &held);
        partial(&ingest, &old).write(b"o").unwrap();
        holder.write(b"h").unwrap();
        for digest in [&old, &held] {
            let path = scratch.path().join(format!(".ingest/{}.partial", digest.hex()));
            let file = File::options().write(true).open(path).unwrap();
            file.set_modified(std::time::SystemTime::now() - ABANDONED * 2).unwrap();
        }
        Ingest::open(scratch.path()).unwrap();
        let left: Vec<_> = fs::read_dir(scratch.path().join(".ingest")).unwrap().flatten().collect();
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].file_name().to_string_lossy(), format!("{}.partial", held.hex()));
    }
}
