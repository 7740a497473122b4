//! `--max-layer-size` and `--max-layer-entries`
use super::values;
use crate::image::LayerLimits;
use clap::Args;

/// What a layer of the image may ask for
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits on layers")]
pub(super) struct LayerLimitOptions {
    /// Bytes that a layer may unpack to, holes counted [default: 200 for each compressed byte, 16G at least]
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    max_layer_size: Option<u64>,
    /// Entries that a layer may have [default: 2000000]
    #[arg(long, value_name = "COUNT")]
    max_layer_entries: Option<u64>,
}

impl LayerLimitOptions {
    pub(super) fn resolve(&self) -> LayerLimits {
        let default = LayerLimits::default();
        LayerLimits {
            bytes: self.max_layer_size.or(default.bytes),
            entries: self.max_layer_entries.unwrap_or(default.entries),
        }
    }
}
