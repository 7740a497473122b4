//! `wharf exec`
use super::values::environment;
use crate::cli::terminal::{self, Signals};
use crate::container::{Child, Container, ExecOptions, seal};
use crate::image::find_user;
use crate::sandbox::Stdio;
use crate::service::{Error, Instance, Roots, reconcile};
use crate::sys::signal::pidfd_send_signal;
use anyhow::{Context as _, bail};
use clap::Args;
use oci_spec::runtime::Process;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use std::os::fd::{AsFd as _, OwnedFd};

/// Run a program in a running instance
#[derive(Debug, Args)]
pub(super) struct Exec {
    /// Name of the instance
    name: String,
    /// Program and arguments
    #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
    /// Pass standard input on to it
    #[arg(long, short)]
    interactive: bool,
    /// Give it a terminal
    #[arg(long, short)]
    tty: bool,
    /// Environment variable; KEY alone takes the value from this shell
    #[arg(long, short, value_name = "KEY=VALUE", value_parser = environment)]
    env: Vec<(String, String)>,
    /// User and group, names or numbers [default: the instance's]
    #[arg(long, short, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Working directory [default: the instance's]
    #[arg(long, short, value_name = "DIR")]
    workdir: Option<String>,
}

impl Exec {
    pub(super) fn run(self, roots: &Roots) -> anyhow::Result<u8> {
        // Before a process of ours is in the instance, where it can be looked at (CVE-2019-5736).
        seal::ensure()?;
        if self.tty && self.interactive && !rustix::termios::isatty(rustix::stdio::stdin()) {
            bail!("-it: standard input is not a terminal; leave out -t");
        }
        let instance = Instance::find(roots, &self.name)?;
        reconcile(&instance)?;
        let container = self.running(&instance)?;
        let process = self.process(&instance, &container)?;
        let (console, socket) = self.console()?;
        let stdio = if self.interactive || self.tty { Stdio::default() } else { without_input()? };
        let options = ExecOptions { stdio, console: socket, ..ExecOptions::default() };
        let signals = Signals::block().context("block signals")?;
        let (child, _) = container.exec(&process, options).map_err(Error::from)?;
        attend(&child, console, &signals)
    }

    fn running(&self, instance: &Instance) -> anyhow::Result<Container> {
        let container = instance.container()?.filter(|container| container.pid().is_some());
        Ok(container.ok_or_else(|| Error::NotRunning(instance.name().clone()))?)
    }

    fn process(&self, instance: &Instance, container: &Container) -> anyhow::Result<Process> {
        let spec = instance.spec()?;
        let mut process = spec.process().clone().context("the instance's runtime spec has no process")?;
        process.set_args(Some(self.command.clone())).set_terminal(Some(self.tty));
        process.set_console_size(self.tty.then(terminal::callers_size).flatten());
        let mut env = process.env().clone().unwrap_or_default();
        if self.tty && !env.iter().any(|entry| entry.starts_with("TERM=")) {
            env.push("TERM=xterm".to_owned());
        }
        for (key, value) in &self.env {
            env.retain(|entry| entry.split_once('=').is_none_or(|(old, _)| old != key));
            env.push(format!("{key}={value}"));
        }
        process.set_env(Some(env));
        if let Some(directory) = &self.workdir {
            process.set_cwd(directory.into());
        }
        if let Some(user) = &self.user {
            process.set_user(find_user(user, root_of(container)?.as_fd())?);
            if !self.env.iter().any(|(key, _)| key == "HOME") {
                // It was the other user's; without one the sandbox looks this user's up.
                let env = process.env().clone().unwrap_or_default();
                process.set_env(Some(env.into_iter().filter(|entry| !entry.starts_with("HOME=")).collect()));
            }
        }
        Ok(process)
    }

    fn console(&self) -> anyhow::Result<(Option<OwnedFd>, Option<OwnedFd>)> {
        if !self.tty {
            return Ok((None, None));
        }
        let pair = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
        let (ours, theirs) = pair.context("make a socket pair")?;
        Ok((Some(ours), Some(theirs)))
    }
}

/// The running instance's root, in whose passwd and group names are looked up.
fn root_of(container: &Container) -> anyhow::Result<OwnedFd> {
    let process = container.pidfd().map_err(Error::from)?;
    crate::sys::pidfd::root(process.as_fd()).context("open the root of the instance's process")
}

fn without_input() -> anyhow::Result<Stdio> {
    let null = std::fs::File::open("/dev/null").context("open /dev/null")?;
    Ok(Stdio { stdin: Some(null.into()), ..Stdio::default() })
}

/// Stays with the process until it has ended; returns its exit status.
fn attend(child: &Child, console: Option<OwnedFd>, signals: &Signals) -> anyhow::Result<u8> {
    let pidfd = child.pidfd.as_fd();
    let mut forward = |signal| {
        // The process may have ended meanwhile, which the next turn of the loop notices.
        let _ = pidfd_send_signal(pidfd, signal);
    };
    let master = console.map(|socket| terminal::receive_descriptor(socket.as_fd())).transpose();
    let attended = master.and_then(|master| terminal::attend(pidfd, master, signals, &mut forward));
    if attended.is_err() {
        let _ = pidfd_send_signal(pidfd, libc::SIGKILL);
    }
    let status = loop {
        match waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other.context("wait for the process")?,
        }
    };
    attended.context("copy between the terminal and the instance")?;
    let status = status.context("the process has no exit status")?;
    let number = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code & 0xff,
        (None, Some(signal)) => 128 + signal,
        (None, None) => i32::from(crate::service::OWN_FAILURE),
    };
    Ok(u8::try_from(number).unwrap_or(u8::MAX))
}
