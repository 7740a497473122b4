//! What a spec does not say, and the caller of [`super::Plan`] decides.
use super::seccomp::Agent;
use crate::cgroup;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// Where the container's root file system comes from.
#[derive(Debug)]
pub enum Rootfs {
    /// A directory of the host.
    Directory(PathBuf),
    /// A detached mount, from `fsmount(2)` or `open_tree(2)`; it never appears in the host's mount table.
    Tree(OwnedFd),
}

/// The three standard streams of the container's process; `None` inherits the caller's.
#[derive(Debug, Default)]
pub struct Stdio {
    /// Standard input.
    pub stdin: Option<OwnedFd>,
    /// Standard output.
    pub stdout: Option<OwnedFd>,
    /// Standard error.
    pub stderr: Option<OwnedFd>,
}

/// When the process executes its program.
#[derive(Debug, Default)]
pub enum Start {
    /// At once.
    #[default]
    AtOnce,
    /// When the caller of [`super::begin`] has it go on, over the connection that [`super::Rest::finish`] returns.
    ByCreator {
        /// Whether the creator first awaits that everything else has been done.
        awaits: bool,
    },
    /// When whoever connects to this listening `SOCK_SEQPACKET` socket calls [`super::start`].
    ByAnyone(OwnedFd),
}

/// What the spec does not say and the caller decides.
#[derive(Debug)]
pub struct Inputs {
    /// The root file system.
    pub rootfs: Rootfs,
    /// Where relative sources of bind mounts start: config.md#mounts.
    pub bundle: PathBuf,
    /// The container's cgroup, which is bound where no cgroup namespace hides what is above it.
    pub cgroup: Option<cgroup::Record>,
    /// The standard streams.
    pub stdio: Stdio,
    /// Connected Unix socket that receives the terminal's master when `process.terminal` is set.
    pub console_socket: Option<OwnedFd>,
    /// When the program is executed.
    pub start: Start,
    /// File descriptors 3..3+N of the caller that the process keeps.
    pub preserve_fds: u32,
    /// `--no-pivot`: change the root with `chroot(2)` where `pivot_root(2)` cannot, on an initramfs.
    pub no_pivot: bool,
    /// `--no-new-keyring`: keep the session keyring of the caller.
    pub no_new_keyring: bool,
}

impl Inputs {
    /// A container of this root, with the caller's streams, whose program is executed at once.
    pub fn of(rootfs: Rootfs) -> Self {
        Self {
            rootfs,
            bundle: PathBuf::new(),
            cgroup: None,
            stdio: Stdio::default(),
            console_socket: None,
            start: Start::AtOnce,
            preserve_fds: 0,
            no_pivot: false,
            no_new_keyring: false,
        }
    }
}

/// What the caller of [`super::Plan::compile_exec`] decides.
#[derive(Debug, Default)]
pub struct ExecInputs {
    /// Who gets the listener of a seccomp filter that notifies.
    pub agent: Option<Agent>,
    /// Program to execute whatever `process.args[0]` says, with exactly `process.env`.
    pub path: Option<PathBuf>,
    /// The standard streams.
    pub stdio: Stdio,
    /// Connected Unix socket that receives the terminal's master when `process.terminal` is set.
    pub console_socket: Option<OwnedFd>,
    /// File descriptors 3..3+N of the caller that the process keeps.
    pub preserve_fds: u32,
}
