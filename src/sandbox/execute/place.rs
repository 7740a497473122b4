//! Where a mount is attached. As all of [`super`], nothing here allocates, locks or formats.
use crate::sandbox::target::Kind;
use crate::sys::mount::{self, MountAttr};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags};
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};

/// A place in the container's root.
pub(super) enum Place<'a> {
    /// What was found there.
    Opened(OwnedFd),
    /// A name in a file system of the Plan's own; a symlink of that name is meant itself.
    Named(BorrowedFd<'a>, &'a CStr),
}

impl Place<'_> {
    /// Attaches a detached mount.
    pub(super) fn take(&self, mount: BorrowedFd<'_>) -> Result<(), Errno> {
        let (at, name) = self.names();
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        rustix::mount::move_mount(mount, c"", at, name, flags)
    }

    /// Makes what a mount of this kind is attached to, when it has a name and is not there.
    pub(super) fn create(&self, kind: Kind) -> Result<(), Errno> {
        let Self::Named(parent, name) = self else { return Ok(()) };
        let made = match kind {
            Kind::Directory => rustix::fs::mkdirat(parent, *name, Mode::from(0o755)),
            Kind::File => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                rustix::fs::openat(parent, *name, flags, Mode::from(0o644)).map(drop)
            }
        };
        match made {
            Err(Errno::EXIST) => Ok(()),
            made => made,
        }
    }

    /// Is done with it.
    pub(super) fn leave(self) {
        if let Self::Opened(fd) = self {
            leave_to_execve(fd);
        }
    }

    /// For calls that take a directory and a name; the name is empty for the descriptor itself.
    pub(super) fn names(&self) -> (BorrowedFd<'_>, &CStr) {
        match self {
            Self::Opened(fd) => (fd.as_fd(), c""),
            Self::Named(parent, name) => (*parent, name),
        }
    }
}

/// Does not close a descriptor that execve is going to close, which spares a call; unless there are so many that a
/// long list of mounts might run out of them.
pub(super) fn leave_to_execve(fd: OwnedFd) {
    const MANY: RawFd = 256;
    if fd.as_raw_fd() < MANY {
        // Everything here is opened close-on-exec.
        std::mem::forget(fd);
    }
}

/// The directory that something is made in.
pub(super) enum Parent<'a> {
    Known(BorrowedFd<'a>),
    Opened(OwnedFd),
}

impl AsFd for Parent<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Known(fd) => *fd,
            Self::Opened(fd) => fd.as_fd(),
        }
    }
}

/// A detached copy of a mount.
pub(super) fn clone_tree(mount: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    mount::clone_tree(mount, c"", OpenTreeFlags::AT_EMPTY_PATH, &MountAttr::default())
}
