//! One image: its documents, and what they say.
use super::super::config::{self, Overrides, runtime_spec};
use super::super::manifest::{check_layer_count, digest_of};
use super::super::unpack::Layer;
use super::super::{Digest, Error, ImageName, Platform};
use oci_spec::image::{Descriptor, ImageConfiguration, ImageManifest};
use oci_spec::runtime::Spec;
use std::os::fd::BorrowedFd;

/// One image of the store, its manifest and configuration read and verified.
#[derive(Debug)]
pub struct Image {
    pub(super) reference: String,
    pub(super) name: Option<ImageName>,
    pub(super) digest: String,
    pub(super) manifest: ImageManifest,
    pub(super) config: ImageConfiguration,
}

/// One line of `wharf images`.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Summary {
    /// Familiar name, such as `web:latest`; the digest of an image without a name.
    pub reference: String,
    /// Whether it has a name. An image loses its name when another one takes it.
    pub named: bool,
    /// Digest of the manifest.
    pub digest: String,
    /// RFC 3339, from the image's configuration.
    pub created: Option<String>,
    /// Sum of the compressed layers, bytes.
    pub size_bytes: u64,
    /// `os/architecture[/variant]`.
    pub platform: String,
}

impl Image {
    /// Familiar name, or the digest of an image without one.
    pub fn reference(&self) -> &str {
        &self.reference
    }

    /// `None` for one whose name another image took, or that never had one.
    pub fn name(&self) -> Option<&ImageName> {
        self.name.as_ref()
    }

    /// Digest of the manifest.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The image's configuration.
    pub fn config(&self) -> &ImageConfiguration {
        &self.config
    }

    /// The runtime spec of an instance: the image's configuration, `overrides`, and users and groups
    /// looked up in `rootfs` (an open directory, the merged tree), resolved inside it.
    ///
    /// # Errors
    /// Names the unknown user, the missing command…
    pub fn runtime_spec(&self, rootfs: BorrowedFd<'_>, overrides: &Overrides) -> Result<Spec, Error> {
        runtime_spec(&self.config, rootfs, overrides)
    }

    /// Stop signal of the image, a number; SIGTERM unless it says otherwise.
    pub fn stop_signal(&self) -> i32 {
        config::stop_signal(&self.config)
    }

    /// VOLUME paths of the image, absolute and clean.
    pub fn volumes(&self) -> Vec<String> {
        config::volumes(&self.config)
    }

    /// The image's manifest.
    pub fn manifest(&self) -> &ImageManifest {
        &self.manifest
    }

    /// Digests of config and layers.
    pub(super) fn blobs(&self) -> Result<Vec<Digest>, Error> {
        std::iter::once(self.manifest.config()).chain(self.manifest.layers()).map(digest_of).collect()
    }

    pub(in crate::image) fn layers(&self) -> Result<Vec<Layer>, Error> {
        layers_of(&self.manifest, &self.config, &self.reference)
    }

    pub(super) fn summary(&self) -> Summary {
        Summary {
            reference: self.reference.clone(),
            named: self.name.is_some(),
            digest: self.digest.clone(),
            created: self.config.created().clone(),
            size_bytes: self.manifest.layers().iter().map(Descriptor::size).sum(),
            platform: Platform::of(&self.config).to_string(),
        }
    }
}

/// The layers of an image, lowest first. `what` names the image in an error.
pub(in crate::image) fn layers_of(
    manifest: &ImageManifest,
    config: &ImageConfiguration,
    what: &str,
) -> Result<Vec<Layer>, Error> {
    let diff_ids = config.rootfs().diff_ids();
    let descriptors = manifest.layers();
    check_layer_count(diff_ids.len(), descriptors.len(), what)?;
    let layer = |(diff_id, descriptor): (&String, &Descriptor)| {
        let diff_id: Digest = diff_id.parse()?;
        Ok(Layer { diff_id, blob: digest_of(descriptor)?, compressed_bytes: descriptor.size() })
    };
    diff_ids.iter().zip(descriptors).map(layer).collect()
}
