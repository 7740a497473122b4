//! Images made by the test, as a registry has them.
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A manifest and what it names.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    pub(crate) manifest: Vec<u8>,
    /// Digest and content: the config first.
    pub(crate) blobs: Vec<(String, Vec<u8>)>,
}

impl Made {
    /// An image with a layer for each size: one file of random bytes. `seed` makes it another one.
    pub(crate) fn new(seed: u64, sizes: &[usize]) -> Self {
        Self::for_platform(seed, sizes, architecture())
    }
    pub(crate) fn for_platform(seed: u64, sizes: &[usize], architecture: &str) -> Self {
        let layers: Vec<Vec<u8>> =
            sizes.iter().zip(1..).map(|(size, number)| layer(seed * 1000 + number, *size)).collect();
        let config = json!({
            "architecture": architecture, "os": "linux", "config": {"Cmd": ["/file"]},
            "rootfs": {"type": "layers", "diff_ids": layers.iter().map(|bytes| sha256(bytes)).collect::<Vec<_>>()}
        });
        let config = config.to_string().into_bytes();
        let kind = "application/vnd.oci.image.layer.v1.tar";
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
            "layers": layers.iter().map(|bytes| descriptor(kind, bytes)).collect::<Vec<_>>(),
        });
        let blobs = std::iter::once(config).chain(layers).map(|bytes| (sha256(&bytes), bytes)).collect();
        Self { manifest: manifest.to_string().into_bytes(), blobs }
    }
    /// The same blobs below another manifest.
    pub(crate) fn edited(mut self, change: impl FnOnce(&mut Value)) -> Self {
        let mut manifest: Value = serde_json::from_slice(&self.manifest).expect("JSON");
        change(&mut manifest);
        self.manifest = manifest.to_string().into_bytes();
        self
    }
    pub(crate) fn digest(&self) -> String {
        sha256(&self.manifest)
    }
    /// Digest and content of a layer.
    pub(crate) fn layer(&self, index: usize) -> &(String, Vec<u8>) {
        &self.blobs[index + 1]
    }
}

/// An index over manifests, each for an architecture.
pub(crate) fn index(images: &[(&Made, &str)]) -> Vec<u8> {
    let entry = |(image, architecture): &(&Made, &str)| {
        let mut entry = descriptor(MANIFEST, &image.manifest);
        entry["platform"] = json!({"os": "linux", "architecture": architecture});
        entry
    };
    let manifests: Vec<Value> = images.iter().map(entry).collect();
    json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}).to_string().into_bytes()
}

pub(crate) fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": sha256(bytes), "size": bytes.len()})
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

pub(crate) fn architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

pub(crate) fn foreign_architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "amd64" } else { "arm64" }
}

fn layer(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut content = Vec::with_capacity(size + 8);
    while content.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        content.extend_from_slice(&state.to_le_bytes());
    }
    content.truncate(size);
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(size as u64);
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    builder.append_data(&mut header, "file", content.as_slice()).expect("tar");
    builder.into_inner().expect("tar")
}
