//! The child's side: the Plan's steps, one after the other, between clone and execve.
//!
//! Nothing in this file allocates, locks or formats. A failure goes over the report socket as
//! (step, errno, a few bytes of text), and the child ends.
mod process;

use super::console;
use super::plan::Plan;
use super::report::{Failure, Message};
use super::spawn::Prepared;
use super::step::{Device, NewMount, Slot, Step};
use super::target::{Kind, Target};
use crate::sys::{clone::exit_now, exec, keyring, mount, namespace, netdev};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};
use rustix::process::{Gid, Uid};
use rustix::thread::UnshareFlags;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Room for what the file system itself says about a mount that it refused.
const FS_MESSAGE: usize = 120;

/// The child's state: only descriptors.
struct Child<'a> {
    plan: &'a Plan,
    prepared: &'a mut Prepared,
    /// Where failures are reported: the parent, then `start`.
    report: BorrowedFd<'a>,
    start: Option<OwnedFd>,
    root: Option<OwnedFd>,
    proc: Option<OwnedFd>,
    /// The empty tmpfs that covers masked directories, once it is attached somewhere.
    empty: Option<OwnedFd>,
    null_attached: bool,
    /// Which of the program's candidates can be executed.
    candidate: usize,
    /// What a file system said about a mount that it refused.
    words: [u8; FS_MESSAGE],
    words_length: usize,
}

/// Runs the steps and never returns.
pub(super) fn execute(plan: &Plan, prepared: &mut Prepared, report: BorrowedFd<'_>) -> ! {
    exec::reset_signals();
    rustix::process::umask(Mode::empty());
    let mut child = Child {
        plan,
        prepared,
        report,
        start: None,
        root: None,
        proc: None,
        empty: None,
        null_attached: false,
        candidate: 0,
        words: [0; FS_MESSAGE],
        words_length: 0,
    };
    for (index, step) in plan.steps.iter().enumerate() {
        if let Err(errno) = child.step(step) {
            let failure = Failure::new(index, errno, &child.words[..child.words_length]);
            let to = child.start.as_ref().map_or(child.report, |start| start.as_fd());
            // Nothing is left to do when even the report fails: the parent sees end of file.
            let _ = Message::Failed(failure).send(to);
            break;
        }
    }
    exit_now(1)
}

