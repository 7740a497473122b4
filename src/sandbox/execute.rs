//! The child's side: the Plan's steps, one after the other, between clone and execve.
//!
//! Nothing in this file allocates, locks or formats. A failure goes over the report socket as
//! (step, errno, a few bytes of text), and the child ends.
mod copy_up;
mod covers;
mod filter;
mod mounts;
mod place;
mod process;

use self::covers::Covers;
use self::place::{Place, clone_tree, leave_to_execve};
use super::console;
use super::deputy::write_own_oom_score_adj;
use super::plan::Plan;
use super::report::{Failure, Message};
use super::spawn::Prepared;
use super::step::{Slot, Step};
use super::target::Kind;
use crate::sys::clone::{Cloned, clone_sibling, exit_now};
use crate::sys::{descriptor, exec, fd, keyring, mount, namespace, netdev};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags};
use rustix::net::SendFlags;
use rustix::process::{DumpableBehavior, Gid, Uid};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

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
    /// The file system of the Plan's own that is the working directory.
    directory: Option<Slot>,
    covers: Covers,
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
        directory: None,
        covers: Covers::default(),
        candidate: 0,
        words: [0; FS_MESSAGE],
        words_length: 0,
    };
    for (index, step) in plan.steps.iter().enumerate() {
        if let Err(errno) = child.step(step) {
            let words = match step.words_after_start() {
                Some(words) => words.as_bytes(),
                None => &child.words[..child.words_length],
            };
            let failure = Failure::new(index, errno, words);
            let to = child.reports_to();
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
            Step::EnterCgroup => self.enter_cgroup()?,
            Step::OwnOomScoreAdj(value) => own_oom_score_adj(value)?,
            Step::CallersProc => self.proc = Some(callers_proc()?),
            Step::JoinProcess(flags) => self.join_process(*flags)?,
            Step::BeBorn { keep_below } => self.be_born(*keep_below)?,
            Step::NewSession => drop(rustix::process::setsid()?),
            Step::NewKeyring => new_keyring()?,
            Step::NewCgroupNamespace => namespace::unshare(UnshareFlags::NEWCGROUP)?,
            Step::BecomeNamespaceRoot => become_namespace_root()?,
            Step::LoopbackUp => loopback_up()?,
            Step::Hostname(name) => rustix::system::sethostname(name.to_bytes())?,
            Step::Domainname(name) => rustix::system::setdomainname(name.to_bytes())?,
            Step::PrivateProc => self.proc = Some(private_proc()?),
            Step::JoinMounts { join } => self.join_mounts(*join)?,
            Step::IsolateMounts => isolate_mounts()?,
            Step::PlaceRoot(path) => self.place_root(path)?,
            Step::AwaitHooks => self.await_hooks()?,
            Step::PivotRoot => self.pivot_root()?,
            Step::Chroot { moved } => self.chroot(*moved)?,
            Step::OpenRoot => {
                self.root = Some(rustix::fs::open(c"/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?);
            }
            Step::Console { devpts, size } => self.console(*devpts, *size)?,
            Step::ExecConsole { size } => self.exec_console(*size)?,
            Step::Sysctl { path, value } => self.write_proc(path, value.to_bytes())?,
            step @ (Step::CreateMount(_)
            | Step::MountInPlace { .. }
            | Step::OpenLate { .. }
            | Step::Attach { .. }
            | Step::AttachOrLink { .. }
            | Step::AttachTmpfs { .. }
            | Step::SetAttr { .. }
            | Step::MakeDevice(_)
            | Step::Link { .. }
            | Step::Mask { .. }
            | Step::ReadonlyPath(_)
            | Step::ReadonlyRoot
            | Step::RootPropagation { .. }) => self.change_mounts(step)?,
            step => self.become_process(step)?,
        }
        Ok(())
    }

    /// Who waits for this process: the parent, then `start`.
    fn reports_to(&self) -> BorrowedFd<'_> {
        self.start.as_ref().map_or(self.report, |start| start.as_fd())
    }

    fn root(&self) -> Result<BorrowedFd<'_>, Errno> {
        self.root.as_ref().map(AsFd::as_fd).ok_or(Errno::BADF)
    }

    fn mount(&self, slot: Slot) -> Result<BorrowedFd<'_>, Errno> {
        self.prepared.mounts[slot].as_ref().map(AsFd::as_fd).ok_or(Errno::BADF)
    }

    fn enter_cgroup(&mut self) -> Result<(), Errno> {
        for entrance in &mut self.prepared.entrances {
            entrance.enter().inspect_err(|_| {
                self.words_length = 0;
                for byte in b"e ".iter().chain(entrance.controllers().as_bytes()).take(FS_MESSAGE) {
                    self.words[self.words_length] = *byte;
                    self.words_length += 1;
                }
            })?;
        }
        Ok(())
    }

    fn join_process(&self, flags: u32) -> Result<(), Errno> {
        let init = self.prepared.init.as_ref().ok_or(Errno::BADF)?;
        let flags = rustix::thread::ThreadNameSpaceType::from_bits_retain(flags);
        rustix::thread::move_into_thread_name_spaces(init.as_fd(), flags)
    }

    fn join_mounts(&self, join: usize) -> Result<(), Errno> {
        let namespace = self.prepared.joins[join].as_fd();
        rustix::thread::move_into_link_name_space(namespace, Some(LinkNameSpaceType::Mount))
    }

    fn be_born(&mut self, keep_below: u32) -> Result<(), Errno> {
        let birth = self.prepared.birth.take().ok_or(Errno::BADF)?;
        let stdio = &self.plan.stdio;
        let owned = [&stdio.stdin, &stdio.stdout, &stdio.stderr, &self.plan.console_socket, &self.proc];
        let mut kept = [birth.as_raw_fd(), self.report.as_raw_fd(), -1, -1, -1, -1, -1];
        for (place, fd) in kept[2..].iter_mut().zip(owned) {
            *place = fd.as_ref().map_or(-1, AsRawFd::as_raw_fd);
        }
        close_others(&mut kept, keep_below)?;
        match clone_sibling(0, None)? {
            Cloned::Child => Ok(()),
            Cloned::Parent { pidfd, .. } => {
                descriptor::send(birth.as_fd(), b"1", Some(pidfd.as_fd()), SendFlags::NOSIGNAL)?;
                exit_now(0)
            }
        }
    }

    fn place_root(&mut self, path: &CStr) -> Result<(), Errno> {
        let root = self.prepared.root.take().ok_or(Errno::BADF)?;
        rustix::mount::move_mount(&root, c"", CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
        self.root = Some(root);
        Ok(())
    }

    fn await_hooks(&self) -> Result<(), Errno> {
        Message::Placed.send(self.report)?;
        self.await_word()
    }

    /// Waits until the parent says to go on.
    fn await_word(&self) -> Result<(), Errno> {
        match Message::receive(self.report)? {
            Some(Message::Ready) => Ok(()),
            _ => Err(Errno::CANCELED),
        }
    }

    fn pivot_root(&mut self) -> Result<(), Errno> {
        self.directory = None;
        rustix::process::fchdir(self.root()?)?;
        rustix::process::pivot_root(c".", c".")?;
        // The host's tree now stands on top of the new root, and "." is the way to it: pivot_root(2). After that it is
        // the new root itself.
        rustix::mount::unmount(c".", UnmountFlags::DETACH)
    }

    fn chroot(&mut self, moved: bool) -> Result<(), Errno> {
        self.directory = None;
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
        let place = Place::Opened(target.open_or_create(self.root()?, Kind::File)?);
        place.take(clone_tree(terminal.slave.as_fd())?.as_fd())?;
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

/// Closes every descriptor from `keep_below` on that no step to come needs: through /proc/PID/fd they lead to the host. A
/// number below 0 is none.
fn close_others(kept: &mut [RawFd], keep_below: u32) -> Result<(), Errno> {
    kept.sort_unstable();
    let mut from = keep_below;
    for number in kept.iter().filter_map(|number| u32::try_from(*number).ok()) {
        if number > from {
            fd::close_between(from, number - 1)?;
        }
        from = from.max(number.saturating_add(1));
    }
    fd::close_between(from, u32::MAX)
}

/// A process that may not be looked at has files in /proc that only root may write: proc(5). It has joined
/// nothing yet, so nobody inside can look.
fn own_oom_score_adj(value: &CStr) -> Result<(), Errno> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable)?;
    let written = write_own_oom_score_adj(value);
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    written
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
    netdev::loopback_up(socket.as_fd())?;
    leave_to_execve(socket);
    Ok(())
}

fn private_proc() -> Result<OwnedFd, Errno> {
    let context = rustix::mount::fsopen(c"proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_create(context.as_fd())?;
    let proc =
        rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty());
    leave_to_execve(context);
    proc
}

fn callers_proc() -> Result<OwnedFd, Errno> {
    /// linux/magic.h
    const PROC_SUPER_MAGIC: u64 = 0x9fa0;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let proc = rustix::fs::open(c"/proc", flags, Mode::empty())?;
    let is_proc = rustix::fs::fstatfs(&proc)?.f_type as u64 == PROC_SUPER_MAGIC;
    if is_proc { Ok(proc) } else { Err(Errno::NODEV) }
}

fn isolate_mounts() -> Result<(), Errno> {
    let attr = mount::MountAttr { propagation: libc::MS_SLAVE, ..Default::default() };
    mount::mount_setattr(CWD, c"/", true, &attr)
}
