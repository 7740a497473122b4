//! The clone for a caller that may not mount: a user without privileges, or root of a user namespace in
//! somebody else's mount namespace ([`Caller::may_mount`]).
//!
//! ```text
//! caller                          deputy                            container's process
//! user namespace made and mapped
//! clone ─────────────────────────▶ joins that user namespace
//!                                  its own mount namespace, in which it may open the host's trees
//!                                  the other namespaces to join
//!                                  bind sources, /dev/null, root
//!                                  clone of a sibling ──────────────▶ (as with every Plan)
//! ◀── pidfd, or what failed ────── ends
//! ```
//! Only the deputy moves: the caller stays outside, with its own user, for cgroups, hooks, state and
//! systemd. The clones are copies of a program with one thread, so its memory is whole in them; the deputy
//! makes system calls alone all the same, and the caller words what failed.
use super::caller::Caller;
use super::clone::{enter_one, join_error, pid_of, set_time_offsets};
use super::mounts::{open_root, open_source, root_error, source_error};
use super::namespaces::IdMaps;
use super::plan::{Error, Plan, Root};
use super::spawn::{Prepared, SpawnError, advised, step};
use super::step::Step;
use super::user_namespace::with_maps;
use crate::cgroup::Cgroup;
use crate::sys::clone::{Cloned, clone_child, clone_sibling, exit_now};
use crate::sys::descriptor;
use crate::sys::namespace::unshare;
use oci_spec::runtime::LinuxNamespaceType;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, socketpair};
use rustix::process::{DumpableBehavior, WaitId, WaitIdOptions};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

/// What a Plan needs of a deputy.
#[derive(Debug)]
pub(super) struct Deputy {
    /// Written before any namespace is joined: afterwards a process may not write its own any more.
    pub(super) oom_score_adj: Option<CString>,
}

impl Deputy {
    /// Takes what it does out of the first steps of a Plan.
    pub(super) fn take_over(steps: &mut Vec<Step>) -> Self {
        let is_adj = |step: &Step| matches!(step, Step::OomScoreAdj(_));
        let index = steps.iter().position(is_adj);
        let oom_score_adj = index.map(|index| steps.remove(index)).and_then(|step| match step {
            Step::OomScoreAdj(value) => Some(value),
            _ => None,
        });
        Self { oom_score_adj }
    }
}

/// Where the deputy failed, with an index where there are several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    OomScoreAdj,
    UserNamespace,
    MountNamespace,
    Join(u16),
    Time,
    Source(u16),
    Root,
    Clone,
}

impl Place {
    fn to_bytes(self) -> [u8; 3] {
        let (kind, index) = match self {
            Self::OomScoreAdj => (0, 0),
            Self::UserNamespace => (1, 0),
            Self::MountNamespace => (2, 0),
            Self::Join(index) => (3, index),
            Self::Time => (4, 0),
            Self::Source(index) => (5, index),
            Self::Root => (6, 0),
            Self::Clone => (7, 0),
        };
        let [low, high] = u16::to_le_bytes(index);
        [kind, low, high]
    }

    fn from_bytes([kind, low, high]: [u8; 3]) -> Self {
        let index = u16::from_le_bytes([low, high]);
        match kind {
            0 => Self::OomScoreAdj,
            1 => Self::UserNamespace,
            2 => Self::MountNamespace,
            3 => Self::Join(index),
            4 => Self::Time,
            5 => Self::Source(index),
            6 => Self::Root,
            _ => Self::Clone,
        }
    }
}

type Failure = (Place, Errno);

/// The kernel has long refused more mounts than fit.
fn number(index: usize) -> u16 {
    u16::try_from(index).unwrap_or(u16::MAX)
}

impl Plan {
    /// Refuses what this process has not the rights for, where the kernel's own answer would not tell.
    ///
    /// # Errors
    /// Names the JSON path.
    pub fn check_rights(&self) -> Result<(), Error> {
        match &self.deputy {
            Some(_) => check(self, Caller::of_this_process()),
            None => Ok(()),
        }
    }
}

