//! What goes wrong with an instance.
use super::{InstanceName, InvalidName};
use crate::{cgroup, container, image, network, sandbox};
use std::io;
use std::path::{Path, PathBuf};

/// Exit status of `wharf` for a failure of its own, as Docker and Podman use it.
pub const OWN_FAILURE: u8 = 125;
/// Exit status when the instance's program was found and cannot be executed.
pub const NOT_EXECUTABLE: u8 = 126;
/// Exit status when the instance's program was not found.
pub const NOT_FOUND: u8 = 127;

/// Why a command on an instance failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A text is no instance name.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// No such instance.
    #[error("no instance {0}; see wharf ps -a")]
    NoInstance(String),
    /// The name is taken.
    #[error("the name {0} is in use; choose another, or remove that instance with wharf rm {0}")]
    NameInUse(InstanceName),
    /// The command needs a stopped instance.
    #[error("instance {0} is running; stop it first, or use rm -f")]
    Running(InstanceName),
    /// `start` of what runs.
    #[error("instance {0} is already started")]
    AlreadyStarted(InstanceName),
    /// The command needs a running instance.
    #[error("instance {0} is not running; start it with wharf start {0}")]
    NotRunning(InstanceName),
    /// What the instance has written cannot be reached.
    #[error(
        "what {0} writes is in memory that only its own processes reach; run it with --upper disk to compare or commit it"
    )]
    InMemory(InstanceName),
    /// An option's value that is acceptable by itself and not here.
    #[error("{option}: {reason}")]
    Option {
        /// The option as typed, such as `--cpus`.
        option: &'static str,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A file or directory could not be used.
    #[error("{action} {}: {source}", path.display())]
    File {
        /// What was attempted.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A file of the instance does not hold what this program wrote.
    #[error("{} cannot be used: {field}: {source}; remove the instance with wharf rm -f", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Path of the field in it.
        field: String,
        /// Where and why.
        source: serde_json::Error,
    },
    /// The image.
    #[error(transparent)]
    Image(#[from] image::Error),
    /// An image that instances are made of cannot go.
    #[error("image {image} is used by instance {instance}; remove the instance first")]
    ImageInUse {
        /// The image as named.
        image: String,
        /// One of its instances.
        instance: InstanceName,
    },
    /// The network.
    #[error(transparent)]
    Network(#[from] network::Error),
    /// The container.
    #[error(transparent)]
    Container(#[from] container::Error),
    /// The cgroup.
    #[error(transparent)]
    Cgroup(#[from] cgroup::Error),
    /// The supervisor reported this, on one line, when it tried to start the instance.
    #[error("{message}")]
    Start {
        /// Its words.
        message: String,
        /// Exit status that belongs to it.
        exit_code: u8,
    },
    /// The supervisor ended without a word.
    #[error("the supervisor of {0} ended unexpectedly; see wharf ps -a for what became of the instance")]
    SupervisorGone(InstanceName),
    /// The supervisor refused a request.
    #[error("{0}")]
    Refused(String),
    /// A system call of the supervisor or of a command failed.
    #[error("{action}: {source}")]
    System {
        /// What was attempted.
        action: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl Error {
    /// For `map_err`, when a path was to be used.
    pub(super) fn file<E: Into<io::Error>>(action: &'static str, path: &Path) -> impl FnOnce(E) -> Self {
        let path = path.to_owned();
        move |source| Self::File { action, path, source: source.into() }
    }

    /// For `map_err`, when a system call failed.
    pub(super) fn system<E: Into<io::Error>>(action: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::System { action, source: source.into() }
    }

    /// A value that an option cannot have.
    pub fn option(option: &'static str, reason: impl Into<String>) -> Self {
        Self::Option { option, reason: reason.into() }
    }

    /// The exit status a command ends with: 126 and 127 when the instance's program could not be
    /// executed or found, 125 otherwise.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Start { exit_code, .. } => *exit_code,
            Self::Container(container::Error::Spawn(sandbox::SpawnError::Program(words))) => {
                program_status(words)
            }
            _ => OWN_FAILURE,
        }
    }
}

/// The sandbox speaks runc's words, by which every engine tells the two cases apart.
fn program_status(words: &str) -> u8 {
    let missing = ["executable file not found", "no such file or directory"];
    if missing.iter().any(|text| words.contains(text)) { NOT_FOUND } else { NOT_EXECUTABLE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_127_and_one_that_cannot_run_126() {
        for (words, status) in [
            ("\"nope\": executable file not found in $PATH", NOT_FOUND),
            ("\"/nope\": stat /nope: no such file or directory", NOT_FOUND),
            ("\"/etc\": permission denied", NOT_EXECUTABLE),
            ("\"/x\": exec format error", NOT_EXECUTABLE),
        ] {
            assert_eq!(program_status(words), status, "{words}");
        }
    }
}
