//! `wharf images`
use super::listing::{ago, print_json, print_table, short_digest};
use crate::image::{Store, Summary};
use crate::service::{Roots, size_in_words};
use clap::Args;

/// List images
#[derive(Debug, Args)]
pub(super) struct Images {
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

impl Images {
    pub(super) fn run(self, roots: &Roots) -> anyhow::Result<u8> {
        let images = Store::open(roots.state())?.list()?;
        if self.json {
            print_json(&images)?;
            return Ok(0);
        }
        let rows: Vec<_> = images.iter().map(row).collect();
        print_table(&["IMAGE", "DIGEST", "PLATFORM", "CREATED", "SIZE"], &rows)?;
        Ok(0)
    }
}

fn row(image: &Summary) -> Vec<String> {
    vec![
        if image.named { image.reference.clone() } else { "<none>".to_owned() },
        short_digest(&image.digest),
        image.platform.clone(),
        ago(image.created.as_deref()),
        size_in_words(image.size_bytes),
    ]
}
