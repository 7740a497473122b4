//! `wharf-oci restore`
use super::checkpoint::CriuArguments;
use super::context::Context;
use super::launch::Console;
use super::{foreground, pid_file, run};
use crate::cli::terminal::Signals;
use crate::container::{Child, Container, ContainerId, RestoreOptions, read_config, seal};
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
    /// Unix socket that receives the terminal's master
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
        if self.no_pivot {
            bail!(
                "--no-pivot is not supported by restore: CRIU changes the root in its own way; leave it out"
            );
        }
        let spec = read_config(&self.bundle, |warning| context.log.warning(warning))?;
        let terminal =
            spec.process().as_ref().and_then(oci_spec::runtime::Process::terminal).unwrap_or(false);
        let (console, their_end) = Console::decide(terminal, self.console_socket.as_deref(), self.detach)?;
        let options = RestoreOptions {
            criu: (&self.criu).into(),
            lsm_profile: self.lsm_profile.clone(),
            lsm_mount_context: self.lsm_mount_context.clone(),
            console_socket: self.console_socket.clone(),
            console: their_end,
            systemd_cgroup: context.systemd_cgroup,
        };
        // Before the container exists, so that no signal can part us from it.
        let signals = (!self.detach).then(Signals::block).transpose().context("block signals")?;
        let (container, child) = Container::restore(context.root()?, &self.id, &self.bundle, &spec, options)?;
        container.warnings().iter().for_each(|warning| context.log.warning(warning));
        match self.attend(&child, console, signals.as_ref()) {
            Ok(status) => {
                if !self.detach {
                    run::warn(context, &container.delete(true)?);
                }
                Ok(status)
            }
            Err(error) => {
                // The error that led here is the one to report; what cannot be removed stays listed.
                let _ = container.delete(true);
                let _ = foreground::reap(&child);
                Err(error)
            }
        }
    }

    fn attend(&self, child: &Child, console: Console, signals: Option<&Signals>) -> anyhow::Result<u8> {
        if let Some(path) = &self.pid_file {
            pid_file::write(path, child.pid)?;
        }
        let master = console.master()?;
        signals.map_or(Ok(0), |signals| foreground::attend(child, master, signals))
    }
}
