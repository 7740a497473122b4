//! The side of the commands: starting supervisors, and asking things of them.
use super::control::{LONGEST_MESSAGE, Reply, Report, Request};
use super::state::Status;
use super::{Error, Instance, LastExit, supervisor};
use crate::sys::descriptor::receive;
use crate::sys::itself;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, socketpair};
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// What a supervisor is started for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To start the instance.
    Start,
    /// To take over what another supervisor left.
    Adopt,
}

impl Purpose {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Adopt => "adopt",
        }
    }

    pub(super) fn of_word(word: &str) -> Option<Self> {
        [Self::Start, Self::Adopt].into_iter().find(|purpose| purpose.word() == word)
    }
}

/// Standard streams that an instance has beside its log.
#[derive(Debug, Default)]
pub struct Attachment {
    /// Becomes the instance's standard input; empty when `None`.
    pub stdin: Option<OwnedFd>,
    /// Gets a copy of its standard output.
    pub stdout: Option<OwnedFd>,
    /// Gets a copy of its standard error.
    pub stderr: Option<OwnedFd>,
}

/// A supervisor that tells how it goes.
#[derive(Debug)]
pub struct Supervision {
    instance: Instance,
    reports: OwnedFd,
}

/// What happened to an attached instance.
#[derive(Debug)]
pub enum Event {
    /// It has a (new) terminal.
    Terminal(OwnedFd),
    /// It has ended for good.
    Ended(Option<LastExit>),
}

/// Starts an instance; returns when it runs, and is on the disk.
///
/// # Errors
/// When it is started already, and whatever kept it from starting, in the supervisor's words.
pub fn start(instance: &Instance, attachment: Attachment) -> Result<Supervision, Error> {
    let supervision = spawn(instance, Purpose::Start, attachment)?;
    match supervision.next_report()?.0 {
        Report::Started => match instance.sync() {
            Ok(()) => Ok(supervision),
            Err(error) => {
                // The first error says what went wrong.
                let _ = stop(instance, Some(Duration::ZERO));
                Err(error)
            }
        },
        Report::Failed { message, exit_code } => Err(Error::Start { message, exit_code }),
        Report::Busy => Err(Error::AlreadyStarted(instance.name().clone())),
        Report::Terminal | Report::Ended(_) => Err(Error::SupervisorGone(instance.name().clone())),
    }
}

const SETTLE_ATTEMPTS: u32 = 200;
const SETTLE_PAUSE: Duration = Duration::from_millis(10);

/// Sees to it that an instance which should have a supervisor has one. A running instance is adopted; one
/// that ended unseen is cleaned up after, and started again if its policy says so.
///
/// # Errors
/// When no supervisor can be started.
pub fn reconcile(instance: &Instance) -> Result<(), Error> {
    settle(instance)?;
    if instance.supervisor()?.is_some() {
        return Ok(());
    }
    // A container without a supervisor was left by one that was killed while it started or ended.
    if !instance.state()?.status.is_active() && instance.container()?.is_none() {
        return Ok(());
    }
    let supervision = spawn(instance, Purpose::Adopt, Attachment::default())?;
    match supervision.next_report() {
        // What went wrong is in the instance's state, or will be in a moment.
        Ok(_) => settle(instance),
        Err(error) => Err(error),
    }
}

/// An instance that has ended while its state still says that it runs: its supervisor is about to write so,
/// or is being killed itself and lets go of its lock in a moment. Bounded, because a stopped supervisor
/// (SIGSTOP) does neither.
fn settle(instance: &Instance) -> Result<(), Error> {
    for _ in 0..SETTLE_ATTEMPTS {
        let says_running = instance.state()?.status == Status::Running;
        let runs =
            || Ok::<_, Error>(instance.container()?.is_some_and(|container| container.pid().is_some()));
        if !says_running || instance.supervisor()?.is_none() || runs()? {
            break;
        }
        std::thread::sleep(SETTLE_PAUSE);
    }
    Ok(())
}

