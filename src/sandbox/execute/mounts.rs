//! Mounts and device nodes. As all of [`super`], nothing here allocates, locks
//! or formats, and every path of the container is resolved below its root.
use super::Child;
use super::copy_up::{self, LINK};
use super::covers::{make_read_only, read_only};
use super::place::{Parent, Place, leave_to_execve};
use crate::sandbox::mounts::{Source, open_tree};
use crate::sandbox::step::{Device, NewMount, Slot, Step};
use crate::sandbox::target::{Kind, Target};
use crate::sys::mount::{MountAttr, mount_flags, mount_setattr};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
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
            Step::MountInPlace { new, options, target } => self.mount_in_place(new, options, target),
            Step::OpenLate { slot, .. } => {
                let Source::Late(tree) = &self.plan.sources[*slot] else { return Err(Errno::BADF) };
                self.prepared.mounts[*slot] = Some(open_tree(tree)?);
                Ok(())
            }
            Step::Attach { slot, target } if self.plan.sources[*slot] == Source::New => {
                self.attach_new(*slot, target)
            }
            Step::Attach { slot, target } => self.attach(*slot, target),
            Step::AttachOrLink { slot, target } => self.attach_or_link(*slot, target),
            Step::AttachTmpfs { slot, target, take_mode, copy_up } => {
                // A file system of the Plan has nothing at this place yet that the tmpfs could take.
                if (*take_mode || *copy_up) && target.within().is_none() {
                    self.fill_tmpfs(*slot, target, *take_mode, *copy_up)?;
                }
                self.attach_new(*slot, target)
            }
            Step::SetAttr { target, attr, recursive } => {
                mount_setattr(target.open(self.root()?)?.as_fd(), c"", *recursive, attr)
            }
            Step::MakeDevice(device) => make_device(device, self.parent_of(&device.target)?.as_fd()),
            Step::Link { target, points_to } => {
                make_link(target.name(), points_to, self.parent_of(target)?.as_fd())
            }
            Step::Mask { target, null } => self.mask(target, *null),
            Step::ReadonlyPath(target) => match self.covered(target)? {
                Some(place) => make_read_only(&place),
                None => Ok(()),
            },
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
        let made = configure(context.as_fd(), new).inspect_err(|_| {
            // The context's log says what the errno cannot, such as which parameter is unknown: fsopen(2).
            self.words_length = rustix::io::read(&context, &mut self.words).unwrap_or(0);
        });
        leave_to_execve(context);
        made
    }

    fn mount_in_place(&mut self, new: &NewMount, options: &CStr, target: &Target) -> Result<(), Errno> {
        let own = target.within().ok_or(Errno::BADF)?;
        let parent = self.mount(own)?;
        Place::Named(parent, target.name()).create(Kind::Directory)?;
        if self.directory != Some(own) {
            rustix::process::fchdir(parent)?;
            self.directory = Some(own);
        }
        let source = new.source.as_deref().unwrap_or(c"none");
        let flags = mount_flags(new.attr);
        match rustix::mount::mount(source, target.name(), &*new.fstype, flags, options) {
            // The other way has words for what is wrong.
            Err(errno) => self.create_mount(new).and(Err(errno)),
            done => done,
        }
    }

    /// The directory that a target's last name is in; missing ones are made.
    fn parent_of(&self, target: &Target) -> Result<Parent<'_>, Errno> {
        if let Some(slot) = target.within() {
            return Ok(Parent::Known(self.mount(slot)?));
        }
        let root = self.root()?;
        Ok(target.create_parents(root)?.map_or(Parent::Known(root), Parent::Opened))
    }

    fn attach(&self, slot: Slot, target: &Target) -> Result<(), Errno> {
        let mount = self.mount(slot)?;
        if let Some(own) = target.within() {
            let place = Place::Named(self.mount(own)?, target.name());
            return match place.take(mount) {
                Err(Errno::NOENT) => place.create(kind_of(mount)?).and_then(|()| place.take(mount)),
                done => done,
            };
        }
        let root = self.root()?;
        let place = match target.open(root) {
            Err(Errno::NOENT) => target.open_or_create(root, kind_of(mount)?)?,
            place => place?,
        };
        let place = Place::Opened(place);
        place.take(mount)?;
        place.leave();
        Ok(())
    }

    /// Attaches a new file system, which wants a directory.
    fn attach_new(&self, slot: Slot, target: &Target) -> Result<(), Errno> {
        match target.within() {
            Some(own) => {
                let place = Place::Named(self.mount(own)?, target.name());
                place.create(Kind::Directory)?;
                place.take(self.mount(slot)?)
            }
            None => self.attach(slot, target),
        }
    }

    fn attach_or_link(&self, slot: Slot, target: &Target) -> Result<(), Errno> {
        let source = self.mount(slot)?;
        if FileType::from_raw_mode(rustix::fs::fstat(source)?.st_mode) != FileType::Symlink {
            return self.attach(slot, target);
        }
        let mut buffer = [0; LINK];
        let points_to = copy_up::read_link(source, c"", &mut buffer)?;
        let parent = self.parent_of(target)?;
        let parent = parent.as_fd();
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

    /// What stands at a target, where anything does; a name of our own has not been looked at.
    fn covered<'a>(&'a self, target: &'a Target) -> Result<Option<Place<'a>>, Errno> {
        if let Some(own) = target.within() {
            return Ok(Some(Place::Named(self.mount(own)?, target.name())));
        }
        match target.open(self.root()?) {
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            found => Ok(Some(Place::Opened(found?))),
        }
    }

    fn mask(&mut self, target: &Target, null: Slot) -> Result<(), Errno> {
        let mut covers = std::mem::take(&mut self.covers);
        let done = match self.covered(target) {
            Ok(Some(place)) => self.mount(null).and_then(|null| covers.mask(&place, null)),
            nothing => nothing.map(drop),
        };
        self.covers = covers;
        done
    }
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

pub(super) fn kind_of(fd: BorrowedFd<'_>) -> Result<Kind, Errno> {
    let stat = rustix::fs::fstat(fd)?;
    let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    Ok(if is_directory { Kind::Directory } else { Kind::File })
}

fn make_device(device: &Device, parent: BorrowedFd<'_>) -> Result<(), Errno> {
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

fn make_link(name: &CStr, points_to: &CStr, parent: BorrowedFd<'_>) -> Result<(), Errno> {
    match rustix::fs::symlinkat(points_to, parent, name) {
        Err(Errno::EXIST) => Ok(()),
        done => done,
    }
}
