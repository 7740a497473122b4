//! The OCI lifecycle of a container (create, start, state, kill, delete, exec, pause, resume) and its
//! state on disk: one directory below the state root for each container, locked, written atomically,
//! and reconciled with the kernel by every reader.
//!
//! ```text
//!            create                 start                its first process ends
//!   (none) ─────────▶ creating ─▶ created ───▶ running ───────────────────────▶ stopped ─▶ (none)
//!                        │           │          │   ▲                              ▲  delete
//!                        │           │    pause ▼   │ resume                       │
//!                        │           │         paused                              │
//!                        └───────────┴─────── its process is killed ───────────────┘
//! ```
//! No status is stored but the end of `creating`. A container's status is asked of the kernel: whether
//! its first process lives (pid, start time and boot id), whether that has executed a program since it
//! was cloned, and whether its cgroup is frozen. Any command may therefore be killed at any moment.

mod checkpoint;
mod config;
mod create;
mod delete;
mod dialect;
mod directory;
mod error;
mod exec;
mod foundation;
mod hooks;
mod id;
mod kill;
mod lock;
mod members;
mod pause;
mod preview;
mod record;
mod resctrl;
pub mod seal;
mod socket;
mod start;
mod state;
mod status;
mod update;

pub use checkpoint::{CgroupsMode, CriuOptions, DumpOptions, PageServer, RestoreOptions};
pub use config::{parse_resources, read_config, read_process};
pub use error::Error;
pub use id::ContainerId;
pub use kill::parse_signal;
pub use preview::preview;
pub use state::State;
pub use status::Status;

use crate::cgroup::{Below, Cgroup};
use crate::sandbox::{NetworkAhead, Rootfs, Stdio};
use directory::StateDirectory;
use oci_spec::runtime::{LinuxIntelRdt, LinuxResources, Process, Spec};
use record::{Phase, Record};
use rustix::process::Pid;
use start::Starter;
use status::{ProcessIdentity, Progress};
use std::borrow::Cow;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// What the creator decides beside the bundle's config.
#[derive(Debug, Default)]
pub struct CreateOptions {
    /// A root file system as a detached mount, in place of `root.path`.
    pub rootfs: Option<Rootfs>,
    /// The new network namespace of the config, where the caller has begun to make it ([`crate::sandbox::network_ahead`]).
    pub network: Option<NetworkAhead>,
    /// The standard streams.
    pub stdio: Stdio,
    /// Path of the Unix socket that receives the terminal's master.
    pub console_socket: Option<PathBuf>,
    /// A connected socket in place of [`CreateOptions::console_socket`].
    pub console: Option<OwnedFd>,
    /// File descriptors 3..3+N that the process keeps.
    pub preserve_fds: u32,
    /// Change the root with `chroot(2)` where `pivot_root(2)` cannot, on an initramfs.
    pub no_pivot: bool,
    /// Keep the caller's session keyring.
    pub no_new_keyring: bool,
    /// Whether this very process calls [`Container::start`]: nobody else can.
    pub starts_it: bool,
    /// Have systemd make the cgroup, as a transient scope; `linux.cgroupsPath` is `slice:prefix:name` then.
    pub systemd_cgroup: bool,
    /// Whether a container may do without a cgroup where its creator has no right to make one and no limit
    /// needs it; `None` allows that to everybody but root of the host.
    pub rootless: Option<bool>,
}

/// Connects to the Unix stream socket of an engine that is to receive a descriptor.
///
/// # Errors
/// The kernel's, see `connect(2)`.
pub fn connect_socket(path: &Path) -> io::Result<OwnedFd> {
    Ok(socket::connect(path)?)
}

/// What the caller of [`Container::exec`] decides beside the process.
#[derive(Debug, Default)]
pub struct ExecOptions {
    /// The standard streams.
    pub stdio: Stdio,
    /// A connected socket that receives the terminal's master.
    pub console: Option<OwnedFd>,
    /// File descriptors 3..3+N that the process keeps.
    pub preserve_fds: u32,
    /// A group below the container's cgroup.
    pub below: Below,
    /// The file that the process comes from, for errors.
    pub process_file: Option<PathBuf>,
}

/// One container on disk.
#[derive(Debug)]
pub struct Container {
    directory: StateDirectory,
    record: Record,
    /// Opened when it is needed.
    cgroup: OnceLock<Cgroup>,
    warnings: Vec<String>,
    /// What this process starts it by when it has created it for that.
    starter: Option<Starter>,
}

