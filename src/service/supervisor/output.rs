//! What the instance prints: from its FIFO or terminal into the log, and to whoever is attached.
//!
//! The instance holds a FIFO of its directory open for reading and writing. It can therefore never be
//! left without a reader (no SIGPIPE, no EPIPE): with its supervisor killed it goes on until the FIFO is
//! full, then waits, and the next supervisor reads on from the same FIFO.
use crate::service::log::{Stream, Writer};
use crate::service::{Error, Instance};
use rustix::fs::{FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;

/// Read at once, bytes.
const CHUNK: usize = 16 * 1024;

/// A source of output.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) source: OwnedFd,
    pub(super) stream: Stream,
    /// Every writer has closed it.
    pub(super) ended: bool,
}

/// A copy of a stream for the command that started the instance.
#[derive(Debug)]
pub(super) struct Copy {
    pub(super) target: OwnedFd,
    /// What the target has not taken yet. While there is something, no more is read of the source.
    pub(super) pending: Vec<u8>,
}

/// Both copies.
#[derive(Debug, Default)]
pub(super) struct Copies {
    pub(super) stdout: Option<Copy>,
    pub(super) stderr: Option<Copy>,
}

/// Opens an instance's FIFO for the supervisor, making it when it is missing.
pub(super) fn open(instance: &Instance, stream: Stream) -> Result<Output, Error> {
    let path = fifo(instance, stream);
    match rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(Error::file("make", &path)(errno)),
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let source = rustix::fs::open(&path, flags, Mode::empty()).map_err(Error::file("open", &path))?;
    Ok(Output { source, stream, ended: false })
}

/// Opens the instance's own end. It belongs to the instance's user, who may open it again as
/// /dev/stdout.
pub(super) fn open_for_instance(
    instance: &Instance,
    stream: Stream,
    user: (u32, u32),
) -> Result<OwnedFd, Error> {
    let path = fifo(instance, stream);
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::open(&path, flags, Mode::empty()).map_err(Error::file("open", &path))?;
    let (uid, gid) = (Uid::from_raw(user.0), Gid::from_raw(user.1));
    rustix::fs::fchown(&file, Some(uid), Some(gid)).map_err(Error::file("give away", &path))?;
    Ok(file)
}

fn fifo(instance: &Instance, stream: Stream) -> PathBuf {
    instance.path(match stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    })
}

impl Output {
    /// Reads what is there, once; false when there is nothing for now.
    pub(super) fn read(&mut self, log: &mut Writer, copies: &mut Copies) -> bool {
        let mut buffer = [0; CHUNK];
        let count = match rustix::io::read(&self.source, &mut buffer) {
            Ok(count) if count > 0 => count,
            Err(Errno::INTR) => return true,
            Err(Errno::AGAIN) => return false,
            // End of file, or EIO of a terminal that nobody has open any more.
            _ => {
                self.ended = true;
                return false;
            }
        };
        // A full disk must not stop the service; what is lost is lost to the log only.
        let _ = log.write(self.stream, &buffer[..count]);
        copies.push(self.stream, &buffer[..count]);
        true
    }
}

impl Copies {
    pub(super) fn of(stdout: Option<OwnedFd>, stderr: Option<OwnedFd>) -> Self {
        let copy = |fd: OwnedFd| Copy { target: fd, pending: Vec::new() };
        Self { stdout: stdout.map(copy), stderr: stderr.map(copy) }
    }

    pub(super) fn get(&self, stream: Stream) -> Option<&Copy> {
        match stream {
            Stream::Stdout => self.stdout.as_ref(),
            Stream::Stderr => self.stderr.as_ref(),
        }
    }

    fn slot(&mut self, stream: Stream) -> &mut Option<Copy> {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }

    fn push(&mut self, stream: Stream, bytes: &[u8]) {
        if let Some(copy) = self.slot(stream) {
            copy.pending.extend_from_slice(bytes);
        }
        self.flush(stream);
    }

    /// Writes what the target takes; forgets a target that has been closed.
    pub(super) fn flush(&mut self, stream: Stream) {
        let slot = self.slot(stream);
        while let Some(copy) = slot.as_mut().filter(|copy| !copy.pending.is_empty()) {
            match rustix::io::write(copy.target.as_fd(), &copy.pending) {
                Ok(count) => {
                    copy.pending.drain(..count);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => *slot = None,
            }
        }
    }

    /// Whether a stream's target still has to take something.
    pub(super) fn is_behind(&self, stream: Stream) -> bool {
        self.get(stream).is_some_and(|copy| !copy.pending.is_empty())
    }
}
