//! What the calling process may do by itself: root of the host may everything, root of a user namespace
//! nothing that is the host's, and a user without privileges becomes root of the container's own user
//! namespace first ([`super::deputy`]).
use crate::sys::{namespace, record};
use rustix::fs::{Mode, OFlags, fstat, open};
use rustix::thread::CapabilitySet;
use std::ffi::OsString;
use std::os::fd::AsFd as _;
use std::sync::OnceLock;

/// The rights of the calling process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// Root in the host's user namespace.
    HostRoot,
    /// Root of a user namespace, in a mount namespace that belongs to it.
    NamespaceRoot,
    /// Root of a user namespace, in a mount namespace of somebody else, as `unshare -Ur` leaves it.
    Guest,
    /// Without CAP_SYS_ADMIN.
    User,
}

/// `PROC_USER_INIT_INO`, linux/nsfs.h: the host's user namespace has the same number on every machine.
const HOST_USER_NAMESPACE: &str = "user:[4026531837]";

impl Caller {
    /// Asks the kernel, once.
    pub fn of_this_process() -> Self {
        static KNOWN: OnceLock<Caller> = OnceLock::new();
        *KNOWN.get_or_init(Self::look)
    }

    /// Whether cgroups, devices and the like of the host are this caller's.
    pub fn is_host_root(self) -> bool {
        self == Self::HostRoot
    }

    /// Whether it acts for a user of the host and not for the system, so that what belongs to the user's
    /// session is where to look. Root of a user namespace is a user who became that, as runc has it, unless USER
    /// says otherwise. `is_root` is whether the effective uid is 0, `variable` reads the environment.
    pub fn acts_for_a_user(self, is_root: bool, variable: impl Fn(&str) -> Option<OsString>) -> bool {
        let has_session = || variable("XDG_RUNTIME_DIR").is_some_and(|path| !path.is_empty());
        match self {
            Self::HostRoot => false,
            _ if !is_root => true,
            _ => has_session() && variable("USER").is_none_or(|user| user != "root"),
        }
    }

    /// mknod(2) is for root of the host, whatever capabilities a user namespace gives.
    pub(super) fn may_make_devices(self) -> bool {
        !matches!(self, Self::NamespaceRoot | Self::Guest)
    }

    /// Whether it may open the host's directories as mounts.
    pub(super) fn may_mount(self) -> bool {
        matches!(self, Self::HostRoot | Self::NamespaceRoot)
    }

    fn look() -> Self {
        if OwnStatus::get().is_none_or(|status| !status.effective.contains(CapabilitySet::SYS_ADMIN)) {
            return Self::User;
        }
        let own = std::fs::read_link("/proc/self/ns/user");
        match own {
            Ok(link) if link.as_os_str() != HOST_USER_NAMESPACE => {
                if owns_its_mounts() {
                    Self::NamespaceRoot
                } else {
                    Self::Guest
                }
            }
            _ => Self::HostRoot,
        }
    }
}

/// What matters here of the calling process's own `proc_pid_status(5)`, which it does not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OwnStatus {
    pub(super) effective: CapabilitySet,
    /// The bounding set.
    pub(super) bounding: u64,
    /// Whether all of its user and group ids are 0.
    pub(super) is_root_throughout: bool,
}

impl OwnStatus {
    /// Asks the kernel, once; `None` without a procfs.
    pub(super) fn get() -> Option<Self> {
        static KNOWN: OnceLock<Option<OwnStatus>> = OnceLock::new();
        *KNOWN.get_or_init(|| Self::parse(&String::from_utf8_lossy(&record::read("/proc/self/status").ok()?)))
    }

    fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let mask = |name: &str| u64::from_str_radix(field(name)?, 16).ok();
        let zero = |name: &str| field(name).is_some_and(|ids| ids.split_whitespace().all(|id| id == "0"));
        Some(Self {
            effective: CapabilitySet::from_bits_retain(mask("CapEff:")?),
            bounding: mask("CapBnd:")?,
            is_root_throughout: zero("Uid:") && zero("Gid:"),
        })
    }
}

fn owns_its_mounts() -> bool {
    let namespace =
        |kind: &str| open(format!("/proc/self/ns/{kind}"), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let (Ok(mounts), Ok(user)) = (namespace("mnt"), namespace("user")) else { return false };
    let Ok(owner) = namespace::owner(mounts.as_fd()) else { return false };
    matches!((fstat(owner), fstat(user)), (Ok(owner), Ok(user)) if (owner.st_dev, owner.st_ino) == (user.st_dev, user.st_ino))
}
