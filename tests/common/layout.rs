//! An OCI image layout written document by document, so that each can be what a test wants it to be.
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::fs;
use std::path::{Path, PathBuf};

/// `sha256:HEX` of the bytes.
pub(crate) fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// A layout of one image.
#[derive(Debug)]
pub(crate) struct Layout {
    path: PathBuf,
    layers: Vec<(String, Vec<u8>)>,
    /// The `config` of the image's configuration.
    pub(crate) config: Value,
}

impl Layout {
    /// The image has a command, `true`, and no layers yet.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, layers: Vec::new(), config: json!({ "Cmd": ["/bin/true"] }) }
    }
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
    /// Adds an uncompressed layer.
    pub(crate) fn layer(&mut self, tar: Vec<u8>) -> &mut Self {
        self.layers.push((digest(&tar), tar));
        self
    }
    /// Adds a layer of which only the compressed form is at hand.
    pub(crate) fn compressed(&mut self, diff_id: String, blob: Vec<u8>) -> &mut Self {
        self.layers.push((diff_id, blob));
        self
    }
    /// Writes all documents; `edit` sees the manifest before its digest is taken.
    pub(crate) fn write(&self, edit: impl FnOnce(&mut Value)) {
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let diff_ids: Vec<&String> = self.layers.iter().map(|(diff_id, _)| diff_id).collect();
        let config = json!({ "os": "linux", "architecture": architecture, "config": self.config,
            "rootfs": { "type": "layers", "diff_ids": diff_ids } });
        let layers: Vec<Value> =
            self.layers.iter().map(|(_, blob)| self.blob(blob, "layer.v1.tar")).collect();
        let mut manifest = json!({ "schemaVersion": 2, "layers": layers,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": self.blob(config.to_string().as_bytes(), "config.v1+json") });
        edit(&mut manifest);
        let manifest = self.blob(manifest.to_string().as_bytes(), "manifest.v1+json");
        let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
        fs::write(self.path.join("index.json"), index.to_string()).unwrap();
        fs::write(self.path.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    }
    /// Stores a blob; returns its descriptor.
    pub(crate) fn blob(&self, bytes: &[u8], kind: &str) -> Value {
        let digest = digest(bytes);
        let blobs = self.path.join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        fs::write(blobs.join(&digest["sha256:".len()..]), bytes).unwrap();
        json!({ "mediaType": format!("application/vnd.oci.image.{kind}"), "digest": digest, "size": bytes.len() })
    }
}
