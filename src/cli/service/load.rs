//! `wharf load`
use super::layer_limits::LayerLimitOptions;
use super::listing::print_json;
use super::policy::PolicyOption;
use super::progress::{ProgressOptions, Reporter, Style};
use crate::image::{LoadOptions, Source, Store};
use crate::service::Roots;
use clap::Args;
use serde_json::json;
use std::io::Write as _;
use std::path::PathBuf;

/// Load images from an archive or directory
#[derive(Debug, Args)]
#[command(
    after_help = "Takes an OCI image layout (directory, or tar, .tar.gz, .tar.zst) or an archive of docker save."
)]
pub(super) struct Load {
    /// Archive or directory; - or nothing is standard input
    #[arg(value_name = "FILE|DIR")]
    source: Option<PathBuf>,
    /// The same, as docker load has it
    #[arg(long, short, value_name = "FILE|DIR", conflicts_with = "source")]
    input: Option<PathBuf>,
    /// Name for an image that has none of its own
    #[arg(long, short, value_name = "NAME[:TAG]")]
    tag: Option<String>,
    #[command(flatten)]
    policy: PolicyOption,
    /// Leave the unpacking of layers to the first instance
    #[arg(long)]
    no_unpack: bool,
    /// Print what was loaded as JSON
    #[arg(long, conflicts_with = "quiet")]
    json: bool,
    #[command(flatten)]
    progress: ProgressOptions,
    #[command(flatten)]
    limits: LayerLimitOptions,
}

impl Load {
    pub(super) fn run(self, roots: &Roots) -> anyhow::Result<u8> {
        let source = match self.source.or(self.input) {
            Some(path) if path.as_os_str() != "-" => Source::Path(path),
            _ if rustix::termios::isatty(rustix::stdio::stdin()) => {
                anyhow::bail!("standard input is a terminal; name a file, or pipe an archive into wharf load")
            }
            _ => Source::Stdin,
        };
        let options = LoadOptions { tag: self.tag, unpack: !self.no_unpack, policy: self.policy.read()? };
        let style = self.progress.style();
        let reporter = Reporter::new(style);
        let loaded =
            Store::with_limits(roots.state(), self.limits.resolve())?.load(&source, &options, &reporter);
        reporter.end();
        let loaded = loaded?;
        if style == Style::Json {
            return reporter.result(&json!({ "event": "loaded", "images": loaded })).map(|()| 0);
        }
        if self.json {
            print_json(&loaded)?;
            return Ok(0);
        }
        let mut out = std::io::stdout().lock();
        for image in &loaded {
            match style {
                Style::Quiet => writeln!(out, "{}", image.digest)?,
                _ => writeln!(out, "loaded {} ({})", image.reference, image.digest)?,
            }
        }
        Ok(0)
    }
}
