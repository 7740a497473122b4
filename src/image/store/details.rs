//! What can be told of images: all of one, its history, and the room they take.
use super::super::{Digest, Error, Platform};
use super::{Image, InUse, Store, index};
use oci_spec::image::{ImageConfiguration, ImageManifest};
use serde::Serialize;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// All that is known of an image. Field names are stable.
#[derive(Debug, Serialize)]
pub struct Details<'a> {
    /// Familiar name, or the digest of an image without one.
    pub reference: &'a str,
    /// All its names.
    pub names: Vec<String>,
    /// Digest of the manifest.
    pub digest: &'a str,
    /// Digest of the index that led to it at the registry.
    pub index_digest: Option<String>,
    /// `os/architecture[/variant]`.
    pub platform: String,
    /// RFC 3339.
    pub created: Option<String>,
    /// Sum of the compressed layers, bytes.
    pub size_bytes: u64,
    /// Lowest first.
    pub layers: Vec<LayerDetails>,
    /// The configuration as it is: image-spec config.md.
    pub config: &'a ImageConfiguration,
    /// The manifest as it is: image-spec manifest.md.
    pub manifest: &'a ImageManifest,
}

/// One layer of an image.
#[derive(Debug, Clone, Serialize)]
pub struct LayerDetails {
    /// Digest of the uncompressed tar.
    pub diff_id: String,
    /// Digest of the blob.
    pub digest: String,
    /// Bytes of the blob.
    pub size_bytes: u64,
    /// Where it is unpacked.
    pub unpacked: Option<PathBuf>,
}

/// One step of an image's making: image-spec config.md#properties, `history`.
#[derive(Debug, Clone, Serialize)]
pub struct HistoryEntry {
    /// RFC 3339.
    pub created: Option<String>,
    /// The command.
    pub created_by: Option<String>,
    /// Who.
    pub author: Option<String>,
    /// A message.
    pub comment: Option<String>,
    /// The layer it made; none where it changed the configuration only.
    pub layer: Option<LayerDetails>,
}

/// The room that something takes.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Usage {
    /// How many there are.
    pub count: u64,
    /// How many of them are in use by an instance.
    pub active: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// Bytes of those that nothing uses.
    pub reclaimable_bytes: u64,
}

/// The room that a store takes.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct StoreUsage {
    /// Images: blobs and documents.
    pub images: Usage,
    /// Unpacked layers.
    pub layers: Usage,
    /// Downloads that broke off, with which the next pull goes on.
    pub partial: Usage,
}

impl Store {
    /// All that is known of an image.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn details<'a>(&self, image: &'a Image) -> Result<Details<'a>, Error> {
        let entries = index::read(&self.layout)?;
        let same = || entries.iter().filter(|entry| entry.digest.to_string() == image.digest);
        Ok(Details {
            reference: &image.reference,
            names: same().filter_map(|entry| entry.name.as_ref().map(ToString::to_string)).collect(),
            digest: &image.digest,
            index_digest: same().find_map(|entry| entry.index.as_ref().map(ToString::to_string)),
            platform: Platform::of(&image.config).to_string(),
            created: image.config.created().clone(),
            size_bytes: image.summary().size_bytes,
            layers: self.layers_in_detail(image)?,
            config: &image.config,
            manifest: &image.manifest,
        })
    }

    fn layers_in_detail(&self, image: &Image) -> Result<Vec<LayerDetails>, Error> {
        let detail = |layer: super::Layer| LayerDetails {
            unpacked: Some(self.unpacked.path(&layer.diff_id)).filter(|path| path.exists()),
            diff_id: layer.diff_id.to_string(),
            digest: layer.blob.to_string(),
            size_bytes: layer.compressed_bytes,
        };
        Ok(image.layers()?.into_iter().map(detail).collect())
    }

    /// How an image was made, the last step first. Layers of which its history does not tell are steps of
    /// which nothing is known.
    ///
    /// # Errors
    /// When the image is damaged.
    pub fn history(&self, image: &Image) -> Result<Vec<HistoryEntry>, Error> {
        let mut layers = self.layers_in_detail(image)?.into_iter();
        let mut steps = Vec::new();
        for told in image.config.history().iter().flatten() {
            let empty = told.empty_layer().unwrap_or(false);
            steps.push(HistoryEntry {
                created: told.created().clone(),
                created_by: told.created_by().clone(),
                author: told.author().clone(),
                comment: told.comment().clone(),
                layer: if empty { None } else { layers.next() },
            });
        }
        steps.extend(layers.map(|layer| HistoryEntry {
            created: None,
            created_by: None,
            author: None,
            comment: None,
            layer: Some(layer),
        }));
        steps.reverse();
        Ok(steps)
    }

    /// The room that the store takes.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn usage(&self, in_use: &InUse) -> Result<StoreUsage, Error> {
        let mut needed: HashSet<String> = super::lease::held(&self.layout)?;
        let (mut images, mut layers) = (Usage::default(), Usage::default());
        let mut seen = HashSet::new();
        for entry in index::read(&self.layout)? {
            let active = in_use.images.contains(&entry.digest.to_string());
            if seen.insert(entry.digest.clone()) {
                images.count += 1;
                images.active += u64::from(active);
            }
            if active && let Ok(blobs) = self.read(&entry).and_then(|image| image.blobs()) {
                needed.extend(blobs.iter().chain([&entry.digest]).map(|blob| blob.hex().to_owned()));
            }
        }
        for (hex, bytes) in self.blobs.list()? {
            images.bytes += bytes;
            images.reclaimable_bytes += if needed.contains(&hex) { 0 } else { bytes };
        }
        for hex in self.unpacked.list()? {
            let bytes = match format!("sha256:{hex}").parse::<Digest>() {
                Ok(diff_id) => disk_bytes(&self.unpacked.path(&diff_id)),
                Err(_) => 0,
            };
            let active = in_use.layers.contains(&hex) || needed.contains(&hex);
            layers.count += 1;
            layers.active += u64::from(active);
            layers.bytes += bytes;
            layers.reclaimable_bytes += if active { 0 } else { bytes };
        }
        Ok(StoreUsage { images, layers, partial: self.partial_usage() })
    }

    /// Of downloads that broke off.
    fn partial_usage(&self) -> Usage {
        let mut usage = Usage::default();
        for entry in std::fs::read_dir(self.layout.join(".ingest")).into_iter().flatten().flatten() {
            let bytes = entry.metadata().map_or(0, |data| data.len());
            usage.count += 1;
            usage.bytes += bytes;
            usage.reclaimable_bytes += bytes;
        }
        usage
    }
}

/// Bytes that a tree takes on disk, each inode counted once. What cannot be looked at counts as nothing.
pub fn disk_bytes(path: &Path) -> u64 {
    fn add(path: &Path, seen: &mut HashSet<(u64, u64)>) -> u64 {
        use std::os::unix::fs::MetadataExt as _;
        let Ok(data) = std::fs::symlink_metadata(path) else { return 0 };
        if data.nlink() > 1 && !data.is_dir() && !seen.insert((data.dev(), data.ino())) {
            return 0;
        }
        let below = match data.is_dir() {
            true => std::fs::read_dir(path)
                .into_iter()
                .flatten()
                .flatten()
                .map(|entry| add(&entry.path(), seen))
                .sum(),
            false => 0,
        };
        data.blocks() * 512 + below
    }
    add(path, &mut HashSet::new())
}
