//! The entry of a program that starts thousands of times an hour, without the standard library's own.
//!
//! Before `main` the standard library reads `/proc/self/maps`, makes an alternate signal stack and installs
//! handlers that tell of an overflowing stack: twenty system calls for a process whose whole work is some two
//! hundred. What of its preparation matters here is done by [`prepare`].
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::Write as _;

/// Makes `main` of a function that returns its exit status, in a program with `#![no_main]`.
#[macro_export]
macro_rules! entry {
    ($run:path) => {
        /// The C library's entry.
        #[unsafe(no_mangle)]
        pub extern "C" fn main(
            _count: ::core::ffi::c_int,
            _arguments: *const *const ::core::ffi::c_char,
        ) -> ::core::ffi::c_int {
            $crate::sys::entry::prepare();
            let status: u8 = $run();
            $crate::sys::entry::finish();
            status.into()
        }
    };
}

/// What a program must not begin without: three standard streams, so that no file that is opened gets one of
/// their numbers, and writes to a closed pipe that fail instead of ending the process.
pub fn prepare() {
    let streams = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    let mut polled = streams.each_ref().map(|stream| PollFd::new(stream, PollFlags::empty()));
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let looked = poll(&mut polled, Some(&now));
    if looked.is_err() || polled.iter().any(|stream| stream.revents().contains(PollFlags::NVAL)) {
        open_missing_streams();
    }
    // SAFETY: SIGPIPE is a valid signal and SIG_IGN a valid disposition for it; no handler runs.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

/// `open(2)` gives the lowest number that is free: it is called until that is beyond the streams.
fn open_missing_streams() {
    loop {
        // SAFETY: the path is null-terminated and outlives the call.
        let fd = unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) };
        match fd {
            0..=2 => {}
            // A process without /dev/null and without streams has nobody to tell.
            -1 => super::clone::exit_now(1),
            beyond => {
                // SAFETY: this descriptor has just been opened here, and nothing else knows of it.
                unsafe { libc::close(beyond) };
                return;
            }
        }
    }
}

/// Writes what is left in the standard library's buffer. An output that nobody reads any more is no failure.
pub fn finish() {
    let _ = std::io::stdout().flush();
}
