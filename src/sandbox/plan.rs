//! The compiled form of a runtime spec.
use oci_spec::runtime::{Process, Spec};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;

/// A config that cannot become a Plan; every variant names the JSON path it is about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A value in the config is not acceptable.
    #[error("{path}: {reason}")]
    Config {
        /// JSON path in config.json, such as `linux.namespaces[2].path`.
        path: String,
        /// What is wrong with it, and what to do.
        reason: String,
    },
}

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

/// What the spec does not say and the caller decides.
#[derive(Debug)]
pub struct Inputs {
    /// The root file system.
    pub rootfs: Rootfs,
    /// The standard streams.
    pub stdio: Stdio,
    /// Connected Unix socket that receives the terminal's master when `process.terminal` is set.
    pub console_socket: Option<OwnedFd>,
    /// Listening Unix socket on which the child awaits `start`; `None` executes at once.
    pub start_socket: Option<OwnedFd>,
    /// File descriptors 3..3+N of the caller that the process keeps.
    pub preserve_fds: u32,
    /// `--no-new-keyring`: keep the session keyring of the caller.
    pub no_new_keyring: bool,
}

/// Plain data: everything resolved that can be resolved before the process exists.
#[derive(Debug)]
pub struct Plan {}

impl Plan {
    /// Compiles the spec of a new container.
    ///
    /// # Errors
    /// Names the JSON path of the first value that cannot be honoured.
    pub fn compile(_spec: &Spec, _inputs: Inputs) -> Result<Self, Error> {
        Ok(Self {})
    }

    /// Compiles the Plan of one more process in a running container: it joins all namespaces of
    /// `init`, and takes capabilities, seccomp, no_new_privs… from `process` and `spec`.
    ///
    /// # Errors
    /// As [`Plan::compile`].
    pub fn compile_exec(
        _spec: &Spec,
        _process: &Process,
        _init: BorrowedFd<'_>,
        _inputs: ExecInputs,
    ) -> Result<Self, Error> {
        Ok(Self {})
    }
}

/// What the caller of [`Plan::compile_exec`] decides.
#[derive(Debug, Default)]
pub struct ExecInputs {
    /// The standard streams.
    pub stdio: Stdio,
    /// Connected Unix socket that receives the terminal's master when `process.terminal` is set.
    pub console_socket: Option<OwnedFd>,
    /// File descriptors 3..3+N of the caller that the process keeps.
    pub preserve_fds: u32,
}
