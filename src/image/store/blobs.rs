//! Blobs by digest: `blobs/sha256/HEX` of the store's OCI layout. A blob is staged first, its digest taken
//! while it is written, and takes its name only when everything about it is known to be right.
use super::super::digest::Hashing;
use super::super::lock::{is_free, lock};
use super::super::manifest::DOCUMENT_LIMIT;
use super::super::{Digest, Error};
use super::random_name;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const BUFFER: usize = 256 << 10;
const STAGING: &str = ".staging-";

/// A complete blob that is not in the store yet.
#[derive(Debug, Clone)]
pub(in crate::image) struct Staged {
    pub(in crate::image) path: PathBuf,
    pub(in crate::image) digest: Digest,
    pub(in crate::image) size: u64,
}

/// A directory for blobs on their way in; it goes with all that is still in it.
#[derive(Debug)]
pub(in crate::image) struct Staging {
    directory: PathBuf,
    _lock: File,
}

impl Staging {
    /// Makes a new one, locked for as long as it is used. The caller holds the store's lock.
    pub(super) fn new(store: &Path) -> Result<Self, Error> {
        let directory = store.join(format!("{STAGING}{}", random_name()?));
        fs::DirBuilder::new().mode(0o700).create(&directory).map_err(Error::file("create", &directory))?;
        let held = File::open(&directory).map_err(Error::file("open", &directory))?;
        lock(&held, &directory)?;
        Ok(Self { directory, _lock: held })
    }

    /// Removes those that killed loads left behind. The caller holds the store's lock.
    pub(super) fn sweep(store: &Path) -> Result<(), Error> {
        for entry in fs::read_dir(store).map_err(Error::file("list", store))?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(STAGING)
                && let Ok(directory) = File::open(entry.path())
                && is_free(&directory)
            {
                // A leftover that cannot be removed is in nobody's way.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        Ok(())
    }

    /// A new file for a blob.
    pub(in crate::image) fn begin(&self) -> Result<Incoming, Error> {
        let path = self.directory.join(random_name()?);
        let file = File::options().write(true).create_new(true).mode(0o600).open(&path);
        let file = Hashing::new(file.map_err(Error::file("create", &path))?);
        Ok(Incoming { path, file })
    }

    /// Writes a stream to its end.
    pub(in crate::image) fn stage(&self, mut stream: impl Read, what: &str) -> Result<Staged, Error> {
        let mut incoming = self.begin()?;
        let mut buffer = vec![0; BUFFER];
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => {
                    incoming.write_all(&buffer[..length]).map_err(Error::file("write", &incoming.path))?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Err(Error::invalid(what, "is truncated"));
                }
                Err(error) => return Err(Error::invalid(what, format!("is damaged: {error}"))),
            }
        }
        Ok(incoming.finish())
    }
}

impl Staging {}

impl Drop for Staging {
    fn drop(&mut self) {
        // The next load removes what stays.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// A blob that is being written, its digest taken meanwhile.
pub(in crate::image) struct Incoming {
    path: PathBuf,
    file: Hashing<File>,
}

impl Incoming {
    /// Where it is being written.
    pub(in crate::image) fn path(&self) -> &Path {
        &self.path
    }

    /// All of it is there.
    pub(in crate::image) fn finish(self) -> Staged {
        let (digest, size) = self.file.finish();
        Staged { path: self.path, digest, size }
    }
}

impl Write for Incoming {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The blobs of a store.
#[derive(Debug, Clone)]
pub(in crate::image) struct Blobs {
    directory: PathBuf,
}

impl Blobs {
    pub(super) fn open(layout: &Path) -> Result<Self, Error> {
        let directory = layout.join("blobs/sha256");
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .map_err(Error::file("create", &directory))?;
        Ok(Self { directory })
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.directory.join(digest.hex())
    }

    /// Gives a staged blob its name; its content is on disk already. One that several images of an archive
    /// share comes here repeatedly. What was there is replaced, because it may have been damaged since.
    pub(super) fn commit(&self, staged: &Staged) -> Result<(), Error> {
        let path = self.path(&staged.digest);
        match fs::rename(&staged.path, &path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && path.exists() => Ok(()),
            renamed => renamed.map_err(Error::file("create", &path)),
        }
    }

    /// Takes a complete, verified and synchronised file, in place of one that may have been cut short; false
    /// when there is neither.
    pub(super) fn adopt(&self, complete: &Path, digest: &Digest) -> Result<bool, Error> {
        let path = self.path(digest);
        match fs::rename(complete, &path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(path.exists()),
            renamed => renamed.map(|()| true).map_err(Error::file("create", &path)),
        }
    }

    /// Whether the blob is there, as long as it should be.
    pub(super) fn holds(&self, digest: &Digest, size: u64) -> bool {
        fs::metadata(self.path(digest)).is_ok_and(|data| data.len() == size)
    }

    /// Makes the names of committed blobs durable.
    pub(super) fn sync(&self) -> Result<(), Error> {
        let done = File::open(&self.directory).and_then(|directory| directory.sync_all());
        done.map_err(Error::file("write", &self.directory))
    }

    pub(in crate::image) fn reader(&self, digest: &Digest) -> Result<File, Error> {
        let path = self.path(digest);
        File::open(&path).map_err(Error::file("open", &path))
    }

    /// A document, verified: what lies in the store may have been damaged since.
    pub(super) fn document(&self, digest: &Digest) -> Result<Vec<u8>, Error> {
        let path = self.path(digest);
        let mut bytes = Vec::new();
        let read = self.reader(digest)?.take(DOCUMENT_LIMIT).read_to_end(&mut bytes);
        read.map_err(Error::file("read", &path))?;
        let found = Digest::of(&bytes);
        if found != *digest {
            let what = path.display().to_string();
            return Err(Error::Mismatch { what, expected: digest.to_string(), found: found.to_string() });
        }
        Ok(bytes)
    }

    /// Digits and lengths of all blobs.
    pub(super) fn list(&self) -> Result<Vec<(String, u64)>, Error> {
        let mut blobs = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(Error::file("list", &self.directory))?.flatten() {
            // One that goes while it is looked at is not there.
            let Ok(length) = entry.metadata().map(|data| data.len()) else { continue };
            blobs.push((entry.file_name().to_string_lossy().into_owned(), length));
        }
        Ok(blobs)
    }

    /// Removes a blob.
    pub(super) fn remove(&self, hex: &str) -> Result<(), Error> {
        let path = self.directory.join(hex);
        fs::remove_file(&path).map_err(Error::file("remove", &path))
    }
}
