//! One step of a Plan: what the child does between clone and execve, as data.
use super::identity::Identity;
use super::program::Program;
use super::seccomp;
use super::target::Target;
use crate::sys::mount::MountAttr;
use crate::sys::process::{NodeMask, Scheduling};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit};
use rustix::thread::CpuSet;
use std::ffi::{CStr, CString};
use std::fmt;

/// Place in the table of detached mounts: host trees are put there by the parent before the clone, new
/// file systems by the child.
pub(super) type Slot = usize;

/// A mount in the container's mount namespace made from a file system type; see `fsopen(2)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NewMount {
    pub(super) slot: Slot,
    pub(super) fstype: CString,
    pub(super) source: Option<CString>,
    pub(super) data: Vec<(CString, Option<CString>)>,
    /// `MOUNT_ATTR_*` for `fsmount(2)`.
    pub(super) attr: u32,
    /// What to call it in an error.
    pub(super) at: String,
}

/// A device node; runtime-spec config-linux.md#devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Device {
    pub(super) target: Target,
    /// File type and permission bits.
    pub(super) mode: u32,
    pub(super) number: u64,
    pub(super) owner: (u32, u32),
}

/// An element of `process.rlimits`; see `getrlimit(2)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Limit {
    pub(super) resource: Resource,
    pub(super) limit: Rlimit,
    pub(super) index: usize,
    pub(super) name: &'static str,
}

#[derive(Debug)]
pub(super) enum Step {
    /// Enters what the clone does not place it in: the group's directories in v1 hierarchies.
    EnterCgroup,
    /// `process.oomScoreAdj` of a process that has joined nothing yet, through the caller's own procfs.
    OwnOomScoreAdj(CString),
    /// The procfs of the caller in place of a private one, which only root of the host may mount before it
    /// is in a pid namespace of its own. Nothing inside the container can stand in for it either.
    CallersProc,
    /// `setns(2)` on a process's pidfd, for these `CLONE_NEW*` flags.
    JoinProcess(u32),
    /// Clones the process that goes on, as a child of the same parent in the pid namespace that was joined
    /// for children, and ends. What becomes visible to the container's processes has nothing of the
    /// host any more: neither root, nor working directory, nor descriptors.
    BeBorn {
        keep_below: u32,
    },
    NewSession,
    NewKeyring,
    NewCgroupNamespace,
    /// uid and gid 0 of the user namespace.
    BecomeNamespaceRoot,
    LoopbackUp,
    Hostname(CString),
    Domainname(CString),
    /// A procfs of the container's pid namespace that is never attached, so that nothing inside the
    /// container can stand in for it (CVE-2019-16884, CVE-2025-52881, CVE-2025-62596).
    PrivateProc,
    /// `setns(2)` into the mount namespace that the parent opened as this one of the Plan's joins.
    JoinMounts {
        join: usize,
    },
    /// Cuts propagation to the host, recursively. What the container shares comes with its own mounts.
    IsolateMounts,
    CreateMount(NewMount),
    /// Mounts a file system at a name in one of the Plan's own, by `mount(2)` with these options.
    MountInPlace {
        new: NewMount,
        options: CString,
        target: Target,
    },
    /// Opens the tree of a slot that was not there yet when the parent opened the others.
    OpenLate {
        slot: Slot,
        /// For errors, with the JSON path.
        path: String,
        at: String,
    },
    /// Attaches the root tree at this place of the host.
    PlaceRoot(CString),
    /// Tells the parent that hooks may run, and waits until they have.
    AwaitHooks,
    /// Makes the root tree `/` and drops the host's tree. From here on no path leads outside.
    PivotRoot,
    /// The same as far as `chroot(2)` can: the host's tree stays below. The root tree is moved to the
    /// host's `/` first where it stands elsewhere.
    Chroot {
        moved: bool,
    },
    /// Takes the mount namespace's root as the container's root, after joining a container.
    OpenRoot,
    Attach {
        slot: Slot,
        target: Target,
    },
    /// Makes the symlink of this slot again at the target; what is no symlink is attached.
    AttachOrLink {
        slot: Slot,
        target: Target,
    },
    /// Attaches a new tmpfs, which takes the mode of the directory it covers, and its contents.
    AttachTmpfs {
        slot: Slot,
        target: Target,
        take_mode: bool,
        copy_up: bool,
    },
    /// `mount_setattr(2)` on what stands at the target.
    SetAttr {
        target: Target,
        attr: MountAttr,
        recursive: bool,
    },
    MakeDevice(Device),
    Link {
        target: Target,
        points_to: CString,
    },
    /// Opens a terminal in the devpts of this slot, binds it to /dev/console and sends its master away.
    Console {
        devpts: Slot,
        size: Option<(u16, u16)>,
    },
    /// Opens a terminal in the devpts at /dev/pts of a joined container and sends its master away.
    ExecConsole {
        size: Option<(u16, u16)>,
    },
    /// Covers a file with /dev/null or a directory with an empty read-only tmpfs.
    Mask {
        target: Target,
        null: Slot,
    },
    ReadonlyPath(Target),
    Sysctl {
        path: CString,
        value: CString,
    },
    ReadonlyRoot,
    RootPropagation {
        flag: u64,
        recursive: bool,
    },
    /// Puts the standard streams in place and marks everything from this descriptor on close-on-exec.
    Streams {
        keep_below: u32,
        owner: u32,
    },
    /// Raises a hard limit while there is privilege to.
    RaiseRlimit(Limit),
    /// Only lowers, or raises the soft limit within the hard one.
    Rlimit(Limit),
    OomScoreAdj(CString),
    /// Profile or label for the program to come, written to this file of the private procfs.
    ExecLabel {
        file: &'static CStr,
        value: CString,
        at: &'static str,
    },
    /// The CPUs that a joining process may run on once it is in the container's cgroup.
    Affinity(CpuSet),
    Scheduler(Scheduling),
    IoPriority {
        class: u16,
        level: u16,
    },
    /// `MPOL_*` with its flags, and the nodes.
    MemoryPolicy {
        mode: u32,
        nodes: NodeMask,
    },
    Personality(u32),
    WorkingDirectory(Target),
    Umask(u32),
    /// Groups, gid, uid and the capability bounding set; capabilities are kept until [`Step::Capabilities`].
    Identity(Identity),
    /// Fails early, in runc's words, when the program cannot be executed.
    FindProgram,
    /// Becoming another user has hidden the process from all but root of the host; a caller without privileges
    /// could not join it before it executes something, ptrace(2) "access mode checking". Nobody else is inside.
    BeJoinable,
    /// Closes every descriptor but those below this one and those that `start` needs: a process with CAP_SYS_PTRACE that
    /// joins meanwhile would find the host's directories in /proc/1/fd.
    CloseOthers {
        keep_below: u32,
    },
    /// Tells the parent that only `start` is missing, and waits for it.
    AwaitStart,
    NoNewPrivileges,
    /// Tells whoever waits that execve comes next; the filter may take the means to say so.
    Announce,
    Seccomp(seccomp::Program),
    /// The final capability sets.
    Capabilities(Identity),
    Execute,
}

