//! Images on disk: references, the content store, archives, layer apply, overlay snapshots, and the
//! translation of an image's configuration into a runtime spec.

use oci_spec::image::ImageConfiguration;
use oci_spec::runtime::Spec;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// What went wrong with an image. (Placeholder: the owner of this folder replaces it.)
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No image of that name in the store.
    #[error("no image {0}; see `wharf images`, or load one with `wharf load`")]
    NotFound(String),
}

/// The content store (an OCI image layout) and the unpacked layers, below one root directory.
#[derive(Debug)]
pub struct Store {}

/// One image of the store, its manifest and configuration read and verified.
#[derive(Debug)]
pub struct Image {}

/// One line of `wharf images`.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Summary {
    /// Familiar name, such as `web:latest`.
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

/// Where `wharf load` reads from.
#[derive(Debug, Clone)]
pub enum Source {
    /// A tar archive (plain, gzip or zstd) or a directory holding an OCI image layout or docker-archive.
    Path(PathBuf),
    /// The same archive on standard input.
    Stdin,
}

/// What the user sets over the image's configuration.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--entrypoint`: replaces the entry point and drops the image's command.
    pub entrypoint: Option<Vec<String>>,
    /// COMMAND...: replaces the image's command when not empty.
    pub command: Vec<String>,
    /// `-e KEY=VALUE`, validated; later ones win.
    pub env: Vec<(String, String)>,
    /// `-u USER[:GROUP]`.
    pub user: Option<String>,
    /// `-w DIR`.
    pub workdir: Option<String>,
    /// `-h NAME`.
    pub hostname: Option<String>,
}

impl Store {
    /// Opens, or makes with mode 0700, `root/images` and `root/layers`.
    ///
    /// # Errors
    /// Names the path.
    pub fn open(_root: &Path) -> Result<Self, Error> {
        Ok(Self {})
    }
    /// Reads images into the store, verifying every digest; unpacks nothing.
    ///
    /// # Errors
    /// Names what is wrong with the archive; the store is as it was before.
    pub fn load(&self, _source: &Source, _tag: Option<&str>) -> Result<Vec<Summary>, Error> {
        Ok(Vec::new())
    }
    /// Every image.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn list(&self) -> Result<Vec<Summary>, Error> {
        Ok(Vec::new())
    }
    /// By reference (familiar names normalised), digest or unique digest prefix.
    ///
    /// # Errors
    /// When there is none, or several.
    pub fn find(&self, name: &str) -> Result<Image, Error> {
        Err(Error::NotFound(name.to_owned()))
    }
    /// Removes a reference, and the blobs and layers nothing else uses.
    ///
    /// # Errors
    /// When there is no such image.
    pub fn remove(&self, name: &str) -> Result<(), Error> {
        Err(Error::NotFound(name.to_owned()))
    }
    /// The image's layers as directories in overlay's form, lowest first, unpacked when missing.
    ///
    /// # Errors
    /// Names the layer and the entry.
    pub fn layers(&self, _image: &Image) -> Result<Vec<PathBuf>, Error> {
        Ok(Vec::new())
    }
    /// Writes an OCI bundle (config.json and rootfs) that any OCI runtime accepts.
    ///
    /// # Errors
    /// Names the layer and the entry; a half-made bundle is removed.
    pub fn unpack(&self, _image: &Image, _bundle: &Path) -> Result<(), Error> {
        Ok(())
    }
}

impl Image {
    /// Familiar name, as asked for.
    pub fn reference(&self) -> &str {
        ""
    }
    /// Digest of the manifest.
    pub fn digest(&self) -> &str {
        ""
    }
    /// The image's configuration.
    pub fn config(&self) -> &ImageConfiguration {
        unreachable!()
    }
    /// The runtime spec of an instance: the image's configuration, `overrides`, and users, groups and
    /// working directory looked up in `rootfs` (an open directory, the merged tree), resolved inside it.
    ///
    /// # Errors
    /// Names the unknown user, the missing command…
    pub fn runtime_spec(
        &self,
        _rootfs: std::os::fd::BorrowedFd<'_>,
        _overrides: &Overrides,
    ) -> Result<Spec, Error> {
        Err(Error::NotFound(String::new()))
    }
    /// Stop signal of the image, a number; SIGTERM unless it says otherwise.
    pub fn stop_signal(&self) -> i32 {
        15
    }
    /// VOLUME paths of the image, absolute and clean.
    pub fn volumes(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Mounts layers (lowest first), `upper` and `work` as a detached overlay: the mount never appears in
/// the host's mount table and ends with its last user.
///
/// # Errors
/// Names the layer the kernel refused.
pub fn mount_overlay(_layers: &[PathBuf], _upper: &Path, _work: &Path) -> Result<OwnedFd, Error> {
    Err(Error::NotFound(String::new()))
}
