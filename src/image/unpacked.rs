//! Layers unpacked once, each in a directory of its own, shared by all instances as overlay lowers.
use super::compression::decompressed;
use super::digest::Hashing;
use super::layer::{Limits, Whiteouts, apply};
use super::store::blobs::Blobs;
use super::{Digest, Error};
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

const UNPACKING: &str = ".unpacking-";

/// A layer of an image.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    /// Digest of the uncompressed tar.
    pub(super) diff_id: Digest,
    /// Digest of the blob.
    pub(super) blob: Digest,
    pub(super) compressed_bytes: u64,
}

impl Layer {
    /// Applies the layer and verifies its diff_id over the whole stream.
    pub(super) fn apply(
        &self,
        blobs: &Blobs,
        root: BorrowedFd<'_>,
        whiteouts: Whiteouts,
        limits: Limits,
    ) -> Result<(), Error> {
        let what = format!("layer {}", self.blob);
        let (_, stream) = decompressed(blobs.reader(&self.blob)?)
            .map_err(|error| Error::invalid(&what, format!("cannot be decompressed: {error}")))?;
        let mut stream = Hashing::new(stream);
        apply(&mut stream, root, whiteouts, limits.for_compressed(self.compressed_bytes))
            .map_err(|error| within(error, &what))?;
        io::copy(&mut stream, &mut io::sink())
            .map_err(|error| Error::invalid(&what, format!("cannot be decompressed: {error}")))?;
        let (found, _) = stream.finish();
        if found == self.diff_id {
            return Ok(());
        }
        Err(Error::Mismatch { what, expected: self.diff_id.to_string(), found: found.to_string() })
    }
}

fn within(error: Error, layer: &str) -> Error {
    match error {
        Error::Unreadable(error) => Error::invalid(layer, format!("cannot be read: {error}")),
        Error::Invalid { what, reason } => Error::Invalid { what: format!("{what} of {layer}"), reason },
        error => error,
    }
}

/// The directories below `ROOT/layers`.
#[derive(Debug)]
pub(super) struct Unpacked {
    directory: PathBuf,
    limits: Limits,
}

impl Unpacked {
    pub(super) fn open(root: &Path, limits: Limits) -> Result<Self, Error> {
        let directory = root.join("layers");
        make(&directory.join("sha256"), 0o700)?;
        Ok(Self { directory, limits })
    }

    fn path(&self, diff_id: &Digest) -> PathBuf {
        self.directory.join("sha256").join(diff_id.hex())
    }

    /// The directories of these layers, in the same order. Missing ones are unpacked, several at once.
    pub(super) fn ensure(&self, layers: &[Layer], blobs: &Blobs) -> Result<Vec<PathBuf>, Error> {
        let missing = |layer: &&Layer| !self.path(&layer.diff_id).exists();
        if layers.iter().any(|layer| missing(&layer)) {
            let _lock = self.lock()?;
            let mut work: Vec<&Layer> = layers.iter().filter(missing).collect();
            work.sort_by(|a, b| a.diff_id.cmp(&b.diff_id));
            work.dedup_by(|a, b| a.diff_id == b.diff_id);
            self.unpack_all(&work, blobs)?;
        }
        Ok(layers.iter().map(|layer| self.path(&layer.diff_id)).collect())
    }

    fn unpack_all(&self, layers: &[&Layer], blobs: &Blobs) -> Result<(), Error> {
        let threads =
            std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(layers.len());
        let next = std::sync::atomic::AtomicUsize::new(0);
        let work = || {
            while let Some(layer) = layers.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                self.unpack(layer, blobs)?;
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            let ended = |worker: std::thread::ScopedJoinHandle<'_, Result<(), Error>>| {
                worker.join().unwrap_or_else(|_| Err(Error::invalid("a layer", "its unpacking panicked")))
            };
            workers.into_iter().map(ended).fold(Ok(()), Result::and)
        })
    }

    /// Unpacks beside and renames: a layer that has its name is complete, and on disk.
    fn unpack(&self, layer: &Layer, blobs: &Blobs) -> Result<(), Error> {
        let half = self.directory.join(format!("{UNPACKING}{}", layer.diff_id.hex()));
        if half.exists() {
            fs::remove_dir_all(&half).map_err(Error::file("remove", &half))?;
        }
        make(&half, 0o755)?;
        let done = self.unpack_into(&half, layer, blobs);
        if done.is_err() {
            // What cannot be removed now is removed by the next unpack.
            let _ = fs::remove_dir_all(&half);
        }
        done
    }

    fn unpack_into(&self, half: &Path, layer: &Layer, blobs: &Blobs) -> Result<(), Error> {
        let root = File::open(half).map_err(Error::file("open", half))?;
        layer.apply(blobs, root.as_fd(), Whiteouts::Overlay, self.limits)?;
        rustix::fs::syncfs(&root).map_err(|errno| Error::file("write", half)(errno.into()))?;
        let path = self.path(&layer.diff_id);
        fs::rename(half, &path).map_err(Error::file("create", &path))
    }

    /// One unpacker at a time; leftovers of a killed one are removed.
    fn lock(&self) -> Result<File, Error> {
        let path = self.directory.join(".lock");
        let file =
            File::options().create(true).append(true).open(&path).map_err(Error::file("open", &path))?;
        flock(&file, FlockOperation::LockExclusive)
            .map_err(|errno| Error::file("lock", &path)(errno.into()))?;
        for entry in fs::read_dir(&self.directory).map_err(Error::file("list", &self.directory))?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(UNPACKING) {
                // One that cannot be removed is in the way of its own layer alone.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        Ok(file)
    }

    /// Removes every layer that is not kept.
    pub(super) fn retain(&self, keep: impl Fn(&str) -> bool) -> Result<(), Error> {
        let _lock = self.lock()?;
        let directory = self.directory.join("sha256");
        for entry in fs::read_dir(&directory).map_err(Error::file("list", &directory))?.flatten() {
            if !keep(&entry.file_name().to_string_lossy()) {
                let path = entry.path();
                fs::remove_dir_all(&path).map_err(Error::file("remove", &path))?;
            }
        }
        Ok(())
    }
}

fn make(path: &Path, mode: u32) -> Result<(), Error> {
    let made = fs::DirBuilder::new().recursive(true).mode(mode).create(path);
    made.map_err(Error::file("create", path))?;
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(Error::file("chmod", path))
}
