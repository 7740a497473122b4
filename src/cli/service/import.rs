//! `wharf import`
use super::listing::{print_json, print_line};
use super::policy::PolicyOption;
use crate::image::{self, Compression, ImageName, Platform, Source, Store};
use crate::service::Roots;
use anyhow::{Context as _, bail};
use clap::Args;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// Make an image of one layer from the tar of a root file system
#[derive(Debug, Args)]
#[command(
    after_help = "The tar may be plain or compressed by gzip or zstd. A compressed one is stored as it came, a plain one \
        compressed by gzip. $SOURCE_DATE_EPOCH, seconds, is the time that the image is said to be made at."
)]
pub(super) struct Import {
    /// Archive; - is standard input
    #[arg(value_name = "FILE")]
    source: PathBuf,
    /// Name of the image [default: none; the digest names it]
    #[arg(value_name = "NAME[:TAG]")]
    name: Option<ImageName>,
    /// Instruction of a Dockerfile to apply: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME or
    /// WORKDIR; may be given several times
    #[arg(long, short, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Note for the image's history
    #[arg(long, short, value_name = "TEXT")]
    message: Option<String>,
    /// What its programs are for [default: this machine]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
    #[command(flatten)]
    policy: PolicyOption,
    /// Print what was imported as JSON
    #[arg(long)]
    json: bool,
}

impl Import {
    pub(super) fn run(self, roots: &Roots) -> anyhow::Result<u8> {
        let policy = self.policy.read()?;
        let source = match self.source.as_os_str() == "-" {
            true if rustix::termios::isatty(rustix::stdio::stdin()) => {
                bail!("standard input is a terminal; name a file, or pipe a tar into wharf import -")
            }
            true => Source::Stdin,
            false => Source::Path(self.source),
        };
        let import = image::Import {
            source,
            name: self.name,
            platform: self.platform.unwrap_or_else(Platform::host),
            changes: self.change,
            message: self.message,
            created: time()?,
        };
        let imported = Store::open(roots.state())?.import(&import, &policy)?;
        let image = imported.image;
        if self.json {
            print_json(&image)?;
            return Ok(0);
        }
        let how = match imported.compression {
            Compression::Zstd => "layer kept as zstd",
            _ => "layer in gzip",
        };
        let name = if image.named { format!("{} ", image.reference) } else { String::new() };
        print_line(format!("imported {name}({}; {how})", image.digest))?;
        Ok(0)
    }
}

/// Now, or what <https://reproducible-builds.org/specs/source-date-epoch/> says.
fn time() -> anyhow::Result<SystemTime> {
    let Some(text) = std::env::var_os("SOURCE_DATE_EPOCH") else { return Ok(SystemTime::now()) };
    let seconds = text.to_str().and_then(|text| text.parse().ok());
    // The year 9999 is the last that RFC 3339 can write.
    let seconds = seconds.filter(|seconds| *seconds < 253_402_300_800);
    let seconds =
        seconds.with_context(|| format!("SOURCE_DATE_EPOCH {text:?} is not a number of seconds"))?;
    Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}
