//! The parent's side of a Plan's execution.
use super::clone::{clone_into, successor};
use super::deputy::make_user_namespace;
use super::execute::execute;
use super::mounts::{open_root, open_sources, root_error};
use super::namespaces::Join;
use super::net_devices;
use super::plan::{Plan, Root};
use super::report::{Failure, Message, PATIENCE, limit_waits};
use super::seccomp::Listening;
use super::step::Step;
use super::target::Target;
use super::user_namespace::{check_maps, write_maps};
use crate::cgroup::{self, Cgroup, Entrance};
use crate::sys::clone::Cloned;
use crate::sys::network_ahead::{Network, NetworkAhead};
use oci_spec::runtime::LinuxNamespaceType;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use std::io::Write as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

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
        /// What was attempted, on what.
        step: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// The program cannot be executed; runc's words, which engines tell 126 and 127 from.
    #[error("exec: {0}")]
    Program(String),
    /// Something of the host that the config names cannot be opened.
    #[error("{at}: open {path}: {source}")]
    Host {
        /// JSON path.
        at: String,
        /// The file or directory.
        path: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// The ids of a bind mount cannot be mapped.
    #[error("{at}: idmap {path}: {reason}")]
    IdMap {
        /// JSON path.
        at: String,
        /// The file or directory.
        path: String,
        /// What stands in the way.
        reason: String,
    },
    /// The maps of a user namespace cannot be written.
    #[error("{at}: {reason}")]
    Map {
        /// JSON path.
        at: String,
        /// What stands in the way.
        reason: String,
    },
    /// Processes live in the mount namespace that is to be the container's.
    #[error(
        "{at}: process {pid} lives in the mount namespace {}, and would find itself in the container's root; give \
         one that is only pinned (unshare --mount=FILE), or leave out the path to get a new one",
        path.display()
    )]
    Inhabited {
        /// JSON path.
        at: String,
        /// The namespace.
        path: PathBuf,
        /// Host pid.
        pid: i32,
    },
    /// The child said nothing for two minutes, and was killed.
    #[error(
        "the container's process has hung for two minutes while it was being set up; look for a mount that does not answer"
    )]
    Silent,
    /// The process could not be placed in its cgroup.
    #[error(transparent)]
    Cgroup(#[from] cgroup::Error),
    /// The seccomp agent did not get the listener.
    #[error("hand the seccomp listener to the agent at {} (linux.seccomp.listenerPath): {source}", path.display())]
    Agent {
        /// The agent's socket.
        path: PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// The child ended without a word, so something killed it.
    #[error(
        "the container's process was killed while it was being set up: by its memory limit, if that is very low, or by \
         whoever deleted the container meanwhile"
    )]
    Killed,
}

impl SpawnError {
    /// The same about maps that stand elsewhere in the config.
    pub(super) fn at(self, path: &str) -> Self {
        match self {
            Self::Map { reason, .. } => Self::Map { at: path.to_owned(), reason },
            other => other,
        }
    }
}

/// What the parent, or its deputy, opens for the child, and the child's own descriptors later.
#[derive(Debug)]
pub(super) struct Prepared {
    /// Made for a deputy to join.
    pub(super) user_namespace: Option<OwnedFd>,
    /// Of v1 hierarchies, for the child to enter.
    pub(super) entrances: Vec<Entrance>,
    pub(super) root: Option<OwnedFd>,
    pub(super) init: Option<OwnedFd>,
    /// Made ahead.
    pub(super) network: Option<Network>,
    pub(super) joins: Vec<OwnedFd>,
    pub(super) mounts: Vec<Option<OwnedFd>>,
    pub(super) terminal: Option<OwnedFd>,
    pub(super) console_target: Target,
    pub(super) devpts_target: Target,
    /// Where the go-between of a joining Plan sends the pidfd of its successor.
    pub(super) birth: Option<OwnedFd>,
}

/// Clones the process and has it execute the Plan to where only its program, or [`super::start`], is
/// missing. The child has been reaped when an error is returned. The caller reaps it otherwise.
///
/// # Errors
/// Names the step that failed.
pub fn spawn(plan: &Plan, cgroup: Option<&Cgroup>) -> Result<Init, SpawnError> {
    let (init, mut rest) = begin(plan, cgroup, None, |_| Ok::<_, SpawnError>(()))?;
    match rest.settle(plan, &init).and_then(|()| rest.finish(plan)) {
        Ok(_) => Ok(init),
        Err(error) => {
            reap(&init);
            Err(error)
        }
    }
}

