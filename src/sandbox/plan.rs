//! The compiled form of a runtime spec.
//!
//! Compiling reads nothing but the spec, the caller's capabilities and the image's passwd file, and
//! changes nothing: every error of a config is found before any process exists.
use super::caller::Caller;
use super::deputy::Deputy;
use super::inputs::{ExecInputs, Inputs, Rootfs, Start, Stdio};
use super::mounts::{CgroupView, Mounts, OwnUserNamespace, Source};
use super::namespaces::{IdMaps, Join, Namespaces, TimeOffsets, time_offsets};
use super::net_devices::NetDevice;
use super::process::{before_namespaces, check_terminal, console_size, oom_score_adj};
use super::program::Program;
use super::seccomp::Agent;
use super::security_label::{self, Modules};
use super::step::Step;
use super::target::Target;
use super::{devices, home, mounts, net_devices, scheduling, seccomp, sysctl};
use crate::cgroup::Hierarchies;
use oci_spec::runtime::{Hook, Linux, LinuxNamespaceType, Process, Spec};
use rustix::thread::CpuSet;
use std::ffi::CString;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// A config that cannot become a Plan; every variant names the JSON path it is about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A value in the config is not acceptable.
    #[error("{path}: {reason}")]
    Config {
        /// JSON path in config.json, such as `linux.namespaces[2].path`.
        path: String,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// `linux.seccomp` cannot become a program.
    #[error(transparent)]
    Seccomp(#[from] seccomp::Error),
    /// `process.capabilities` cannot be honoured.
    #[error(transparent)]
    Capabilities(#[from] super::capabilities::Error),
    /// A descriptor of the caller could not be duplicated.
    #[error("duplicate a file descriptor: {0}")]
    Descriptor(#[source] std::io::Error),
}

impl Error {
    pub(super) fn config(path: &str, reason: impl Into<String>) -> Self {
        Self::Config { path: path.to_owned(), reason: reason.into() }
    }
}

/// Where the container's root comes from, as the parent prepares it.
#[derive(Debug)]
pub(super) enum Root {
    New {
        rootfs: Rootfs,
    },
    /// The root of the mount namespace that is joined.
    Joined {
        init: OwnedFd,
    },
}

/// Plain data: everything resolved that can be resolved before the process exists.
#[derive(Debug)]
pub struct Plan {
    pub(super) root: Root,
    /// Set for a caller that may not mount: somebody opens the host's trees for it.
    pub(super) deputy: Option<Deputy>,
    /// `CLONE_NEW*` for `clone3(2)`.
    pub(super) clone_flags: u64,
    pub(super) joins: Vec<Join>,
    pub(super) id_maps: Option<IdMaps>,
    pub(super) new_time_namespace: bool,
    pub(super) time_offsets: Option<TimeOffsets>,
    pub(super) sources: Vec<Source>,
    pub(super) steps: Vec<Step>,
    pub(super) program: Program,
    pub(super) stdio: Stdio,
    pub(super) console_socket: Option<OwnedFd>,
    pub(super) start: Start,
    /// Interfaces of the host that the container takes over.
    pub(super) net_devices: Vec<NetDevice>,
    /// Who gets the listener of a filter that notifies; unless it is started at once, whoever starts knows.
    pub(super) agent: Option<Agent>,
    /// Where the process runs until it is in its cgroup.
    pub(super) initial_cpus: Option<CpuSet>,
    /// Files that take the pid of the process before it goes on.
    pub(super) pid_files: Vec<PathBuf>,
    /// Things the user should know that do not stop the container, such as unknown capabilities.
    pub(super) warnings: Vec<String>,
}

impl Plan {
    /// Compiles the spec of a new container.
    ///
    /// # Errors
    /// Names the JSON path of the first value that cannot be honoured.
    pub fn compile(spec: &Spec, inputs: Inputs, hierarchies: &Hierarchies) -> Result<Self, Error> {
        let linux = spec.linux().as_ref();
        let process = spec.process().as_ref().ok_or_else(|| Error::config("process", "is missing"))?;
        let namespaces = Namespaces::compile(linux)?;
        let id_maps = IdMaps::compile(linux, &namespaces)?;
        let net_devices = net_devices::compile(linux, &namespaces)?;
        let time_offsets = time_offsets(linux, &namespaces)?;
        let own = OwnUserNamespace::of(linux, &namespaces);
        let own_cgroup_root = namespaces.isolates(LinuxNamespaceType::Cgroup);
        let mut mounts = Mounts::compile(
            spec.mounts().as_deref().unwrap_or_default(),
            own,
            &inputs.bundle,
            CgroupView { hierarchies, bound: inputs.cgroup.as_ref().filter(|_| !own_cgroup_root) },
        )?;
        let terminal = process.terminal().unwrap_or(false);
        check_terminal(terminal, inputs.console_socket.is_some())?;
        let propagation = rootfs_propagation(linux)?;

        let sysctl = match linux.and_then(|linux| linux.sysctl().as_ref()) {
            Some(settings) => sysctl::compile(settings, &namespaces)?,
            None => Vec::new(),
        };
        let caller = Caller::of_this_process();
        let proc = match caller.is_host_root() || namespaces.isolates(LinuxNamespaceType::Pid) {
            true => Step::PrivateProc,
            false => Step::CallersProc,
        };
        let mut steps = Vec::with_capacity(STEPS);
        steps.push(Step::EnterCgroup);
        steps.extend(before_namespaces(process, !sysctl.is_empty(), proc)?);
        let deputy = (!caller.may_mount()).then(|| Deputy::take_over(&mut steps));
        steps.extend(enter_namespaces(spec, &namespaces, !inputs.no_new_keyring)?);
        let joined_mounts = namespaces.place_of(LinuxNamespaceType::Mount);
        steps.extend(joined_mounts.map(|join| Step::JoinMounts { join }));
        steps.push(Step::IsolateMounts);

        let mut devices = match mounts.binds_dev {
            true => Vec::new(),
            false => {
                let listed = linux.and_then(|linux| linux.devices().as_deref()).unwrap_or_default();
                let bind = namespaces.isolates(LinuxNamespaceType::User) || !caller.may_make_devices();
                devices::compile(listed, bind, &mut mounts)?
            }
        };
        let covers = covers(linux, &mut mounts)?;
        security_label::label_mounts(linux, &mut mounts.create, Modules::of_this_kernel)?;
        let hooks_place = place_for_hooks(spec, &inputs.rootfs)?;
        steps.append(&mut mounts.create);
        let change_root = match inputs.no_pivot {
            true => Step::Chroot { moved: hooks_place.is_some() },
            false => Step::PivotRoot,
        };
        // With the host's tree gone first, nothing an image contains can lead a later step there; only
        // hooks ask for the other order.
        let (before, after) = match hooks_place {
            None => (vec![Step::PlaceRoot(c"/".to_owned()), change_root], vec![]),
            Some(place) => {
                let joinable = (deputy.is_some() && namespaces.joins.is_empty()).then_some(Step::BeJoinable);
                let after = joinable.into_iter().chain([Step::AwaitHooks, change_root]);
                (vec![Step::PlaceRoot(place)], after.collect())
            }
        };
        steps.extend(before);
        steps.append(&mut mounts.attach);
        steps.append(&mut devices);
        if terminal {
            steps.push(console(process, mounts.devpts)?);
        }
        steps.append(&mut mounts.finish);
        steps.extend(after);
        steps.extend(covers);
        mounts::mark_own(&mut steps);
        mounts::mount_in_place(&mut steps);
        steps.extend(sysctl);
        if spec.root().as_ref().and_then(oci_spec::runtime::Root::readonly).unwrap_or(false) {
            steps.push(Step::ReadonlyRoot);
        }
        if let Some((flag, recursive)) = propagation {
            steps.push(Step::RootPropagation { flag, recursive });
        }
        // Only for processes that join; runtime-spec config.md#linux-process.
        scheduling::affinity(process.exec_cpu_affinity().as_ref())?;
        let home = || home::of(&inputs.rootfs, process.user().uid());
        let program = Program::compile(process, home)?;
        let user_namespace = namespaces.isolates(LinuxNamespaceType::User);
        let mut plan = Self {
            root: Root::New { rootfs: inputs.rootfs },
            deputy,
            clone_flags: namespaces.new & !DEFERRED,
            new_time_namespace: namespaces.makes(LinuxNamespaceType::Time),
            joins: namespaces.joins,
            id_maps,
            time_offsets,
            sources: mounts.sources,
            steps,
            program,
            stdio: inputs.stdio,
            console_socket: inputs.console_socket,
            start: inputs.start,
            net_devices,
            agent: None,
            initial_cpus: None,
            pid_files: Vec::new(),
            warnings: mounts.warnings,
        };
        plan.become_process(spec, process, inputs.preserve_fds, user_namespace)?;
        Ok(plan)
    }

    /// Compiles the Plan of one more process in a running container: it joins all namespaces of
    /// `init`, and takes capabilities, seccomp, no_new_privs… from `process` and `spec`.
    ///
    /// # Errors
    /// As [`Plan::compile`].
    pub fn compile_exec(
        spec: &Spec,
        process: &Process,
        init: BorrowedFd<'_>,
        inputs: ExecInputs,
    ) -> Result<Self, Error> {
        let linux = spec.linux().as_ref();
        let namespaces = Namespaces::compile(linux)?;
        let terminal = process.terminal().unwrap_or(false);
        check_terminal(terminal, inputs.console_socket.is_some())?;
        let mut steps = Vec::with_capacity(STEPS);
        steps.push(Step::EnterCgroup);
        steps.extend(join_all(namespaces.all_flags() as u32, process, Caller::of_this_process())?);
        steps.push(Step::BeBorn { keep_below: inputs.preserve_fds.saturating_add(3) });
        steps.extend([Step::NewSession, Step::OpenRoot]);
        let user_namespace = namespaces.isolates(LinuxNamespaceType::User);
        if user_namespace {
            steps.push(Step::BecomeNamespaceRoot);
        }
        let affinity = scheduling::affinity(process.exec_cpu_affinity().as_ref())?;
        steps.extend(affinity.last.map(Step::Affinity));
        if terminal {
            steps.push(Step::ExecConsole { size: console_size(process) });
        }
        let program = match &inputs.path {
            Some(path) => Program::at(path, process)?,
            None => Program::compile(process, || home::of_process(init, process.user().uid()))?,
        };
        let init = init.try_clone_to_owned().map_err(Error::Descriptor)?;
        let mut plan = Self {
            root: Root::Joined { init },
            deputy: None,
            clone_flags: 0,
            joins: Vec::new(),
            id_maps: None,
            new_time_namespace: false,
            time_offsets: None,
            sources: Vec::new(),
            steps,
            program,
            stdio: inputs.stdio,
            console_socket: inputs.console_socket,
            start: Start::AtOnce,
            net_devices: Vec::new(),
            agent: inputs.agent,
            initial_cpus: affinity.initial,
            pid_files: Vec::new(),
            warnings: Vec::new(),
        };
        plan.become_process(spec, process, inputs.preserve_fds, user_namespace)?;
        Ok(plan)
    }

    /// Files that take the pid of the process before it goes on, such as a resctrl group's `tasks`.
    pub fn write_pid_to(&mut self, files: Vec<PathBuf>) {
        self.pid_files = files;
    }

    /// Whether the parent has something to do for the child before its first step.
    pub(super) fn must_wait(&self) -> bool {
        self.id_maps.is_some() || !self.net_devices.is_empty() || !self.pid_files.is_empty()
    }

    /// Things the user should know that do not stop the container, one line each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

/// How many steps there is room for at once; most Plans have fewer.
const STEPS: usize = 128;

/// Joins the namespaces of a running container. Only root of the host may mount a procfs of the pid namespace
/// it is in; and a caller without privileges comes to the other namespaces through the user namespace.
fn join_all(flags: u32, process: &Process, caller: Caller) -> Result<Vec<Step>, Error> {
    const PID: u32 = libc::CLONE_NEWPID as u32;
    const USER: u32 = libc::CLONE_NEWUSER as u32;
    // The pid namespace is the one for the children to come.
    if caller.is_host_root() {
        let mut steps = vec![Step::JoinProcess(PID)];
        steps.extend(before_namespaces(process, false, Step::PrivateProc)?);
        steps.push(Step::JoinProcess(flags & !PID));
        return Ok(steps);
    }
    let oom_score_adj = oom_score_adj(process)?.map(Step::OwnOomScoreAdj);
    let label = security_label::is_wanted(process).then_some(Step::CallersProc);
    let user = (flags & USER != 0).then_some(Step::JoinProcess(USER));
    let steps = oom_score_adj.into_iter().chain(label).chain(user);
    Ok(steps.chain([Step::JoinProcess(PID), Step::JoinProcess(flags & !PID & !USER)]).collect())
}

/// Made by the child itself: a cgroup namespace takes its root from the cgroup that the process is in
/// when it is made, and the clone copies the parent's; a time namespace is entered through
/// `time_for_children`, once its offsets are set.
const DEFERRED: u64 = (libc::CLONE_NEWCGROUP | libc::CLONE_NEWTIME) as u64;

fn enter_namespaces(spec: &Spec, namespaces: &Namespaces, new_keyring: bool) -> Result<Vec<Step>, Error> {
    let mut steps = Vec::new();
    steps.push(Step::NewSession);
    if new_keyring {
        steps.push(Step::NewKeyring);
    }
    if namespaces.makes(LinuxNamespaceType::Cgroup) {
        steps.push(Step::NewCgroupNamespace);
    }
    if namespaces.isolates(LinuxNamespaceType::User) {
        steps.push(Step::BecomeNamespaceRoot);
    }
    if namespaces.makes(LinuxNamespaceType::Network) {
        steps.push(Step::LoopbackUp);
    }
    for (field, name) in [("hostname", spec.hostname()), ("domainname", spec.domainname())] {
        let Some(name) = name.as_ref().filter(|name| !name.is_empty()) else { continue };
        if !namespaces.isolates(LinuxNamespaceType::Uts) {
            return Err(Error::config(field, "needs a uts namespace; the host's own name is never changed"));
        }
        let name = CString::new(name.as_str()).map_err(|_| Error::config(field, "holds a NUL byte"))?;
        if name.count_bytes() > 64 {
            return Err(Error::config(field, "is longer than the kernel's 64 bytes"));
        }
        steps.push(if field == "hostname" { Step::Hostname(name) } else { Step::Domainname(name) });
    }
    Ok(steps)
}

/// Where the root is attached while hooks look at it; `None` when there are none that do. Config's
/// promise to them: all mounts stand and the root is still the host's (config.md#posix-platform-hooks).
fn place_for_hooks(spec: &Spec, rootfs: &Rootfs) -> Result<Option<CString>, Error> {
    let listed = |list: &Option<Vec<Hook>>| list.as_ref().is_some_and(|list| !list.is_empty());
    let wanted = spec.hooks().as_ref().is_some_and(|hooks| {
        listed(hooks.prestart()) || listed(hooks.create_runtime()) || listed(hooks.create_container())
    });
    match rootfs {
        _ if !wanted => Ok(None),
        Rootfs::Directory(path) => CString::new(path.as_os_str().as_bytes())
            .map(Some)
            .map_err(|_| Error::config("root.path", "holds a NUL byte")),
        Rootfs::Tree(_) => {
            Err(Error::config("hooks", "needs a root.path on the host for hooks that run before the start"))
        }
    }
}

/// Masked and read-only paths.
fn covers(linux: Option<&Linux>, mounts: &mut Mounts) -> Result<Vec<Step>, Error> {
    let mut steps = Vec::new();
    let readonly = linux.and_then(|linux| linux.readonly_paths().as_deref()).unwrap_or_default();
    for (index, path) in readonly.iter().enumerate() {
        steps.push(Step::ReadonlyPath(inside(&format!("linux.readonlyPaths[{index}]"), path)?));
    }
    let masked = linux.and_then(|linux| linux.masked_paths().as_deref()).unwrap_or_default();
    let null = (!masked.is_empty()).then(|| mounts.null());
    for (index, path) in masked.iter().enumerate() {
        let target = inside(&format!("linux.maskedPaths[{index}]"), path)?;
        steps.extend(null.map(|null| Step::Mask { target, null }));
    }
    Ok(steps)
}

fn inside(at: &str, path: &str) -> Result<Target, Error> {
    if !path.starts_with('/') {
        return Err(Error::config(at, format!("{path:?} is not an absolute path")));
    }
    Target::parse(Path::new(path)).ok_or_else(|| Error::config(at, "holds a NUL byte"))
}

fn rootfs_propagation(linux: Option<&Linux>) -> Result<Option<(u64, bool)>, Error> {
    let Some(word) =
        linux.and_then(|linux| linux.rootfs_propagation().as_deref()).filter(|word| !word.is_empty())
    else {
        return Ok(None);
    };
    mounts::rootfs_propagation(word).map(Some).ok_or_else(|| {
        let reason = format!("{word:?} is none of [r]shared, [r]slave, [r]private, [r]unbindable");
        Error::config("linux.rootfsPropagation", reason)
    })
}

fn console(process: &Process, devpts: Option<usize>) -> Result<Step, Error> {
    let devpts = devpts
        .ok_or_else(|| Error::config("process.terminal", "needs a devpts mount at /dev/pts in mounts"))?;
    Ok(Step::Console { devpts, size: console_size(process) })
}
