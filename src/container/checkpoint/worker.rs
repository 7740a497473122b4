//! criu's process as a server of one request: `criu swrk FD`, a conversation of messages over a socket.
//!
//! ```text
//! ours                     criu
//! start ────── exec ─────▶ waits for its request: this is when it is put into cgroups
//! converse ─── request ──▶
//!          ◀── moment ────  pre-restore, setup-namespaces, …, and waits
//!          ─── done ──────▶
//!          ◀── end ───────  success or not
//! ```
use super::criu::bundle_error;
use super::rpc::{self, Action, Answer};
use crate::container::Error;
use crate::sys::command::reset_signals_in_exec;
use crate::sys::descriptor;
use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::net::{AddressFamily, SendFlags, Shutdown, SocketFlags, SocketType, shutdown, socketpair};
use rustix::process::Pid;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

const SEARCHED: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Longer than any message of CRIU, whose longest part is a line of its log.
const LONGEST_MESSAGE: usize = 64 * 1024;

/// A moment at which CRIU waits for us.
#[derive(Debug)]
pub(super) struct Moment {
    /// criu(8), `--action-script`.
    pub(super) name: String,
    /// The first restored process, at the moments that have one.
    pub(super) pid: Option<Pid>,
    /// What came with it, at `orphan-pts-master`.
    pub(super) descriptor: Option<OwnedFd>,
}

/// How the conversation ended.
#[derive(Debug)]
pub(super) struct End {
    pub(super) success: bool,
    /// The first restored process.
    pub(super) pid: Option<i32>,
    /// The first error of criu's log.
    pub(super) error: Option<String>,
    /// How criu's process ended.
    pub(super) status: ExitStatus,
}

/// A criu that waits for its request. When it is dropped before that, it is ended.
#[derive(Debug)]
pub(super) struct Worker {
    action: Action,
    child: Child,
    socket: OwnedFd,
}

impl Worker {
    /// Starts criu as `arrange` wants its process.
    pub(super) fn start(action: Action, arrange: impl FnOnce(&mut Command)) -> Result<Self, Error> {
        let failed = |reason| Error::Criu { action: action.word(), reason };
        let program = find("criu").ok_or_else(|| {
            failed(format!("executable file not found in {SEARCHED}; install the package criu"))
        })?;
        let spawned = spawn(&program, arrange);
        let (child, socket) =
            spawned.map_err(|error| failed(format!("run {}: {error}", program.display())))?;
        Ok(Self { action, child, socket })
    }

    /// Its process.
    pub(super) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Opens directories as it sees them, in its own mount namespace.
    pub(super) fn open(&self, directories: &[PathBuf; 2]) -> Result<[OwnedFd; 2], Error> {
        let root = format!("/proc/{}/root", self.child.id());
        let open_one = |directory: &Path| {
            let path = Path::new(&root).join(directory.strip_prefix("/").unwrap_or(directory));
            open(&path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .map_err(|errno| bundle_error("open", directory)(errno.into()))
        };
        let [image, work] = directories;
        Ok([open_one(image)?, open_one(work)?])
    }

    /// Sends the request, answers until the end, and reaps the process. An error of `attend` is told to
    /// CRIU, which gives up then, and is returned.
    pub(super) fn converse(
        mut self,
        request: &[u8],
        attend: &mut dyn FnMut(Moment) -> Result<(), Error>,
    ) -> Result<End, Error> {
        let mut attended = Ok(());
        let ended = self.talk(request, &mut |moment| {
            if attended.is_ok() {
                attended = attend(moment);
            }
            attended.is_ok()
        });
        // Whatever it still wants to say or hear, there is nobody any more.
        let _ = shutdown(&self.socket, Shutdown::Both);
        let status = self.child.wait();
        attended?;
        let failed = |error: io::Error| {
            let reason = format!("talk to criu: {error}");
            Error::Criu { action: self.action.word(), reason }
        };
        let (success, pid, error) = ended.map_err(failed)?;
        Ok(End { success, pid, error, status: status.map_err(failed)? })
    }

    /// What the last answer says; criu may also end without one.
    fn talk(
        &self,
        request: &[u8],
        attend: &mut dyn FnMut(Moment) -> bool,
    ) -> io::Result<(bool, Option<i32>, Option<String>)> {
        let socket = self.socket.as_fd();
        let mut buffer = vec![0; LONGEST_MESSAGE];
        descriptor::send(socket, request, None, SendFlags::empty())?;
        loop {
            let (length, descriptor) = match descriptor::receive(socket, &mut buffer) {
                Ok((0, _)) | Err(Errno::CONNRESET) => return Ok((false, None, None)),
                Err(Errno::INTR) => continue,
                received => received?,
            };
            let answer = Answer::parse(buffer.get(..length).unwrap_or_default());
            match answer.map_err(|_| io::ErrorKind::InvalidData)? {
                Answer::Moment { name, pid } => {
                    let pid = pid.and_then(Pid::from_raw);
                    let done = rpc::acknowledgement(attend(Moment { name, pid, descriptor }));
                    match descriptor::send(socket, done.as_bytes(), None, SendFlags::empty()) {
                        // It has ended meanwhile, which the next turn of the loop tells.
                        Err(Errno::PIPE | Errno::CONNRESET) => {}
                        sent => sent?,
                    }
                }
                Answer::End { success, pid, error } => return Ok((success, pid, error)),
            }
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // One that awaits its request ends when there is nobody to send it; one that was waited for is gone.
        let _ = shutdown(&self.socket, Shutdown::Both);
        let _ = self.child.wait();
    }
}

fn spawn(program: &Path, arrange: impl FnOnce(&mut Command)) -> io::Result<(Child, OwnedFd)> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    fcntl_setfd(&theirs, FdFlags::empty())?;
    let mut command = Command::new(program);
    command.arg("swrk").arg(theirs.as_raw_fd().to_string());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.env_clear().env("PATH", SEARCHED);
    reset_signals_in_exec(&mut command);
    arrange(&mut command);
    Ok((command.spawn()?, ours))
}

/// A program on the caller's PATH or in the usual places.
pub(super) fn find(program: &str) -> Option<PathBuf> {
    let given = std::env::var("PATH").ok();
    let searched = given.as_deref().into_iter().chain([SEARCHED]).flat_map(|path| path.split(':'));
    searched
        .map(|directory| Path::new(directory).join(program))
        .find(|path| path.is_absolute() && path.is_file())
}
