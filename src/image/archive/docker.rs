//! docker-archives, as `docker save` and `podman save` write them: manifest.json, a config and layers
//! for each image. The store gets an OCI manifest over the same blobs.
use super::super::compression::{Compression, decompressed};
use super::super::manifest::{MANIFEST, check_layer_count, describe, layer_type, manifest_of, parse_config};
use super::super::policy::Origin;
use super::super::store::blobs::Staged;
use super::super::{Error, ImageName, Platform};
use super::files::Files;
use super::{Found, FoundLayer, Manifest};
use serde::Deserialize;
use std::fs::File;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

pub(super) fn read(files: &Files<'_>, origin: &Origin) -> Result<Vec<Found>, Error> {
    let what = format!("manifest.json of {}", files.what);
    let items: Vec<Item> = serde_json::from_slice(&files.document("manifest.json")?)
        .map_err(|error| Error::invalid(&what, format!("is malformed: {error}")))?;
    let mut found = Vec::new();
    for item in &items {
        let tags = item.repo_tags.as_deref().unwrap_or_default();
        let names: Result<Vec<ImageName>, Error> = tags.iter().map(|tag| tag.parse()).collect();
        let names = names?;
        if names.is_empty() {
            found.push(image(files, item, None, origin)?);
        }
        for name in names {
            found.push(image(files, item, Some(name), origin)?);
        }
    }
    Ok(found)
}

fn image(files: &Files<'_>, item: &Item, name: Option<ImageName>, origin: &Origin) -> Result<Found, Error> {
    let what = format!("{} of {}", item.config, files.what);
    let config = files.staged(&item.config)?;
    let parsed = parse_config(&files.document(&item.config)?, &what)?;
    Platform::host().check(&parsed, &what)?;
    check_layer_count(parsed.rootfs().diff_ids().len(), item.layers.len(), &what)?;
    let layer = |(index, (file, diff_id)): (usize, (&String, &String))| {
        Ok(FoundLayer {
            file: file.clone(),
            diff_id: diff_id.parse()?,
            promised: None,
            size: files.size(file)?,
            what: format!("layer {index} of {what}"),
        })
    };
    let layers = item.layers.iter().zip(parsed.rootfs().diff_ids()).enumerate().map(layer);
    Ok(Found {
        name,
        origin: origin.clone(),
        manifest: Manifest::ToBeMade,
        media_type: MANIFEST.to_owned(),
        layers: layers.collect::<Result<_, Error>>()?,
        blobs: vec![config],
    })
}

/// An OCI manifest over the archive's blobs.
pub(super) fn manifest(files: &Files<'_>, config: &Staged, layers: &[Staged]) -> Result<Staged, Error> {
    let layers: Result<Vec<_>, Error> =
        layers.iter().map(|layer| Ok(describe(layer_type(compression_of(layer)?), layer))).collect();
    files.stage_bytes(manifest_of(config, &layers?).to_string().as_bytes())
}

fn compression_of(layer: &Staged) -> Result<Compression, Error> {
    let file = File::open(&layer.path).map_err(Error::file("open", &layer.path))?;
    let (compression, _) = decompressed(file).map_err(Error::file("read", &layer.path))?;
    Ok(compression)
}
