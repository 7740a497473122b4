//! An OCI image layout, image-spec image-layout.md, which carries Docker's manifest.json too when it is an
//! archive's: readers of either kind find their own.
use super::super::super::manifest::{Document, digest_of, media_type_of};
use super::super::super::store::LAYOUT;
use super::super::super::{Digest, Error, Image, Store};
use super::super::oci::{CONTAINERD_NAME, REF_NAME};
use super::content::Content;
use super::{Sink, docker};
use serde_json::{Value, json};
use std::collections::HashSet;

/// What the layout is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Archive,
    Directory,
}

impl Shape {
    /// Under which notes a name stands. Tools that add images to a directory know the specification's own
    /// note alone, and would leave the other stale.
    fn notes(self) -> &'static [&'static str] {
        match self {
            Self::Archive => &[CONTAINERD_NAME, REF_NAME],
            Self::Directory => &[REF_NAME],
        }
    }
}

/// Writes images with their names.
pub(super) fn write(store: &Store, images: &[Image], shape: Shape, sink: &mut dyn Sink) -> Result<(), Error> {
    let mut manifests = Vec::with_capacity(images.len());
    let mut entries: Vec<Value> = Vec::with_capacity(images.len());
    for image in images {
        let bytes = store.document(&image.digest().parse()?)?;
        let entry = entry(image, &bytes, shape.notes())?;
        if !entries.contains(&entry) {
            entries.push(entry);
        }
        manifests.push(bytes);
    }
    let index = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries,
    });
    sink.file("oci-layout", Content::of_bytes(LAYOUT))?;
    sink.file("index.json", Content::of_bytes(index.to_string().as_bytes()))?;
    if shape == Shape::Archive {
        let items = docker::items(images, |image| {
            let layers = image.layers()?.iter().map(|layer| blob_name(&layer.blob)).collect();
            Ok((blob_name(&docker::config_digest(image)?), layers))
        })?;
        sink.file("manifest.json", Content::of_bytes(items.to_string().as_bytes()))?;
    }
    sink.directory("blobs")?;
    sink.directory("blobs/sha256")?;
    let mut written = HashSet::new();
    for (image, manifest) in images.iter().zip(&manifests) {
        let mut blob = |digest: Digest, content: Content<'_>| match written.insert(digest.clone()) {
            true => sink.file(&blob_name(&digest), content),
            false => Ok(()),
        };
        blob(image.digest().parse()?, Content::of_bytes(manifest))?;
        let document = image.manifest();
        for descriptor in std::iter::once(document.config()).chain(document.layers()) {
            blob(digest_of(descriptor)?, Content::of_blob(store, descriptor)?)?;
        }
    }
    Ok(())
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// The image's entry in index.json. Every note has the full name: tags alone, as Docker has them in
/// `ref.name`, would be the same for several images of an archive.
fn entry(image: &Image, manifest: &[u8], names: &[&str]) -> Result<Value, Error> {
    let document = Document::parse(manifest, &format!("image {}", image.digest()))?;
    let mut entry = json!({
        "mediaType": media_type_of(manifest, &document), "digest": image.digest(), "size": manifest.len(),
    });
    if let Some(name) = image.name() {
        let note = |key: &&str| ((*key).to_owned(), json!(name.full()));
        entry["annotations"] = Value::Object(names.iter().map(note).collect());
    }
    Ok(entry)
}