/// A process of a container that the caller is the parent of and must reap.
#[derive(Debug)]
pub struct Child {
    /// Host pid.
    pub pid: Pid,
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
        state_root: &Path,
        id: &ContainerId,
        bundle: &Path,
        spec: &Spec,
        options: CreateOptions,
    ) -> Result<(Self, Child), Error> {
        create::create(state_root, id, bundle, spec, options)
    }

    /// Finds a container.
    ///
    /// # Errors
    /// When there is none of that id.
    pub fn load(state_root: &Path, id: &ContainerId) -> Result<Self, Error> {
        let directory = StateDirectory::open(state_root, id)?;
        let record = Record::read(&directory, id)?;
        Ok(Self { directory, record, cgroup: OnceLock::new(), warnings: Vec::new(), starter: None })
    }

    /// Ids below a state root, sorted. Each may be gone by the time it is loaded.
    ///
    /// # Errors
    /// When the state root exists and cannot be read.
    pub fn ids(state_root: &Path) -> Result<Vec<ContainerId>, Error> {
        directory::ids(state_root)
    }

    /// Lets the first process execute the user's program, and returns when it has, or failed to.
    ///
    /// # Errors
    /// In runc's words when the program cannot be executed.
    pub fn start(&mut self) -> Result<(), Error> {
        start::start(self)
    }

    /// Whether the creation of a container that this process has created for itself to start has failed by now:
    /// [`Container::start`] tells by itself, but something else that fails in between may have failed for this.
    ///
    /// # Errors
    /// Names the step of its creation that failed.
    pub fn failure_so_far(&self) -> Result<(), Error> {
        start::failure_so_far(self)
    }

    /// Its status now, by the kernel's word (pidfd, start time, boot id).
    ///
    /// # Errors
    /// When state cannot be read.
    pub fn status(&self) -> Result<Status, Error> {
        if self.current_record()?.process.is_none() && self.directory.is_locked()? {
            return Ok(Status::Creating);
        }
        self.status_under_lock()
    }

    /// What `state` shows.
    ///
    /// # Errors
    /// As [`Container::status`].
    pub fn state(&self) -> Result<State, Error> {
        let status = self.status()?;
        let record = self.current_record()?;
        Ok(State::new(&record, status))
    }

    /// Host pid of the first process while it lives.
    pub fn pid(&self) -> Option<Pid> {
        let process = self.record.process.as_ref()?;
        process.progress().ok().flatten()?;
        process.pid()
    }

    /// pidfd of the first process, verified by start time.
    ///
    /// # Errors
    /// When it is gone.
    pub fn pidfd(&self) -> Result<OwnedFd, Error> {
        let gone = || Error::NotRunning(self.record.id.to_string());
        let process = self.record.process.as_ref().ok_or_else(gone)?;
        let pidfd = process.pidfd().map_err(|source| self.process_error("open", source))?;
        let lives = process.progress().map_err(|source| self.process_error("read", source))?.is_some();
        pidfd.filter(|_| lives).ok_or_else(gone)
    }

    /// Its cgroup, which may be gone when it is stopped. Every container has one.
    pub fn cgroup(&self) -> Option<&Cgroup> {
        Some(self.own_cgroup())
    }

    fn own_cgroup(&self) -> &Cgroup {
        self.cgroup.get_or_init(|| Cgroup::from_record(&self.record.cgroup))
    }

    /// Every process in its cgroup and below, host pids; without a cgroup, those that descend from its first.
    ///
    /// # Errors
    /// Names the file; a stopped container has none.
    pub fn processes(&self) -> Result<Vec<Pid>, Error> {
        members::of(self)
    }

    /// What the user should know of a container just created and that did not stop its creation, such as
    /// capabilities this kernel does not know.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The config it was made from, whatever has become of the bundle since.
    ///
    /// # Errors
    /// When state cannot be read.
    pub fn config(&self) -> Result<Spec, Error> {
        exec::used_config(self)
    }

    /// Sends a signal to the first process, or to all.
    ///
    /// # Errors
    /// When it is not running.
    pub fn kill(&self, signal: i32, all: bool) -> Result<(), Error> {
        kill::kill(self, signal, all)
    }

    /// Runs one more process inside, as a child of the caller. Beside it, what the user should know and
    /// that did not stop it, as [`Container::warnings`].
    ///
    /// # Errors
    /// In runc's words when the program cannot be executed.
    pub fn exec(&self, process: &Process, options: ExecOptions) -> Result<(Child, Vec<String>), Error> {
        exec::exec(self, process, options)
    }

    /// Saves it to an image by CRIU. Unless it is to go on, it is deleted then.
    ///
    /// # Errors
    /// In CRIU's words, with the path of its log; the container goes on.
    pub fn checkpoint(&self, options: DumpOptions) -> Result<(), Error> {
        checkpoint::checkpoint(self, options)
    }

    /// Makes a running container of an image that [`Container::checkpoint`] has saved. Its first process is
    /// a child of the caller.
    ///
    /// # Errors
    /// In CRIU's words, with the path of its log; nothing else is left behind.
    pub fn restore(
        state_root: &Path,
        id: &ContainerId,
        bundle: &Path,
        spec: &Spec,
        options: RestoreOptions,
    ) -> Result<(Self, Child), Error> {
        checkpoint::restore(state_root, id, bundle, spec, options)
    }

    /// Freezes every process.
    ///
    /// # Errors
    /// When it is not running.
    pub fn pause(&self) -> Result<(), Error> {
        pause::pause(self)
    }

    /// Changes its limits, and the schemata of its own class of service; what is not given stays. Returns what
    /// has no effect and stops nothing.
    ///
    /// # Errors
    /// Names the JSON path of the limit that is refused, after which all are as before.
    pub fn update(
        &self,
        resources: &LinuxResources,
        rdt: Option<&LinuxIntelRdt>,
    ) -> Result<Vec<String>, Error> {
        update::update(self, resources, rdt)
    }

    /// Thaws.
    ///
    /// # Errors
    /// When it is not paused.
    pub fn resume(&self) -> Result<(), Error> {
        pause::resume(self)
    }

    /// Removes cgroup and state of a stopped container; `force` kills first, and cleans up whatever is
    /// there. Poststop hooks that fail do not stop the deletion.
    ///
    /// # Errors
    /// When it is running and `force` is not set.
    pub fn delete(&self, force: bool) -> Result<Vec<Error>, Error> {
        delete::delete(self, force, false)
    }

    /// As [`Container::delete`], by whoever has reaped its first process.
    ///
    /// # Errors
    /// Names what cannot be removed.
    pub fn delete_reaped(&self) -> Result<Vec<Error>, Error> {
        delete::delete(self, false, true)
    }

    /// Removes what is left of a container that cannot be loaded any more; nothing there is no error. False
    /// when a `create` has made a container of it meanwhile.
    ///
    /// # Errors
    /// Names what cannot be removed.
    pub fn delete_remains(state_root: &Path, id: &ContainerId) -> Result<bool, Error> {
        delete::delete_remains(state_root, id)
    }

    /// The status as it is for the holder of the lock: a `create` that has not come to a process by now
    /// never will.
    fn status_under_lock(&self) -> Result<Status, Error> {
        let current = self.current_record()?;
        let Some(process) = &current.process else { return Ok(Status::Stopped) };
        let progress = process.progress().map_err(|source| self.process_error("read", source))?;
        let Some(progress) = progress else { return Ok(Status::Stopped) };
        // One that its creator starts has no other end of its creation than its program.
        if current.phase == Phase::Creating && progress == Progress::Waiting {
            return Ok(Status::Creating);
        }
        if self.own_cgroup().is_frozen()? {
            return Ok(Status::Paused);
        }
        Ok(if progress == Progress::Waiting && !current.restored { Status::Created } else { Status::Running })
    }

    /// The record as it is now: a `create` that was at work when this container was loaded may have
    /// gone on since.
    fn current_record(&self) -> Result<Cow<'_, Record>, Error> {
        if self.record.phase == Phase::Created {
            return Ok(Cow::Borrowed(&self.record));
        }
        Record::read(&self.directory, &self.record.id).map(Cow::Owned)
    }

    fn raw_pid(&self) -> i32 {
        let process = self.record.process.as_ref();
        process.and_then(ProcessIdentity::pid).map_or(0, |pid| pid.as_raw_nonzero().get())
    }

    fn process_error(&self, action: &'static str, source: io::Error) -> Error {
        Error::Process { action, pid: self.raw_pid(), source }
    }
}
