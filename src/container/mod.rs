//! The OCI lifecycle of a container (create, start, state, kill, delete, exec, pause, resume) and its
//! state on disk: one directory below the state root for each container, locked, written atomically,
//! and reconciled with the kernel by every reader.

use crate::cgroup::Cgroup;
use crate::sandbox::{Rootfs, Stdio};
use oci_spec::runtime::{Process, Spec};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// What went wrong in a container's lifecycle. (Placeholder: the owner of this folder replaces it.)
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No container of that name below the state root.
    #[error("container {0} does not exist")]
    NotFound(String),
}

/// A validated container id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerId(String);

impl std::str::FromStr for ContainerId {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        Ok(Self(text.to_owned()))
    }
}

/// What the creator decides beside the bundle's config.
#[derive(Debug, Default)]
pub struct CreateOptions {
    /// A root file system as a detached mount, in place of `root.path`.
    pub rootfs: Option<Rootfs>,
    /// The standard streams.
    pub stdio: Stdio,
    /// Path of the Unix socket that receives the terminal's master.
    pub console_socket: Option<PathBuf>,
    /// A connected socket in place of [`CreateOptions::console_socket`].
    pub console: Option<OwnedFd>,
    /// File descriptors 3..3+N that the process keeps.
    pub preserve_fds: u32,
    /// Keep the caller's session keyring.
    pub no_new_keyring: bool,
}

/// Status of a container, runtime-spec runtime.md#state, and `paused`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Being created.
    Creating,
    /// Created, the user's process not started.
    Created,
    /// Running.
    Running,
    /// Frozen.
    Paused,
    /// Its first process has ended.
    Stopped,
}

/// One container on disk.
#[derive(Debug)]
pub struct Container {}

/// A process of a container that the caller is the parent of and must reap.
#[derive(Debug)]
pub struct Child {
    /// Host pid.
    pub pid: rustix::process::Pid,
    /// Its pidfd.
    pub pidfd: OwnedFd,
}

impl Container {
    /// Creates a container from a spec: after this its first process waits for [`Container::start`].
    /// The process is a child of the caller.
    ///
    /// # Errors
    /// Names the JSON path or the step; nothing is left behind.
    pub fn create(
        _state_root: &Path,
        id: &ContainerId,
        _bundle: &Path,
        _spec: Spec,
        _options: CreateOptions,
    ) -> Result<(Self, Child), Error> {
        Err(Error::NotFound(id.0.clone()))
    }
    /// Finds a container.
    ///
    /// # Errors
    /// When there is none of that id.
    pub fn load(_state_root: &Path, id: &ContainerId) -> Result<Self, Error> {
        Err(Error::NotFound(id.0.clone()))
    }
    /// Lets the first process execute the user's program, and returns when it has, or failed to.
    ///
    /// # Errors
    /// In runc's words when the program cannot be executed.
    pub fn start(&self) -> Result<(), Error> {
        Ok(())
    }
    /// Its status now, by the kernel's word (pidfd, start time, boot id).
    ///
    /// # Errors
    /// When state cannot be read.
    pub fn status(&self) -> Result<Status, Error> {
        Ok(Status::Stopped)
    }
    /// Host pid of the first process while it lives.
    pub fn pid(&self) -> Option<rustix::process::Pid> {
        None
    }
    /// pidfd of the first process, verified by start time.
    ///
    /// # Errors
    /// When it is gone.
    pub fn pidfd(&self) -> Result<OwnedFd, Error> {
        Err(Error::NotFound(String::new()))
    }
    /// Its cgroup.
    pub fn cgroup(&self) -> Option<&Cgroup> {
        None
    }
    /// Sends a signal to the first process, or to all.
    ///
    /// # Errors
    /// When it is not running.
    pub fn kill(&self, _signal: i32, _all: bool) -> Result<(), Error> {
        Ok(())
    }
    /// Runs one more process inside, as a child of the caller.
    ///
    /// # Errors
    /// In runc's words when the program cannot be executed.
    pub fn exec(
        &self,
        _process: &Process,
        _stdio: Stdio,
        _console: Option<OwnedFd>,
        _preserve_fds: u32,
    ) -> Result<Child, Error> {
        Err(Error::NotFound(String::new()))
    }
    /// Freezes every process.
    ///
    /// # Errors
    /// When it is not running.
    pub fn pause(&self) -> Result<(), Error> {
        Ok(())
    }
    /// Thaws.
    ///
    /// # Errors
    /// When it is not paused.
    pub fn resume(&self) -> Result<(), Error> {
        Ok(())
    }
    /// Removes cgroup and state of a stopped container; `force` kills first, and cleans up whatever is there.
    ///
    /// # Errors
    /// When it is running and `force` is not set.
    pub fn delete(self, _force: bool) -> Result<(), Error> {
        Ok(())
    }
}
