//! User namespaces without a process in them, for idmapped mounts and callers without privileges, and the
//! maps of the container's own.
use super::caller::Caller;
use super::namespaces::IdMaps;
use super::newidmap;
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

/// A new user namespace with these maps; `purpose` says for what, as in `for an idmapped mount`.
pub(super) fn with_maps(maps: &IdMaps, purpose: &str) -> Result<OwnedFd, SpawnError> {
    let hint = match Caller::of_this_process() {
        Caller::User => "; may users of this host make one (sysctl user.max_user_namespaces)",
        _ => "",
    };
    let holder = Holder::new().map_err(failed(&format!("create a user namespace {purpose}{hint}")))?;
    write_maps(holder.pid, maps)?;
    let path = format!("/proc/{}/ns/user", holder.pid.as_raw_nonzero());
    let opened = fs::File::open(&path).map(OwnedFd::from);
    opened.map_err(failed(&format!("open the user namespace {purpose}")))
}

/// Gives a process's new user namespace its maps, which can be done once.
pub(super) fn write_maps(pid: Pid, maps: &IdMaps) -> Result<(), SpawnError> {
    if Caller::of_this_process() == Caller::User {
        return write_maps_as_user(pid, maps);
    }
    write(pid, "gid_map", &maps.gid, "linux.gidMappings")?;
    write(pid, "uid_map", &maps.uid, "linux.uidMappings")
}

/// user_namespaces(7): a user may map one id, its own, and its own group only where setgroups(2) is
/// denied; everything else is for newuidmap(1) and newgidmap(1) to decide.
fn write_maps_as_user(pid: Pid, maps: &IdMaps) -> Result<(), SpawnError> {
    if maps.has_own_group_alone() {
        write(pid, "setgroups", "deny", "linux.gidMappings")?;
        write(pid, "gid_map", &maps.gid, "linux.gidMappings")?;
    } else {
        newidmap::write("newgidmap", "linux.gidMappings", pid, &maps.gid)?;
    }
    if is_only(&maps.uid, rustix::process::geteuid().as_raw()) {
        write(pid, "uid_map", &maps.uid, "linux.uidMappings")
    } else {
        newidmap::write("newuidmap", "linux.uidMappings", pid, &maps.uid)
    }
}

fn write(pid: Pid, file: &str, text: &str, at: &str) -> Result<(), SpawnError> {
    let path = format!("/proc/{}/{file}", pid.as_raw_nonzero());
    fs::write(&path, text)
        .map_err(|source| SpawnError::Map { at: at.to_owned(), reason: format!("write {path}: {source}") })
}

/// Whether a map is the one extent that holds this id of the host alone.
fn is_only(map: &str, id: u32) -> bool {
    let numbers: Vec<_> = map.split_whitespace().skip(1).map(str::parse).collect();
    numbers == [Ok(id), Ok(1)]
}

impl IdMaps {
    /// Whether a user's group is all that is mapped, which costs the right to set groups.
    pub(super) fn has_own_group_alone(&self) -> bool {
        is_only(&self.gid, rustix::process::getegid().as_raw())
    }
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

fn failed(step: &str) -> impl Fn(io::Error) -> SpawnError + use<'_> {
    move |source| SpawnError::Step { step: step.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_extent_of_one_id_is_told_from_all_others() {
        assert!(is_only("0 1000 1\n", 1000));
        for map in ["0 1000 2\n", "0 1001 1\n", "0 1000 1\n1 100000 65536\n", ""] {
            assert!(!is_only(map, 1000), "{map:?}");
        }
    }
}