fn check(plan: &Plan, caller: Caller) -> Result<(), Error> {
    let joins = plan.joins.iter().any(|join| join.kind == LinuxNamespaceType::User);
    if caller == Caller::User && !joins && plan.clone_flags & NEW_USER == 0 {
        let reason = "has no user namespace, without which only root can make a container: add \
                      {\"type\": \"user\"} with uidMappings and gidMappings, as `wharf-oci spec --rootless` does";
        return Err(Error::config("linux.namespaces", reason));
    }
    match plan.sources.iter().find_map(super::mounts::Source::id_map_path) {
        Some(at) => Err(Error::config(at, "idmapped mounts need root of the host; leave the id map out")),
        None => Ok(()),
    }
}

/// The new user namespace, ready to be joined; `None` where the config has none, or joins one.
pub(super) fn make_user_namespace(plan: &Plan) -> Result<Option<OwnedFd>, SpawnError> {
    let make = |maps: &IdMaps| with_maps(maps, "for the container");
    match plan.clone_flags & NEW_USER {
        0 => Ok(None),
        _ => plan.id_maps.as_ref().map(make).transpose(),
    }
}

const NEW_USER: u64 = libc::CLONE_NEWUSER as u64;

/// Clones the process of a Plan through a deputy, which opens what is [`Prepared`] for it.
pub(super) fn clone_through(
    plan: &Plan,
    deputy: &Deputy,
    prepared: &mut Prepared,
    cgroup: Option<&Cgroup>,
) -> Result<Cloned, SpawnError> {
    let failed = |errno| step("clone a process to prepare the container in", errno);
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).map_err(failed)?;
    let pidfd = match clone_child(0, None).map_err(failed)? {
        Cloned::Parent { pidfd, .. } => pidfd,
        Cloned::Child => match act(plan, deputy, prepared, cgroup, theirs.as_fd()) {
            Ok(()) => return Ok(Cloned::Child),
            Err((place, errno)) => {
                let [kind, low, high] = place.to_bytes();
                let [a, b, c, d] = errno.raw_os_error().to_le_bytes();
                // Nothing is left to do when even that fails: the caller sees end of file.
                let _ = descriptor::send(
                    theirs.as_fd(),
                    &[kind, low, high, a, b, c, d],
                    None,
                    SendFlags::NOSIGNAL,
                );
                exit_now(1)
            }
        },
    };
    drop(theirs);
    let mut said = [0; 7];
    let received = descriptor::receive(ours.as_fd(), &mut said);
    // It ends by itself once it has said something.
    let _ = rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
    match received {
        Ok((_, Some(child))) => Ok(Cloned::Parent { pid: pid_of(child.as_fd())?, pidfd: child }),
        Ok((7, None)) => {
            let [kind, low, high, a, b, c, d] = said;
            let errno = Errno::from_raw_os_error(i32::from_le_bytes([a, b, c, d]));
            Err(explain(plan, deputy, (Place::from_bytes([kind, low, high]), errno)))
        }
        _ => Err(SpawnError::Killed),
    }
}

/// Runs in the deputy; returns only in the child that it clones.
fn act(
    plan: &Plan,
    deputy: &Deputy,
    prepared: &mut Prepared,
    cgroup: Option<&Cgroup>,
    caller: BorrowedFd<'_>,
) -> Result<(), Failure> {
    let at = |place| move |errno| (place, errno);
    if let Some(value) = &deputy.oom_score_adj {
        write_own_oom_score_adj(value).map_err(at(Place::OomScoreAdj))?;
    }
    if !plan.joins.is_empty() {
        // Processes that are inside already must not reach its descriptors of the host (CVE-2016-9962).
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .map_err(at(Place::UserNamespace))?;
    }
    let joined = plan.joins.iter().position(|join| join.kind == LinuxNamespaceType::User);
    let joined = joined.and_then(|index| prepared.joins.get(index));
    if let Some(user) = joined.or(prepared.user_namespace.as_ref()) {
        rustix::thread::move_into_link_name_space(user.as_fd(), Some(LinkNameSpaceType::User))
            .map_err(at(Place::UserNamespace))?;
    }
    unshare(UnshareFlags::NEWNS).map_err(at(Place::MountNamespace))?;
    for (index, (join, fd)) in plan.joins.iter().zip(&prepared.joins).enumerate() {
        enter_one(join.kind, fd.as_fd()).map_err(at(Place::Join(number(index))))?;
    }
    if plan.new_time_namespace {
        unshare(UnshareFlags::NEWTIME).map_err(at(Place::Time))?;
        set_time_offsets(plan).map_err(at(Place::Time))?;
    }
    for (index, (source, slot)) in plan.sources.iter().zip(&mut prepared.mounts).enumerate() {
        *slot = open_source(source).map_err(at(Place::Source(number(index))))?;
    }
    if let Root::New { rootfs } = &plan.root {
        prepared.root = Some(open_root(rootfs).map_err(at(Place::Root))?);
    }
    let cloned = clone_sibling(plan.clone_flags & !NEW_USER, cgroup.and_then(Cgroup::clone_into_fd));
    match cloned.map_err(at(Place::Clone))? {
        Cloned::Child => Ok(()),
        Cloned::Parent { pidfd, .. } => {
            descriptor::send(caller, b"1", Some(pidfd.as_fd()), SendFlags::NOSIGNAL)
                .map_err(at(Place::Clone))?;
            exit_now(0)
        }
    }
}

