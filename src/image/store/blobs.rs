//! Blobs by digest: `blobs/sha256/HEX` of the store's OCI layout. A blob is staged first, its digest taken
//! while it is written, and takes its name only when everything about it is known to be right.
use super::super::digest::Hashing;
use super::super::manifest::DOCUMENT_LIMIT;
use super::super::{Digest, Error};
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
}

impl Staging {
    /// Makes a new one, and removes those that a killed load left behind: the caller holds the store's lock.
    pub(super) fn new(store: &Path) -> Result<Self, Error> {
        for entry in fs::read_dir(store).map_err(Error::file("list", store))?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(STAGING) {
                // A leftover that cannot be removed is in nobody's way.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        let directory = store.join(format!("{STAGING}{}", std::process::id()));
        fs::DirBuilder::new().mode(0o700).create(&directory).map_err(Error::file("create", &directory))?;
        Ok(Self { directory })
    }

    /// Writes a stream to its end.
    pub(in crate::image) fn stage(&self, mut stream: impl Read, what: &str) -> Result<Staged, Error> {
        let mut temporary = self.directory.join("incoming").into_os_string();
        temporary.push(random_suffix()?);
        let path = PathBuf::from(temporary);
        let file = File::options().write(true).create_new(true).mode(0o600).open(&path);
        let mut file = Hashing::new(file.map_err(Error::file("create", &path))?);
        let mut buffer = vec![0; BUFFER];
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => file.write_all(&buffer[..length]).map_err(Error::file("write", &path))?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Err(Error::invalid(what, "is truncated"));
                }
                Err(error) => return Err(Error::invalid(what, format!("is damaged: {error}"))),
            }
        }
        let (digest, size) = file.finish();
        Ok(Staged { path, digest, size })
    }
}

impl Staging {
    /// Makes a blob of what `fill` writes, and returns what that returns.
    pub(super) fn write<T>(
        &self,
        fill: impl FnOnce(&mut Hashing<File>) -> Result<T, Error>,
    ) -> Result<(Staged, T), Error> {
        let path = self.directory.join(format!("outgoing{}", random_suffix()?));
        let file = File::options().write(true).create_new(true).mode(0o600).open(&path);
        let mut file = Hashing::new(file.map_err(Error::file("create", &path))?);
        let made = fill(&mut file)?;
        let (digest, size) = file.finish();
        Ok((Staged { path, digest, size }, made))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // The next load removes what stays.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn random_suffix() -> Result<String, Error> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::invalid("random numbers of the kernel", error.to_string()))?;
    Ok(hex::encode(bytes))
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

    /// Gives a staged blob its name. One that several images of an archive share comes here repeatedly.
    pub(super) fn commit(&self, staged: &Staged) -> Result<(), Error> {
        let path = self.path(&staged.digest);
        if path.exists() {
            return Ok(());
        }
        let sync = |path: &Path| File::open(path).and_then(|file| file.sync_all());
        sync(&staged.path).map_err(Error::file("write", &staged.path))?;
        fs::rename(&staged.path, &path).map_err(Error::file("create", &path))
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

    /// Removes every blob that is not kept.
    pub(super) fn retain(&self, keep: impl Fn(&str) -> bool) -> Result<(), Error> {
        for entry in fs::read_dir(&self.directory).map_err(Error::file("list", &self.directory))?.flatten() {
            if !keep(&entry.file_name().to_string_lossy()) {
                let path = entry.path();
                fs::remove_file(&path).map_err(Error::file("remove", &path))?;
            }
        }
        Ok(())
    }
}
