//! One cgroup in all the hierarchies of the host.
use super::hierarchies::{V1, V2};
use super::limits::write_limits;
use super::path::{PARENT, Scope};
use super::systemd::{self, ScopeName};
use super::tree::{self, Made};
use super::{CgroupPath, Entrance, Error, Hierarchies, Resources};
use crate::sys::bpf;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::Pid;
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// Controllers that every cgroup gets where the host has them, so that its use can be told.
const ALWAYS: &[&str] = &["cpu", "io", "memory", "pids"];

/// How often to begin again when another container's end removed the shared parent.
const CREATE_ATTEMPTS: u32 = 8;

/// What must be remembered to find a cgroup again: its directory in each hierarchy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Directory in the cgroup2 hierarchy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) v2: Option<PathBuf>,
    /// Controllers and directory in each v1 hierarchy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) v1: Vec<(Vec<String>, PathBuf)>,
    /// The unit of systemd that the cgroup is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) scope: Option<ScopeName>,
}

impl Record {
    /// Where [`Cgroup::create`] is going to make a cgroup, for a record that must be on disk before it.
    pub fn planned(hierarchies: &Hierarchies, path: &CgroupPath) -> Self {
        let below = |mount: &Path| {
            let mut leaf = mount.to_owned();
            leaf.extend(path.names());
            leaf
        };
        let v1 = hierarchies.v1.iter().map(|v1| (v1.controllers.clone(), below(&v1.mount))).collect();
        let scope = path.scope().map(|scope| scope.name.clone());
        Self { v2: hierarchies.v2.as_ref().map(|v2| below(&v2.mount)), v1, scope }
    }

    /// Whether there is no cgroup: that of a container whose maker had no right to make one.
    pub fn is_empty(&self) -> bool {
        self.v2.is_none() && self.v1.is_empty()
    }

    /// Whether systemd makes it, when the container's first process is there already.
    pub fn is_scope(&self) -> bool {
        self.scope.is_some()
    }

    /// Every directory, the one that people look for first: cgroup2's, or that of the memory controller.
    pub fn directories(&self) -> Vec<&Path> {
        let v1 = self.v1.iter().map(|(_, directory)| directory.as_path());
        self.v2.as_deref().into_iter().chain(v1).collect()
    }
}

/// One cgroup.
#[derive(Debug)]
pub struct Cgroup {
    record: Record,
    clone_into: Option<OwnedFd>,
    /// A scope of systemd that is to be made with the first process in it.
    awaited: Option<Awaited>,
    filter: Filter,
}

/// How far the device filter of a cgroup is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Filter {
    /// Attached, or somebody else's matter.
    Attached,
    /// For [`Cgroup::finish`] to attach.
    Missing {
        delegated: bool,
        /// The group has been made, so nobody's filter is on it.
        is_new: bool,
    },
}

/// What a scope is made from.
#[derive(Debug)]
struct Awaited {
    hierarchies: Hierarchies,
    path: CgroupPath,
    scope: Scope,
    resources: Resources,
    /// Whether the scope was made; before that, one of the same name is somebody else's.
    is_made: AtomicBool,
}

impl Cgroup {
    /// Makes the directories and writes the limits; removes what it made when it fails. [`Cgroup::finish`] must
    /// follow before any program of the container's runs. A scope of systemd comes to be with [`Cgroup::add`], for
    /// systemd makes none without a process.
    ///
    /// # Errors
    /// Names the file and the controller.
    pub fn create(
        hierarchies: &Hierarchies,
        path: &CgroupPath,
        resources: &Resources,
    ) -> Result<Self, Error> {
        if let Some(scope) = path.scope().cloned() {
            let record = Record::planned(hierarchies, path);
            refuse_processes(record.directories().first().copied(), path)?;
            let (hierarchies, path, resources) = (hierarchies.clone(), path.clone(), resources.clone());
            let awaited =
                Some(Awaited { hierarchies, path, scope, resources, is_made: AtomicBool::new(false) });
            return Ok(Self { record, clone_into: None, awaited, filter: Filter::Attached });
        }
        for _ in 1..CREATE_ATTEMPTS {
            match Self::create_once(hierarchies, path, resources) {
                Err(Error::File { source, .. }) if is_removed(&source) => {}
                done => return done,
            }
        }
        Self::create_once(hierarchies, path, resources)
    }

    fn create_once(
        hierarchies: &Hierarchies,
        path: &CgroupPath,
        resources: &Resources,
    ) -> Result<Self, Error> {
        let mut made = Vec::with_capacity(hierarchies.v1.len() + 1);
        let done = make_all(hierarchies, path, resources, &mut made);
        done.inspect_err(|_| made.iter().for_each(Made::undo))
    }