/// Why a clone into a cgroup is answered by EAGAIN.
pub(super) const TOO_MANY_PROCESSES: &str = "the container's cgroup, or one above it, has as many processes as its limit \
                                             (pids.max) allows, and this takes two: end some, or raise the limit";

impl Step {
    /// What was attempted, of the steps between `start` and execve: `start` does not have the Plan.
    pub(super) fn words_after_start(&self) -> Option<&'static str> {
        match self {
            Self::Rlimit(_) => Some("error setting rlimits for ready process (process.rlimits)"),
            Self::Seccomp(_) => Some("install the seccomp filter (linux.seccomp)"),
            Self::Capabilities(_) => Some("set capabilities (process.capabilities)"),
            Self::NoNewPrivileges => Some("set no_new_privs (process.noNewPrivileges)"),
            _ => None,
        }
    }

    /// What to do about the kernel's answer, where that does not say it.
    pub(super) fn advice(&self, errno: Errno) -> Option<&'static str> {
        match (self, errno) {
            (Self::BeBorn { .. }, Errno::AGAIN) => Some(TOO_MANY_PROCESSES),
            (Self::EnterCgroup, Errno::INVAL) => Some(
                "a process of real-time priority enters a group with linux.resources.cpu.realtimeRuntime alone: set it, \
                 or start without that priority (chrt)",
            ),
            (Self::EnterCgroup, Errno::NOSPC) => {
                Some("cpuset.cpus or cpuset.mems of that group is empty; write both before")
            }
            _ => None,
        }
    }

    /// What was attempted and on what, for the error that the step's failure becomes.
    pub(super) fn describe(&self, program: &Program) -> String {
        struct Words<'a>(&'a Step, &'a Program);
        impl fmt::Display for Words<'_> {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.write(self.1, formatter)
            }
        }
        Words(self, program).to_string()
    }

    fn write(&self, program: &Program, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EnterCgroup => out.write_str("enter the cgroup"),
            Self::OwnOomScoreAdj(value) => {
                write!(out, "set process.oomScoreAdj to {}", value.to_string_lossy())
            }
            Self::CallersProc => out.write_str("open /proc"),
            Self::JoinProcess(_) => out.write_str("join the container's namespaces"),
            Self::BeBorn { .. } => out.write_str("clone into the container's pid namespace"),
            Self::NewSession => out.write_str("create a session"),
            Self::NewKeyring => {
                out.write_str("create a session keyring (--no-new-keyring keeps the caller's)")
            }
            Self::NewCgroupNamespace => out.write_str("create the cgroup namespace"),
            Self::BecomeNamespaceRoot => out.write_str("become root of the user namespace; is id 0 mapped"),
            Self::LoopbackUp => out.write_str("bring up the loopback interface"),
            Self::Hostname(name) => write!(out, "set hostname {}", name.to_string_lossy()),
            Self::Domainname(name) => write!(out, "set domainname {}", name.to_string_lossy()),
            Self::PrivateProc => out.write_str("mount a private procfs"),
            Self::JoinMounts { .. } => out.write_str("join the mount namespace (linux.namespaces)"),
            Self::IsolateMounts => out.write_str("change mount propagation of /"),
            Self::CreateMount(mount) | Self::MountInPlace { new: mount, .. } => {
                write!(out, "mount {} on {}", mount.fstype.to_string_lossy(), mount.at)
            }
            Self::OpenLate { path, at, .. } => write!(out, "{at}: open {path}"),
            Self::PlaceRoot(path) => write!(out, "attach the rootfs at {}", path.to_string_lossy()),
            Self::AwaitHooks => out.write_str("wait for the hooks"),
            Self::Chroot { .. } => out.write_str("chroot into the rootfs (--no-pivot)"),
            Self::PivotRoot => out.write_str("pivot_root into the rootfs"),
            Self::OpenRoot => out.write_str("open the container's root"),
            Self::Attach { target, .. } => write!(out, "attach the mount at {target}"),
            Self::AttachOrLink { target, .. } => {
                write!(out, "attach the mount, or copy the symlink, at {target}")
            }
            Self::AttachTmpfs { target, copy_up: true, .. } => {
                write!(out, "copy the contents of {target} into its tmpfs (tmpcopyup)")
            }
            Self::AttachTmpfs { target, .. } => write!(out, "attach the tmpfs at {target}"),
            Self::SetAttr { target, .. } => write!(out, "change mount flags of {target}"),
            Self::MakeDevice(device) => {
                write!(out, "create device {} (linux.devices); is something else in its place", device.target)
            }
            Self::Link { target, .. } => write!(out, "create symlink {target}"),
            Self::Console { .. } | Self::ExecConsole { .. } => out.write_str("set up the terminal"),
            Self::Mask { target, .. } => write!(out, "mask {target}"),
            Self::ReadonlyPath(target) => write!(out, "make {target} read-only"),
            Self::Sysctl { path, value } => {
                write!(
                    out,
                    "write {} to /proc/{} (linux.sysctl)",
                    value.to_string_lossy(),
                    path.to_string_lossy()
                )
            }
            Self::ReadonlyRoot => out.write_str("make the rootfs read-only"),
            Self::RootPropagation { .. } => out.write_str("set linux.rootfsPropagation"),
            Self::Streams { .. } => out.write_str("set up the standard streams"),
            // runc's words, up to the JSON path.
            Self::RaiseRlimit(limit) | Self::Rlimit(limit) => write!(
                out,
                "error setting rlimits for ready process: error setting rlimit type {} (process.rlimits[{}], {})",
                limit.resource as u32, limit.index, limit.name
            ),
            Self::OomScoreAdj(value) => {
                write!(out, "set process.oomScoreAdj to {}", value.to_string_lossy())
            }
            Self::ExecLabel { value, at, .. } => {
                let label = value.to_string_lossy();
                write!(out, "set {at} to {}; is it loaded", label.strip_prefix("exec ").unwrap_or(&label))
            }
            Self::Affinity(_) => out.write_str(
                "set the CPU affinity (process.execCPUAffinity.final); are the CPUs in its cpuset",
            ),
            Self::Scheduler(_) => out.write_str("set the scheduling policy (process.scheduler)"),
            Self::IoPriority { .. } => out.write_str("set the I/O priority (process.ioPriority)"),
            Self::MemoryPolicy { .. } => out.write_str("set the NUMA policy (linux.memoryPolicy)"),
            Self::Personality(_) => out.write_str("set the execution domain (linux.personality)"),
            Self::WorkingDirectory(target) => {
                write!(out, "change to working directory {target} (process.cwd)")
            }
            Self::Umask(_) => out.write_str("set the umask"),
            Self::Identity(identity) => write!(out, "become user {}:{}", identity.uid, identity.gid),
            Self::FindProgram | Self::Execute => write!(out, "exec: {:?}", program.name()),
            Self::BeJoinable => out.write_str("let its creator join (PR_SET_DUMPABLE)"),
            Self::CloseOthers { .. } => out.write_str("close the host's file descriptors"),
            Self::AwaitStart => out.write_str("wait for start"),
            Self::NoNewPrivileges => out.write_str("set no_new_privs"),
            Self::Announce => out.write_str("announce execve"),
            Self::Seccomp(_) => out.write_str("install the seccomp filter (linux.seccomp)"),
            Self::Capabilities(_) => out.write_str("set capabilities (process.capabilities)"),
        }
    }
}
