//! The clone itself, with the namespaces that a parent has to be in for its child.
//!
//! A namespace that is joined by path may belong to the host's user namespace or to the joined one. The
//! parent, root of both, enters it before the clone and returns after it, so the child needs no rights
//! over it. Only the user namespace cannot be left again: a go-between joins that one, clones the child as
//! its own sibling (`CLONE_PARENT`), so that the child's new namespaces belong to it, and ends.
use super::deputy;
use super::namespaces::{Join, flag};
use super::plan::Plan;
use super::spawn::{Init, Prepared, SpawnError, advised, open_host, step};
use super::step::TOO_MANY_PROCESSES;
use crate::cgroup::Cgroup;
use crate::sys::clone::{Cloned, clone_child, clone_sibling, exit_now};
use crate::sys::network_ahead::Network;
use crate::sys::{descriptor, pidfd};
use oci_spec::runtime::LinuxNamespaceType;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, socketpair};
use rustix::process::{DumpableBehavior, Pid, WaitId, WaitIdOptions};
use rustix::thread::{CpuSet, LinkNameSpaceType, UnshareFlags};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

/// Clones the process of a Plan and leaves the caller's own namespaces and CPUs as they were.
pub(super) fn clone_into(
    plan: &Plan,
    prepared: &mut Prepared,
    cgroup: Option<&Cgroup>,
) -> Result<Cloned, SpawnError> {
    if let Some(deputy) = &plan.deputy {
        return deputy::clone_through(plan, deputy, prepared, cgroup);
    }
    let flags = match prepared.network {
        Some(_) => plan.clone_flags & !flag(LinuxNamespaceType::Network),
        None => plan.clone_flags,
    };
    let own_namespaces = enter(plan, prepared)?;
    let joining = prepared.init.is_some() || !plan.joins.is_empty();
    if joining {
        // Processes that are inside already must not reach the child's descriptors of the host through
        // /proc/PID/fd (CVE-2016-9962); execve makes it dumpable again.
        set_dumpable(DumpableBehavior::NotDumpable)?;
    }
    let own_cpus = plan.initial_cpus.as_ref().map(restrict_cpus).transpose()?;
    let into = cgroup.and_then(Cgroup::clone_into_fd);
    let joins = plan.joins.iter().zip(&prepared.joins);
    let cloned = match joins.into_iter().find(|(join, _)| join.kind == LinuxNamespaceType::User) {
        Some((join, namespace)) => clone_inside(join, namespace.as_fd(), flags, into),
        None => clone_child(flags, into).map_err(|errno| {
            let advice = (errno == Errno::AGAIN && into.is_some()).then_some(TOO_MANY_PROCESSES);
            let step = "clone the container's process".to_owned();
            SpawnError::Step { step, source: advised(errno, advice) }
        }),
    };
    if matches!(cloned, Ok(Cloned::Child)) {
        // The child gives no memory back: another thread may have had the allocator's lock when it was cloned.
        std::mem::forget(own_namespaces);
        return cloned;
    }
    if let Some(own) = own_cpus {
        let restored = rustix::thread::sched_setaffinity(None, &own);
        restored.map_err(|errno| step("return to wharf's own CPUs", errno))?;
    }
    if joining {
        set_dumpable(DumpableBehavior::Dumpable)?;
    }
    for namespace in &own_namespaces {
        rustix::thread::move_into_link_name_space(namespace.as_fd(), None)
            .map_err(|errno| step("return to wharf's own namespaces", errno))?;
    }
    cloned
}

/// Enters what the child is to be born in; returns the way back.
fn enter(plan: &Plan, prepared: &mut Prepared) -> Result<Vec<OwnedFd>, SpawnError> {
    let mut own = Vec::new();
    let mut keep = |name: &str| -> Result<(), SpawnError> {
        own.push(open_host(Path::new(&format!("/proc/thread-self/ns/{name}")), "linux.namespaces")?);
        Ok(())
    };
    for (join, fd) in plan.joins.iter().zip(&prepared.joins) {
        let Some((name, _)) = entered(join.kind) else { continue };
        keep(name)?;
        enter_one(join.kind, fd.as_fd()).map_err(|errno| join_error(join, errno))?;
    }
    if plan.new_time_namespace {
        keep("time")?;
        crate::sys::namespace::unshare(UnshareFlags::NEWTIME)
            .map_err(|errno| step("create the time namespace (linux.namespaces)", errno))?;
        set_time_offsets(plan).map_err(|errno| step("set linux.timeOffsets", errno))?;
    }
    if let Some(Network { own: caller, new }) = prepared.network.take() {
        enter_one(LinuxNamespaceType::Network, new.as_fd())
            .map_err(|errno| step("enter the new network namespace (linux.namespaces)", errno))?;
        own.push(caller);
    }
    Ok(own)
}

/// Enters one namespace, of the kinds that a child is born in.
pub(super) fn enter_one(kind: LinuxNamespaceType, namespace: BorrowedFd<'_>) -> Result<(), Errno> {
    match entered(kind) {
        Some((_, kind)) => rustix::thread::move_into_link_name_space(namespace, Some(kind)),
        None => Ok(()),
    }
}

