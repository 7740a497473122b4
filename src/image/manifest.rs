//! Documents of an image: manifests, indexes and the choice of a platform. Both media type families,
//! OCI's and Docker's, are read; what is neither is named in the error.
use super::{Digest, Error};
use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest};

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

/// The image of an index for this host.
pub(super) fn choose<'a>(index: &'a ImageIndex, what: &str) -> Result<&'a Descriptor, Error> {
    let (architecture, variant) = host();
    let fits = |descriptor: &&Descriptor| {
        let Some(platform) = descriptor.platform() else { return false };
        platform.os().to_string() == "linux" && platform.architecture().to_string() == architecture
    };
    let exact = |descriptor: &&Descriptor| {
        let stated = descriptor.platform().as_ref().and_then(|platform| platform.variant().as_deref());
        stated == variant || stated.is_none()
    };
    let candidates: Vec<&Descriptor> = index.manifests().iter().filter(fits).collect();
    if let Some(found) = candidates.iter().copied().find(exact).or(candidates.first().copied()) {
        return Ok(found);
    }
    // A layout with one image often states no platform.
    if let [only] = index.manifests().as_slice()
        && only.platform().is_none()
    {
        return Ok(only);
    }
    let offered: Vec<String> = index.manifests().iter().map(platform_text).collect();
    Err(Error::Platform {
        what: what.to_owned(),
        wanted: format!("linux/{architecture}"),
        offered: offered.join(", "),
    })
}

fn platform_text(descriptor: &Descriptor) -> String {
    match descriptor.platform() {
        Some(platform) => format!("{}/{}", platform.os(), platform.architecture()),
        None => "an unnamed platform".to_owned(),
    }
}

/// Go's names for this machine, as images use them, with the variant that is implied.
fn host() -> (&'static str, Option<&'static str>) {
    match std::env::consts::ARCH {
        "x86_64" => ("amd64", None),
        "aarch64" => ("arm64", Some("v8")),
        "arm" => ("arm", Some("v7")),
        "x86" => ("386", None),
        other => (other, None),
    }
}

/// Reads an image's configuration and checks that it is for Linux on this machine.
pub(super) fn parse_config(bytes: &[u8], what: &str) -> Result<ImageConfiguration, Error> {
    let config: ImageConfiguration = serde_json::from_slice(bytes)
        .map_err(|error| Error::invalid(what, format!("is malformed: {error}")))?;
    let platform = format!("{}/{}", config.os(), config.architecture());
    let wanted = format!("linux/{}", host().0);
    if platform == wanted {
        return Ok(config);
    }
    Err(Error::Platform { what: what.to_owned(), wanted, offered: platform })
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

    #[test]
    fn the_platform_of_this_host_is_chosen_and_others_are_listed() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let entry = |arch: &str| {
            format!(
                r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":1,"digest":"{digest}",
                "platform":{{"os":"linux","architecture":"{arch}"}}}}"#
            )
        };
        let index = |entries: &[String]| {
            let text = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(","));
            let Document::Index(index) = Document::parse(text.as_bytes(), "x").unwrap() else { panic!() };
            *index
        };
        let both = index(&[entry("s390x"), entry(host().0)]);
        assert_eq!(platform_text(choose(&both, "x").unwrap()), format!("linux/{}", host().0));
        let other = index(&[entry("s390x")]);
        assert!(choose(&other, "x").unwrap_err().to_string().contains("linux/s390x"));
    }
}
