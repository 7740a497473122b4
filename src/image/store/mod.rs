//! The content store: an OCI image layout at `ROOT/images`, and the layers unpacked from it.

pub(in crate::image) mod blobs;
mod check;
mod collect;
mod commit;
mod details;
mod establish;
mod image;
mod import;
mod index;
pub(in crate::image) mod ingest;
mod lease;
mod load;
mod provenance;
mod rebuild;

use super::bundle;
use super::layer::Limits;
use super::lock::lock;
use super::manifest::{Document, digest_of, parse_config};
use super::progress::Progress;
use super::unpack::{Done, Layer, Unpacked};
use super::{Digest, Error, ImageName, Platform};
use blobs::Blobs;
use index::Entry;
use ingest::Ingest;
use lease::Lease;
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

pub use check::{CheckOptions, Finding, Report};
pub use collect::{InUse, Removed};
pub use commit::Commit;
pub use details::{Details, HistoryEntry, LayerDetails, StoreUsage, Usage, disk_bytes};
pub(in crate::image) use image::layers_of;
pub use image::{Image, Summary};
pub use import::{Import, Imported};
pub use load::LoadOptions;
pub(in crate::image) use provenance::Provenance;

/// image-spec image-layout.md#oci-layout-file
pub(in crate::image) const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// The content store (an OCI image layout) and the unpacked layers, below one root directory.
#[derive(Debug)]
pub struct Store {
    layout: PathBuf,
    blobs: Blobs,
    unpacked: Unpacked,
    limits: Limits,
}

/// An image of which every blob has been fetched, or was there.
#[derive(Debug)]
pub(in crate::image) struct Fetched {
    pub(in crate::image) name: ImageName,
    pub(in crate::image) manifest: Digest,
    pub(in crate::image) manifest_size: u64,
    pub(in crate::image) media_type: String,
    /// Digest of the index that led to the manifest.
    pub(in crate::image) index: Option<Digest>,
    /// Config and layers.
    pub(in crate::image) blobs: Vec<Digest>,
}

impl Store {
    /// Opens, or makes with mode 0700, `root/images` and `root/layers`.
    ///
    /// # Errors
    /// Names the path.
    pub fn open(root: &Path) -> Result<Self, Error> {
        Self::with_limits(root, Limits::default())
    }

