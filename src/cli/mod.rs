//! Argument parsing and printing, and nothing else: [`service`] for `wharf`, [`oci`] for `wharf-oci`, and
//! [`terminal`] for both.
use anyhow::Context as _;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{ErrorKind, Write as _};

/// A line on standard error, in one piece. One that cannot be written is no reason to panic: the exit status tells too.
macro_rules! tell {
    ($($words:tt)*) => {{
        use std::io::Write as _;
        let _ = std::io::stderr().write_all(format!("{}\n", format_args!($($words)*)).as_bytes());
    }};
}

/// Text on standard output, as it is. Returns the error of a write that fails.
macro_rules! show {
    ($($words:tt)*) => { crate::cli::show(&format!($($words)*)) };
}

fn show(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    written(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// What came of a write to standard output. A reader that has gone away is no failure of ours.
fn written(result: std::io::Result<()>) -> anyhow::Result<()> {
    match result {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("write to standard output"),
        _ => Ok(()),
    }
}

/// Whether the reader of standard output has gone away: what prints until it is stopped has nothing more to do then.
fn is_unread() -> bool {
    let output = rustix::stdio::stdout();
    let mut polled = [PollFd::new(&output, PollFlags::empty())];
    let looked = poll(&mut polled, Some(&Timespec::default()));
    looked.is_ok() && polled[0].revents().intersects(PollFlags::ERR | PollFlags::HUP)
}

mod failure;
pub mod oci;
mod printable;
pub mod service;
pub mod terminal;
mod usage;
