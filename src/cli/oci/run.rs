//! `wharf-oci run`
use super::context::Context;
use super::launch::{Console, LaunchOptions};
use super::pidfd_socket::PidfdSocket;
use super::{foreground, pid_file};
use crate::cli::terminal::Signals;
use crate::container::{Child, Container, read_config, seal};
use anyhow::Context as _;
use clap::Args;

/// Create and start a container, and stay with it until its program ends
#[derive(Debug, Args)]
pub(super) struct Run {
    #[command(flatten)]
    launch: LaunchOptions,
    /// Leave once the program runs
    #[arg(long, short)]
    detach: bool,
    /// Do not delete the container when its program has ended
    #[arg(long)]
    keep: bool,
    /// Do not become the parent of orphaned processes; wharf-oci never does
    #[arg(long)]
    no_subreaper: bool,
}

impl Run {
    pub(super) fn run(&self, context: &Context) -> anyhow::Result<u8> {
        seal::ensure()?;
        let launch = &self.launch;
        let mut spec = read_config(&launch.bundle, |warning| context.log.warning(warning))?;
        let terminal =
            spec.process().as_ref().and_then(oci_spec::runtime::Process::terminal).unwrap_or(false);
        let (console, their_end) = Console::decide(terminal, launch.console_socket.as_deref(), self.detach)?;
        if let Some(process) = spec.process_mut() {
            console.fit(process);
        }
        let pidfd_socket = PidfdSocket::connect(launch.pidfd_socket.as_deref())?;
        let mut options = launch.create_options(context, &mut spec, their_end)?;
        options.starts_it = true;
        // Before the container exists, so that no signal can part us from it.
        let signals = Signals::block().context("block signals")?;
        let (mut container, child) =
            Container::create(context.root()?, &launch.id, &launch.bundle, &spec, options)?;
        container.warnings().iter().for_each(|warning| context.log.warning(warning));
        context.log.debug(&format!("created container {}, pid {}", launch.id, child.pid.as_raw_nonzero()));
        let attended =
            pidfd_socket.send(&child).and_then(|()| self.attend(&mut container, &child, console, &signals));
        match attended {
            Ok(status) => {
                if !self.detach && !self.keep {
                    warn(context, &container.delete_reaped()?);
                }
                // The process ends, and its descriptors, signals and memory with it.
                std::mem::forget((child, container, signals, spec));
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

    fn attend(
        &self,
        container: &mut Container,
        child: &Child,
        console: Console,
        signals: &Signals,
    ) -> anyhow::Result<u8> {
        if let Some(path) = &self.launch.pid_file {
            pid_file::write(path, child.pid)?;
        }
        let master = console.master()?;
        container.start()?;
        if self.detach {
            return Ok(0);
        }
        foreground::attend(child, master, signals)
    }
}

/// Hooks that failed without stopping anything.
pub(super) fn warn(context: &Context, failures: &[crate::container::Error]) {
    for failure in failures {
        context.log.warning(&failure.to_string());
    }
}
