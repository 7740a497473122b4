//! What a supervisor waits for, and what of it has come.
use super::life::Life;
use crate::service::Error;
use crate::service::log::Stream;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

/// Something that a supervisor waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// A signal to the supervisor itself.
    Signal,
    /// The command that started the supervisor has gone.
    Reports,
    /// Somebody connects.
    Listener,
    /// A request, by index.
    Connection(usize),
    /// The instance has ended.
    Process,
    /// Output, by index.
    Output(usize),
    /// The attached command takes more.
    Copy(Stream),
}

/// Waits until something happens or a deadline passes, and tells what.
pub(super) fn wait(life: &Life, deadline: Option<Instant>) -> Result<Vec<Source>, Error> {
    let (sources, mut polled) = interests(life);
    let timeout = deadline.map(|at| timespec(at.saturating_duration_since(Instant::now())));
    match poll(&mut polled, timeout.as_ref()) {
        Ok(_) => {}
        Err(Errno::INTR) => return Ok(Vec::new()),
        Err(errno) => return Err(Error::system("wait for the instance")(errno)),
    }
    let ready = polled.iter().zip(sources).filter(|(polled, _)| !polled.revents().is_empty());
    Ok(ready.map(|(_, source)| source).collect())
}

fn interests(life: &Life) -> (Vec<Source>, Vec<PollFd<'_>>) {
    let mut sources = Vec::with_capacity(8);
    let mut polled = Vec::with_capacity(8);
    let mut add = |source, fd, flags| {
        sources.push(source);
        polled.push(PollFd::from_borrowed_fd(fd, flags));
    };
    add(Source::Signal, life.signals.as_fd(), PollFlags::IN);
    if let Some(reports) = &life.reports.0 {
        add(Source::Reports, reports.as_fd(), PollFlags::IN);
    }
    if !life.connections.is_full() {
        add(Source::Listener, life.connections.listener.as_fd(), PollFlags::IN);
    }
    for (index, connection) in life.connections.open.iter().enumerate() {
        add(Source::Connection(index), connection.stream.as_fd(), PollFlags::IN);
    }
    for stream in [Stream::Stdout, Stream::Stderr] {
        if let Some(copy) = life.attached.copies.get(stream).filter(|copy| !copy.pending.is_empty()) {
            add(Source::Copy(stream), copy.target.as_fd(), PollFlags::OUT);
        }
    }
    if let Some(running) = &life.running {
        add(Source::Process, running.pidfd.as_fd(), PollFlags::IN);
        for (index, output) in running.outputs.iter().enumerate() {
            if !output.ended && life.reads(output) {
                add(Source::Output(index), output.source.as_fd(), PollFlags::IN);
            }
        }
    }
    (sources, polled)
}

/// Rounded up, so that the deadline has passed when the wait is over.
fn timespec(duration: Duration) -> Timespec {
    let tv_sec = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    Timespec { tv_sec, tv_nsec: i64::from(duration.subsec_nanos().saturating_add(1_000).min(999_999_999)) }
}
