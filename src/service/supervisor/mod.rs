//! The process that stands by an instance from its start to its end: this program, executed again.
//!
//! One thread, one `poll(2)` over: the instance's pidfd, its output, the socket that commands connect to,
//! the socket pair to the command that started it, signals, and two deadlines (when to kill what does not
//! stop, when to start what has ended). Whatever kills it, the files and the kernel hold all it knew.

mod connections;
mod exit;
mod joining;
mod launch;
mod life;
mod output;
mod root;
mod waiting;

use super::client::Purpose;
use super::control::Report;
use super::lock::SupervisorLock;
use super::{Error, Instance, Roots};
use crate::container::seal;
use crate::sys::descriptor;
use crate::sys::fd::{adopt, become_standard_stream};
use life::Life;
use output::Copies;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::net::SendFlags;
use std::ffi::OsString;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

/// A supervisor that has just told of its end still holds the lock for a moment.
const PATIENCE: Duration = Duration::from_millis(300);

/// The command that makes the program a supervisor, with its arguments after it.
pub const COMMAND: &str = "supervise";

/// What the command that starts a supervisor tells it.
#[derive(Debug)]
pub(super) struct Arguments {
    pub(super) purpose: Purpose,
    /// Number of the descriptor for reports.
    pub(super) reports: RawFd,
    /// Name of the instance.
    pub(super) name: String,
    /// Root of the user's choice.
    pub(super) root: Option<PathBuf>,
}

impl Arguments {
    /// As words of a command line.
    pub(super) fn words(self) -> impl Iterator<Item = OsString> {
        let words = [self.purpose.word().into(), self.reports.to_string().into(), self.name.into()];
        words.into_iter().chain(self.root.map(OsString::from))
    }

    fn read(mut words: impl Iterator<Item = OsString>) -> Option<Self> {
        let mut text = || words.next()?.into_string().ok();
        let purpose = Purpose::of_word(&text()?)?;
        let (reports, name) = (text()?.parse().ok()?, text()?);
        Some(Self { purpose, reports, name, root: words.next().map(PathBuf::from) })
    }
}

/// Runs as a supervisor until the instance has ended for good; returns the exit status.
pub fn main(words: impl Iterator<Item = OsString>) -> u8 {
    // Before anything of an instance exists, for it could reach this program's file (CVE-2019-5736).
    let sealed = seal::ensure().map_err(Error::from);
    let Some(arguments) = Arguments::read(words) else { return super::OWN_FAILURE };
    let Ok(reports) = Reports::adopt(arguments.reports) else { return super::OWN_FAILURE };
    match sealed.and_then(|()| supervise(&arguments, reports.clone())) {
        Ok(()) => 0,
        Err(error) => {
            reports.send(&failure(&error), None);
            super::OWN_FAILURE
        }
    }
}

fn supervise(arguments: &Arguments, reports: Reports) -> Result<(), Error> {
    // It was executed by a descriptor, whose number would be its name.
    let _ = rustix::thread::set_name(c"wharf");
    let roots = Roots::new(arguments.root.as_deref())?;
    let attached = leave_the_caller()?;
    let instance = Instance::find(&roots, &arguments.name)?;
    let Some(lock) = SupervisorLock::take_within(&instance.path("supervisor.lock"), PATIENCE)? else {
        reports.send(&Report::Busy, None);
        return Ok(());
    };
    Life::begin(instance, lock, attached, reports, arguments.purpose)?.live()
}

/// Standard streams of the command that started this supervisor, as far as it gave any.
#[derive(Debug, Default)]
struct Attached {
    stdin: Option<OwnedFd>,
    copies: Copies,
}

/// Leaves the caller's session and directory, and takes its standard streams away from their numbers.
fn leave_the_caller() -> Result<Attached, Error> {
    let failed = || Error::system("become a process of its own");
    // Fails only for the leader of a process group, which a process just made is not.
    let _ = rustix::process::setsid();
    rustix::process::chdir("/").map_err(failed())?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let null =
        rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map_err(failed())?;
    let mut taken = [None, None, None];
    for (number, slot) in taken.iter_mut().enumerate() {
        let number = u8::try_from(number).unwrap_or(u8::MAX);
        *slot = pipe_at(number).map_err(failed())?;
        become_standard_stream(null.as_fd(), number).map_err(failed())?;
    }
    let [stdin, stdout, stderr] = taken;
    for copy in [&stdout, &stderr].into_iter().flatten() {
        rustix::io::ioctl_fionbio(copy, true).map_err(failed())?;
    }
    Ok(Attached { stdin, copies: Copies::of(stdout, stderr) })
}

/// A pipe at the number of a standard stream; everything else there is /dev/null.
fn pipe_at(number: u8) -> Result<Option<OwnedFd>, rustix::io::Errno> {
    let stream: BorrowedFd<'_> = match number {
        0 => rustix::stdio::stdin(),
        1 => rustix::stdio::stdout(),
        _ => rustix::stdio::stderr(),
    };
    let is_pipe = FileType::from_raw_mode(rustix::fs::fstat(stream)?.st_mode) == FileType::Fifo;
    is_pipe.then(|| rustix::io::fcntl_dupfd_cloexec(stream, 3)).transpose()
}

/// The way back to the command that started this supervisor, for as long as it listens.
#[derive(Debug, Clone)]
struct Reports(Option<Rc<OwnedFd>>);

impl Reports {
    fn adopt(number: RawFd) -> Result<Self, Error> {
        let failed = || Error::system("take the descriptor for reports");
        let socket = adopt(number).map_err(failed())?;
        rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC).map_err(failed())?;
        Ok(Self(Some(Rc::new(socket))))
    }

    /// Tells; nobody may be listening any more.
    fn send(&self, report: &Report, descriptor: Option<BorrowedFd<'_>>) -> bool {
        let Some(socket) = &self.0 else { return false };
        let Ok(text) = serde_json::to_vec(report) else { return false };
        descriptor::send(socket.as_fd(), &text, descriptor, SendFlags::DONTWAIT).is_ok()
    }
}

fn failure(error: &Error) -> Report {
    Report::Failed { message: error.to_string(), exit_code: error.exit_code() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_supervisor_reads_what_it_was_told() {
        for root in [None, Some(PathBuf::from("/a b"))] {
            let told =
                Arguments { purpose: Purpose::Adopt, reports: 7, name: "web".to_owned(), root: root.clone() };
            let read = Arguments::read(told.words()).unwrap();
            assert_eq!((read.purpose, read.reports, read.name.as_str()), (Purpose::Adopt, 7, "web"));
            assert_eq!(read.root, root);
        }
        assert!(Arguments::read(["start", "x", "web"].map(OsString::from).into_iter()).is_none());
        assert!(Arguments::read(std::iter::empty()).is_none());
    }
}
