//! `wharf unpack`
use super::layer_limits::LayerLimitOptions;
use crate::image::Store;
use crate::service::Roots;
use clap::Args;
use std::path::PathBuf;

/// Write an image as a bundle (config.json and rootfs) for any OCI runtime
#[derive(Debug, Args)]
pub(super) struct Unpack {
    /// Name or digest
    image: String,
    /// Directory to make
    #[arg(value_name = "DIR")]
    bundle: PathBuf,
    #[command(flatten)]
    limits: LayerLimitOptions,
}

impl Unpack {
    pub(super) fn run(self, roots: &Roots) -> anyhow::Result<u8> {
        let store = Store::with_limits(roots.state(), self.limits.resolve())?;
        let image = store.find(&self.image)?;
        store.unpack(&image, &self.bundle)?;
        Ok(0)
    }
}