impl Supervision {
    /// What happens next.
    ///
    /// # Errors
    /// When the supervisor is gone.
    pub fn next_event(&self) -> Result<Event, Error> {
        loop {
            match self.next_report()? {
                (Report::Terminal, Some(master)) => return Ok(Event::Terminal(master)),
                (Report::Ended(exit), _) => return Ok(Event::Ended(exit)),
                _ => {}
            }
        }
    }

    fn next_report(&self) -> Result<(Report, Option<OwnedFd>), Error> {
        let gone = || Error::SupervisorGone(self.instance.name().clone());
        let mut text = vec![0; LONGEST_MESSAGE];
        let (count, descriptor) =
            receive(self.reports.as_fd(), &mut text).map_err(Error::system("hear from the supervisor"))?;
        let report = serde_json::from_slice(&text[..count]).map_err(|_| gone())?;
        Ok((report, descriptor))
    }
}

impl AsFd for Supervision {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reports.as_fd()
    }
}

/// Executes this program again as the instance's supervisor.
fn spawn(instance: &Instance, purpose: Purpose, attachment: Attachment) -> Result<Supervision, Error> {
    let failed = || Error::system("make a socket pair");
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map_err(failed())?;
    // The supervisor is told the number, so it must be open there under the same one.
    rustix::io::fcntl_setfd(&theirs, rustix::io::FdFlags::empty()).map_err(failed())?;
    let stream = |fd: Option<OwnedFd>| fd.map_or_else(Stdio::null, Stdio::from);
    let arguments = supervisor::Arguments {
        purpose,
        reports: theirs.as_raw_fd(),
        name: instance.name().to_string(),
        root: instance.roots().argument().map(Path::to_owned),
    };
    let program = own_program();
    let path = program.as_ref().map(|program| format!("/proc/self/fd/{}", program.as_raw_fd()));
    let mut command = Command::new(path.as_deref().unwrap_or(OWN_EXECUTABLE));
    command.arg0("wharf").arg(supervisor::COMMAND).args(arguments.words());
    command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    command
        .stdin(stream(attachment.stdin))
        .stdout(stream(attachment.stdout))
        .stderr(stream(attachment.stderr));
    command.spawn().map_err(Error::system("start a supervisor"))?;
    Ok(Supervision { instance: instance.clone(), reports: ours })
}

const OWN_EXECUTABLE: &str = "/proc/self/exe";

/// This program on a detached read-only copy of its mount, which is what a supervisor executes itself from before it
/// makes anything of an instance (CVE-2019-5736): started from there, it need not. `None` where that is refused; the
/// supervisor sees to it then.
fn own_program() -> Option<OwnedFd> {
    itself::read_only_clone().ok()
}

