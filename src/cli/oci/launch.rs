//! What `create`, `run` and `exec` have in common: options, and the terminal's way out of the container.
use super::context::Context;
use super::listen_fds::ListenFds;
use crate::cli::terminal;
use crate::container::{ContainerId, CreateOptions};
use anyhow::{Context as _, bail};
use clap::Args;
use oci_spec::runtime::{Process, Spec};
use rustix::fd::{AsFd as _, OwnedFd};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::path::{Path, PathBuf};

/// Options of `create` and `run`.
#[derive(Debug, Args)]
pub(super) struct LaunchOptions {
    /// The id of the new container, unique below --root
    #[arg(value_name = "CONTAINER-ID")]
    pub(super) id: ContainerId,
    /// Directory that holds config.json
    #[arg(long, short, value_name = "DIR", default_value = ".")]
    pub(super) bundle: PathBuf,
    /// Unix socket that receives the terminal's master
    #[arg(long, value_name = "SOCKET")]
    pub(super) console_socket: Option<PathBuf>,
    /// Write the pid of the container's first process to this file
    #[arg(long, value_name = "FILE")]
    pub(super) pid_file: Option<PathBuf>,
    /// Unix socket that receives the pidfd of the container's first process
    #[arg(long, value_name = "SOCKET")]
    pub(super) pidfd_socket: Option<PathBuf>,
    /// Change the root with chroot instead of pivot_root, for a host that runs from an initramfs; less safe
    #[arg(long)]
    no_pivot: bool,
    /// Keep the caller's session keyring instead of making a new one
    #[arg(long)]
    no_new_keyring: bool,
    /// Pass file descriptors 3 to 3+N-1 on to the container
    #[arg(long, value_name = "N", default_value_t = 0)]
    preserve_fds: u32,
}

impl LaunchOptions {
    /// The options of the container itself.
    pub(super) fn create_options(
        &self,
        context: &Context,
        spec: &mut Spec,
        console: Option<OwnedFd>,
    ) -> anyhow::Result<CreateOptions> {
        let received = ListenFds::received();
        // As runc: N more after those received.
        let preserve_fds = self.preserve_fds.saturating_add(received.count);
        check_preserved(preserve_fds)?;
        if let Some(process) = spec.process_mut() {
            received.announce(process);
        }
        Ok(CreateOptions {
            network: None,
            rootfs: None,
            stdio: crate::sandbox::Stdio::default(),
            console_socket: self.console_socket.clone(),
            console,
            preserve_fds,
            no_pivot: self.no_pivot,
            no_new_keyring: self.no_new_keyring,
            starts_it: false,
            systemd_cgroup: context.systemd_cgroup,
            rootless: context.rootless,
        })
    }
}

/// Every descriptor that is to be passed on must be there: its number would otherwise go to one of ours.
pub(super) fn check_preserved(count: u32) -> anyhow::Result<()> {
    for number in 3..3 + u64::from(count) {
        if !Path::new(&format!("/proc/self/fd/{number}")).exists() {
            bail!("--preserve-fds {count}: file descriptor {number} is not open");
        }
    }
    Ok(())
}

/// Where the terminal of a process goes.
#[derive(Debug)]
pub(super) enum Console {
    /// The process has none.
    None,
    /// To the engine that listens on `--console-socket`.
    Socket,
    /// To the caller's terminal, by way of our end of a socket pair.
    Ours(OwnedFd),
}

impl Console {
    /// Decides; the second value is the connected socket for the container's side.
    pub(super) fn decide(
        terminal: bool,
        socket: Option<&Path>,
        detached: bool,
    ) -> anyhow::Result<(Self, Option<OwnedFd>)> {
        match (terminal, socket) {
            (false, None) => Ok((Self::None, None)),
            (false, Some(_)) => {
                bail!("--console-socket needs a terminal: set process.terminal, or use --tty with exec")
            }
            (true, Some(_)) => Ok((Self::Socket, None)),
            (true, None) if detached => {
                bail!("cannot allocate tty if the container is detached without --console-socket")
            }
            (true, None) => {
                let (ours, theirs) =
                    socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
                        .context("create a socket pair")?;
                Ok((Self::Ours(ours), Some(theirs)))
            }
        }
    }

    /// Makes the caller's terminal and the new one equally large, unless the config says how large.
    pub(super) fn fit(&self, process: &mut Process) {
        if matches!(self, Self::Ours(_)) && process.console_size().is_none() {
            process.set_console_size(terminal::callers_size());
        }
    }

    /// The terminal's master, when it came to us.
    pub(super) fn master(self) -> anyhow::Result<Option<OwnedFd>> {
        match self {
            Self::Ours(socket) => {
                let master = terminal::receive_descriptor(socket.as_fd());
                Ok(Some(master.context("receive the container's terminal")?))
            }
            Self::None | Self::Socket => Ok(None),
        }
    }
}
