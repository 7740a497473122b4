//! The content store: an OCI image layout at `ROOT/images`, and the layers unpacked from it.

pub(in crate::image) mod blobs;
mod import;
mod index;
pub(in crate::image) mod ingest;
mod provenance;

pub use import::{Import, Imported};
pub(in crate::image) use provenance::Provenance;

use super::archive;
use super::bundle;
use super::config::{Overrides, runtime_spec, stop_signal};
use super::manifest::{Document, digest_of, parse_config};
use super::unpacked::{Layer, Unpacked};
use super::{Digest, Error, ImageName, Platform, Policy, Source};
use blobs::{Blobs, Staging};
use index::Entry;
use ingest::Ingest;
use oci_spec::image::{ImageConfiguration, ImageManifest};
use oci_spec::runtime::Spec;
use rustix::fs::{FlockOperation, flock};
use std::collections::HashSet;
use std::fs::{self, File};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// image-spec image-layout.md#oci-layout-file
const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// The content store (an OCI image layout) and the unpacked layers, below one root directory.
#[derive(Debug)]
pub struct Store {
    layout: PathBuf,
    blobs: Blobs,
    unpacked: Unpacked,
}

/// One image of the store, its manifest and configuration read and verified.
#[derive(Debug)]
pub struct Image {
    reference: String,
    digest: String,
    manifest: ImageManifest,
    config: ImageConfiguration,
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

/// One line of `wharf images`.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Summary {
    /// Familiar name, such as `web:latest`; the digest of an image without a name.
    pub reference: String,
    /// Digest of the manifest.
    pub digest: String,
    /// RFC 3339, from the image's configuration.
    pub created: Option<String>,
    /// Sum of the compressed layers, bytes.
    pub size_bytes: u64,
    /// `os/architecture[/variant]`.
    pub platform: String,
}

impl Store {
    /// Opens, or makes with mode 0700, `root/images` and `root/layers`.
    ///
    /// # Errors
    /// Names the path.
    pub fn open(root: &Path) -> Result<Self, Error> {
        let layout = root.join("images");
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&layout)
            .map_err(Error::file("create", &layout))?;
        let blobs = Blobs::open(&layout)?;
        let unpacked = Unpacked::open(root)?;
        let store = Self { layout, blobs, unpacked };
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
        flock(&file, FlockOperation::LockExclusive)
            .map_err(|errno| Error::file("lock", &path)(errno.into()))?;
        Ok(file)
    }

    /// Reads images into the store, verifying every digest; unpacks nothing. `tag` names the image of an
    /// archive that holds just one.
    ///
    /// # Errors
    /// Names what is wrong with the archive, or what the policy says to it; the store is as it was before.
    pub fn load(&self, source: &Source, tag: Option<&str>, policy: &Policy) -> Result<Vec<Summary>, Error> {
        let tag: Option<ImageName> = tag.map(str::parse).transpose()?;
        let _lock = self.lock()?;
        let staging = Staging::new(&self.layout)?;
        let found = archive::read(source, tag.as_ref(), &staging)?;
        found.iter().try_for_each(|image| self.admit(image, policy))?;
        let mut entries = index::read(&self.layout)?;
        let mut loaded = Vec::with_capacity(found.len());
        for image in &found {
            for blob in image.blobs.iter().chain([&image.manifest]) {
                self.blobs.commit(blob)?;
            }
            let (digest, size) = (image.manifest.digest.clone(), image.manifest.size);
            let entry = Entry::new(image.name.clone(), digest, size, &image.media_type, None)?;
            index::put(&mut entries, entry.clone());
            loaded.push(entry);
        }
        self.blobs.sync()?;
        found.iter().try_for_each(|image| self.note_loaded(image))?;
        index::write(&self.layout, &entries)?;
        loaded.iter().map(|entry| Ok(self.read(entry)?.summary())).collect()
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

    /// Makes an image of blobs that have arrived. When some of them are gone, because their image was
    /// removed in the meantime, nothing is changed and their digests are returned.
    pub(in crate::image) fn adopt(
        &self,
        ingest: &Ingest,
        image: &Fetched,
    ) -> Result<Result<Summary, Vec<Digest>>, Error> {
        let _lock = self.lock()?;
        let mut missing = Vec::new();
        for digest in image.blobs.iter().chain([&image.manifest]) {
            if !self.blobs.adopt(&ingest.complete(digest), digest)? {
                missing.push(digest.clone());
            }
        }
        if !missing.is_empty() {
            return Ok(Err(missing));
        }
        self.blobs.sync()?;
        let mut entries = index::read(&self.layout)?;
        let (digest, index) = (image.manifest.clone(), image.index.clone());
        let entry =
            Entry::new(Some(image.name.clone()), digest, image.manifest_size, &image.media_type, index)?;
        index::put(&mut entries, entry.clone());
        index::write(&self.layout, &entries)?;
        Ok(Ok(self.read(&entry)?.summary()))
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

    /// Every image.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn list(&self) -> Result<Vec<Summary>, Error> {
        index::read(&self.layout)?.iter().map(|entry| Ok(self.read(entry)?.summary())).collect()
    }

    /// By reference (familiar names normalised), digest or unique digest prefix.
    ///
    /// # Errors
    /// When there is none, or several.
    pub fn find(&self, name: &str) -> Result<Image, Error> {
        let entries = index::read(&self.layout)?;
        self.read(pick(&entries, name)?)
    }

    /// Removes a reference, and the blobs and layers nothing else uses.
    ///
    /// # Errors
    /// When there is no such image.
    pub fn remove(&self, name: &str) -> Result<(), Error> {
        let _lock = self.lock()?;
        let mut entries = index::read(&self.layout)?;
        let gone = pick(&entries, name)?.clone();
        entries.retain(|entry| entry.name != gone.name || entry.digest != gone.digest);
        index::write(&self.layout, &entries)?;
        let mut used = HashSet::new();
        let mut layers = HashSet::new();
        for entry in &entries {
            let image = self.read(entry)?;
            used.insert(entry.digest.hex().to_owned());
            used.extend(image.blobs()?.iter().map(|blob| blob.hex().to_owned()));
            for layer in image.layers()? {
                layers.insert(layer.diff_id.hex().to_owned());
            }
        }
        self.blobs.retain(|hex| used.contains(hex))?;
        self.unpacked.retain(|hex| layers.contains(hex))
    }

    /// The image's layers as directories in overlay's form, lowest first, unpacked when missing.
    ///
    /// # Errors
    /// Names the layer and the entry, or the platform of an image for other machines.
    pub fn layers(&self, image: &Image) -> Result<Vec<PathBuf>, Error> {
        Platform::host().check(&image.config, &image.reference)?;
        self.unpacked.ensure(&image.layers()?, &self.blobs)
    }

    /// Writes an OCI bundle (config.json and rootfs) that any OCI runtime accepts.
    ///
    /// # Errors
    /// Names the layer and the entry; a half-made bundle is removed.
    pub fn unpack(&self, image: &Image, bundle: &Path) -> Result<(), Error> {
        bundle::write(image, &image.layers()?, &self.blobs, bundle)
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
        Ok(Image { reference, digest, manifest: *manifest, config })
    }
}

