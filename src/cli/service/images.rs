//! `wharf images`
use super::listing::{print_json, print_table, span};
use crate::image::{Store, Summary};
use crate::service::{Roots, elapsed_since, size_in_words};
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
    let digest = image.digest.split_once(':').map_or(image.digest.as_str(), |(_, hex)| hex);
    let created = image
        .created
        .as_deref()
        .map_or_else(String::new, |at| format!("{} ago", span(elapsed_since(Some(at)))));
    vec![
        if image.named { image.reference.clone() } else { "<none>".to_owned() },
        digest.chars().take(12).collect(),
        image.platform.clone(),
        created,
        size_in_words(image.size_bytes),
    ]
}
