//! The processes of a container. A cgroup knows its members; without one, as users without a delegated cgroup
//! have it, they are those of the first process's pid namespace and those that descend from them.
use super::{Container, Error};
use crate::cgroup::Cgroup;
use rustix::process::Pid;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Host pids.
pub(super) fn of(container: &Container) -> Result<Vec<Pid>, Error> {
    let cgroup: &Cgroup = container.own_cgroup();
    if !cgroup.record().is_empty() {
        return Ok(cgroup.pids()?);
    }
    let Some(first) = container.pid() else { return Ok(Vec::new()) };
    let first = first.as_raw_nonzero().get();
    let all = all().map_err(|source| Error::State { action: "list", path: "/proc".into(), source })?;
    Ok(members(first, namespace_of("self").as_deref(), &all).into_iter().filter_map(Pid::from_raw).collect())
}

/// What matters of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Process {
    parent: i32,
    /// `None` where it may not be seen, and so is none of this user's containers'.
    namespace: Option<PathBuf>,
}

/// `own` is the caller's pid namespace: all who are in it with the first process are not the container's.
fn members(first: i32, own: Option<&Path>, all: &BTreeMap<i32, Process>) -> BTreeSet<i32> {
    let inside = all.get(&first).and_then(|process| process.namespace.clone());
    let inside = inside.filter(|namespace| Some(namespace.as_path()) != own);
    let is_root = |pid: i32| {
        pid == first || inside.is_some() && all.get(&pid).is_some_and(|process| process.namespace == inside)
    };
    let descends = |mut pid: i32| {
        // A chain of parents is no longer than the list, whatever changed while it was read.
        for _ in 0..=all.len() {
            if is_root(pid) {
                return true;
            }
            match all.get(&pid) {
                Some(process) => pid = process.parent,
                None => return false,
            }
        }
        false
    };
    all.keys().copied().filter(|pid| descends(*pid)).collect()
}

fn all() -> std::io::Result<BTreeMap<i32, Process>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let Some(parent) = parent_of(pid) else { continue };
        found.insert(pid, Process { parent, namespace: namespace_of(&pid.to_string()) });
    }
    Ok(found)
}

fn namespace_of(process: &str) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{process}/ns/pid")).ok()
}

/// See `proc_pid_stat(5)`; `None` when it has ended, as a zombie too.
fn parent_of(pid: i32) -> Option<i32> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let end_of_name = stat.iter().rposition(|byte| *byte == b')')?;
    let mut fields = std::str::from_utf8(stat.get(end_of_name + 1..)?).ok()?.split_ascii_whitespace();
    let state = fields.next()?;
    fields.next()?.parse().ok().filter(|_| !matches!(state, "Z" | "X"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn processes(list: &[(i32, i32, &str)]) -> BTreeMap<i32, Process> {
        let process = |&(pid, parent, namespace): &(i32, i32, &str)| {
            (pid, Process { parent, namespace: (!namespace.is_empty()).then(|| namespace.into()) })
        };
        list.iter().map(process).collect()
    }

    #[test]
    fn all_of_the_pid_namespace_and_their_descendants_are_members() {
        let all = processes(&[
            (1, 0, "host"),
            (10, 1, "inner"),
            (11, 10, "inner"),
            (12, 11, "nested"),
            // Executed in the container from outside.
            (20, 1, "inner"),
            (30, 1, ""),
            (31, 1, "host"),
        ]);
        assert_eq!(members(10, Some(Path::new("host")), &all), BTreeSet::from([10, 11, 12, 20]));
    }

    #[test]
    fn in_the_hosts_pid_namespace_only_descendants_are() {
        let all = processes(&[(1, 0, "host"), (10, 1, "host"), (11, 10, "host"), (12, 1, "host")]);
        assert_eq!(members(10, Some(Path::new("host")), &all), BTreeSet::from([10, 11]));
        assert_eq!(members(99, Some(Path::new("host")), &all), BTreeSet::new());
    }
}