fn pick<'a>(entries: &'a [Entry], name: &str) -> Result<&'a Entry, Error> {
    if let Ok(wanted) = name.parse::<ImageName>()
        && let Some(found) = entries.iter().find(|entry| entry.name.as_ref() == Some(&wanted))
    {
        return Ok(found);
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

impl Image {
    /// Familiar name, or the digest of an image without one.
    pub fn reference(&self) -> &str {
        &self.reference
    }

    /// Digest of the manifest.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The image's configuration.
    pub fn config(&self) -> &ImageConfiguration {
        &self.config
    }

    /// The runtime spec of an instance: the image's configuration, `overrides`, and users and groups
    /// looked up in `rootfs` (an open directory, the merged tree), resolved inside it.
    ///
    /// # Errors
    /// Names the unknown user, the missing command…
    pub fn runtime_spec(&self, rootfs: BorrowedFd<'_>, overrides: &Overrides) -> Result<Spec, Error> {
        runtime_spec(&self.config, rootfs, overrides)
    }

    /// Stop signal of the image, a number; SIGTERM unless it says otherwise.
    pub fn stop_signal(&self) -> i32 {
        stop_signal(&self.config)
    }

    /// VOLUME paths of the image, absolute and clean.
    pub fn volumes(&self) -> Vec<String> {
        super::config::volumes(&self.config)
    }

    /// The image's manifest.
    pub(in crate::image) fn manifest(&self) -> &ImageManifest {
        &self.manifest
    }

    /// Digests of config and layers.
    fn blobs(&self) -> Result<Vec<Digest>, Error> {
        std::iter::once(self.manifest.config()).chain(self.manifest.layers()).map(digest_of).collect()
    }

    pub(in crate::image) fn layers(&self) -> Result<Vec<Layer>, Error> {
        let diff_ids = self.config.rootfs().diff_ids();
        let descriptors = self.manifest.layers();
        if diff_ids.len() != descriptors.len() {
            return Err(Error::invalid(&self.reference, "has another number of layers than of diff_ids"));
        }
        let layer = |(diff_id, descriptor): (&String, &oci_spec::image::Descriptor)| {
            let diff_id: Digest = diff_id.parse()?;
            Ok(Layer { diff_id, blob: digest_of(descriptor)?, compressed_bytes: descriptor.size() })
        };
        diff_ids.iter().zip(descriptors).map(layer).collect()
    }

    fn summary(&self) -> Summary {
        Summary {
            reference: self.reference.clone(),
            digest: self.digest.clone(),
            created: self.config.created().clone(),
            size_bytes: self.manifest.layers().iter().map(oci_spec::image::Descriptor::size).sum(),
            platform: Platform::of(&self.config).to_string(),
        }
    }
}
