//! Mounts, device nodes, masked and read-only paths. As all of [`super`], nothing here allocates, locks
//! or formats, and every path of the container is resolved below its root.
use super::Child;
use super::copy_up::{self, LINK};
use crate::sandbox::step::{Device, NewMount, Slot, Step};
use crate::sandbox::target::{Kind, Target};
use crate::sys::mount::{MountAttr, mount_setattr};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags};
use rustix::process::{Gid, Uid};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

impl Child<'_> {
    pub(super) fn change_mounts(&mut self, step: &Step) -> Result<(), Errno> {
        match step {
            Step::CreateMount(new) => {
                self.prepared.mounts[new.slot] = Some(self.create_mount(new)?);
                Ok(())
            }
            Step::Attach { slot, target } => self.attach(*slot, target),
            Step::AttachOrLink { slot, target } => self.attach_or_link(*slot, target),
            Step::AttachTmpfs { slot, target, take_mode, copy_up } => {
                self.fill_tmpfs(*slot, target, *take_mode, *copy_up)?;
                self.attach(*slot, target)
            }
            Step::SetAttr { target, attr, recursive } => {
                mount_setattr(target.open(self.root()?)?.as_fd(), c"", *recursive, attr)
            }
            Step::MakeDevice(device) => make_device(device, self.root()?),
            Step::Link { target, points_to } => make_link(target, points_to, self.root()?),
            Step::Mask { target, null } => self.mask(target, *null),
            Step::ReadonlyPath(target) => self.readonly_path(target),
            Step::ReadonlyRoot => mount_setattr(self.root()?, c"", false, &read_only()),
            Step::RootPropagation { flag, recursive } => {
                let attr = MountAttr { propagation: *flag, ..MountAttr::default() };
                mount_setattr(self.root()?, c"", *recursive, &attr)
            }
            _ => Err(Errno::NOSYS),
        }
    }

    fn create_mount(&mut self, new: &NewMount) -> Result<OwnedFd, Errno> {
        let context = rustix::mount::fsopen(&*new.fstype, FsOpenFlags::FSOPEN_CLOEXEC)?;
        configure(context.as_fd(), new).inspect_err(|_| {
            // The context's log says what the errno cannot, such as which parameter is unknown: fsopen(2).
            self.words_length = rustix::io::read(&context, &mut self.words).unwrap_or(0);
        })
    }

    fn attach(&self, slot: Slot, target: &Target) -> Result<(), Errno> {
        let mount = self.mount(slot)?;
        let root = self.root()?;
        let place = match target.open(root) {
            Err(Errno::NOENT) => target.open_or_create(root, kind_of(mount)?)?,
            place => place?,
        };
        move_mount(mount, place.as_fd())
    }

    fn attach_or_link(&self, slot: Slot, target: &Target) -> Result<(), Errno> {
        let source = self.mount(slot)?;
        if FileType::from_raw_mode(rustix::fs::fstat(source)?.st_mode) != FileType::Symlink {
            return self.attach(slot, target);
        }
        let mut buffer = [0; LINK];
        let points_to = copy_up::read_link(source, c"", &mut buffer)?;
        let parent = target.create_parents(self.root()?)?;
        let parent = parent.as_ref().map_or(self.root()?, |parent| parent.as_fd());
        match rustix::fs::symlinkat(points_to, parent, target.name()) {
            Err(Errno::EXIST) => {
                let mut buffer = [0; LINK];
                let same = copy_up::read_link(parent, target.name(), &mut buffer) == Ok(points_to);
                if same { Ok(()) } else { Err(Errno::EXIST) }
            }
            made => made,
        }
    }

    fn fill_tmpfs(&self, slot: Slot, target: &Target, take_mode: bool, copy_up: bool) -> Result<(), Errno> {
        let covered = match target.open_directory(self.root()?) {
            Err(Errno::NOENT) => return Ok(()),
            covered => covered?,
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let tmpfs = rustix::fs::openat(self.mount(slot)?, c".", flags, Mode::empty())?;
        if take_mode {
            let mode = rustix::fs::fstat(&covered)?.st_mode;
            rustix::fs::fchmod(&tmpfs, Mode::from_raw_mode(mode & 0o7777))?;
        }
        if copy_up { copy_up::copy_contents(covered.as_fd(), tmpfs.as_fd(), 0) } else { Ok(()) }
    }

    fn mask(&mut self, target: &Target, null: Slot) -> Result<(), Errno> {
        let place = match target.open(self.root()?) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            place => place?,
        };
        match kind_of(place.as_fd())? {
            Kind::Directory => self.mask_directory(place.as_fd()),
            Kind::File => {
                let cover = self.mount(null)?;
                // A detached mount attaches once; every further cover is a clone of the attached one.
                if self.null_attached {
                    move_mount(clone_tree(cover)?.as_fd(), place.as_fd())?;
                } else {
                    move_mount(cover, place.as_fd())?;
                }
                self.null_attached = true;
                Ok(())
            }
        }
    }

    fn mask_directory(&mut self, place: BorrowedFd<'_>) -> Result<(), Errno> {
        if let Some(empty) = &self.empty {
            return move_mount(clone_tree(empty.as_fd())?.as_fd(), place);
        }
        let context = rustix::mount::fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        rustix::mount::fsconfig_set_string(context.as_fd(), c"nr_inodes", c"1")?;
        rustix::mount::fsconfig_create(context.as_fd())?;
        let attr = MountAttrFlags::MOUNT_ATTR_RDONLY
            | MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        let empty = rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attr)?;
        move_mount(empty.as_fd(), place)?;
        self.empty = Some(empty);
        Ok(())
    }

    fn readonly_path(&self, target: &Target) -> Result<(), Errno> {
        let place = match target.open(self.root()?) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            place => place?,
        };
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH
            | OpenTreeFlags::AT_RECURSIVE;
        let tree = rustix::mount::open_tree(&place, c"", flags)?;
        mount_setattr(tree.as_fd(), c"", true, &read_only())?;
        move_mount(tree.as_fd(), place.as_fd())
    }
}

