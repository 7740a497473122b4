//! `wharf rmi` and `prune`
use super::listing::{print_json, print_line};
use crate::image::Removed;
use crate::service::{Roots, prune_images, remove_image, size_in_words};
use clap::Args;

/// Remove names of images; an image goes with its last name, unless an instance is made of it
#[derive(Debug, Args)]
pub(super) struct Rmi {
    /// Names or digests
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

impl Rmi {
    pub(super) fn run(self, roots: &Roots) -> anyhow::Result<u8> {
        for image in &self.images {
            remove_image(roots, image)?;
            print_line(image)?;
        }
        Ok(0)
    }
}

/// Remove images that have lost their name, and content that nothing uses
#[derive(Debug, Args)]
#[command(
    after_help = "An image loses its name when another one takes it. Images that instances are made of stay, and so does \
        what a pull or load that runs just now relies on."
)]
pub(super) struct Prune {
    /// Remove named images too, when no instance is made of them
    #[arg(long, short)]
    all: bool,
    /// Tell what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,
    /// Print what was removed as JSON
    #[arg(long)]
    json: bool,
}

impl Prune {
    pub(super) fn run(self, roots: &Roots) -> anyhow::Result<u8> {
        let removed = prune_images(roots, self.all, self.dry_run)?;
        if self.json {
            print_json(&removed)?;
            return Ok(0);
        }
        for image in &removed.images {
            print_line(image)?;
        }
        let Removed { images, blobs, blob_bytes, layers } = &removed;
        let verb = if self.dry_run { "would remove" } else { "removed" };
        print_line(format!(
            "{verb} {} images, {blobs} blobs ({}) and {} unpacked layers",
            images.len(),
            size_in_words(*blob_bytes),
            layers.len()
        ))?;
        Ok(0)
    }
}
