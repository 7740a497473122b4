//! Layers unpacked once, each in a directory of its own below `ROOT/layers`, shared by all instances as
//! overlay lowers.
//!
//! | file | subject |
//! |---|---|
//! | `arrival` | a blob that is read while it is written |
//! | `stream` | decompression on a thread of its own |
//! | `claim` | the directory of a layer until it is complete |
//! | `compare` | whether a layer is still what its blob unpacks to |
//! | `restate` | a layer over those of an image, for directories that upper ones only imply |

mod arrival;
mod claim;
mod compare;
mod restate;
mod stream;

pub(super) use arrival::{Arrival, Settled};
pub(super) use restate::restated_name;

use super::compression::Window;
use super::digest::Hashing;
use super::layer::{Guard, Guarded, Limits, Whiteouts, apply, layer_guard};
use super::parallel::{self, Abandon};
use super::progress::{BlobState, Event, Progress};
use super::store::blobs::Blobs;
use super::{Digest, Error};
use claim::Claim;
use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::RwLock;
use stream::Chunks;

/// Layers at once. Their memory adds up, and more than the processors can feed gain nothing.
const WORKERS_LIMIT: usize = 4;

/// How many layers are unpacked at once.
pub(super) fn workers() -> usize {
    std::thread::available_parallelism().map_or(2, std::num::NonZero::get).clamp(2, WORKERS_LIMIT)
}

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
    /// Applies the layer and verifies its diff_id over the whole stream. `source` is read to its end.
    pub(super) fn apply(
        &self,
        source: impl Read + Send,
        window: Window,
        root: BorrowedFd<'_>,
        whiteouts: Whiteouts,
        limits: Limits,
    ) -> Result<(), Error> {
        self.pass(source, window, limits, |stream, guard| apply(stream, root, whiteouts, guard))
    }

    /// Only verifies the diff_id.
    fn verify(&self, source: impl Read + Send, limits: Limits) -> Result<(), Error> {
        self.pass(source, Window::Large, limits, |_, _| Ok(()))
    }

    /// Passes the layer's stream, what `walk` leaves of it too, and verifies its diff_id.
    fn pass(
        &self,
        source: impl Read + Send,
        window: Window,
        limits: Limits,
        walk: impl FnOnce(&mut Guarded<Hashing<&mut Chunks>>, &Guard) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let what = format!("layer {}", self.blob);
        let guard = layer_guard(limits.for_compressed(self.compressed_bytes));
        stream::decompressing(source, window, |chunks| {
            let mut stream = guard.stream(Hashing::new(chunks));
            walk(&mut stream, &guard)
                .and_then(|()| io::copy(&mut stream, &mut io::sink()).map_err(Error::Unreadable))
                .map_err(|error| within(error, &what))?;
            let (found, _) = stream.into_inner().finish();
            if found == self.diff_id {
                return Ok(());
            }
            Err(Error::Mismatch {
                what: what.clone(),
                expected: self.diff_id.to_string(),
                found: found.to_string(),
            })
        })
    }

    /// Applies the layer from the store.
    pub(super) fn apply_stored(
        &self,
        blobs: &Blobs,
        root: BorrowedFd<'_>,
        whiteouts: Whiteouts,
        limits: Limits,
    ) -> Result<(), Error> {
        self.apply(blobs.reader(&self.blob)?, Window::Large, root, whiteouts, limits)
    }
}

fn within(error: Error, layer: &str) -> Error {
    match error {
        Error::Unreadable(source)
            if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) =>
        {
            Error::File { action: "unpack", path: layer.to_owned(), source }
        }
        Error::Unreadable(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Error::invalid(layer, "is truncated")
        }
        Error::Unreadable(error) if Window::is_exceeded(&error) => Error::Window { what: layer.to_owned() },
        Error::Unreadable(error) => Error::invalid(layer, format!("cannot be read: {error}")),
        Error::Invalid { what, reason } => Error::Invalid { what: format!("{what} of {layer}"), reason },
        Error::File { action, path, source } => {
            Error::File { action, path: format!("{path} of {layer}"), source }
        }
        error => error,
    }
}

/// Whether a layer had to be unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Done {
    /// It was there; of the source nothing, or not all, has been read.
    WasThere,
    Unpacked,
}

/// What became of the comparison of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Sound,
    /// The first difference.
    Differs(String),
    /// It differed, and is unpacked anew.
    Replaced(String),
}

/// The directories below `ROOT/layers`.
#[derive(Debug)]
pub(super) struct Unpacked {
    directory: PathBuf,
    limits: Limits,
    /// Held alone by one who decompresses with a large window.
    windows: RwLock<()>,
}

impl Unpacked {
    pub(super) fn open(root: &Path, limits: Limits) -> Result<Self, Error> {
        let directory = root.join("layers");
        make_private(&directory.join("sha256"))?;
        Ok(Self { directory, limits, windows: RwLock::new(()) })
    }

    /// Where a layer is, or will be.
    pub(super) fn path(&self, diff_id: &Digest) -> PathBuf {
        self.directory.join("sha256").join(diff_id.hex())
    }

    pub(super) fn holds(&self, diff_id: &Digest) -> bool {
        self.path(diff_id).exists()
    }

