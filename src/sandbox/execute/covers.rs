//! Masked and read-only paths. As all of [`super`], nothing here allocates, locks or formats.
use super::mounts::kind_of;
use super::place::{Place, clone_tree, leave_to_execve};
use crate::sandbox::target::Kind;
use crate::sys::mount::{self, MountAttr};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

/// What masks are made of. A detached mount attaches once; every further cover is a clone of the first.
#[derive(Default)]
pub(super) struct Covers {
    null_attached: bool,
    /// A clone of /dev/null that found nothing to cover.
    spare_null: Option<OwnedFd>,
    /// The empty tmpfs that covers directories, once it is attached somewhere.
    empty: Option<OwnedFd>,
}

impl Covers {
    /// Covers what is at a place. Where that has not been looked at, the kernel tells a directory by refusing
    /// it a file's cover. Nothing there is nothing to mask.
    pub(super) fn mask(&mut self, place: &Place<'_>, null: BorrowedFd<'_>) -> Result<(), Errno> {
        if let Place::Opened(found) = place {
            return match kind_of(found.as_fd())? {
                Kind::Directory => self.cover_directory(place),
                Kind::File => self.cover_file(place, null),
            };
        }
        match self.cover_file(place, null) {
            Err(Errno::NOENT) => Ok(()),
            Err(Errno::NOTDIR | Errno::INVAL) => self.cover_directory(place),
            done => done,
        }
    }

    fn cover_file(&mut self, place: &Place<'_>, null: BorrowedFd<'_>) -> Result<(), Errno> {
        if !self.null_attached {
            place.take(null)?;
            self.null_attached = true;
            return Ok(());
        }
        let cover = match self.spare_null.take() {
            Some(spare) => spare,
            None => clone_tree(null)?,
        };
        match place.take(cover.as_fd()) {
            Ok(()) => leave_to_execve(cover),
            Err(errno) => {
                self.spare_null = Some(cover);
                return Err(errno);
            }
        }
        Ok(())
    }

    fn cover_directory(&mut self, place: &Place<'_>) -> Result<(), Errno> {
        if let Some(empty) = &self.empty {
            let cover = clone_tree(empty.as_fd())?;
            place.take(cover.as_fd())?;
            leave_to_execve(cover);
            return Ok(());
        }
        let context = rustix::mount::fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        rustix::mount::fsconfig_set_string(context.as_fd(), c"nr_inodes", c"1")?;
        rustix::mount::fsconfig_create(context.as_fd())?;
        let attr = MountAttrFlags::MOUNT_ATTR_RDONLY
            | MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        let empty = rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attr)?;
        leave_to_execve(context);
        place.take(empty.as_fd())?;
        self.empty = Some(empty);
        Ok(())
    }
}

/// Puts a read-only copy of what is there, mounts below included, on top of it. Nothing there is nothing
/// to protect.
pub(super) fn make_read_only(place: &Place<'_>) -> Result<(), Errno> {
    let (at, name) = place.names();
    let flags =
        OpenTreeFlags::AT_EMPTY_PATH | OpenTreeFlags::AT_RECURSIVE | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
    match mount::clone_tree(at, name, flags, &read_only()) {
        Err(Errno::NOENT) => Ok(()),
        tree => {
            let tree = tree?;
            place.take(tree.as_fd())?;
            leave_to_execve(tree);
            Ok(())
        }
    }
}

pub(super) fn read_only() -> MountAttr {
    MountAttr { set: MountAttrFlags::MOUNT_ATTR_RDONLY.bits().into(), ..MountAttr::default() }
}