    /// Attaches the device program of cgroup2. The kernel takes a while to verify it, and what runs in the group
    /// meanwhile is wharf's own; so this is done beside that.
    ///
    /// # Errors
    /// Names the directory.
    pub fn finish(&self, resources: &Resources) -> Result<(), Error> {
        let Filter::Missing { delegated, is_new } = self.filter else { return Ok(()) };
        match self.attach_filter(resources, is_new) {
            // Whoever may not filter devices cannot make any either: the kernel refuses mknod(2) to a user
            // namespace, and what is bound is what its user may open anyway.
            Err(Error::File { source, .. }) if delegated && is_refused(&source) => Ok(()),
            done => done,
        }
    }

    /// Finds a cgroup again; it may be gone by now.
    pub fn from_record(record: &Record) -> Self {
        let clone_into = record.v2.as_deref().and_then(|directory| open(directory).ok());
        Self { record: record.clone(), clone_into, awaited: None, filter: Filter::Attached }
    }

    /// What [`Cgroup::from_record`] needs.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The v2 directory for `clone3(CLONE_INTO_CGROUP)`; `None` on a host without cgroup2.
    pub fn clone_into_fd(&self) -> Option<BorrowedFd<'_>> {
        self.clone_into.as_ref().map(AsFd::as_fd)
    }

    /// Whether [`Cgroup::add`] must be called for a process cloned into [`Cgroup::clone_into_fd`], which then waits:
    /// true for a scope of systemd that is still to be made.
    pub fn needs_add(&self) -> bool {
        self.awaited.is_some()
    }

    /// What a process that was cloned into [`Cgroup::clone_into_fd`] enters by itself, one for each v1 hierarchy; none
    /// where [`Cgroup::add`] is needed.
    ///
    /// # Errors
    /// Names the file.
    pub fn entrances(&self) -> Result<Vec<Entrance>, Error> {
        if self.needs_add() {
            return Ok(Vec::new());
        }
        // A frozen group stops whoever enters it, who is then to be in all others.
        let mut ordered: Vec<_> = self.record.v1.iter().collect();
        ordered.sort_by_key(|(controllers, _)| controllers.iter().any(|name| name == "freezer"));
        ordered.into_iter().map(|(controllers, directory)| Entrance::open(controllers, directory)).collect()
    }

    /// Moves a process into every hierarchy's directory that the clone did not place it in. The first one
    /// brings a scope of systemd about, with its limits.
    ///
    /// # Errors
    /// Names the hierarchy, or what systemd says.
    pub fn add(&self, pid: Pid) -> Result<(), Error> {
        if let Some(awaited) = &self.awaited {
            awaited.make(pid)?;
        }
        for (_, directory) in &self.record.v1 {
            tree::write(directory, "cgroup.procs", &pid.as_raw_nonzero().to_string())?;
        }
        Ok(())
    }

    /// Moves a process that was cloned elsewhere into the group in every hierarchy. As with [`Cgroup::add`],
    /// the first one brings a scope of systemd about.
    ///
    /// # Errors
    /// Names the hierarchy, or what systemd says.
    pub fn enter(&self, pid: Pid) -> Result<(), Error> {
        self.add(pid)?;
        match &self.record.v2 {
            Some(directory) => tree::write(directory, "cgroup.procs", &pid.as_raw_nonzero().to_string()),
            None => Ok(()),
        }
    }

    /// Every process in the group and below, host pids.
    ///
    /// # Errors
    /// Names the file.
    pub fn pids(&self) -> Result<Vec<Pid>, Error> {
        let mut pids = Vec::new();
        if let Some(directory) = self.record.directories().first() {
            collect_pids(directory, &mut pids)?;
        }
        Ok(pids)
    }

    /// Removes the directories when no process is in them and no group below; true when it did. systemd's
    /// scopes are left to [`Cgroup::delete`].
    pub fn delete_if_empty(&self) -> bool {
        if !self.is_ours() || self.record.scope.is_some() {
            return false;
        }
        let gone = |directory: &Path| match std::fs::remove_dir(directory) {
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
            Ok(()) => true,
        };
        let directories = self.record.directories();
        let all = directories.iter().all(|directory| gone(directory));
        if all {
            directories.into_iter().for_each(remove_shared_parent);
        }
        all
    }

    /// Removes the directories, waiting a bounded time for dying tasks; a missing one is no error. Goes
    /// through all hierarchies and returns the first failure.
    ///
    /// # Errors
    /// Names the directory that stays.
    pub fn delete(&self) -> Result<(), Error> {
        if !self.is_ours() {
            return Ok(());
        }
        let mut first = match &self.record.scope {
            Some(scope) => systemd::stop(scope).map_err(Error::from),
            None => Ok(()),
        };
        for directory in self.record.directories() {
            let removed = tree::remove(directory);
            remove_shared_parent(directory);
            first = first.and(removed);
        }
        first
    }

    /// Replaces the device filter, whichever there is.
    pub(super) fn filter_devices(&self, resources: &Resources) -> Result<(), Error> {
        self.attach_filter(resources, false)
    }

    fn attach_filter(&self, resources: &Resources, is_first: bool) -> Result<(), Error> {
        let rules = &resources.devices;
        if rules.is_empty() {
            return Ok(());
        }
        if let Some(directory) = self.v1_with("devices") {
            return rules.v1_list()?.write(directory);
        }
        let Some(target) = self.clone_into_fd() else { return Ok(()) };
        let attached = bpf::load_device_program(&rules.program()).and_then(|program| match is_first {
            true => bpf::attach_device_program(target, program.as_fd(), None),
            false => bpf::set_device_program(target, program.as_fd()),
        });
        attached.map_err(|errno| Error::File {
            action: "attach the device filter (linux.resources.devices) to",
            path: self.record.v2.as_deref().unwrap_or(Path::new("")).display().to_string(),
            source: errno.into(),
        })
    }

    /// Whether what stands at the cgroup's place is this one, or whatever is left of it.
    pub(super) fn is_ours(&self) -> bool {
        self.awaited.as_ref().is_none_or(|awaited| awaited.is_made.load(Ordering::Relaxed))
    }

    pub(super) fn scope(&self) -> Option<&ScopeName> {
        self.record.scope.as_ref()
    }

    pub(super) fn v2_directory(&self) -> Result<&Path, Error> {
        self.record.v2.as_deref().ok_or(Error::NotMounted)
    }

    /// The v2 directory when it has this file, which is when its controller is enabled there.
    pub(super) fn v2_with(&self, file: &str) -> Option<&Path> {
        self.record.v2.as_deref().filter(|directory| directory.join(file).exists())
    }

    pub(super) fn v1_with(&self, controller: &str) -> Option<&Path> {
        let has =
            |(controllers, _): &&(Vec<String>, PathBuf)| controllers.iter().any(|name| name == controller);
        self.record.v1.iter().find(has).map(|(_, directory)| directory.as_path())
    }
}

