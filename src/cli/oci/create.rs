//! `wharf-oci create`
use super::context::Context;
use super::launch::{Console, LaunchOptions};
use super::pid_file;
use crate::container::{Container, read_config, seal};
use clap::Args;

/// Create a container from a bundle; `start` lets its program run
#[derive(Debug, Args)]
pub(super) struct Create {
    #[command(flatten)]
    launch: LaunchOptions,
}

impl Create {
    pub(super) fn run(&self, context: &Context) -> anyhow::Result<u8> {
        seal::ensure()?;
        let launch = &self.launch;
        let spec = read_config(&launch.bundle)?;
        let terminal =
            spec.process().as_ref().and_then(oci_spec::runtime::Process::terminal).unwrap_or(false);
        Console::decide(terminal, launch.console_socket.as_deref(), true)?;
        let options = launch.create_options(None)?;
        let (container, child) = Container::create(&context.root, &launch.id, &launch.bundle, spec, options)?;
        container.warnings().iter().for_each(|warning| context.log.warning(warning));
        context.log.debug(&format!("created container {}, pid {}", launch.id, child.pid.as_raw_nonzero()));
        if let Some(path) = &launch.pid_file
            && let Err(error) = pid_file::write(path, child.pid)
        {
            container.delete(true)?;
            return Err(error);
        }
        Ok(0)
    }
}
