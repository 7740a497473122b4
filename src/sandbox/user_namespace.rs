//! User namespaces without a process in them, for idmapped mounts and the maps of the container's own.
use super::namespaces::IdMaps;
use super::spawn::SpawnError;
use crate::sys::clone::{Cloned, clone_child, exit_now};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use std::collections::BTreeSet;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::{fs, io};

/// A process that only holds its user namespace open; it ends with the value, and with its parent.
struct Holder {
    pid: Pid,
    pidfd: OwnedFd,
    /// The holder waits for this to be closed.
    _alive: OwnedFd,
}

impl Holder {
    fn new() -> io::Result<Self> {
        let (waits, alive) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        match clone_child(libc::CLONE_NEWUSER as u64, None)? {
            Cloned::Parent { pid, pidfd } => Ok(Self { pid, pidfd, _alive: alive }),
            Cloned::Child => {
                drop(alive);
                let _ = rustix::io::read(&waits, &mut [0; 1]);
                exit_now(0)
            }
        }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // Both can only fail when it is gone already.
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
        let _ = rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED);
    }
}

/// A new user namespace with these maps.
pub(super) fn with_maps(maps: &IdMaps) -> Result<OwnedFd, SpawnError> {
    let holder = Holder::new().map_err(failed("create a user namespace for an idmapped mount"))?;
    write_maps(holder.pid, maps)?;
    let path = format!("/proc/{}/ns/user", holder.pid.as_raw_nonzero());
    fs::File::open(&path).map(OwnedFd::from).map_err(failed("open the user namespace of an idmapped mount"))
}

/// Gives a process's new user namespace its maps, which can be done once.
pub(super) fn write_maps(pid: Pid, maps: &IdMaps) -> Result<(), SpawnError> {
    for (file, text, field) in [("gid_map", &maps.gid, "gidMappings"), ("uid_map", &maps.uid, "uidMappings")]
    {
        let path = format!("/proc/{}/{file}", pid.as_raw_nonzero());
        fs::write(&path, text).map_err(|source| {
            let step = format!("write {field} to {path}");
            SpawnError::Step { step, source }
        })?;
    }
    Ok(())
}

/// Refuses a process whose user namespace maps ids otherwise than the config says.
pub(super) fn check_maps(pid: Pid, maps: &IdMaps, namespace: &Path) -> Result<(), SpawnError> {
    for (file, text, field) in [("uid_map", &maps.uid, "uidMappings"), ("gid_map", &maps.gid, "gidMappings")]
    {
        let path = format!("/proc/{}/{file}", pid.as_raw_nonzero());
        let actual = fs::read_to_string(&path).map_err(|source| {
            let step = format!("read {path}");
            SpawnError::Step { step, source }
        })?;
        if extents(&actual) != extents(text) {
            return Err(SpawnError::IdMap {
                at: format!("linux.{field}"),
                path: namespace.display().to_string(),
                reason: "the namespace that is joined maps ids otherwise; leave the mappings out".to_owned(),
            });
        }
    }
    Ok(())
}

/// The lines of a map in one order: the kernel sorts long ones.
fn extents(map: &str) -> BTreeSet<Vec<&str>> {
    map.lines().map(|line| line.split_whitespace().collect()).collect()
}

fn failed(step: &str) -> impl Fn(io::Error) -> SpawnError + '_ {
    move |source| SpawnError::Step { step: step.to_owned(), source }
}
