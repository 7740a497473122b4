//! `wharf df`
use super::listing::{print_json, print_table};
use crate::image::Usage;
use crate::service::{Roots, disk_usage, size_in_words};
use clap::Args;

/// Show the room that images, layers and instances take
#[derive(Debug, Args)]
#[command(
    after_help = "RECLAIMABLE is what no instance uses: wharf prune --all makes room of images and layers, wharf rm of \
        instances."
)]
pub(super) struct Df {
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

impl Df {
    pub(super) fn run(self, roots: &Roots) -> anyhow::Result<u8> {
        let usage = disk_usage(roots)?;
        if self.json {
            print_json(&usage)?;
            return Ok(0);
        }
        let rows = vec![
            row("images", usage.store.images),
            row("unpacked layers", usage.store.layers),
            row("partial downloads", usage.store.partial),
            row("instances", usage.instances),
        ];
        print_table(&["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"], &rows)?;
        Ok(0)
    }
}

fn row(name: &str, usage: Usage) -> Vec<String> {
    vec![
        name.to_owned(),
        usage.count.to_string(),
        usage.active.to_string(),
        size_in_words(usage.bytes),
        size_in_words(usage.reclaimable_bytes),
    ]
}
