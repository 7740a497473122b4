//! OCI image layouts: image-spec image-layout.md.
use super::super::manifest::{Document, check_layer_count, digest_of, parse_config};
use super::super::policy::Origin;
use super::super::store::blobs::Staged;
use super::super::{Error, ImageName, Platform};
use super::files::Files;
use super::{Found, FoundLayer, Manifest, check};
use oci_spec::image::{Descriptor, ImageIndex};

/// containerd and Docker state the full name here, `ref.name` often holds a tag alone.
pub(super) const CONTAINERD_NAME: &str = "io.containerd.image.name";
pub(in crate::image) const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Indexes may point to indexes; no real one does so more often.
const DEPTH_LIMIT: usize = 4;

pub(super) fn read(files: &Files<'_>, stem: &Option<String>, origin: &Origin) -> Result<Vec<Found>, Error> {
    let what = format!("index.json of {}", files.what);
    let bytes = files.document("index.json")?;
    let Document::Index(index) = Document::parse(&bytes, &what)? else {
        return Err(Error::invalid(what, "is no index"));
    };
    let mut found = Vec::new();
    let images = images_of(&index, &what)?;
    for descriptor in &images {
        // The file's name is that of one image alone.
        let name = name_of(descriptor, stem.as_deref().filter(|_| images.len() == 1 || has_name(descriptor)));
        found.push(image(files, descriptor, name, origin, 0)?);
    }
    Ok(found)
}

/// Unnamed entries of several platforms are one image; named ones are images of their own, and so are unnamed
/// ones that state no platform beside others.
fn images_of<'a>(index: &'a ImageIndex, what: &str) -> Result<Vec<&'a Descriptor>, Error> {
    let own =
        |entry: &&Descriptor| has_name(entry) || index.manifests().len() > 1 && entry.platform().is_none();
    let images: Vec<&Descriptor> = index.manifests().iter().filter(own).collect();
    match images.is_empty() {
        true if index.manifests().is_empty() => Ok(Vec::new()),
        true => Platform::host().choose(index, what).map(|only| vec![only]),
        false => Ok(images),
    }
}

fn has_name(descriptor: &Descriptor) -> bool {
    let notes = descriptor.annotations().as_ref();
    notes.is_some_and(|notes| notes.contains_key(REF_NAME) || notes.contains_key(CONTAINERD_NAME))
}

fn name_of(descriptor: &Descriptor, stem: Option<&str>) -> Option<ImageName> {
    let notes = descriptor.annotations().as_ref();
    let note = |key: &str| notes.and_then(|notes| notes.get(key)).filter(|note| !note.is_empty());
    let full: Option<ImageName> = note(CONTAINERD_NAME).and_then(|name| name.parse().ok());
    if let Some(name) = full {
        // umoci gives an entry that it copies another `ref.name` and leaves the other note as it was.
        let agrees = |text: &str| Some(text) == name.tag() || text == name.full() || text == name.familiar();
        if note(REF_NAME).is_none_or(|text| agrees(text)) {
            return Some(name);
        }
    }
    match note(REF_NAME) {
        Some(name) if name.contains(['/', ':']) => name.parse().ok(),
        Some(tag) => format!("{}:{tag}", stem?).parse().ok(),
        None => stem?.parse().ok(),
    }
}

fn image(
    files: &Files<'_>,
    descriptor: &Descriptor,
    name: Option<ImageName>,
    origin: &Origin,
    depth: usize,
) -> Result<Found, Error> {
    let staged = blob(files, descriptor, "manifest")?;
    let what = format!("manifest {} of {}", staged.digest, files.what);
    let bytes = files.document(&blob_name(descriptor)?)?;
    let document = Document::parse(&bytes, &what)?;
    document.check_called(descriptor.media_type().as_ref(), &what)?;
    let manifest = match document {
        Document::Manifest(manifest) => manifest,
        Document::Index(_) if depth >= DEPTH_LIMIT => {
            return Err(Error::invalid(what, "indexes point to each other without end"));
        }
        Document::Index(index) => {
            return image(files, Platform::host().choose(&index, &what)?, name, origin, depth + 1);
        }
    };
    let config = blob(files, manifest.config(), "config")?;
    let text = files.document(&blob_name(manifest.config())?)?;
    let config_name = format!("the config of {what}");
    let parsed = parse_config(&text, &config_name)?;
    Platform::host().check(&parsed, &config_name)?;
    check_layer_count(parsed.rootfs().diff_ids().len(), manifest.layers().len(), &what)?;
    let layer = |(index, (descriptor, diff_id)): (usize, (&Descriptor, &String))| {
        let (digest, file) = (digest_of(descriptor)?, blob_name(descriptor)?);
        Ok(FoundLayer {
            size: files.size(&file)?,
            file,
            diff_id: diff_id.parse()?,
            what: format!("layer {index} of {}", files.what),
            promised: Some((digest, descriptor.size())),
        })
    };
    let layers = manifest.layers().iter().zip(parsed.rootfs().diff_ids()).enumerate().map(layer);
    Ok(Found {
        name,
        origin: origin.clone(),
        manifest: Manifest::Staged(staged),
        media_type: descriptor.media_type().to_string(),
        layers: layers.collect::<Result<_, Error>>()?,
        blobs: vec![config],
    })
}

fn blob_name(descriptor: &Descriptor) -> Result<String, Error> {
    Ok(format!("blobs/sha256/{}", digest_of(descriptor)?.hex()))
}

/// A document with the digest and size that its descriptor promises.
fn blob(files: &Files<'_>, descriptor: &Descriptor, kind: &str) -> Result<Staged, Error> {
    let staged = files.staged(&blob_name(descriptor)?)?;
    check(&format!("{kind} of {}", files.what), &digest_of(descriptor)?, descriptor.size(), &staged)?;
    Ok(staged)
}
