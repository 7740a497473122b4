//! `wharf commit`: an image of another one and what an instance of it has written.
use super::super::archive::Found;
use super::super::compression::Compression;
use super::super::config::apply_changes;
use super::super::digest::Hashing;
use super::super::layer;
use super::super::manifest::{MANIFEST, describe, layer_type, manifest_of};
use super::super::upper::UpperDirectory;
use super::super::{Error, ImageName};
use super::blobs::{Staged, Staging};
use super::index::Entry;
use super::lease::Lease;
use super::{Image, Store, Summary, digest_of};
use flate2::write::GzEncoder;
use oci_spec::image::{Descriptor, ImageConfiguration, MediaType};
use serde_json::{Map, Value, json};
use std::time::SystemTime;

/// What a new image is made of.
#[derive(Debug)]
pub struct Commit<'a> {
    /// Name of the new image.
    pub name: &'a ImageName,
    /// Digest of the manifest of the instance's image.
    pub parent: &'a str,
    /// What the instance has written.
    pub upper: &'a UpperDirectory<'a>,
    /// What was executed in it, for the history.
    pub created_by: &'a str,
    /// Who makes the image.
    pub author: Option<&'a str>,
    /// Why, for the history.
    pub message: Option<&'a str>,
    /// What the configuration says otherwise than the parent's.
    pub changes: &'a [String],
}

impl Store {
    /// Makes an image. One that has the name already loses it. `spoiled` is asked when all has been read: it
    /// gives a reason to throw it away when the instance was not left alone.
    ///
    /// # Errors
    /// Names what cannot be read or written; the store is as it was before.
    pub fn commit(
        &self,
        commit: &Commit<'_>,
        spoiled: impl Fn() -> Option<&'static str>,
    ) -> Result<Summary, Error> {
        if commit.name.digest().is_some() {
            let reason = "has a digest, which follows from what the image will be; name a tag".to_owned();
            return Err(Error::Reference { text: commit.name.to_string(), reason });
        }
        let (staging, lease) = self.staging()?;
        let parent = self.entry_of(commit.parent)?;
        self.hold(&lease, [&parent.digest])?;
        let parent = self.whole(&lease, &parent)?;
        let mut config = self.raw_config(&parent)?;
        // What is wrong with the changes is told before anything is read.
        change_process(&mut config, &parent, commit.changes)?;
        let mut gzip = GzEncoder::new(staging.begin()?, flate2::Compression::default());
        let (diff_id, _) = layer::write(commit.upper, Hashing::new(&mut gzip))?.finish();
        let layer = gzip.finish().map_err(unwritable)?.finish();
        if let Some(reason) = spoiled() {
            return Err(Error::invalid(
                "the instance",
                format!("{reason} while it was read; nothing was committed"),
            ));
        }
        add_layer(&mut config, &parent, commit, &diff_id.to_string());
        let config = stage_json(&staging, &Value::Object(config))?;
        let manifest = stage_json(&staging, &manifest(&parent, &config, &layer))?;
        let found = Found::made(Some(commit.name.clone()), manifest, config, layer);
        Ok(self.establish(&[found], &lease)?.remove(0))
    }

    /// The image an instance was made of, whatever has its name by now.
    pub(super) fn entry_of(&self, digest: &str) -> Result<Entry, Error> {
        Entry::new(None, digest.parse()?, 0, MANIFEST, None)
    }

    /// The image, if all of it is there. From here on it stays.
    fn whole(&self, lease: &Lease, entry: &Entry) -> Result<Image, Error> {
        let whole = self.read(entry).and_then(|image| {
            let blobs = image.blobs()?;
            self.hold(lease, &blobs)?;
            self.hold(lease, image.layers()?.iter().map(|layer| &layer.diff_id))?;
            blobs.iter().try_for_each(|blob| self.blobs.reader(blob).map(drop))?;
            Ok(image)
        });
        whole.map_err(|error| {
            let reason = format!("is no longer whole in the store ({error}); load or pull it again");
            Error::invalid("the instance's image", reason)
        })
    }

    /// The parent's configuration as it is, also what no specification knows.
    fn raw_config(&self, parent: &Image) -> Result<Map<String, Value>, Error> {
        let bytes = self.blobs.document(&digest_of(parent.manifest.config())?)?;
        serde_json::from_slice(&bytes).map_err(|error| {
            Error::invalid(format!("the config of {}", parent.reference), format!("is malformed: {error}"))
        })
    }
}

/// Changes the member `config` of a configuration; what no specification knows stays.
fn change_process(config: &mut Map<String, Value>, parent: &Image, changes: &[String]) -> Result<(), Error> {
    let mut changed = parent.config.clone();
    apply_changes(&mut changed, changes)?;
    let member = |config: &ImageConfiguration| match json!(config.config()) {
        Value::Object(member) => member,
        _ => Map::new(),
    };
    let (before, after) = (member(&parent.config), member(&changed));
    let mut process = match config.remove("config") {
        Some(Value::Object(process)) => process,
        _ => Map::new(),
    };
    process.retain(|key, _| after.contains_key(key) || !before.contains_key(key));
    process.extend(after);
    config.insert("config".to_owned(), Value::Object(process));
    Ok(())
}

/// Says in a configuration that there is one more layer, and how it came about.
fn add_layer(config: &mut Map<String, Value>, parent: &Image, commit: &Commit<'_>, diff_id: &str) {
    let created = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
    let mut history = json!({ "created": created, "created_by": commit.created_by });
    for (key, text) in [("author", commit.author), ("comment", commit.message)] {
        history.as_object_mut().zip(text).map(|(entry, text)| entry.insert(key.to_owned(), json!(text)));
    }
    config.insert("created".to_owned(), json!(created));
    if let Some(author) = commit.author {
        config.insert("author".to_owned(), json!(author));
    }
    let mut diff_ids = parent.config.rootfs().diff_ids().clone();
    diff_ids.push(diff_id.to_owned());
    config.insert("rootfs".to_owned(), json!({ "type": "layers", "diff_ids": diff_ids }));
    let mut entries = config.get("history").and_then(Value::as_array).cloned().unwrap_or_default();
    entries.push(history);
    config.insert("history".to_owned(), Value::Array(entries));
}

fn manifest(parent: &Image, config: &Staged, layer: &Staged) -> Value {
    let parents = parent.manifest.layers().iter().map(|layer| json!(in_oci_words(layer)));
    let layers: Vec<Value> = parents.chain([describe(layer_type(Compression::Gzip), layer)]).collect();
    manifest_of(config, &layers)
}

/// The same layer in a manifest of OCI's, which readers want to be of one family.
fn in_oci_words(layer: &Descriptor) -> Descriptor {
    let kind = match layer.media_type().to_string().as_str() {
        "application/vnd.docker.image.rootfs.diff.tar" => MediaType::ImageLayer,
        "application/vnd.docker.image.rootfs.diff.tar.gzip" => MediaType::ImageLayerGzip,
        "application/vnd.docker.image.rootfs.diff.tar.zstd" => MediaType::ImageLayerZstd,
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" => {
            MediaType::ImageLayerNonDistributableGzip
        }
        _ => return layer.clone(),
    };
    let mut layer = layer.clone();
    layer.set_media_type(kind);
    layer
}

fn stage_json(staging: &Staging, value: &Value) -> Result<Staged, Error> {
    let bytes = serde_json::to_vec(value)
        .map_err(|error| Error::invalid("a document of the image", error.to_string()))?;
    staging.stage(&bytes[..], "a document of the image")
}

fn unwritable(source: std::io::Error) -> Error {
    Error::File { action: "write", path: "the layer".to_owned(), source }
}
