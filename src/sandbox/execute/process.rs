//! The second half of a Plan: from the standard streams to execve. As all of [`super`], nothing here
//! allocates, locks or formats.
use super::place::leave_to_execve;
use super::{Child, close_others};
use crate::sandbox::identity::own_stream;
use crate::sandbox::inputs::Start;
use crate::sandbox::report::Message;
use crate::sandbox::step::{Limit, Step};
use crate::sandbox::target::Kind;
use crate::sys::{exec, fd, idle, process};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, Stat, makedev};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Rlimit, getrlimit, setrlimit};
use std::ffi::CStr;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

impl Child<'_> {
    pub(super) fn become_process(&mut self, step: &Step) -> Result<(), Errno> {
        match step {
            Step::Streams { keep_below, owner } => self.streams(*keep_below, *owner),
            Step::RaiseRlimit(limit) => raise(limit),
            Step::Rlimit(limit) => setrlimit(limit.resource, limit.limit),
            Step::OomScoreAdj(value) => self.write_proc(c"self/oom_score_adj", value.to_bytes()),
            Step::ExecLabel { file, value, .. } => self.write_proc(file, value.to_bytes()),
            Step::Affinity(cpus) => rustix::thread::sched_setaffinity(None, cpus),
            Step::Scheduler(scheduling) => process::set_scheduling(scheduling),
            Step::IoPriority { class, level } => process::set_io_priority(*class, *level),
            Step::MemoryPolicy { mode, nodes } => process::set_memory_policy(*mode, nodes),
            Step::Personality(domain) => process::set_personality(*domain),
            Step::WorkingDirectory(cwd) if cwd.path() == c"." => rustix::process::chdir(c"/"),
            Step::WorkingDirectory(cwd) => {
                let directory = cwd.open_or_create(self.root()?, Kind::Directory)?;
                rustix::process::fchdir(directory)
            }
            Step::Umask(mask) => {
                rustix::process::umask(Mode::from_raw_mode(*mask));
                Ok(())
            }
            Step::Identity(identity) => identity.assume(),
            Step::FindProgram => self.find_program(),
            Step::BeJoinable => rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable),
            Step::CloseOthers { keep_below } => self.close_for_start(*keep_below),
            Step::AwaitStart => self.await_start(),
            Step::NoNewPrivileges => rustix::thread::set_no_new_privs(true),
            Step::Announce => {
                // A `start` that was killed meanwhile must not keep the container from running.
                let _ = Message::Executing.send(self.reports_to());
                Ok(())
            }
            Step::Seccomp(program) => self.install_filter(program),
            Step::Capabilities(identity) => identity.finish(),
            Step::Execute => Err(self.execve()),
            _ => Err(Errno::NOSYS),
        }
    }

    fn streams(&self, keep_below: u32, owner: u32) -> Result<(), Errno> {
        let stdio = &self.plan.stdio;
        let terminal = self.prepared.terminal.as_ref();
        for (number, stream) in [(0, &stdio.stdin), (1, &stdio.stdout), (2, &stdio.stderr)] {
            if let Some(stream) = terminal.or(stream.as_ref()) {
                fd::become_standard_stream(stream.as_fd(), number)?;
            }
        }
        let mut null = None;
        for (number, stream) in
            [(0, rustix::stdio::stdin()), (1, rustix::stdio::stdout()), (2, rustix::stdio::stderr())]
        {
            let Ok(stat) = rustix::fs::fstat(stream) else { continue };
            if is_null(&stat) {
                self.replace_null(number, &mut null)?;
            } else if owner != 0 {
                own_stream(stream, &stat, owner)?;
            }
        }
        null.into_iter().for_each(leave_to_execve);
        fd::close_on_exec_from(keep_below)
    }

    /// Puts the container's own /dev/null in the place of the host's, whose mode and owner root of the
    /// container could change through /proc/self/fd.
    fn replace_null(&self, number: u8, null: &mut Option<OwnedFd>) -> Result<(), Errno> {
        if null.is_none() {
            let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOCTTY;
            let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            let opened = rustix::fs::openat2(self.root()?, c"dev/null", flags, Mode::empty(), resolve);
            *null = opened.ok().filter(|file| rustix::fs::fstat(file).is_ok_and(|stat| is_null(&stat)));
        }
        // A container without one keeps what it was given.
        null.as_ref().map_or(Ok(()), |null| fd::become_standard_stream(null.as_fd(), number))
    }

    fn find_program(&mut self) -> Result<(), Errno> {
        let mut error = Errno::NOENT;
        for (index, candidate) in self.plan.program.candidates().enumerate() {
            match executable(candidate) {
                Ok(()) => {
                    self.candidate = index;
                    return Ok(());
                }
                Err(Errno::ACCESS | Errno::ISDIR) if self.plan.program.is_searched() => {}
                Err(Errno::NOENT | Errno::NOTDIR) if self.plan.program.is_searched() => {}
                Err(errno) => error = errno,
            }
        }
        Err(error)
    }

    fn close_for_start(&self, keep_below: u32) -> Result<(), Errno> {
        let socket = match &self.plan.start {
            Start::ByAnyone(socket) => socket.as_raw_fd(),
            _ => -1,
        };
        close_others(&mut [self.report.as_raw_fd(), socket], keep_below)
    }

    fn await_start(&mut self) -> Result<(), Errno> {
        if !matches!(self.plan.start, Start::ByCreator { awaits: false }) {
            Message::Ready.send(self.report)?;
        }
        let socket = match &self.plan.start {
            Start::AtOnce => return Ok(()),
            Start::ByCreator { .. } => return self.await_word(),
            Start::ByAnyone(socket) => socket,
        };
        let connection = idle::accept(socket.as_fd())?;
        self.start = Some(connection);
        Ok(())
    }

    fn execve(&self) -> Errno {
        let program = &self.plan.program;
        match program.candidates().nth(self.candidate) {
            Some(path) => exec::execve(path, &program.arguments, &program.environment),
            None => Errno::NOENT,
        }
    }
}

fn is_null(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == makedev(1, 3)
}

/// Raises the hard limit alone: no step between here and execve comes under a lower one.
fn raise(limit: &Limit) -> Result<(), Errno> {
    let own = getrlimit(limit.resource);
    let (own_hard, hard) = (own.maximum.unwrap_or(u64::MAX), limit.limit.maximum.unwrap_or(u64::MAX));
    if hard <= own_hard {
        return Ok(());
    }
    setrlimit(limit.resource, Rlimit { maximum: limit.limit.maximum, ..own })
}

fn executable(path: &CStr) -> Result<(), Errno> {
    let stat = rustix::fs::stat(path)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            rustix::fs::accessat(CWD, path, rustix::fs::Access::EXEC_OK, rustix::fs::AtFlags::EACCESS)
        }
        FileType::Directory => Err(Errno::ISDIR),
        _ => Err(Errno::ACCESS),
    }
}