    /// Like [`open`](Self::open), for layers that may ask for so much.
    ///
    /// # Errors
    /// Names the path.
    pub fn with_limits(root: &Path, limits: Limits) -> Result<Self, Error> {
        let layout = root.join("images");
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&layout)
            .map_err(Error::file("create", &layout))?;
        let blobs = Blobs::open(&layout)?;
        let unpacked = Unpacked::open(root, limits)?;
        let store = Self { layout, blobs, unpacked, limits };
        let mark = store.layout.join("oci-layout");
        if !mark.exists() {
            let _lock = store.lock()?;
            index::replace(&mark, LAYOUT)?;
        }
        Ok(store)
    }

    /// One writer at a time; the lock goes with the returned file.
    fn lock(&self) -> Result<File, Error> {
        let path = self.layout.join(".lock");
        let file =
            File::options().create(true).append(true).open(&path).map_err(Error::file("open", &path))?;
        lock(&file, &path)?;
        Ok(file)
    }

    /// A lease that holds nothing yet.
    pub(in crate::image) fn lease(&self) -> Result<Lease, Error> {
        let _lock = self.lock()?;
        lease::sweep(&self.layout)?;
        Lease::new(&self.layout)
    }

    /// From here on no removal of images touches this content. Whether it is there is to be looked at after
    /// this, not before.
    pub(in crate::image) fn hold<'a>(
        &self,
        lease: &Lease,
        digests: impl IntoIterator<Item = &'a Digest>,
    ) -> Result<(), Error> {
        let _lock = self.lock()?;
        lease.add(digests)
    }

    /// Brings all that was written to the disk.
    fn sync(&self) -> Result<(), Error> {
        let layout = File::open(&self.layout).map_err(Error::file("open", &self.layout))?;
        rustix::fs::syncfs(&layout).map_err(|errno| Error::file("write", &self.layout)(errno.into()))
    }

    /// Where blobs of registries arrive.
    pub(in crate::image) fn ingest(&self) -> Result<Ingest, Error> {
        Ingest::open(&self.layout)
    }

    /// Whether a blob is there, as long as it should be.
    pub(in crate::image) fn holds(&self, digest: &Digest, size: u64) -> bool {
        self.blobs.holds(digest, size)
    }

    /// A blob's content.
    pub(in crate::image) fn blob(&self, digest: &Digest) -> Result<File, Error> {
        self.blobs.reader(digest)
    }

    /// A document, verified.
    pub(in crate::image) fn document(&self, digest: &Digest) -> Result<Vec<u8>, Error> {
        self.blobs.document(digest)
    }

    /// Room that is left for blobs, bytes; `None` where that is not known.
    pub(in crate::image) fn room(&self) -> Option<u64> {
        let state = rustix::fs::statvfs(&self.layout).ok()?;
        state.f_bavail.checked_mul(state.f_frsize)
    }

    /// Whether a layer is unpacked.
    pub(in crate::image) fn has_layer(&self, diff_id: &Digest) -> bool {
        self.unpacked.holds(diff_id)
    }

    /// Unpacks a layer from wherever its blob comes; `open` gives it from its start. The blob of one that is there
    /// is only verified.
    pub(in crate::image) fn unpack_layer<R: Read + Send>(
        &self,
        layer: &Layer,
        open: impl Fn() -> Result<R, Error>,
    ) -> Result<(), Error> {
        match self.unpacked.unpack(layer, &open)? {
            Done::Unpacked => Ok(()),
            Done::WasThere => self.unpacked.verify_blob(layer, open()?),
        }
    }

    /// Blobs and the diff_ids of what they decompress to, of all images: they came in together. Nobody asks
    /// about layers that are not unpacked, so that for `wanted` of which none is, no image is read.
    pub(in crate::image) fn verified<'a>(
        &self,
        wanted: impl IntoIterator<Item = &'a Digest>,
    ) -> Result<HashSet<(Digest, Digest)>, Error> {
        let mut pairs = HashSet::new();
        if !wanted.into_iter().any(|diff_id| self.has_layer(diff_id)) {
            return Ok(pairs);
        }
        for entry in index::read(&self.layout)? {
            // What an image that is damaged says counts for nothing.
            let layers = self.read(&entry).and_then(|image| image.layers()).unwrap_or_default();
            pairs.extend(layers.into_iter().map(|layer| (layer.blob, layer.diff_id)));
        }
        Ok(pairs)
    }

    /// Makes an image of blobs that have arrived.
    pub(in crate::image) fn adopt(&self, ingest: &Ingest, image: &Fetched) -> Result<Summary, Error> {
        let _lock = self.lock()?;
        for digest in image.blobs.iter().chain([&image.manifest]) {
            if !self.blobs.adopt(&ingest.complete(digest), digest)? {
                let reason = "is gone although it had been fetched; pull again";
                return Err(Error::invalid(format!("blob {digest} of {}", image.name), reason));
            }
        }
        self.blobs.sync()?;
        let mut entries = index::read(&self.layout)?;
        let (digest, index) = (image.manifest.clone(), image.index.clone());
        let entry =
            Entry::new(Some(image.name.clone()), digest, image.manifest_size, &image.media_type, index)?;
        index::put(&mut entries, entry.clone());
        index::write(&self.layout, &entries)?;
        Ok(self.read(&entry)?.summary())
    }

    /// Names of images that have this blob.
    pub(in crate::image) fn names_with(&self, blob: &Digest) -> Result<Vec<ImageName>, Error> {
        let mut names = Vec::new();
        for entry in index::read(&self.layout)? {
            // An image that is damaged is no source, and no reason to fail for another.
            let has = self.read(&entry).and_then(|image| image.blobs()).is_ok_and(|all| all.contains(blob));
            names.extend(entry.name.filter(|_| has));
        }
        Ok(names)
    }

    /// Every image, those without a name last.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn list(&self) -> Result<Vec<Summary>, Error> {
        let entries = index::read(&self.layout)?;
        let (named, nameless): (Vec<&Entry>, Vec<&Entry>) =
            entries.iter().partition(|entry| entry.name.is_some());
        named.into_iter().chain(nameless).map(|entry| Ok(self.read(entry)?.summary())).collect()
    }

    /// By reference (familiar names normalised), digest or unique digest prefix.
    ///
    /// # Errors
    /// When there is none, or several.
    pub fn find(&self, name: &str) -> Result<Image, Error> {
        let entries = index::read(&self.layout)?;
        self.read(pick(&entries, name)?)
    }

    /// The image's layers as directories in overlay's form, lowest first, unpacked when missing. Where upper ones
    /// imply directories that lower ones state, there is one more.
    ///
    /// # Errors
    /// Names the layer and the entry, or the platform of an image for other machines.
    pub fn layers(&self, image: &Image, progress: &dyn Progress) -> Result<Vec<PathBuf>, Error> {
        Platform::host().check(&image.config, &image.reference)?;
        let layers = image.layers()?;
        let mut directories = self.unpacked.ensure(&layers, &self.blobs, progress)?;
        directories.extend(self.unpacked.restated(&layers)?);
        Ok(directories)
    }

    /// Writes an OCI bundle (config.json and rootfs) that any OCI runtime accepts.
    ///
    /// # Errors
    /// Names the layer and the entry; a half-made bundle is removed.
    pub fn unpack(&self, image: &Image, bundle: &Path) -> Result<(), Error> {
        bundle::write(image, &image.layers()?, &self.blobs, self.limits, bundle)
    }

    fn read(&self, entry: &Entry) -> Result<Image, Error> {
        let what = format!("image {}", entry.digest);
        let Document::Manifest(manifest) = Document::parse(&self.blobs.document(&entry.digest)?, &what)?
        else {
            return Err(Error::invalid(what, "is an index"));
        };
        let config = self.blobs.document(&digest_of(manifest.config())?)?;
        let digest = entry.digest.to_string();
        let reference = entry.name.as_ref().map_or_else(|| digest.clone(), ToString::to_string);
        let config = parse_config(&config, &format!("the config of {reference}"))?;
        Ok(Image { reference, name: entry.name.clone(), digest, manifest: *manifest, config })
    }
}