fn read_only() -> MountAttr {
    MountAttr { set: MountAttrFlags::MOUNT_ATTR_RDONLY.bits().into(), ..MountAttr::default() }
}

fn configure(context: BorrowedFd<'_>, new: &NewMount) -> Result<OwnedFd, Errno> {
    if let Some(source) = &new.source {
        rustix::mount::fsconfig_set_string(context, c"source", &**source)?;
    }
    for (key, value) in &new.data {
        match value {
            Some(value) => rustix::mount::fsconfig_set_string(context, &**key, &**value)?,
            None => rustix::mount::fsconfig_set_flag(context, &**key)?,
        }
    }
    rustix::mount::fsconfig_create(context)?;
    let attr = MountAttrFlags::from_bits_retain(new.attr);
    rustix::mount::fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attr)
}

pub(super) fn move_mount(mount: BorrowedFd<'_>, place: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(mount, c"", place, c"", flags)
}

pub(super) fn clone_tree(mount: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    rustix::mount::open_tree(mount, c"", flags)
}

fn kind_of(fd: BorrowedFd<'_>) -> Result<Kind, Errno> {
    let stat = rustix::fs::fstat(fd)?;
    let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    Ok(if is_directory { Kind::Directory } else { Kind::File })
}

fn make_device(device: &Device, root: BorrowedFd<'_>) -> Result<(), Errno> {
    let parent = device.target.create_parents(root)?;
    let parent = parent.as_ref().map_or(root, |parent| parent.as_fd());
    let name = device.target.name();
    let (kind, mode) = (FileType::from_raw_mode(device.mode), Mode::from_raw_mode(device.mode & 0o7777));
    match rustix::fs::mknodat(parent, name, kind, mode, device.number) {
        Err(Errno::EXIST) => {
            // What the image put there is kept only when it is the very device (CVE-2025-31133).
            let stat = rustix::fs::statat(parent, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?;
            let same = FileType::from_raw_mode(stat.st_mode) == kind && stat.st_rdev == device.number;
            if !same {
                return Err(Errno::EXIST);
            }
        }
        done => done?,
    }
    if device.owner == (0, 0) {
        return Ok(());
    }
    let (uid, gid) = device.owner;
    let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::chownat(parent, name, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), flags)
}

fn make_link(target: &Target, points_to: &CStr, root: BorrowedFd<'_>) -> Result<(), Errno> {
    let parent = target.create_parents(root)?;
    let parent = parent.as_ref().map_or(root, |parent| parent.as_fd());
    match rustix::fs::symlinkat(points_to, parent, target.name()) {
        Err(Errno::EXIST) => Ok(()),
        done => done,
    }
}
