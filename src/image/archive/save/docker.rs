//! A docker-archive: manifest.json, a config for each image, and uncompressed layers by their diff_id.
use super::super::super::manifest::digest_of;
use super::super::super::{Digest, Error, Image, Store};
use super::content::Content;
use super::{Sink, tag_of};
use serde_json::{Value, json};
use std::collections::HashSet;

pub(super) fn write(store: &Store, images: &[Image], sink: &mut dyn Sink) -> Result<(), Error> {
    let layer_name = |diff_id: &Digest| format!("{}.tar", diff_id.hex());
    let config_name = |digest: &Digest| format!("{}.json", digest.hex());
    let items = items(images, |image| {
        let layers = image.layers()?.iter().map(|layer| layer_name(&layer.diff_id)).collect();
        Ok((config_name(&config_digest(image)?), layers))
    })?;
    sink.file("manifest.json", Content::of_bytes(items.to_string().as_bytes()))?;
    let mut written = HashSet::new();
    for image in images {
        let name = config_name(&config_digest(image)?);
        if written.insert(name.clone()) {
            sink.file(&name, Content::of_blob(store, image.manifest().config())?)?;
        }
        for layer in image.layers()? {
            let name = layer_name(&layer.diff_id);
            if written.insert(name.clone()) {
                sink.file(&name, Content::of_layer(store, &layer)?)?;
            }
        }
    }
    Ok(())
}

/// manifest.json: an item for each config, with all tags that it is asked for under. `files` names an
/// image's config and layers.
pub(super) fn items(
    images: &[Image],
    files: impl Fn(&Image) -> Result<(String, Vec<String>), Error>,
) -> Result<Value, Error> {
    let mut items: Vec<(String, Vec<String>, Vec<String>)> = Vec::new();
    for image in images {
        let (config, layers) = files(image)?;
        let known = items.iter().position(|item| item.0 == config);
        let at = known.unwrap_or_else(|| {
            items.push((config, Vec::new(), layers));
            items.len() - 1
        });
        let tags = &mut items[at].1;
        if let Some(tag) = image.name().and_then(tag_of).filter(|tag| !tags.contains(tag)) {
            tags.push(tag);
        }
    }
    let value = |(config, tags, layers): (String, Vec<String>, Vec<String>)| {
        let tags = if tags.is_empty() { Value::Null } else { json!(tags) };
        json!({ "Config": config, "RepoTags": tags, "Layers": layers })
    };
    Ok(items.into_iter().map(value).collect())
}

pub(super) fn config_digest(image: &Image) -> Result<Digest, Error> {
    digest_of(image.manifest().config())
}
