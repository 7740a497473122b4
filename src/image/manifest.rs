//! Documents of an image: manifests, indexes and configurations. Both media type families,
//! OCI's and Docker's, are read; what is neither is named in the error.
use super::compression::Compression;
use super::store::blobs::Staged;
use super::{Digest, Error, Platform};
use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest};
use serde_json::{Value, json};

/// No document that wharf keeps in memory may be larger; image-spec suggests 4 MiB for registries.
pub(super) const DOCUMENT_LIMIT: u64 = 8 << 20;

const MANIFESTS: &[&str] =
    &["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"];
const INDEXES: &[&str] =
    &["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];
const CONFIGS: &[&str] =
    &["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];
const LAYERS: &[&str] = &[
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
];

/// Media types of what is made here: image-spec media-types.md.
pub(super) const MANIFEST: &str = MANIFESTS[0];
const CONFIG: &str = CONFIGS[0];

/// The media type of a layer.
pub(super) fn layer_type(compression: Compression) -> &'static str {
    match compression {
        Compression::None => "application/vnd.oci.image.layer.v1.tar",
        Compression::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
        Compression::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
    }
}

/// The descriptor of a blob.
pub(super) fn describe(media_type: &str, blob: &Staged) -> Value {
    json!({ "mediaType": media_type, "digest": blob.digest.to_string(), "size": blob.size })
}

/// A manifest over a config and layers that have their descriptors.
pub(super) fn manifest_of(config: &Staged, layers: &[Value]) -> Value {
    json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": describe(CONFIG, config), "layers": layers,
    })
}

/// A document that a descriptor leads to.
#[derive(Debug)]
pub(super) enum Document {
    Manifest(Box<ImageManifest>),
    Index(Box<ImageIndex>),
}

impl Document {
    /// Reads a manifest or index. A document that could be taken for both is refused, since two readers
    /// would see two different images (CVE-2021-41190).
    pub(super) fn parse(bytes: &[u8], what: &str) -> Result<Self, Error> {
        let value: serde_json::Value = serde_json::from_slice(bytes)
            .map_err(|error| Error::invalid(what, format!("is not JSON: {error}")))?;
        let has = |field: &str| value.get(field).is_some();
        let (like_manifest, like_index) = (has("layers") || has("config"), has("manifests"));
        let media_type = value.get("mediaType").and_then(serde_json::Value::as_str).map(str::to_owned);
        let known = |list: &[&str]| media_type.as_deref().is_none_or(|kind| list.contains(&kind));
        let bad = |error: serde_json::Error| Error::invalid(what, format!("is malformed: {error}"));
        match (like_manifest, like_index) {
            (true, true) => {
                Err(Error::invalid(what, "is a manifest and an index at once; refused (CVE-2021-41190)"))
            }
            (true, false) if known(MANIFESTS) => {
                let manifest: ImageManifest = serde_json::from_value(value).map_err(bad)?;
                check_manifest(&manifest, what)?;
                Ok(Self::Manifest(Box::new(manifest)))
            }
            (false, true) if known(INDEXES) => {
                Ok(Self::Index(Box::new(serde_json::from_value(value).map_err(bad)?)))
            }
            (false, false) if media_type.is_none() => {
                Err(Error::invalid(what, "is neither a manifest nor an index"))
            }
            _ => Err(Error::MediaType { what: what.to_owned(), media_type: media_type.unwrap_or_default() }),
        }
    }
}

impl Document {
    /// Refuses a document that its descriptor calls the other kind: readers would see two images (CVE-2021-41190).
    pub(super) fn check_called(&self, media_type: &str, what: &str) -> Result<(), Error> {
        let other = if matches!(self, Self::Manifest(_)) { INDEXES } else { MANIFESTS };
        if other.contains(&media_type) {
            let reason = format!("is called {media_type}, and is the other kind; refused (CVE-2021-41190)");
            return Err(Error::invalid(what, reason));
        }
        Ok(())
    }
}

/// What a document says it is, or else what OCI calls its kind.
pub(super) fn media_type_of(bytes: &[u8], document: &Document) -> String {
    let value: Option<serde_json::Value> = serde_json::from_slice(bytes).ok();
    let stated = value.as_ref().and_then(|value| value.get("mediaType")).and_then(serde_json::Value::as_str);
    let kinds = if matches!(document, Document::Manifest(_)) { MANIFESTS } else { INDEXES };
    stated.unwrap_or(kinds[0]).to_owned()
}

fn check_manifest(manifest: &ImageManifest, what: &str) -> Result<(), Error> {
    check_type(manifest.config(), CONFIGS, &format!("the config of {what}"))?;
    for (index, layer) in manifest.layers().iter().enumerate() {
        check_type(layer, LAYERS, &format!("layer {index} of {what}"))?;
    }
    Ok(())
}

fn check_type(descriptor: &Descriptor, known: &[&str], what: &str) -> Result<(), Error> {
    let media_type = descriptor.media_type().to_string();
    if known.contains(&media_type.as_str()) {
        return Ok(());
    }
    Err(Error::MediaType { what: what.to_owned(), media_type })
}

/// A descriptor's digest, validated before it is ever a file name.
pub(super) fn digest_of(descriptor: &Descriptor) -> Result<Digest, Error> {
    descriptor.digest().to_string().parse()
}

/// Each layer has its diff_id: image-spec config.md#properties, `rootfs.diff_ids`.
pub(super) fn check_layer_count(diff_ids: usize, layers: usize, what: &str) -> Result<(), Error> {
    if diff_ids == layers {
        return Ok(());
    }
    Err(Error::invalid(what, format!("has {layers} layers, but its config names {diff_ids} diff_ids")))
}

/// Reads an image's configuration: it is for Linux, on whatever machine.
pub(super) fn parse_config(bytes: &[u8], what: &str) -> Result<ImageConfiguration, Error> {
    let config: ImageConfiguration = serde_json::from_slice(bytes)
        .map_err(|error| Error::invalid(what, format!("is malformed: {error}")))?;
    if config.os().to_string() == "linux" {
        return Ok(config);
    }
    Err(Error::Platform {
        what: what.to_owned(),
        wanted: "linux".to_owned(),
        offered: Platform::of(&config).to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_that_is_both_is_refused() {
        let both = br#"{"schemaVersion":2,"manifests":[],"config":{},"layers":[]}"#;
        assert!(Document::parse(both, "x").unwrap_err().to_string().contains("CVE-2021-41190"));
    }

    #[test]
    fn an_unknown_media_type_is_named() {
        let odd = br#"{"schemaVersion":2,"mediaType":"application/x-odd","manifests":[]}"#;
        assert!(Document::parse(odd, "x").unwrap_err().to_string().contains("application/x-odd"));
        assert!(Document::parse(b"[]", "x").is_err());
        assert!(Document::parse(b"{", "x").is_err());
    }
}
