//! `wharf-oci exec`
use super::context::Context;
use super::launch::{Console, check_preserved};
use super::pidfd_socket::PidfdSocket;
use super::{foreground, pid_file};
use crate::cgroup::Below;
use crate::cli::terminal::Signals;
use crate::container::{
    Child, Container, ContainerId, ExecOptions, Status, connect_socket, read_process, seal,
};
use crate::sandbox::Stdio;
use anyhow::{Context as _, bail};
use clap::Args;
use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities, Process};
use rustix::fd::OwnedFd;
use std::path::PathBuf;
use std::str::FromStr;

/// Run one more process in a container
#[derive(Debug, Args)]
pub(super) struct Exec {
    /// The container
    #[arg(value_name = "CONTAINER-ID")]
    id: ContainerId,
    /// Program and arguments; none with --process
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
    /// Unix socket that receives the terminal's master
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// Working directory in the container
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,
    /// Set an environment variable, KEY=VALUE
    #[arg(long, short, value_name = "KEY=VALUE")]
    env: Vec<String>,
    /// Give the process a terminal
    #[arg(long, short)]
    tty: bool,
    /// Numeric user and, after a colon, group
    #[arg(long, short, value_name = "UID[:GID]")]
    user: Option<String>,
    /// Add a supplementary group, numeric
    #[arg(long, short = 'g', value_name = "GID")]
    additional_gids: Vec<u32>,
    /// Read the whole process object from this file
    #[arg(long, short, value_name = "FILE", conflicts_with_all = ["command", "cwd", "env", "tty", "user",
        "additional_gids", "process_label", "apparmor", "no_new_privs", "cap"])]
    process: Option<PathBuf>,
    /// Leave once the program runs
    #[arg(long, short)]
    detach: bool,
    /// Unix socket that receives the pidfd of the process
    #[arg(long, value_name = "SOCKET")]
    pidfd_socket: Option<PathBuf>,
    /// Write the pid of the process to this file
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// SELinux label of the process
    #[arg(long, value_name = "LABEL")]
    process_label: Option<String>,
    /// AppArmor profile of the process
    #[arg(long, value_name = "PROFILE")]
    apparmor: Option<String>,
    /// Set no_new_privs
    #[arg(long)]
    no_new_privs: bool,
    /// Add a capability to the container's
    #[arg(long, short, value_name = "NAME")]
    cap: Vec<String>,
    /// Pass file descriptors 3 to 3+N-1 on to the process
    #[arg(long, value_name = "N", default_value_t = 0)]
    preserve_fds: u32,
    /// Run it in an existing cgroup below the container's; with controllers for v1 alone, again for others
    #[arg(long, value_name = "[CONTROLLER[,...]:]PATH")]
    cgroup: Vec<String>,
    /// Do not refuse a paused container; the process starts when it is resumed
    #[arg(long)]
    ignore_paused: bool,
}

impl Exec {
    pub(super) fn run(&self, context: &Context) -> anyhow::Result<u8> {
        seal::ensure()?;
        let below = Below::parse(&self.cgroup)?;
        let container = Container::load(context.root()?, &self.id)?;
        if !self.ignore_paused && container.status()? == Status::Paused {
            bail!("cannot exec in a paused container (use --ignore-paused to override)");
        }
        let mut process = self.process(&container, context)?;
        let terminal = process.terminal().unwrap_or(false);
        let (console, their_end) = Console::decide(terminal, self.console_socket.as_deref(), self.detach)?;
        console.fit(&mut process);
        check_preserved(self.preserve_fds)?;
        let socket = self.socket(their_end)?;
        let pidfd_socket = PidfdSocket::connect(self.pidfd_socket.as_deref())?;
        let signals = Signals::block().context("block signals")?;
        let options = ExecOptions {
            stdio: Stdio::default(),
            console: socket,
            preserve_fds: self.preserve_fds,
            below,
            process_file: self.process.clone(),
        };
        let (child, warnings) = container.exec(&process, options)?;
        // Of the container's own process they were told when it was created.
        if !self.cap.is_empty() || self.process.is_some() {
            warnings.iter().for_each(|warning| context.log.warning(warning));
        }
        self.attend(&child, console, &pidfd_socket, &signals)
    }

    fn attend(
        &self,
        child: &Child,
        console: Console,
        pidfd_socket: &PidfdSocket,
        signals: &Signals,
    ) -> anyhow::Result<u8> {
        let told = match &self.pid_file {
            Some(path) => pid_file::write(path, child.pid),
            None => Ok(()),
        };
        if let Err(error) = told.and_then(|()| pidfd_socket.send(child)) {
            let _ = rustix::process::pidfd_send_signal(&child.pidfd, rustix::process::Signal::KILL);
            let _ = foreground::reap(child);
            return Err(error);
        }
        let master = console.master()?;
        if self.detach {
            return Ok(0);
        }
        foreground::attend(child, master, signals)
    }

    fn socket(&self, their_end: Option<OwnedFd>) -> anyhow::Result<Option<OwnedFd>> {
        match (their_end, &self.console_socket) {
            (None, Some(path)) => {
                let socket = connect_socket(path);
                socket.map(Some).with_context(|| format!("connect to --console-socket {}", path.display()))
            }
            (their_end, _) => Ok(their_end),
        }
    }

