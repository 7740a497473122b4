//! Why a limit or a cgroup operation is not possible.
use super::systemd;
use std::path::Path;

/// What a cgroup operation was about and why it failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or directory of the cgroup could not be used.
    #[error("{action} {path}: {source}")]
    File {
        /// What was attempted.
        action: &'static str,
        /// On which file.
        path: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// Whatever enters the cgroup stands still.
    #[error(
        "the cgroup {path} is frozen, by itself or with one above it: thaw that (cgroup.freeze, freezer.state) first"
    )]
    Frozen {
        /// The directory.
        path: String,
    },
    /// Somebody else has removed the cgroup.
    #[error(
        "open {path}: there is no such cgroup: somebody has removed it; delete the container and create it again"
    )]
    Removed {
        /// A file of it.
        path: String,
    },
    /// A value of `linux.resources` is not acceptable.
    #[error("{path}: {reason}")]
    Config {
        /// JSON path in config.json.
        path: String,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// A limit was asked for whose controller this host does not offer.
    #[error("{path}: the {controller} controller is not available in {place}; {hint}")]
    NoController {
        /// JSON path in config.json.
        path: String,
        /// Name of the controller.
        controller: &'static str,
        /// Where it was looked for.
        place: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// The host has no cgroup file system at all.
    #[error("no cgroup hierarchy is mounted at /sys/fs/cgroup; mount cgroup2 there")]
    NotMounted,
    /// The container has no cgroup of its own.
    #[error(
        "the container cannot {action}: it has no cgroup, for its creator had no right to make one; create it with \
         linux.cgroupsPath in a cgroup that was delegated to this user"
    )]
    None {
        /// What needs one.
        action: &'static str,
    },
    /// `linux.cgroupsPath` is not acceptable.
    #[error("linux.cgroupsPath: {path:?} {reason}")]
    Path {
        /// The path as given.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Processes went on being made while they were killed.
    #[error("kill every process in {path}: some are still there; try again")]
    Survivors {
        /// The cgroup.
        path: String,
    },
    /// A cgroup with processes of its own cannot hand controllers on, cgroup-v2.rst "No Internal Process Constraint".
    #[error(
        "enable {controllers} for the children of {path}: it has processes of its own, which cgroup v2 forbids then; \
         set linux.cgroupsPath to a place below a cgroup without processes, or run wharf under systemd with Delegate=yes"
    )]
    InternalProcesses {
        /// What was to be enabled.
        controllers: String,
        /// The cgroup that has processes.
        path: String,
    },
    /// The tasks did not stop in time.
    #[error(
        "freeze {path}: some tasks did not stop within {seconds} s; they may wait for a device or a network file system"
    )]
    NotFrozen {
        /// The cgroup.
        path: String,
        /// How long was waited.
        seconds: u64,
    },
    /// systemd did not do what its cgroup driver asked for.
    #[error(transparent)]
    Systemd(Box<systemd::Error>),
}

impl From<systemd::Error> for Error {
    fn from(error: systemd::Error) -> Self {
        Self::Systemd(Box::new(error))
    }
}

impl Error {
    pub(super) fn file(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.display().to_string();
        move |source| Self::File { action, path, source }
    }

    pub(super) fn config(path: &str, reason: impl Into<String>) -> Self {
        Self::Config { path: path.to_owned(), reason: reason.into() }
    }
}