fn pick<'a>(entries: &'a [Entry], name: &str) -> Result<&'a Entry, Error> {
    if let Ok(wanted) = name.parse::<ImageName>()
        && let Some(found) = entries.iter().find(|entry| entry.name.as_ref() == Some(&wanted))
    {
        return Ok(found);
    }
    if name.trim().is_empty() {
        return Err(Error::Reference { text: name.to_owned(), reason: "it is empty".to_owned() });
    }
    // In NAME@DIGEST and NAME:TAG@DIGEST the digest decides.
    let name_or_digest = name.rsplit_once('@').map_or(name, |(_, digest)| digest);
    let prefix = name_or_digest.strip_prefix("sha256:").unwrap_or(name_or_digest);
    if prefix.len() < 4 || !prefix.chars().all(|c| c.is_ascii_hexdigit()) {
        return Err(Error::NotFound(name.to_owned()));
    }
    let fits = |digest: &Digest| digest.hex().starts_with(prefix);
    let mut fitting =
        entries.iter().filter(|entry| fits(&entry.digest) || entry.index.as_ref().is_some_and(fits));
    let first = fitting.next().ok_or_else(|| Error::NotFound(name.to_owned()))?;
    match fitting.all(|other| other.digest == first.digest) {
        true => Ok(first),
        false => Err(Error::Ambiguous(name.to_owned())),
    }
}

/// A name that nobody else chooses.
pub(in crate::image) fn random_name() -> Result<String, Error> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::invalid("random numbers of the kernel", error.to_string()))?;
    Ok(hex::encode(bytes))
}