/// What is left to do for a process that is being set up.
#[derive(Debug)]
#[must_use]
pub struct Rest {
    socket: OwnedFd,
    /// Whether it waits for the word to go on.
    paused: bool,
}

impl Rest {
    /// Returns when hooks may run, or, in a Plan without such hooks, when [`Rest::finish`] has nothing to do.
    ///
    /// # Errors
    /// Names the step that failed; the caller reaps the process all the same.
    pub fn settle(&mut self, plan: &Plan, init: &Init) -> Result<(), SpawnError> {
        self.paused = await_report(plan, Some(init), self.socket.as_fd())?;
        Ok(())
    }

    /// Lets it go on. Returns when it has reached `execve`, or, where that is for later, when it has done
    /// everything but execute; the connection is for the creator to start it by ([`super::Start::ByCreator`]).
    ///
    /// # Errors
    /// As [`Rest::settle`].
    pub fn finish(self, plan: &Plan) -> Result<OwnedFd, SpawnError> {
        if self.paused {
            go_on(self.socket.as_fd())?;
            await_report(plan, None, self.socket.as_fd())?;
        }
        Ok(self.socket)
    }

    /// The connection to start it by for a creator that does not wait: the process goes on by itself, and reports to
    /// [`super::start`].
    pub fn unawaited(self) -> OwnedFd {
        self.socket
    }
}

/// Clones the process and lets it execute the Plan, in a network namespace that was [made ahead](super::network_ahead) where there is
/// one; `meanwhile` is what its creator does beside it.
///
/// # Errors
/// Names the step that failed, or is that of `meanwhile`; the child has been reaped.
pub fn begin<E: From<SpawnError>>(
    plan: &Plan,
    cgroup: Option<&Cgroup>,
    network: Option<NetworkAhead>,
    meanwhile: impl FnOnce(&Init) -> Result<(), E>,
) -> Result<(Init, Rest), E> {
    let mut prepared = prepare(plan, cgroup)?;
    let flags = SocketFlags::CLOEXEC;
    let (parent_end, child_end) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
        .map_err(|errno| step("create a socket pair", errno))?;
    if matches!(plan.root, Root::New { .. }) {
        // A process that joins a paused container waits until that is resumed.
        limit_waits(parent_end.as_fd(), PATIENCE)
            .map_err(|errno| step("limit the waits for the child", errno))?;
    }
    let (birth, their_birth) = match &plan.root {
        Root::Joined { .. } => socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
            .map(|(ours, theirs)| (Some(ours), Some(theirs)))
            .map_err(|errno| step("create a socket pair", errno))?,
        Root::New { .. } => (None, None),
    };
    prepared.birth = their_birth;
    prepared.network = network.and_then(NetworkAhead::wait);
    let must_wait = plan.must_wait() || cgroup.is_some_and(Cgroup::needs_add);
    let cloned = clone_into(plan, &mut prepared, cgroup)?;
    let (pid, pidfd) = match cloned {
        Cloned::Parent { pid, pidfd } => (pid, pidfd),
        Cloned::Child => {
            drop((parent_end, birth));
            if must_wait && !matches!(Message::receive(child_end.as_fd()), Ok(Some(_))) {
                crate::sys::clone::exit_now(1);
            }
            execute(plan, &mut prepared, child_end.as_fd())
        }
    };
    drop((child_end, prepared.birth.take()));
    let mut init = Init { pid, pidfd };
    let released = move_devices(plan, &prepared, &init)
        .and_then(|()| release(plan, cgroup, &init, must_wait, parent_end.as_fd()));
    if let (Ok(()), Some(birth)) = (&released, birth) {
        init = successor(init, birth.as_fd())?;
    }
    match released.map_err(E::from).and_then(|()| meanwhile(&init)) {
        Ok(()) => Ok((init, Rest { socket: parent_end, paused: false })),
        Err(error) => {
            reap(&init);
            Err(error)
        }
    }
}

