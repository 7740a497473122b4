//! `wharf tag`
use crate::image::{ImageName, Store};
use crate::service::Roots;
use clap::Args;

/// Give an image one more name
#[derive(Debug, Args)]
#[command(after_help = "An image that has the name already loses it, and stays under its digest.")]
pub(super) struct Tag {
    /// Name or digest
    image: String,
    /// The new name
    #[arg(value_name = "NAME[:TAG]")]
    name: ImageName,
}

impl Tag {
    pub(super) fn run(self, roots: &Roots) -> anyhow::Result<u8> {
        Store::open(roots.state())?.tag(&self.image, &self.name)?;
        Ok(0)
    }
}
