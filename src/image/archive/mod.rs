//! Reading images from archives and layouts: OCI image layouts and docker-archives, as a directory or a
//! tar stream (plain, gzip or zstd, told apart by content).

mod docker;
mod files;
mod oci;
mod save;

pub(super) use oci::{REF_NAME, check_layer_count};
pub use save::{Destination, SaveFormat, SaveOptions, save};

use super::policy::Origin;
use super::store::blobs::{Staged, Staging};
use super::{Error, ImageName, Source};
use files::Files;
use std::path::Path;

/// An image of an archive: everything staged and verified, nothing in the store yet.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) name: Option<ImageName>,
    pub(super) origin: Origin,
    pub(super) manifest: Staged,
    pub(super) media_type: String,
    /// Config and layers.
    pub(super) blobs: Vec<Staged>,
}

/// Reads every image. `tag` names the image, and is an error when there are several.
pub(super) fn read(source: &Source, tag: Option<&ImageName>, staging: &Staging) -> Result<Vec<Found>, Error> {
    let files = Files::open(source, staging)?;
    let mut found = if files.has("index.json") {
        let transport =
            if matches!(source, Source::Path(path) if path.is_dir()) { "oci" } else { "oci-archive" };
        oci::read(&files, &stem(source), &origin(transport, source))?
    } else if files.has("manifest.json") {
        docker::read(&files, &origin("docker-archive", source))?
    } else {
        let reason = "has neither index.json (OCI image layout) nor manifest.json (docker-archive)";
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