impl Awaited {
    fn make(&self, pid: Pid) -> Result<(), Error> {
        systemd::start(&self.scope.name, pid, &self.resources, &self.scope.properties)?;
        self.is_made.store(true, Ordering::Relaxed);
        // systemd made the directories; on v1 only those of the controllers that it uses.
        let mut made = Vec::new();
        let done = make_all(&self.hierarchies, &self.path, &self.resources, &mut made);
        // The scope itself goes when the cgroup is deleted.
        done.and_then(|cgroup| cgroup.finish(&self.resources))
            .inspect_err(|_| made.iter().for_each(Made::undo))
    }
}

fn make_all(
    hierarchies: &Hierarchies,
    path: &CgroupPath,
    resources: &Resources,
    made: &mut Vec<Made>,
) -> Result<Cgroup, Error> {
    let mut record = Record::default();
    if let Some(v2) = &hierarchies.v2 {
        made.push(make_v2(v2, path, resources, hierarchies.delegated)?);
        must_be_empty(made.last(), path)?;
        record.v2 = made.last().map(|made| made.leaf.clone());
    }
    for v1 in &hierarchies.v1 {
        made.push(make_v1(v1, path)?);
        must_be_empty(made.last(), path)?;
        let leaf = made.last().map(|made| made.leaf.clone());
        record.v1.extend(leaf.map(|leaf| (v1.controllers.clone(), leaf)));
    }
    write_limits(&record, resources)?;
    let clone_into = record.v2.as_deref().map(open).transpose()?;
    // The first one made is that of cgroup2.
    let is_new = made.first().is_some_and(Made::is_new);
    let filter = Filter::Missing { delegated: hierarchies.delegated, is_new };
    let cgroup = Cgroup { record, clone_into, awaited: None, filter };
    // A new one directly below the root cannot be.
    if !(is_new && path.names().count() == 1) && cgroup.is_frozen()? {
        return Err(Error::Frozen { path: cgroup.freezer_directory().display().to_string() });
    }
    if cgroup.v1_with("devices").is_none() {
        return Ok(cgroup);
    }
    // A v1 list is changed entry by entry, and in between the group may open nothing.
    cgroup.finish(resources)?;
    Ok(Cgroup { filter: Filter::Attached, ..cgroup })
}

