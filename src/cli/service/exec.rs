//! `wharf exec`
use super::values::environment;
use crate::cli::terminal::{self, Signals};
use crate::container::{Child, Container, seal};
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
    /// User and group, numbers [default: the instance's]
    #[arg(long, short, value_name = "UID[:GID]")]
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
        let process = self.process(&instance)?;
        let (console, socket) = self.console()?;
        let stdio = if self.interactive || self.tty { Stdio::default() } else { without_input()? };
        let signals = Signals::block().context("block signals")?;
        let child = container.exec(&process, stdio, socket, 0).map_err(Error::from)?;
        attend(&child, console, &signals)
    }

    fn running(&self, instance: &Instance) -> anyhow::Result<Container> {
        let container = instance.container()?.filter(|container| container.pid().is_some());
        Ok(container.ok_or_else(|| Error::NotRunning(instance.name().clone()))?)
    }

    fn process(&self, instance: &Instance) -> anyhow::Result<Process> {
        let spec = instance.spec()?;
        let mut process = spec.process().clone().context("the instance's runtime spec has no process")?;
        process.set_args(Some(self.command.clone())).set_terminal(Some(self.tty));
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
            set_user(&mut process, user)?;
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

fn set_user(process: &mut Process, text: &str) -> anyhow::Result<()> {
    let number = |text: &str| {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let id = text.parse::<u32>().ok().filter(|id| digits && *id != u32::MAX);
        id.with_context(|| format!("--user: {text:?} is not a numeric id (UID[:GID])"))
    };
    let (uid, gid) = match text.split_once(':') {
        Some((uid, gid)) => (number(uid)?, Some(number(gid)?)),
        None => (number(text)?, None),
    };
    let user = process.user_mut();
    user.set_uid(uid);
    // Another user has not the instance's groups.
    user.set_gid(gid.unwrap_or(uid)).set_additional_gids(None);
    Ok(())
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
