//! `wharf-oci spec`
use crate::sandbox::default_spec::runtime_default;
use anyhow::{Context as _, bail};
use clap::Args;
use serde::Serialize as _;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;

/// Write a config.json to start from
#[derive(Debug, Args)]
pub(super) struct SpecCommand {
    /// Directory to write it to
    #[arg(long, short, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,
    /// Not supported: a config for a container without root
    #[arg(long)]
    rootless: bool,
}

impl SpecCommand {
    pub(super) fn run(&self) -> anyhow::Result<u8> {
        if self.rootless {
            bail!("spec --rootless is not supported yet; leave it out and run as root");
        }
        let mut text = Vec::new();
        let tabs = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        runtime_default().serialize(&mut serde_json::Serializer::with_formatter(&mut text, tabs))?;
        text.push(b'\n');
        let path = self.bundle.join("config.json");
        let mut file = match OpenOptions::new().write(true).create_new(true).open(&path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                bail!("file {} exists; remove it first", path.display())
            }
            other => other.with_context(|| format!("create {}", path.display()))?,
        };
        file.write_all(&text).with_context(|| format!("write {}", path.display()))?;
        Ok(0)
    }
}
