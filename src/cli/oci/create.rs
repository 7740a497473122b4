//! `wharf-oci create`
use super::context::Context;
use super::launch::{Console, LaunchOptions};
use super::pid_file;
use super::pidfd_socket::PidfdSocket;
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
        let mut spec = read_config(&launch.bundle, |warning| context.log.warning(warning))?;
        let terminal =
            spec.process().as_ref().and_then(oci_spec::runtime::Process::terminal).unwrap_or(false);
        Console::decide(terminal, launch.console_socket.as_deref(), true)?;
        let pidfd_socket = PidfdSocket::connect(launch.pidfd_socket.as_deref())?;
        let options = launch.create_options(context, &mut spec, None)?;
        let (container, child) =
            Container::create(context.root()?, &launch.id, &launch.bundle, &spec, options)?;
        container.warnings().iter().for_each(|warning| context.log.warning(warning));
        context.log.debug(&format!("created container {}, pid {}", launch.id, child.pid.as_raw_nonzero()));
        let told = match &launch.pid_file {
            Some(path) => pid_file::write(path, child.pid),
            None => Ok(()),
        };
        if let Err(error) = told.and_then(|()| pidfd_socket.send(&child)) {
            container.delete(true)?;
            return Err(error);
        }
        Ok(0)
    }
}
