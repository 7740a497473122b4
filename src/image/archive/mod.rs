//! Reading images from archives and layouts: OCI image layouts and docker-archives, as a directory or a
//! tar stream (plain, gzip or zstd, told apart by content).
//!
//! What is read here are the documents. Layers are named, with all that is promised of them, and brought in by
//! the store.

mod docker;
mod files;
mod oci;
mod save;

pub(super) use files::{Content, Files};
pub(super) use oci::REF_NAME;
pub use save::{Destination, SaveFormat, SaveOptions, save};

use super::manifest::MANIFEST;
use super::policy::Origin;
use super::store::blobs::Staged;
use super::{Digest, Error, ImageName, Source};
use std::collections::HashMap;
use std::path::Path;

/// An image of an archive: its documents staged and verified, nothing in the store yet.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) name: Option<ImageName>,
    pub(super) origin: Origin,
    pub(super) manifest: Manifest,
    pub(super) media_type: String,
    pub(super) layers: Vec<FoundLayer>,
    /// The config, and the layers when they have been brought in.
    pub(super) blobs: Vec<Staged>,
}

/// Where the manifest is.
#[derive(Debug)]
pub(super) enum Manifest {
    Staged(Staged),
    /// docker-archives have none; it is made when the digests of the layers are known.
    ToBeMade,
}

/// A layer of an archive.
#[derive(Debug)]
pub(super) struct FoundLayer {
    /// The file that holds it.
    pub(super) file: String,
    pub(super) diff_id: Digest,
    /// Digest and size of the blob, where the archive states them.
    pub(super) promised: Option<(Digest, u64)>,
    /// Bytes of the file.
    pub(super) size: u64,
    /// How to call it in an error.
    pub(super) what: String,
}

impl FoundLayer {
    /// Whether the blob is what was promised.
    pub(super) fn check(&self, staged: &Staged) -> Result<(), Error> {
        match &self.promised {
            Some((digest, size)) => check(&self.what, digest, *size, staged),
            None => Ok(()),
        }
    }
}

fn check(what: &str, digest: &Digest, size: u64, staged: &Staged) -> Result<(), Error> {
    if staged.digest != *digest {
        let (expected, found) = (digest.to_string(), staged.digest.to_string());
        return Err(Error::Mismatch { what: what.to_owned(), expected, found });
    }
    if staged.size != size {
        let reason = format!("is {} bytes long, but {size} were promised", staged.size);
        return Err(Error::invalid(format!("{what} ({digest})"), reason));
    }
    Ok(())
}

impl Found {
    /// An image of documents that were made here: it comes from nowhere but a tree or tar of files.
    pub(super) fn made(name: Option<ImageName>, manifest: Staged, config: Staged, layer: Staged) -> Self {
        Self {
            name,
            origin: Origin::archive("tarball", None),
            manifest: Manifest::Staged(manifest),
            media_type: MANIFEST.to_owned(),
            layers: Vec::new(),
            blobs: vec![config, layer],
        }
    }

    /// Completes the image with layers that have been brought in, by the names of their files. Tells whether
    /// its manifest has been made only now.
    pub(super) fn take(
        &mut self,
        layers: &HashMap<String, Staged>,
        files: &Files<'_>,
    ) -> Result<bool, Error> {
        let find =
            |layer: &FoundLayer| layers.get(&layer.file).cloned().ok_or_else(|| files.missing(&layer.file));
        let layers: Vec<Staged> = self.layers.iter().map(find).collect::<Result<_, Error>>()?;
        let mut is_made = false;
        if let (Manifest::ToBeMade, Some(config)) = (&self.manifest, self.blobs.first()) {
            self.manifest = Manifest::Staged(docker::manifest(files, config, &layers)?);
            is_made = true;
        }
        self.blobs.extend(layers);
        Ok(is_made)
    }
}

/// Reads every image. `tag` names the image, and is an error when there are several.
pub(super) fn read(files: &Files<'_>, source: &Source, tag: Option<&ImageName>) -> Result<Vec<Found>, Error> {
    let mut found = if files.has("index.json") {
        let transport =
            if matches!(source, Source::Path(path) if path.is_dir()) { "oci" } else { "oci-archive" };
        oci::read(files, &stem(source), &origin(transport, source))?
    } else if files.has("manifest.json") {
        docker::read(files, &origin("docker-archive", source))?
    } else {
        let reason = "has neither index.json (OCI image layout) nor manifest.json (docker-archive); the tar of a root file system is for wharf import";
        return Err(Error::invalid(&files.what, reason));
    };
    if found.is_empty() {
        return Err(Error::invalid(&files.what, "holds no image"));
    }
    if let Some(tag) = tag {
        let [only] = found.as_mut_slice() else {
            let reason = format!("holds {} images; load it without --tag", found.len());
            return Err(Error::invalid(&files.what, reason));
        };
        only.name = Some(tag.clone());
    }
    Ok(found)
}

fn origin(transport: &str, source: &Source) -> Origin {
    let path = match source {
        Source::Path(path) => Some(path.as_path()),
        Source::Stdin => None,
    };
    Origin::archive(transport, path)
}

/// Name for an image whose archive states a tag at most: the file's own, without endings.
fn stem(source: &Source) -> Option<String> {
    let Source::Path(path) = source else { return None };
    let path = path.canonicalize().unwrap_or_else(|_| path.clone());
    let name = path.file_name().map(Path::new)?.to_string_lossy().to_lowercase();
    let name = name.split('.').next().unwrap_or_default().to_owned();
    (!name.is_empty()).then_some(name)
}