    /// The directories of these layers, in the same order. Missing ones are unpacked from the store, several
    /// at once.
    pub(super) fn ensure(
        &self,
        layers: &[Layer],
        blobs: &Blobs,
        progress: &dyn Progress,
    ) -> Result<Vec<PathBuf>, Error> {
        let mut missing: Vec<&Layer> = layers.iter().filter(|layer| !self.holds(&layer.diff_id)).collect();
        missing.sort_by(|a, b| a.diff_id.cmp(&b.diff_id));
        missing.dedup_by(|a, b| a.diff_id == b.diff_id);
        if !missing.is_empty() {
            self.sweep()?;
            let abandon = Abandon::default();
            parallel::each(&missing, workers(), &abandon, |layer| {
                let open = || Ok(Watched::new(blobs.reader(&layer.blob)?, layer, progress, &abandon));
                match self.unpack(layer, open) {
                    Err(_) if abandon.is_set() => Err(Error::Abandoned),
                    done => done.map(|_| progress.event(&layer.event(BlobState::Unpacked))),
                }
            })?;
        }
        Ok(layers.iter().map(|layer| self.path(&layer.diff_id)).collect())
    }

    /// Unpacks a layer beside and renames it: one that has its name is complete, and on disk. `open` gives the
    /// blob from its start, once more where it has to be read with another window.
    pub(super) fn unpack<R: Read + Send>(
        &self,
        layer: &Layer,
        open: impl Fn() -> Result<R, Error>,
    ) -> Result<Done, Error> {
        let once = |window| {
            let done = self.path(&layer.diff_id);
            let Some(claim) = Claim::take(&self.directory, &layer.diff_id, &done)? else {
                return Ok(Done::WasThere);
            };
            layer.apply(open()?, window, claim.root(), Whiteouts::Overlay, self.limits)?;
            claim.commit().map(|()| Done::Unpacked)
        };
        let usual = {
            let _shared = self.windows.read();
            once(Window::Usual)
        };
        match usual {
            Err(Error::Window { .. }) => {
                let _alone = self.windows.write();
                once(Window::Large)
            }
            done => done,
        }
    }

    /// Whether a blob is that of a layer which was unpacked from another one: that the layer is there says nothing
    /// of the blob.
    pub(super) fn verify_blob(&self, layer: &Layer, source: impl Read + Send) -> Result<(), Error> {
        let _alone = self.windows.write();
        layer.verify(source, self.limits)
    }

    /// Compares a layer with what its blob unpacks to, and replaces it where that differs and is wanted.
    pub(super) fn verify(&self, layer: &Layer, blobs: &Blobs, replace: bool) -> Result<Verdict, Error> {
        self.compare_with(&self.path(&layer.diff_id), replace, |root| {
            layer.apply_stored(blobs, root, Whiteouts::Overlay, self.limits)
        })
    }

    /// Compares a directory with what `fill` makes of an empty one.
    fn compare_with(
        &self,
        path: &Path,
        replace: bool,
        fill: impl FnOnce(BorrowedFd<'_>) -> Result<(), Error>,
    ) -> Result<Verdict, Error> {
        let claim = Claim::aside(&self.directory, path)?;
        fill(claim.root())?;
        let found = fs::File::open(path).map_err(Error::file("open", path))?;
        let difference = compare::first_difference(found.as_fd(), claim.root());
        match difference.map_err(Error::file("compare", path))? {
            None => Ok(Verdict::Sound),
            Some(difference) if replace => {
                claim::remove_aside(&self.directory, path)?;
                claim.commit().map(|()| Verdict::Replaced(difference))
            }
            Some(difference) => Ok(Verdict::Differs(difference)),
        }
    }

    /// Removes what killed processes left.
    pub(super) fn sweep(&self) -> Result<(), Error> {
        claim::sweep(&self.directory)
    }

    /// Digits of all layers that are here.
    pub(super) fn list(&self) -> Result<Vec<String>, Error> {
        let directory = self.directory.join("sha256");
        let entries = fs::read_dir(&directory).map_err(Error::file("list", &directory))?;
        Ok(entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
    }

    /// Removes a layer, at once for whoever looks.
    pub(super) fn remove(&self, hex: &str) -> Result<(), Error> {
        claim::remove_aside(&self.directory, &self.directory.join("sha256").join(hex))
    }
}

impl Layer {
    /// How far it is.
    pub(super) fn event<'a>(&'a self, state: BlobState<'a>) -> Event<'a> {
        Event::Blob { digest: &self.blob, size: self.compressed_bytes, state }
    }
}

/// Compressed bytes on their way into a layer: told of, and abandoned when other work has failed.
pub(super) struct Watched<'a, R> {
    inner: R,
    layer: &'a Layer,
    progress: &'a dyn Progress,
    abandon: &'a Abandon,
    read: u64,
}

impl<'a, R> Watched<'a, R> {
    pub(super) fn new(inner: R, layer: &'a Layer, progress: &'a dyn Progress, abandon: &'a Abandon) -> Self {
        Self { inner, layer, progress, abandon, read: 0 }
    }
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.abandon.is_set() {
            return Err(io::Error::other("was abandoned, because another part failed"));
        }
        let length = self.inner.read(buffer)?;
        self.read += length as u64;
        self.progress.event(&self.layer.event(BlobState::Unpacking(self.read)));
        Ok(length)
    }
}

fn make_private(path: &Path) -> Result<(), Error> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(Error::file("create", path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(Error::file("chmod", path))
}
