//! `wharf pull` and `wharf push`
use super::layer_limits::LayerLimitOptions;
use super::listing::print_line;
use super::policy::PolicyOption;
use super::progress::{ProgressKind, ProgressOptions, Reporter, Style};
use super::values::{seconds, size_of_group};
use crate::image::registry::{self, Options};
use crate::image::{ImageName, LayerLimits, Platform, Policy, Store};
use crate::service::Roots;
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

/// Where hosts.toml files are, unless an option says otherwise.
const CERTS_DIR: &str = "WHARF_CERTS_DIR";

/// How registries are talked to.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Registry")]
pub(super) struct RegistryOptions {
    /// Directory of HOST/hosts.toml files: mirrors, authorities, plain HTTP [default: $WHARF_CERTS_DIR, or
    /// /etc/wharf/certs.d]
    #[arg(long, value_name = "DIR")]
    certs_dir: Option<PathBuf>,
    /// How long a connection may bring nothing, seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "30")]
    registry_timeout: Duration,
    /// Tries after a failure that may pass
    #[arg(long, value_name = "TIMES", default_value_t = 5, value_parser = clap::value_parser!(u32).range(..=100))]
    retry: u32,
    /// Blobs at once
    #[arg(long, value_name = "COUNT", default_value = "3", value_parser = size_of_group)]
    parallel: usize,
}

impl RegistryOptions {
    pub(super) fn resolve(&self) -> Options {
        let variable = || std::env::var_os(CERTS_DIR).filter(|value| !value.is_empty()).map(PathBuf::from);
        let defaults = Options::default();
        Options {
            certs_dir: self.certs_dir.clone().or_else(variable).unwrap_or(defaults.certs_dir),
            timeout: self.registry_timeout.max(Duration::from_millis(100)),
            retries: self.retry,
            parallel: self.parallel,
            ..defaults
        }
    }
}

/// Fetch an image from a registry
#[derive(Debug, Args)]
#[command(
    after_help = "A reference is [HOST[:PORT]/]NAME[:TAG][@DIGEST]; without a host it is Docker Hub's. Layers that \
        broke off are gone on with by the next pull. docs/registries.md tells of mirrors, private authorities and credentials."
)]
pub(super) struct Pull {
    /// What to fetch
    reference: ImageName,
    /// Image of an index to fetch [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
    #[command(flatten)]
    policy: PolicyOption,
    /// Leave the unpacking of layers to the first instance
    #[arg(long)]
    no_unpack: bool,
    #[command(flatten)]
    progress: ProgressOptions,
    #[command(flatten)]
    limits: LayerLimitOptions,
    #[command(flatten)]
    registry: RegistryOptions,
}

impl Pull {
    pub(super) fn run(self, roots: &Roots) -> anyhow::Result<u8> {
        let policy = self.policy.read()?;
        let style = self.progress.style();
        let platform = self.platform.unwrap_or_else(Platform::host);
        let reporter = Reporter::new(style);
        let store = Store::with_limits(roots.state(), self.limits.resolve())?;
        let options = Options { unpack: !self.no_unpack, ..self.registry.resolve() };
        let pulled = registry::pull(&store, &self.reference, &platform, &policy, &options, &reporter);
        reporter.end();
        let pulled = pulled?;
        match style {
            Style::Quiet => print_line(&pulled.digest)?,
            Style::Json => reporter.result(&serde_json::json!({
                "event": "pulled", "reference": pulled.image.reference, "digest": pulled.digest.to_string(),
                "manifest": pulled.image.digest, "platform": pulled.image.platform, "fetched": pulled.fetched,
            }))?,
            Style::Bars | Style::Lines => {
                let word = if pulled.fetched { "pulled" } else { "up to date:" };
                print_line(format!("{word} {} ({})", pulled.image.reference, pulled.digest))?;
            }
        }
        Ok(0)
    }
}

/// Fetches an image that is to be run. What is told goes to standard error: the instance has the rest.
pub(super) fn pull_to_run(
    roots: &Roots,
    image: &str,
    policy: &Policy,
    limits: LayerLimits,
    options: &Options,
) -> anyhow::Result<()> {
    let name: ImageName = image.parse()?;
    let reporter = Reporter::new(ProgressKind::Auto.style());
    let store = Store::with_limits(roots.state(), limits)?;
    let pulled = registry::pull(&store, &name, &Platform::host(), policy, options, &reporter);
    reporter.end();
    pulled?;
    Ok(())
}

/// Bring an image to a registry
#[derive(Debug, Args)]
#[command(after_help = "Blobs that the registry has are not sent again.")]
pub(super) struct Push {
    /// Name or digest of the image here
    image: String,
    /// Name there [default: the image's own]
    reference: Option<ImageName>,
    #[command(flatten)]
    progress: ProgressOptions,
    #[command(flatten)]
    registry: RegistryOptions,
}

impl Push {
    pub(super) fn run(self, roots: &Roots) -> anyhow::Result<u8> {
        let style = self.progress.style();
        let store = Store::open(roots.state())?;
        let image = store.find(&self.image)?;
        let name = match self.reference {
            Some(name) => name,
            None => image.name().cloned().ok_or_else(|| {
                anyhow::anyhow!(
                    "image {} has no name; say where to push it: wharf push IMAGE REFERENCE",
                    self.image
                )
            })?,
        };
        let reporter = Reporter::new(style);
        let pushed = registry::push(&store, &image, &name, &self.registry.resolve(), &reporter);
        reporter.end();
        let pushed = pushed?;
        match style {
            Style::Quiet => print_line(&pushed.digest)?,
            Style::Json => reporter.result(&serde_json::json!({
                "event": "pushed", "reference": name.familiar(), "digest": pushed.digest.to_string(),
            }))?,
            Style::Bars | Style::Lines => print_line(format!("pushed {name} ({})", pushed.digest))?,
        }
        Ok(0)
    }
}
