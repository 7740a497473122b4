//! `mount_setattr(2)` and `open_tree_attr(2)`.
use super::clone::last_errno;
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, MountFlags, OpenTreeFlags};
use rustix::path::Arg;
use std::ffi::CStr;
use std::os::fd::{AsFd as _, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// `struct mount_attr`: what to set and clear on a mount.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct MountAttr {
    /// `MOUNT_ATTR_*` to set.
    pub set: u64,
    /// `MOUNT_ATTR_*` to clear.
    pub clear: u64,
    /// `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE` or `MS_UNBINDABLE`; 0 keeps the propagation.
    pub propagation: u64,
    /// User namespace for `MOUNT_ATTR_IDMAP`.
    pub userns_fd: u64,
}

impl MountAttr {
    /// Whether nothing would change.
    pub fn is_empty(&self) -> bool {
        self.set == 0 && self.clear == 0 && self.propagation == 0
    }
}

/// The flags of `mount(2)` for those of `fsmount(2)` (`MOUNT_ATTR_*`).
pub fn mount_flags(attr: u32) -> MountFlags {
    let attr = MountAttrFlags::from_bits_retain(attr);
    let mut flags = MountFlags::empty();
    for (one, other) in [
        (MountAttrFlags::MOUNT_ATTR_RDONLY, MountFlags::RDONLY),
        (MountAttrFlags::MOUNT_ATTR_NOSUID, MountFlags::NOSUID),
        (MountAttrFlags::MOUNT_ATTR_NODEV, MountFlags::NODEV),
        (MountAttrFlags::MOUNT_ATTR_NOEXEC, MountFlags::NOEXEC),
        (MountAttrFlags::MOUNT_ATTR_NOATIME, MountFlags::NOATIME),
        (MountAttrFlags::MOUNT_ATTR_STRICTATIME, MountFlags::STRICTATIME),
        (MountAttrFlags::MOUNT_ATTR_NODIRATIME, MountFlags::NODIRATIME),
        (MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW, MountFlags::NOSYMFOLLOW),
    ] {
        if attr.contains(one) {
            flags |= other;
        }
    }
    flags
}

/// Changes a mount, and with `recursive` all below it; an empty path is the mount `at` itself.
///
/// # Errors
/// The kernel's, see `mount_setattr(2)`.
pub fn mount_setattr(
    at: BorrowedFd<'_>,
    path: &CStr,
    recursive: bool,
    attr: &MountAttr,
) -> Result<(), Errno> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: `attr` has the kernel's layout and its size is passed with it; the path is null-terminated.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            at.as_raw_fd(),
            path.as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            size_of::<MountAttr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

/// `__NR_open_tree_attr`, the same number on every architecture; Linux 6.15.
pub(super) const SYS_OPEN_TREE_ATTR: libc::c_long = 467;

/// A detached copy of the mount at a path below `at`, changed before anybody sees it: all of what is copied,
/// so with `AT_RECURSIVE` the mounts below too. Other flags say how the path is looked up.
///
/// # Errors
/// The kernel's, see `open_tree(2)` and `mount_setattr(2)`.
pub fn clone_tree(
    at: BorrowedFd<'_>,
    path: impl Arg,
    flags: OpenTreeFlags,
    attr: &MountAttr,
) -> Result<OwnedFd, Errno> {
    let flags = flags | OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    path.into_with_c_str(|path| {
        if attr.is_empty() {
            return rustix::mount::open_tree(at, path, flags);
        }
        match open_tree_attr(at, path, flags, attr) {
            Err(Errno::NOSYS) => {}
            done => return done,
        }
        let tree = rustix::mount::open_tree(at, path, flags)?;
        mount_setattr(tree.as_fd(), c"", flags.contains(OpenTreeFlags::AT_RECURSIVE), attr)?;
        Ok(tree)
    })
}

fn open_tree_attr(
    at: BorrowedFd<'_>,
    path: &CStr,
    flags: OpenTreeFlags,
    attr: &MountAttr,
) -> Result<OwnedFd, Errno> {
    // SAFETY: `attr` has the kernel's layout and its size is passed with it; the path is null-terminated.
    let result = unsafe {
        libc::syscall(
            SYS_OPEN_TREE_ATTR,
            at.as_raw_fd(),
            path.as_ptr(),
            flags.bits(),
            std::ptr::from_ref(attr),
            size_of::<MountAttr>(),
        )
    };
    match i32::try_from(result) {
        // SAFETY: the kernel has just made this descriptor, and nothing else owns it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(last_errno()),
    }
}
