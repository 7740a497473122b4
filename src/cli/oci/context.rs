//! Options before the command, and what all commands share.
use super::log::{Log, LogFormat};
use anyhow::bail;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(super) struct GlobalOptions {
    /// Directory of the containers' state; best on a tmpfs
    #[arg(long, value_name = "DIR", default_value = "/run/wharf-oci")]
    root: PathBuf,
    /// Append log lines to this file (errors go to standard error as well)
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Form of the log lines
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    /// Log what is done, too
    #[arg(long)]
    debug: bool,
    /// Have systemd manage cgroups (not supported yet)
    #[arg(long)]
    systemd_cgroup: bool,
    /// Ignore cgroup permission errors; only `false` and `auto` are supported
    #[arg(long, value_enum, default_value_t = Rootless::Auto, num_args = 0..=1, default_missing_value = "true")]
    rootless: Rootless,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Rootless {
    True,
    False,
    Auto,
}

/// What all commands share.
#[derive(Debug)]
pub(super) struct Context {
    /// Directory of the containers' state.
    pub(super) root: PathBuf,
    pub(super) log: Log,
    systemd_cgroup: bool,
    rootless: Rootless,
}

impl Context {
    pub(super) fn new(options: GlobalOptions) -> Self {
        Self {
            root: options.root,
            log: Log::new(options.log, options.log_format, options.debug),
            systemd_cgroup: options.systemd_cgroup,
            rootless: options.rootless,
        }
    }

    /// Refuses what is not supported, in the log as everywhere.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        if self.systemd_cgroup {
            bail!("--systemd-cgroup is not supported yet; use the cgroupfs driver");
        }
        if self.rootless == Rootless::True {
            bail!("--rootless=true is not supported; run as root");
        }
        Ok(())
    }
}