/// Those of a scope are the container's own by now.
fn must_be_empty(made: Option<&Made>, path: &CgroupPath) -> Result<(), Error> {
    let there = made.filter(|made| !made.is_new() && path.scope().is_none());
    refuse_processes(there.map(|made| made.leaf.as_path()), path)
}

/// Processes of others would come under our limits, and end with our container.
fn refuse_processes(directory: Option<&Path>, path: &CgroupPath) -> Result<(), Error> {
    let mut pids = Vec::new();
    if let Some(directory) = directory {
        collect_pids(directory, &mut pids)?;
    }
    if pids.is_empty() {
        return Ok(());
    }
    let reason = format!("cgroup {} is not empty: {} process(es) are in it", path.as_str(), pids.len());
    Err(Error::config("linux.cgroupsPath", reason))
}

/// A controller works in a cgroup when every ancestor lists it in cgroup.subtree_control.
fn make_v2(v2: &V2, path: &CgroupPath, resources: &Resources, delegated: bool) -> Result<Made, Error> {
    let offered = |name: &&str| v2.controllers.iter().any(|controller| controller == *name);
    let mut wanted: Vec<&str> = ALWAYS.iter().copied().filter(offered).collect();
    for controller in resources.v2_controllers().filter(|name| offered(name)) {
        if !wanted.contains(&controller) {
            wanted.push(controller);
        }
    }
    let needed: Vec<&str> = resources.v2_controllers().filter(|name| *name != "cgroup").collect();
    tree::make(&v2.mount, path, |parent, _| match enable(parent, &wanted) {
        // Above what was delegated nothing can be enabled, and for statistics alone nothing need be.
        Err(_) if delegated => enable(parent, &needed).map_err(|error| not_delegated(&error, resources)),
        done => done,
    })
}

pub(super) fn enable(parent: &Path, wanted: &[&str]) -> Result<(), Error> {
    if wanted.is_empty() {
        return Ok(());
    }
    let enabled = tree::read(parent, "cgroup.subtree_control")?;
    let missing: Vec<String> = wanted
        .iter()
        .filter(|name| !enabled.split_whitespace().any(|enabled| enabled == **name))
        .map(|name| format!("+{name}"))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let controllers = missing.join(" ");
    match tree::write(parent, "cgroup.subtree_control", &controllers) {
        Err(Error::File { source, .. }) if source.raw_os_error() == Some(Errno::BUSY.raw_os_error()) => {
            Err(Error::InternalProcesses { controllers, path: parent.display().to_string() })
        }
        done => done,
    }
}

fn make_v1(v1: &V1, path: &CgroupPath) -> Result<Made, Error> {
    let cpuset = v1.controllers.iter().any(|name| name == "cpuset");
    tree::make(&v1.mount, path, |parent, own| if cpuset { inherit_cpuset(parent, own) } else { Ok(()) })
}

/// A new v1 cpuset is empty and takes no task until it has CPUs and memory nodes.
fn inherit_cpuset(parent: &Path, own: &Path) -> Result<(), Error> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if tree::read(own, file)?.trim().is_empty() {
            tree::write(own, file, tree::read(parent, file)?.trim())?;
        }
    }
    Ok(())
}

pub(super) fn open(directory: &Path) -> Result<OwnedFd, Error> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, directory, flags, Mode::empty())
        .map_err(|errno| Error::file("open", directory)(errno.into()))
}

fn collect_pids(directory: &Path, pids: &mut Vec<Pid>) -> Result<(), Error> {
    let path = directory.join("cgroup.procs");
    let text = match std::fs::read_to_string(&path).map_err(Error::file("read", &path)) {
        Err(Error::File { source, .. }) if is_removed(&source) => return Ok(()),
        text => text?,
    };
    pids.extend(text.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)));
    for child in tree::children(directory).map_err(Error::file("list", directory))? {
        collect_pids(&child, pids)?;
    }
    Ok(())
}

/// The parent of containers with a relative path goes with the last one of them.
fn remove_shared_parent(directory: &Path) {
    if let Some(parent) = directory.parent().filter(|parent| parent.ends_with(PARENT)) {
        // It is not empty while another container lives.
        let _ = std::fs::remove_dir(parent);
    }
}

/// A limit needs its controller in every group above.
fn not_delegated(error: &Error, resources: &Resources) -> Error {
    let at = resources.v2.first().map_or("linux.resources", |write| write.at.as_str());
    Error::config(at, format!("its controller was not delegated to this user: {error}"))
}

/// How the kernel says that something is not for this caller.
fn is_refused(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES | libc::EROFS))
}

/// How the kernel says that a cgroup has been removed: before its file was opened, and after.
pub(super) fn is_removed(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV))
}
