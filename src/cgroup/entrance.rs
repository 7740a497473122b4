//! How a process enters the v1 side of a cgroup by itself.
//!
//! Whoever moves another process stops all clones and ends of the host, for which the kernel waits for a grace period of
//! RCU: 10 to 30 ms. A thread that moves itself, by a 0 in `tasks`, stops nobody since Linux 5.5
//! (kernel/cgroup/cgroup.c, `cgroup_procs_write_start`); for a process of one thread both are the same.
use super::group::is_removed;
use super::{Error, tree};
use rustix::io::Errno;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::path::Path;

/// The group's directory in one v1 hierarchy, for a process of one thread to enter.
#[derive(Debug)]
pub struct Entrance {
    controllers: String,
    file: Option<OwnedFd>,
}

impl Entrance {
    pub(super) fn open(controllers: &[String], directory: &Path) -> Result<Self, Error> {
        let file = match tree::open_to_write(directory, "tasks") {
            // Who delegates a group to a user may have left this file out.
            Err(Error::File { source, .. }) if source.kind() == ErrorKind::PermissionDenied => {
                tree::open_to_write(directory, "cgroup.procs")?
            }
            Err(Error::File { source, path, .. }) if is_removed(&source) => {
                return Err(Error::Removed { path });
            }
            opened => opened?,
        };
        Ok(Self { controllers: controllers.join(","), file: Some(file.into()) })
    }

    /// Moves the calling process, which has one thread; to be done once. Allocates nothing, as the child of a clone must not.
    ///
    /// # Errors
    /// The kernel's answer, such as `EINVAL` for a real-time process in a group without real-time bandwidth; see
    /// cgroups(7).
    pub fn enter(&mut self) -> Result<(), Errno> {
        match self.file.take() {
            Some(file) => rustix::io::write(&file, b"0").map(drop),
            None => Ok(()),
        }
    }

    /// The hierarchy's controllers, such as `cpu,cpuacct`.
    pub fn controllers(&self) -> &str {
        &self.controllers
    }
}