/// Through the caller's own procfs, whatever the process is about to join.
pub(super) fn write_own_oom_score_adj(value: &CStr) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::open(c"/proc/self/oom_score_adj", flags, Mode::empty())?;
    rustix::io::write(&file, value.to_bytes()).map(drop)
}

fn explain(plan: &Plan, deputy: &Deputy, (place, errno): Failure) -> SpawnError {
    match place {
        Place::OomScoreAdj => {
            let value = deputy.oom_score_adj.as_deref().map(CStr::to_string_lossy).unwrap_or_default();
            step(&format!("set process.oomScoreAdj to {value}"), errno)
        }
        Place::UserNamespace => step("join the container's user namespace (linux.namespaces)", errno),
        Place::MountNamespace => step("create a mount namespace to open the bundle's files in", errno),
        Place::Join(index) => match plan.joins.get(usize::from(index)) {
            Some(join) => join_error(join, errno),
            None => SpawnError::Killed,
        },
        Place::Time => step("create the time namespace (linux.timeOffsets)", errno),
        Place::Source(index) => match plan.sources.get(usize::from(index)) {
            Some(source) => source_error(source, errno).hinted(errno),
            None => SpawnError::Killed,
        },
        Place::Root => match &plan.root {
            Root::New { rootfs } => root_error(rootfs, errno),
            Root::Joined { .. } => SpawnError::Killed,
        },
        Place::Clone => step("clone the container's process", errno),
    }
}

impl SpawnError {
    /// Adds what the kernel means where a tree of the host is opened inside a user namespace:
    /// mount_namespaces(7) "Restrictions on mount namespaces".
    fn hinted(self, errno: Errno) -> Self {
        let hint = match errno {
            Errno::INVAL => "what is mounted below it cannot be left out in a user namespace: use rbind",
            Errno::PERM => "flags of the host's mount cannot be taken off in a user namespace",
            _ => return self,
        };
        match self {
            Self::Host { at, path, .. } => Self::Host { at, path, source: advised(errno, Some(hint)) },
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::Hierarchies;
    use crate::sandbox::{Inputs, Rootfs};

    #[test]
    fn places_survive_their_way_to_the_caller() {
        for place in [
            Place::OomScoreAdj,
            Place::UserNamespace,
            Place::MountNamespace,
            Place::Join(3),
            Place::Time,
            Place::Source(600),
            Place::Root,
            Place::Clone,
        ] {
            assert_eq!(Place::from_bytes(place.to_bytes()), place);
        }
    }

    #[test]
    fn a_user_without_a_user_namespace_is_told_what_to_add() {
        let mut spec = crate::sandbox::default_spec::runtime_default();
        if let Some(process) = spec.process_mut() {
            process.set_terminal(Some(false));
        }
        let inputs = Inputs::of(Rootfs::Directory("/nowhere".into()));
        let plan = Plan::compile(&spec, inputs, &Hierarchies::detect().unwrap()).unwrap();
        let error = check(&plan, Caller::User).unwrap_err().to_string();
        assert!(error.starts_with("linux.namespaces: ") && error.contains("spec --rootless"), "{error}");
        assert!(check(&plan, Caller::Guest).is_ok());
    }
}