/// Maps ids and joins cgroups while the child waits, then lets it go.
fn release(
    plan: &Plan,
    cgroup: Option<&Cgroup>,
    init: &Init,
    must_wait: bool,
    socket: BorrowedFd<'_>,
) -> Result<(), SpawnError> {
    if let Some(maps) = &plan.id_maps {
        match plan.joins.iter().find(|join| join.kind == LinuxNamespaceType::User) {
            Some(join) => check_maps(init.pid, maps, &join.path)?,
            // A deputy has joined one that had its maps.
            None if plan.deputy.is_some() => {}
            None => write_maps(init.pid, maps)?,
        }
    }
    if let Some(cgroup) = cgroup.filter(|cgroup| cgroup.needs_add()) {
        cgroup.add(init.pid)?;
    }
    for file in &plan.pid_files {
        // It may only be created by the file system it belongs to.
        let opened = std::fs::OpenOptions::new().write(true).open(file);
        let pid = init.pid.as_raw_nonzero().to_string();
        opened.and_then(|mut file| file.write_all(pid.as_bytes())).map_err(|source| SpawnError::Step {
            step: format!("write the pid to {}", file.display()),
            source,
        })?;
    }
    if must_wait {
        go_on(socket)?;
    }
    Ok(())
}

/// Gives the waiting child the interfaces of `linux.netDevices`.
fn move_devices(plan: &Plan, prepared: &Prepared, init: &Init) -> Result<(), SpawnError> {
    if plan.net_devices.is_empty() {
        return Ok(());
    }
    let joined = plan.joins.iter().position(|join| join.kind == LinuxNamespaceType::Network);
    let failed = |(step, source)| SpawnError::Step { step, source };
    if let Some(namespace) = joined.and_then(|index| prepared.joins.get(index)) {
        return net_devices::move_into(&plan.net_devices, namespace.as_fd()).map_err(failed);
    }
    let path = format!("/proc/{}/ns/net", init.pid.as_raw_nonzero());
    let namespace = open_host(Path::new(&path), "linux.netDevices")?;
    net_devices::move_into(&plan.net_devices, namespace.as_fd()).map_err(failed)
}

pub(super) fn go_on(socket: BorrowedFd<'_>) -> Result<(), SpawnError> {
    Message::Ready.send(socket).map_err(|errno| match errno {
        Errno::PIPE | Errno::CONNRESET => SpawnError::Killed,
        errno => step("release the container's process", errno),
    })
}

/// Whether the child waits to go on; otherwise it has done all it had to do.
fn await_report(plan: &Plan, init: Option<&Init>, socket: BorrowedFd<'_>) -> Result<bool, SpawnError> {
    let mut executing = false;
    loop {
        let said =
            Message::receive_with(socket).map_err(|errno| unheard("read the child's report", errno))?;
        match said {
            Some((Message::Placed, _)) => return Ok(true),
            Some((Message::Ready, _)) => return Ok(false),
            Some((Message::Executing, _)) => executing = true,
            Some((Message::Listening(number), Some(flag))) => {
                let (Some(agent), Some(init)) = (&plan.agent, init) else {
                    return Err(step("find the seccomp agent of the container", Errno::DESTADDRREQ));
                };
                agent.attend(&Listening { number, flag }, init, socket)?;
            }
            Some((Message::Listening(_), None)) => {
                return Err(step("read the child's report", Errno::BADMSG));
            }
            Some((Message::Failed(failure), _)) => return Err(explain(plan, &failure)),
            None if executing => return Ok(false),
            None => return Err(SpawnError::Killed),
        }
    }
}

pub(super) fn explain(plan: &Plan, failure: &Failure) -> SpawnError {
    match plan.steps.get(usize::from(failure.step)) {
        Some(Step::FindProgram | Step::Execute) => {
            let searched = plan.program.is_searched();
            SpawnError::Program(program_words(plan.program.name(), searched, failure.errno))
        }
        Some(failed) => {
            let words = failure.detail();
            let mut text = failed.describe(&plan.program);
            if let Some(words) = words.trim_end().strip_prefix("e ") {
                text = format!("{text} ({words})");
            }
            let errno = Errno::from_raw_os_error(failure.errno);
            SpawnError::Step { step: text, source: advised(errno, failed.advice(errno)) }
        }
        None => {
            SpawnError::Step { step: "set up the container's process".to_owned(), source: failure.io_error() }
        }
    }
}