pub(super) fn join_error(join: &Join, errno: Errno) -> SpawnError {
    let path = join.path.display();
    let hint = match entered(join.kind) {
        Some((name, _)) if errno == Errno::INVAL => format!("; is it a {name} namespace"),
        _ => String::new(),
    };
    step(&format!("join {path} ({}){hint}", join.at), errno)
}

/// `linux.timeOffsets`, for the time namespace that has just been made.
pub(super) fn set_time_offsets(plan: &Plan) -> Result<(), Errno> {
    let Some(offsets) = &plan.time_offsets else { return Ok(()) };
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::open(c"/proc/self/timens_offsets", flags, Mode::empty())?;
    rustix::io::write(&file, offsets.as_bytes()).map(drop)
}

/// What the parent enters: the name in `/proc/PID/ns`, and the kind that it must be.
fn entered(kind: LinuxNamespaceType) -> Option<(&'static str, LinkNameSpaceType)> {
    Some(match kind {
        LinuxNamespaceType::Pid => ("pid", LinkNameSpaceType::ProcessID),
        LinuxNamespaceType::Time => ("time", LinkNameSpaceType::Time),
        LinuxNamespaceType::Network => ("net", LinkNameSpaceType::Network),
        LinuxNamespaceType::Ipc => ("ipc", LinkNameSpaceType::InterProcessCommunication),
        LinuxNamespaceType::Uts => ("uts", LinkNameSpaceType::HostNameAndNISDomainName),
        LinuxNamespaceType::Cgroup => ("cgroup", LinkNameSpaceType::ControlGroup),
        LinuxNamespaceType::User | LinuxNamespaceType::Mount => return None,
    })
}

/// Clones a child whose user namespace is this one, through a go-between that joins it.
fn clone_inside(
    join: &Join,
    namespace: BorrowedFd<'_>,
    flags: u64,
    cgroup: Option<BorrowedFd<'_>>,
) -> Result<Cloned, SpawnError> {
    let failed = |errno| step(&format!("clone into {} ({})", join.path.display(), join.at), errno);
    let (parent_end, child_end) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).map_err(failed)?;
    let pidfd = match clone_child(0, None).map_err(failed)? {
        Cloned::Parent { pidfd, .. } => pidfd,
        Cloned::Child => match go_between(namespace, flags, cgroup, child_end.as_fd()) {
            Ok(()) => return Ok(Cloned::Child),
            // Every errno fits an exit status.
            Err(errno) => exit_now(errno.raw_os_error()),
        },
    };
    drop(child_end);
    let sent = descriptor::receive(parent_end.as_fd(), &mut [0; 1]);
    let ended = rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
    let status = ended.ok().flatten().and_then(|status| status.exit_status()).unwrap_or_default();
    match sent {
        Ok((_, Some(child))) => Ok(Cloned::Parent { pid: pid_of(child.as_fd())?, pidfd: child }),
        _ if status != 0 => Err(failed(Errno::from_raw_os_error(status))),
        _ => Err(SpawnError::Killed),
    }
}

/// Runs in the go-between, which allocates nothing; returns only in the child that it clones.
fn go_between(
    namespace: BorrowedFd<'_>,
    flags: u64,
    cgroup: Option<BorrowedFd<'_>>,
    parent: BorrowedFd<'_>,
) -> Result<(), Errno> {
    rustix::thread::move_into_link_name_space(namespace, Some(LinkNameSpaceType::User))?;
    match clone_sibling(flags, cgroup)? {
        Cloned::Child => Ok(()),
        Cloned::Parent { pidfd, .. } => {
            descriptor::send(parent, b"1", Some(pidfd.as_fd()), SendFlags::NOSIGNAL)?;
            exit_now(0)
        }
    }
}

/// The process that a go-between has cloned for a joining Plan, in place of the go-between itself, which is
/// reaped. When there is none, the go-between's report says why.
pub(super) fn successor(go_between: Init, birth: BorrowedFd<'_>) -> Result<Init, SpawnError> {
    match descriptor::receive(birth, &mut [0; 1]) {
        Ok((_, Some(pidfd))) => {
            // It ends by itself once it has sent this.
            let _ = rustix::process::waitid(WaitId::PidFd(go_between.pidfd.as_fd()), WaitIdOptions::EXITED);
            Ok(Init { pid: pid_of(pidfd.as_fd())?, pidfd })
        }
        _ => Ok(go_between),
    }
}

/// Its pid here. A go-between may see another one, where it was cloned into a pid namespace.
pub(super) fn pid_of(process: BorrowedFd<'_>) -> Result<Pid, SpawnError> {
    pidfd::pid(process).map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::SRCH) => SpawnError::Killed,
        _ => SpawnError::Step { step: "find the pid of the container's process".to_owned(), source: error },
    })
}

/// Has the calling thread, and with it the child to come, run on these CPUs only; returns what it had.
fn restrict_cpus(cpus: &CpuSet) -> Result<CpuSet, SpawnError> {
    let failed = |errno| step("set the CPU affinity (process.execCPUAffinity.initial)", errno);
    let own = rustix::thread::sched_getaffinity(None).map_err(failed)?;
    rustix::thread::sched_setaffinity(None, cpus).map_err(failed)?;
    Ok(own)
}

fn set_dumpable(behavior: DumpableBehavior) -> Result<(), SpawnError> {
    rustix::process::set_dumpable_behavior(behavior)
        .map_err(|errno| step("hide the entering process from the container (PR_SET_DUMPABLE)", errno))
}