impl Child<'_> {
    fn step(&mut self, step: &Step) -> Result<(), Errno> {
        match step {
            Step::JoinNamespace(index) => self.join(*index)?,
            Step::JoinProcess(flags) => self.join_process(*flags)?,
            Step::NewSession => drop(rustix::process::setsid()?),
            Step::NewKeyring => new_keyring()?,
            Step::NewCgroupNamespace => namespace::unshare(UnshareFlags::NEWCGROUP)?,
            Step::BecomeNamespaceRoot => become_namespace_root()?,
            Step::LoopbackUp => loopback_up()?,
            Step::Hostname(name) => rustix::system::sethostname(name.to_bytes())?,
            Step::Domainname(name) => rustix::system::setdomainname(name.to_bytes())?,
            Step::PrivateProc => self.proc = Some(private_proc()?),
            Step::IsolateMounts => isolate_mounts()?,
            Step::CreateMount(new) => self.prepared.mounts[new.slot] = Some(self.create_mount(new)?),
            Step::PlaceRoot(path) => self.place_root(path)?,
            Step::AwaitHooks => self.await_hooks()?,
            Step::PivotRoot => self.pivot_root()?,
            Step::Chroot { moved } => self.chroot(*moved)?,
            Step::OpenRoot => {
                self.root = Some(rustix::fs::open(c"/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?);
            }
            Step::Attach { slot, target } => self.attach(*slot, target)?,
            Step::SetAttr { target, attr, recursive } => {
                mount::mount_setattr(target.open(self.root()?)?.as_fd(), c"", *recursive, attr)?;
            }
            Step::MakeDevice(device) => make_device(device, self.root()?)?,
            Step::Link { target, points_to } => make_link(target, points_to, self.root()?)?,
            Step::Console { devpts, size } => self.console(*devpts, *size)?,
            Step::ExecConsole { size } => self.exec_console(*size)?,
            Step::Mask { target, null } => self.mask(target, *null)?,
            Step::ReadonlyPath(target) => self.readonly_path(target)?,
            Step::Sysctl { path, value } => self.write_proc(path, value.to_bytes())?,
            Step::ReadonlyRoot => {
                let attr = mount::MountAttr {
                    set: MountAttrFlags::MOUNT_ATTR_RDONLY.bits().into(),
                    ..Default::default()
                };
                mount::mount_setattr(self.root()?, c"", false, &attr)?;
            }
            Step::RootPropagation { flag, recursive } => {
                let attr = mount::MountAttr { propagation: *flag, ..Default::default() };
                mount::mount_setattr(self.root()?, c"", *recursive, &attr)?;
            }
            step => self.become_process(step)?,
        }
        Ok(())
    }

    fn root(&self) -> Result<BorrowedFd<'_>, Errno> {
        self.root.as_ref().map(AsFd::as_fd).ok_or(Errno::BADF)
    }

    fn mount(&self, slot: Slot) -> Result<BorrowedFd<'_>, Errno> {
        self.prepared.mounts[slot].as_ref().map(AsFd::as_fd).ok_or(Errno::BADF)
    }

    fn join(&self, index: usize) -> Result<(), Errno> {
        rustix::thread::move_into_link_name_space(self.prepared.joins[index].as_fd(), None)
    }

    fn join_process(&self, flags: u32) -> Result<(), Errno> {
        let init = self.prepared.init.as_ref().ok_or(Errno::BADF)?;
        let flags = rustix::thread::ThreadNameSpaceType::from_bits_retain(flags);
        rustix::thread::move_into_thread_name_spaces(init.as_fd(), flags)
    }

    fn place_root(&mut self, path: &CStr) -> Result<(), Errno> {
        let root = self.prepared.root.take().ok_or(Errno::BADF)?;
        rustix::mount::move_mount(&root, c"", CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
        self.root = Some(root);
        Ok(())
    }

    fn await_hooks(&self) -> Result<(), Errno> {
        Message::Placed.send(self.report)?;
        match Message::receive(self.report)? {
            Some(Message::Ready) => Ok(()),
            _ => Err(Errno::CANCELED),
        }
    }

    fn pivot_root(&self) -> Result<(), Errno> {
        rustix::process::fchdir(self.root()?)?;
        rustix::process::pivot_root(c".", c".")?;
        // The host's tree now stands on top of the new root, and "." is the way to it: pivot_root(2).
        rustix::mount::unmount(c".", UnmountFlags::DETACH)?;
        rustix::process::chdir(c"/")
    }

    fn chroot(&self, moved: bool) -> Result<(), Errno> {
        for path in [c"/proc", c"/sys"] {
            // Whoever gets past the chroot must not find writable ones. EINVAL: it is no mount, or one that
            // a user namespace has locked in place.
            match rustix::mount::unmount(path, UnmountFlags::DETACH) {
                Err(Errno::INVAL | Errno::NOENT) => {}
                done => done?,
            }
        }
        rustix::process::fchdir(self.root()?)?;
        if moved {
            rustix::mount::mount_move(c".", c"/")?;
        }
        rustix::process::chroot(c".")?;
        rustix::process::chdir(c"/")
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
        let attr =
            mount::MountAttr { set: MountAttrFlags::MOUNT_ATTR_RDONLY.bits().into(), ..Default::default() };
        mount::mount_setattr(tree.as_fd(), c"", true, &attr)?;
        move_mount(tree.as_fd(), place.as_fd())
    }

    fn write_proc(&self, path: &CStr, value: &[u8]) -> Result<(), Errno> {
        let proc = self.proc.as_ref().ok_or(Errno::BADF)?;
        let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        let file = rustix::fs::openat2(proc, path, flags, Mode::empty(), resolve)?;
        rustix::io::write(&file, value).map(drop)
    }

    fn console(&mut self, devpts: Slot, size: Option<(u16, u16)>) -> Result<(), Errno> {
        let terminal = console::open(self.mount(devpts)?, c"ptmx", size)?;
        let target = &self.prepared.console_target;
        let place = target.open_or_create(self.root()?, Kind::File)?;
        move_mount(clone_tree(terminal.slave.as_fd())?.as_fd(), place.as_fd())?;
        self.hand_over(terminal)
    }

    fn exec_console(&mut self, size: Option<(u16, u16)>) -> Result<(), Errno> {
        let devpts = self.prepared.devpts_target.open(self.root()?)?;
        console::check_devpts(devpts.as_fd())?;
        let terminal = console::open(devpts.as_fd(), c"ptmx", size)?;
        self.hand_over(terminal)
    }

    /// The master goes to the engine, the slave becomes the standard streams.
    fn hand_over(&mut self, terminal: console::Terminal) -> Result<(), Errno> {
        let socket = self.plan.console_socket.as_ref().ok_or(Errno::BADF)?;
        console::send_master(socket.as_fd(), terminal.master.as_fd())?;
        rustix::process::ioctl_tiocsctty(&terminal.slave)?;
        self.prepared.terminal = Some(terminal.slave);
        Ok(())
    }
}

fn new_keyring() -> Result<(), Errno> {
    match keyring::new_session_keyring() {
        Err(Errno::NOSYS) => Ok(()),
        done => done,
    }
}

fn become_namespace_root() -> Result<(), Errno> {
    rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)?;
    rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)
}

fn loopback_up() -> Result<(), Errno> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    netdev::loopback_up(socket.as_fd())
}

fn private_proc() -> Result<OwnedFd, Errno> {
    let context = rustix::mount::fsopen(c"proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_create(context.as_fd())?;
    rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
}

fn isolate_mounts() -> Result<(), Errno> {
    let attr = mount::MountAttr { propagation: libc::MS_SLAVE, ..Default::default() };
    mount::mount_setattr(CWD, c"/", true, &attr)
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

fn move_mount(mount: BorrowedFd<'_>, place: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(mount, c"", place, c"", flags)
}

fn clone_tree(mount: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
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