/// runc's lowercase words; engines match on them.
pub(super) fn program_words(name: &str, searched: bool, errno: i32) -> String {
    match Errno::from_raw_os_error(errno) {
        Errno::NOENT | Errno::NOTDIR if searched => format!("{name:?}: executable file not found in $PATH"),
        Errno::NOENT => format!("{name:?}: stat {name}: no such file or directory"),
        Errno::ACCESS | Errno::PERM => format!("{name:?}: permission denied"),
        Errno::ISDIR => format!("{name:?}: is a directory"),
        Errno::NOEXEC => format!("{name:?}: exec format error"),
        errno => format!("{name:?}: {}", std::io::Error::from(errno)),
    }
}

/// Why the next word did not come.
pub(super) fn unheard(what: &str, errno: Errno) -> SpawnError {
    match errno {
        Errno::AGAIN => SpawnError::Silent,
        errno => step(what, errno),
    }
}

/// The kernel's answer, with what to do about it.
pub(super) fn advised(errno: Errno, advice: Option<&str>) -> std::io::Error {
    let error = std::io::Error::from(errno);
    match advice {
        Some(advice) => std::io::Error::new(error.kind(), format!("{error}; {advice}")),
        None => error,
    }
}

pub(super) fn step(text: &str, errno: Errno) -> SpawnError {
    SpawnError::Step { step: text.to_owned(), source: errno.into() }
}

fn reap(init: &Init) {
    // Both can only fail when the child is gone already.
    let _ = rustix::process::pidfd_send_signal(&init.pidfd, Signal::KILL);
    let _ = rustix::process::waitid(WaitId::PidFd(init.pidfd.as_fd()), WaitIdOptions::EXITED);
}

fn prepare(plan: &Plan, cgroup: Option<&Cgroup>) -> Result<Prepared, SpawnError> {
    let mut joins = Vec::with_capacity(plan.joins.len());
    for join in &plan.joins {
        let namespace = open_host(&join.path, &join.at)?;
        if join.kind == LinuxNamespaceType::Mount {
            refuse_inhabited(join, namespace.as_fd())?;
        }
        joins.push(namespace);
    }
    let user_namespace = plan.deputy.as_ref().map(|_| make_user_namespace(plan)).transpose()?.flatten();
    let mounts = match &plan.deputy {
        Some(_) => plan.sources.iter().map(|_| None).collect(),
        None => open_sources(&plan.sources)?,
    };
    let (root, init) = match &plan.root {
        Root::New { .. } if plan.deputy.is_some() => (None, None),
        Root::New { rootfs } => (Some(open_root(rootfs).map_err(|errno| root_error(rootfs, errno))?), None),
        Root::Joined { init } => {
            let failed = |source| SpawnError::Step { step: "duplicate the pidfd".to_owned(), source };
            (None, Some(init.try_clone().map_err(failed)?))
        }
    };
    let fixed = |path: &str| Target::parse(Path::new(path)).ok_or_else(|| step(path, Errno::INVAL));
    let (console_target, devpts_target) = (fixed("/dev/console")?, fixed("/dev/pts")?.without_symlinks());
    let entrances = cgroup.map(Cgroup::entrances).transpose()?.unwrap_or_default();
    Ok(Prepared {
        user_namespace,
        entrances,
        root,
        init,
        network: None,
        joins,
        mounts,
        terminal: None,
        console_target,
        devpts_target,
        birth: None,
    })
}

/// The container's root becomes that of the whole namespace, `pivot_root(2)`: whoever lived there would find
/// itself in the container.
fn refuse_inhabited(join: &Join, namespace: BorrowedFd<'_>) -> Result<(), SpawnError> {
    let failed = |source| SpawnError::Step { step: "look for processes in /proc".to_owned(), source };
    let wanted = rustix::fs::fstat(namespace).map_err(|errno| failed(errno.into()))?;
    for entry in std::fs::read_dir("/proc").map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        // What has ended meanwhile, or may not be looked at, does not count.
        let Ok(own) = rustix::fs::stat(format!("/proc/{pid}/ns/mnt")) else { continue };
        if (own.st_dev, own.st_ino) == (wanted.st_dev, wanted.st_ino) {
            return Err(SpawnError::Inhabited { at: join.at.clone(), path: join.path.clone(), pid });
        }
    }
    Ok(())
}

pub(super) fn host_error<'a>(at: &'a str, path: &'a Path) -> impl Fn(Errno) -> SpawnError + 'a {
    move |errno| SpawnError::Host {
        at: at.to_owned(),
        path: path.display().to_string(),
        source: errno.into(),
    }
}

pub(super) fn open_host(path: &Path, at: &str) -> Result<OwnedFd, SpawnError> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(host_error(at, path))
}