    /// The process object: from a file, or the container's own with what the options change.
    fn process(&self, container: &Container, context: &Context) -> anyhow::Result<Process> {
        if let Some(path) = &self.process {
            return Ok(read_process(path, |warning| context.log.warning(warning))?);
        }
        if self.command.is_empty() {
            bail!("exec needs a command, or --process");
        }
        if self.command[0].is_empty() {
            bail!("the command to execute is empty; name a program");
        }
        let spec = container.config()?;
        let mut process = spec.process().clone().context("the container's config has no process")?;
        self.change(&mut process)?;
        Ok(process)
    }

    fn change(&self, process: &mut Process) -> anyhow::Result<()> {
        process.set_args(Some(self.command.clone())).set_terminal(Some(self.tty));
        if let Some(cwd) = &self.cwd {
            process.set_cwd(cwd.clone());
        }
        if let Some(user) = &self.user {
            let (uid, gid) = parse_user(user)?;
            let user = process.user_mut();
            user.set_uid(uid);
            if let Some(gid) = gid {
                user.set_gid(gid);
            }
        }
        if !self.additional_gids.is_empty() {
            let user = process.user_mut();
            let mut groups = user.additional_gids().clone().unwrap_or_default();
            groups.extend(&self.additional_gids);
            user.set_additional_gids(Some(groups));
        }
        if !self.env.is_empty() {
            let mut env = process.env().clone().unwrap_or_default();
            for entry in &self.env {
                set_variable(&mut env, entry)?;
            }
            process.set_env(Some(env));
        }
        if let Some(label) = &self.process_label {
            process.set_selinux_label(Some(label.clone()));
        }
        if let Some(profile) = &self.apparmor {
            process.set_apparmor_profile(Some(profile.clone()));
        }
        if self.no_new_privs {
            process.set_no_new_privileges(Some(true));
        }
        if !self.cap.is_empty() {
            let capabilities = process.capabilities().clone().unwrap_or_else(no_capabilities);
            process.set_capabilities(Some(add_capabilities(capabilities, &self.cap)?));
        }
        Ok(())
    }

    /// What is to be executed.
    #[cfg(test)]
    pub(super) fn command(&self) -> &[String] {
        &self.command
    }
}

/// Numbers only, as with runc: names would have to be looked up in the container's files.
fn parse_user(text: &str) -> anyhow::Result<(u32, Option<u32>)> {
    let number = |text: &str| {
        let parsed = text.parse::<u32>().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
        parsed.with_context(|| format!("--user: {text:?} is not a numeric id (UID[:GID])"))
    };
    match text.split_once(':') {
        Some((uid, gid)) => Ok((number(uid)?, Some(number(gid)?))),
        None => Ok((number(text)?, None)),
    }
}

/// A variable that is there already gets the new value: of two entries, programs may use either.
fn set_variable(env: &mut Vec<String>, entry: &str) -> anyhow::Result<()> {
    let key = entry.split_once('=').map(|(key, _)| key).filter(|key| !key.is_empty());
    let key = key.with_context(|| format!("--env: {entry:?} is not KEY=VALUE"))?;
    env.retain(|old| old.split_once('=').is_none_or(|(old_key, _)| old_key != key));
    env.push(entry.to_owned());
    Ok(())
}

fn no_capabilities() -> LinuxCapabilities {
    let mut none = LinuxCapabilities::default();
    let empty = || Some(Capabilities::new());
    none.set_bounding(empty()).set_effective(empty()).set_permitted(empty());
    none.set_inheritable(None).set_ambient(None);
    none
}

/// As runc: bounding, permitted and effective, never inheritable or ambient (CVE-2022-29162).
fn add_capabilities(mut sets: LinuxCapabilities, names: &[String]) -> anyhow::Result<LinuxCapabilities> {
    let mut added = Capabilities::new();
    for name in names {
        let known = Capability::from_str(name.strip_prefix("CAP_").unwrap_or(name));
        added.insert(known.ok().with_context(|| format!("--cap: unknown capability {name:?}"))?);
    }
    let with = |set: &Option<Capabilities>| {
        Some(set.iter().flatten().chain(&added).copied().collect::<Capabilities>())
    };
    let (bounding, effective, permitted) =
        (with(sets.bounding()), with(sets.effective()), with(sets.permitted()));
    sets.set_bounding(bounding).set_effective(effective).set_permitted(permitted);
    Ok(sets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_numbers() {
        assert_eq!(parse_user("1").expect("uid"), (1, None));
        assert_eq!(parse_user("1000:50").expect("uid and gid"), (1000, Some(50)));
        for wrong in ["", "web", "1:", ":1", "+1", "4294967296", "1:2:3", "-1"] {
            assert!(parse_user(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_variable_given_again_replaces_the_containers_own() {
        let mut env = vec!["PATH=/bin".to_owned(), "A=1".to_owned()];
        set_variable(&mut env, "A=2=3").expect("set");
        assert_eq!(env, ["PATH=/bin", "A=2=3"]);
        assert!(set_variable(&mut env, "A").is_err());
        assert!(set_variable(&mut env, "=x").is_err());
    }

    #[test]
    fn an_added_capability_is_neither_inheritable_nor_ambient() {
        let names = ["CAP_SYS_PTRACE".to_owned(), "NET_RAW".to_owned()];
        let sets = add_capabilities(no_capabilities(), &names).expect("known");
        assert_eq!(sets.bounding().iter().flatten().count(), 2);
        assert!(sets.permitted().as_ref().is_some_and(|set| set.contains(&Capability::NetRaw)));
        assert_eq!((sets.inheritable(), sets.ambient()), (&None, &None));
        assert!(add_capabilities(no_capabilities(), &["CAP_NOTHING".to_owned()]).is_err());
    }
}