/// Stops an instance; one that does not run is stopped already. Returns when everything of it has ended
/// and its supervisor is gone.
///
/// # Errors
/// When the supervisor cannot be asked.
pub fn stop(instance: &Instance, timeout: Option<Duration>) -> Result<(), Error> {
    let timeout_ms = timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
    match ask_whoever_it_is(instance, &Request::Stop { timeout_ms }) {
        Ok(_) | Err(Error::NotRunning(_) | Error::NoInstance(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Sends a signal to the instance's first process. `ending` says that the user wants it to end.
///
/// # Errors
/// When it does not run.
pub fn kill(instance: &Instance, signal: i32, ending: bool) -> Result<(), Error> {
    ask_whoever_it_is(instance, &Request::Kill { signal, ending }).map(drop)
}

/// Waits until the instance has ended for good, and tells how; `None` when it never ran.
///
/// # Errors
/// When its state cannot be read.
pub fn wait(instance: &Instance) -> Result<Option<LastExit>, Error> {
    match ask_whoever_it_is(instance, &Request::Wait) {
        Err(Error::NotRunning(_)) => Ok(instance.state()?.last_exit),
        other => other,
    }
}

/// Asks the supervisor, and the next one when it ends before it has answered.
fn ask_whoever_it_is(instance: &Instance, request: &Request) -> Result<Option<LastExit>, Error> {
    loop {
        reconcile(instance)?;
        match ask(instance, request) {
            Err(Error::SupervisorGone(_)) => std::thread::sleep(Duration::from_millis(5)),
            other => return other,
        }
    }
}

fn ask(instance: &Instance, request: &Request) -> Result<Option<LastExit>, Error> {
    let mut reader = BufReader::new(send(instance, request)?);
    match reply_of(instance, &mut reader)? {
        Reply::Done => Ok(None),
        Reply::Ended(exit) => {
            // The supervisor's end closes the connection; its lock is free then.
            let _ = reader.read_to_end(&mut Vec::new());
            Ok(exit)
        }
        Reply::Refused(reason) => Err(Error::Refused(reason)),
    }
}

fn send(instance: &Instance, request: &Request) -> Result<UnixStream, Error> {
    let mut connection = connect_to(instance)?;
    let mut line = serde_json::to_vec(request).map_err(|error| Error::Refused(error.to_string()))?;
    line.push(b'\n');
    // A supervisor that ends hangs up on those who have just connected.
    connection.write_all(&line).map_err(|_| Error::SupervisorGone(instance.name().clone()))?;
    Ok(connection)
}

fn reply_of(instance: &Instance, reader: &mut impl BufRead) -> Result<Reply, Error> {
    let gone = || Error::SupervisorGone(instance.name().clone());
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line).map_err(|_| gone())?;
    serde_json::from_slice(&line).map_err(|_| gone())
}

/// An instance that stands still for as long as this lives, and longer if its supervisor is killed meanwhile.
#[derive(Debug)]
pub(super) struct Pause(UnixStream);

impl Pause {
    /// Whether it has stood still all the time: its supervisor hangs up when it goes on, or ends.
    pub(super) fn held(&self) -> bool {
        let mut polled = [PollFd::new(&self.0, PollFlags::IN)];
        poll(&mut polled, Some(&Timespec::default())) == Ok(0)
    }
}

/// Freezes a running instance; `None` when it does not run.
pub(super) fn pause(instance: &Instance) -> Result<Option<Pause>, Error> {
    reconcile(instance)?;
    let connection = match send(instance, &Request::Pause) {
        Err(Error::NotRunning(_)) => return Ok(None),
        connection => connection?,
    };
    match reply_of(instance, &mut BufReader::new(&connection))? {
        Reply::Done => Ok(Some(Pause(connection))),
        Reply::Ended(_) => Ok(None),
        Reply::Refused(reason) => Err(Error::Refused(reason)),
    }
}

fn connect_to(instance: &Instance) -> Result<UnixStream, Error> {
    use rustix::io::Errno;
    let not_running = || Error::NotRunning(instance.name().clone());
    let failed = || Error::system("connect to the supervisor");
    let directory = instance.roots().control();
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = match rustix::fs::open(&directory, flags, Mode::empty()) {
        Ok(directory) => directory,
        Err(Errno::NOENT) => return Err(not_running()),
        Err(errno) => return Err(Error::file("open", &directory)(errno)),
    };
    let address = socket_address(&directory, instance).map_err(failed())?;
    let socket =
        socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).map_err(failed())?;
    match connect(&socket, &address) {
        Ok(()) => Ok(UnixStream::from(socket)),
        Err(Errno::NOENT | Errno::CONNREFUSED) => Err(not_running()),
        Err(errno) => Err(failed()(errno)),
    }
}

/// The socket's path through an open directory: a path of any length fits into `sun_path` this way.
pub(super) fn socket_address(
    directory: &OwnedFd,
    instance: &Instance,
) -> Result<SocketAddrUnix, rustix::io::Errno> {
    SocketAddrUnix::new(format!("/proc/self/fd/{}/{}", directory.as_raw_fd(), instance.name()))
}
