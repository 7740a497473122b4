//! `wharf-oci restore`
use super::checkpoint::CriuArguments;
use super::context::Context;
use super::{foreground, pid_file};
use crate::cli::terminal::Signals;
use crate::container::{Container, ContainerId, RestoreOptions, read_config, seal};
use anyhow::{Context as _, bail};
use clap::Args;
use std::path::PathBuf;

/// Make a running container of what checkpoint saved
#[derive(Debug, Args)]
pub(super) struct Restore {
    /// The id of the new container, unique below --root
    #[arg(value_name = "CONTAINER-ID")]
    id: ContainerId,
    #[command(flatten)]
    criu: CriuArguments,
    /// Directory that holds config.json
    #[arg(long, short, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,
    /// Not supported: a container with a terminal cannot be checkpointed
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// Leave once the container runs
    #[arg(long, short)]
    detach: bool,
    /// Write the pid of the container's first process to this file
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Do not become the parent of orphaned processes; wharf-oci never does
    #[arg(long)]
    no_subreaper: bool,
    /// Not supported: CRIU changes the root in its own way
    #[arg(long)]
    no_pivot: bool,
    /// LSM profile in place of the saved one
    #[arg(long, value_name = "TYPE:NAME")]
    lsm_profile: Option<String>,
    /// SELinux context of mounts in place of the saved one
    #[arg(long, value_name = "CONTEXT")]
    lsm_mount_context: Option<String>,
}

impl Restore {
    pub(super) fn run(&self, context: &Context) -> anyhow::Result<u8> {
        seal::ensure()?;
        if self.console_socket.is_some() {
            bail!(
                "--console-socket is not supported by restore: a container with a terminal cannot be checkpointed"
            );
        }
        if context.systemd_cgroup {
            bail!(
                "--systemd-cgroup is not supported by restore: systemd makes no scope before there is a process; \
                 leave it out, and give the bundle's config a path as linux.cgroupsPath"
            );
        }
        if self.no_pivot {
            bail!(
                "--no-pivot is not supported by restore: CRIU changes the root in its own way; leave it out"
            );
        }
        let spec = read_config(&self.bundle, |warning| context.log.warning(warning))?;
        let options = RestoreOptions {
            criu: (&self.criu).into(),
            lsm_profile: self.lsm_profile.clone(),
            lsm_mount_context: self.lsm_mount_context.clone(),
        };
        // Before the container exists, so that no signal can part us from it.
        let signals = (!self.detach).then(Signals::block).transpose().context("block signals")?;
        let (container, child) =
            Container::restore(context.root()?, &self.id, &self.bundle, &spec, &options)?;
        container.warnings().iter().for_each(|warning| context.log.warning(warning));
        let attended = match &self.pid_file {
            Some(path) => pid_file::write(path, child.pid),
            None => Ok(()),
        };
        let Some(signals) = signals else {
            return attended.map(|()| 0);
        };
        let status = attended.and_then(|()| foreground::attend(&child, None, &signals));
        container.delete(true)?;
        status
    }
}
