//! What goes wrong in a container's life.
use super::Status;
use crate::{cgroup, sandbox};
use std::io;
use std::path::PathBuf;

/// Why a command on a container failed. Engines read some of these messages: `does not exist`,
/// `container not running` and `container with given ID already exists` are runc's words.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The id is not acceptable.
    #[error("invalid container ID format {id:?}: {reason}")]
    InvalidId {
        /// As given.
        id: String,
        /// The rule it breaks.
        reason: &'static str,
    },
    /// No container of that name below the state root.
    #[error("container {0} does not exist")]
    NotFound(String),
    /// The name is taken.
    #[error("container with given ID already exists: {0}")]
    Exists(String),
    /// No signal of that name or number.
    #[error("unknown signal {0:?}; give a name such as TERM or SIGTERM, RTMIN+n, or a number")]
    UnknownSignal(String),
    /// The bundle, or a file of it, cannot be read.
    #[error("{action} {}: {source}", path.display())]
    Bundle {
        /// What was attempted.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// config.json (or a process file) is not what the specification wants.
    #[error("{file}: {path}{}{reason}", if path.is_empty() { "" } else { ": " })]
    Config {
        /// `config.json`, or the file given with `--process`.
        file: String,
        /// JSON path; empty when the text is no JSON at all.
        path: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// The config cannot be turned into a sandbox.
    #[error("config.json: {0}")]
    Plan(#[from] sandbox::Error),
    /// A cgroup operation failed.
    #[error(transparent)]
    Cgroup(#[from] cgroup::Error),
    /// The process could not be made, or could not execute the program.
    #[error("unable to start container process: {0}")]
    Spawn(#[from] sandbox::SpawnError),
    /// A class of service or a monitoring group could not be made, joined or removed.
    #[error("{action} {} (linux.intelRdt): {source}", path.display())]
    Resctrl {
        /// What was attempted.
        action: &'static str,
        /// The group, or a file of it.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The container's state on disk could not be used.
    #[error("{action} {}: {source}", path.display())]
    State {
        /// What was attempted.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// state.json does not hold what this program wrote.
    #[error("{}: {source}; remove the container with delete --force", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// Another command holds the container's lock.
    #[error("container {0} is busy: another command has been at work on it for ten seconds")]
    Busy(String),
    /// The console socket cannot be used.
    #[error("console socket {}: {source}", path.display())]
    Console {
        /// The socket.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A command that needs a living process met a stopped container.
    #[error("container not running: {0}")]
    NotRunning(String),
    /// Only a created container can be started.
    #[error("{}", cannot_start(*.0))]
    CannotStart(Status),
    /// Only a stopped (or created) container can be deleted without force.
    #[error("cannot delete container {id} that is not stopped: {status}; stop it, or use --force")]
    CannotDelete {
        /// The container.
        id: String,
        /// Its status.
        status: Status,
    },
    /// The container is in a state that the command does not apply to.
    #[error("cannot {action} container {id}: it is {status}")]
    WrongStatus {
        /// The command.
        action: &'static str,
        /// The container.
        id: String,
        /// Its status.
        status: Status,
    },
    /// The first process ended before `start`.
    #[error("container {0} cannot be started: its init process has ended")]
    InitGone(String),
    /// A system call on a process failed.
    #[error("{action} process {pid}: {source}")]
    Process {
        /// What was attempted.
        action: &'static str,
        /// Host pid.
        pid: i32,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A process survived SIGKILL for ten seconds.
    #[error(
        "process {0} did not end within ten seconds of SIGKILL; look at /proc/{0}/stack, then delete again"
    )]
    StillAlive(i32),
    /// A hook failed.
    #[error("error running {hook} hook {}: {reason}", path.display())]
    Hook {
        /// JSON path, such as `hooks.poststart[0]`.
        hook: String,
        /// The program.
        path: PathBuf,
        /// How it ended, and what it printed.
        reason: String,
    },
    /// CRIU is missing or has failed.
    #[error("criu {action} failed: {reason}")]
    Criu {
        /// criu's command.
        action: &'static str,
        /// Its own words, and where its log is.
        reason: String,
    },
    /// The program's own executable could not be protected.
    #[error("seal the runtime's executable: {action}: {source}")]
    Seal {
        /// What was attempted.
        action: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl Error {
    /// A value of config.json is not acceptable.
    pub(super) fn config(path: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Config { file: "config.json".to_owned(), path: path.into(), reason: reason.into() }
    }
}

fn cannot_start(status: Status) -> String {
    match status {
        Status::Stopped => "cannot start a container that has stopped".to_owned(),
        Status::Running => "cannot start an already running container".to_owned(),
        other => format!("cannot start a container in the {other} state"),
    }
}
