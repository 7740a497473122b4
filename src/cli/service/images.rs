//! `wharf load`, `images`, `rmi` and `unpack`
use super::listing::{print_json, print_line, print_table};
use super::policy::PolicyOption;
use crate::image::{Source, Store, Summary};
use crate::service::{Roots, elapsed_since, remove_image, size_in_words};
use clap::Args;
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
    /// Print what was loaded as JSON
    #[arg(long)]
    json: bool,
}

impl Load {
    pub(super) fn run(self, roots: &Roots) -> anyhow::Result<u8> {
        let policy = self.policy.read()?;
        let source = match self.source.or(self.input) {
            Some(path) if path.as_os_str() != "-" => Source::Path(path),
            _ if rustix::termios::isatty(rustix::stdio::stdin()) => {
                anyhow::bail!("standard input is a terminal; name a file, or pipe an archive into wharf load")
            }
            _ => Source::Stdin,
        };
        let loaded = Store::open(roots.state())?.load(&source, self.tag.as_deref(), &policy)?;
        if self.json {
            print_json(&loaded)?;
            return Ok(0);
        }
        let mut out = std::io::stdout().lock();
        for image in &loaded {
            writeln!(out, "loaded {} ({})", image.reference, image.digest)?;
        }
        Ok(0)
    }
}

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
        let rows = images.iter().map(row).collect();
        print_table(&["IMAGE", "DIGEST", "PLATFORM", "CREATED", "SIZE"], rows)?;
        Ok(0)
    }
}

fn row(image: &Summary) -> Vec<String> {
    let digest = image.digest.split_once(':').map_or(image.digest.as_str(), |(_, hex)| hex);
    let created = image
        .created
        .as_deref()
        .map_or_else(String::new, |at| format!("{} ago", super::listing::span(elapsed_since(Some(at)))));
    vec![
        image.reference.clone(),
        digest.chars().take(12).collect(),
        image.platform.clone(),
        created,
        size_in_words(image.size_bytes),
    ]
}

/// Remove images that no instance is made of
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

/// Write an image as a bundle (config.json and rootfs) for any OCI runtime
#[derive(Debug, Args)]
pub(super) struct Unpack {
    /// Name or digest
    image: String,
    /// Directory to make
    #[arg(value_name = "DIR")]
    bundle: PathBuf,
}

impl Unpack {
    pub(super) fn run(self, roots: &Roots) -> anyhow::Result<u8> {
        let store = Store::open(roots.state())?;
        let image = store.find(&self.image)?;
        store.unpack(&image, &self.bundle)?;
        Ok(0)
    }
}
