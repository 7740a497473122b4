//! The entry of a program that starts thousands of times an hour, without the standard library's own.
//!
//! Before `main` the standard library reads `/proc/self/maps`, makes an alternate signal stack and installs
//! handlers that tell of an overflowing stack: twenty system calls for a process whose whole work is some two
//! hundred. What of its preparation matters here is done by [`prepare`].
//!
//! And before the C library's own start a program that is to run sealed is moved to a read-only mount ([`begin`]).
use super::in_place::Start;
use super::itself;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::ffi::{CStr, OsStr, OsString, c_char};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};

/// Makes `main` of a function that returns its exit status, in a program with `#![no_main]`; where an argument is one
/// of `sealed`, it runs from a read-only mount from the start, if that can be made.
///
/// The linker is told by `build.rs` to have the program begin at `wharf_begin`.
#[macro_export]
macro_rules! entry {
    ($run:path, sealed: $sealed:path) => {
        $crate::begin_at!($sealed);
        $crate::entry!($run);
    };
    ($run:path) => {
        /// The C library's entry.
        ///
        /// # Safety
        /// Called by the C library, with the arguments of the process.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn main(
            _count: ::core::ffi::c_int,
            arguments: *const *const ::core::ffi::c_char,
        ) -> ::core::ffi::c_int {
            // SAFETY: these are the arguments of the process, which stay where they are until it ends.
            unsafe { $crate::sys::entry::keep_arguments(arguments) };
            $crate::sys::entry::prepare();
            let status: u8 = $run();
            $crate::sys::entry::finish();
            status.into()
        }
    };
}

/// The first instructions of the program: [`begin`] with the stack as the kernel has made it, then the C library's
/// own start, with the stack and registers as they were.
#[macro_export]
macro_rules! begin_at {
    ($sealed:path) => {
        #[cfg(any(target_arch = "aarch64", target_arch = "x86_64"))]
        const _: () = {
            extern "C" fn begin(stack: *const usize) {
                // SAFETY: the kernel's stack is handed over unchanged.
                unsafe { $crate::sys::entry::begin(stack, &$sealed) }
            }

            /// Where the kernel enters the program.
            #[cfg(target_arch = "x86_64")]
            #[unsafe(naked)]
            #[unsafe(no_mangle)]
            unsafe extern "C" fn wharf_begin() -> ! {
                ::core::arch::naked_asm!(
                    "mov rbx, rsp",
                    "mov rdi, rsp",
                    "xor ebp, ebp",
                    "call {begin}",
                    "mov rsp, rbx",
                    "xor edx, edx",
                    "jmp _start",
                    begin = sym begin,
                )
            }

            /// Where the kernel enters the program.
            #[cfg(target_arch = "aarch64")]
            #[unsafe(naked)]
            #[unsafe(no_mangle)]
            unsafe extern "C" fn wharf_begin() -> ! {
                ::core::arch::naked_asm!(
                    "mov x19, sp",
                    "mov x0, sp",
                    "bl {begin}",
                    "mov sp, x19",
                    "mov x0, xzr",
                    "b _start",
                    begin = sym begin,
                )
            }
        };
    };
}

/// Moves the program to a read-only mount when one of its arguments is one of these words and it is not running from
/// one already: in place where the kernel can, by a second execution otherwise. Returns when there is nothing to do, when it is
/// done, or when it cannot be done.
///
/// Called before the C library is ready: see [`itself`].
///
/// # Safety
/// `stack` is the stack pointer that the kernel has started the program with, and nothing of it has run before.
pub unsafe fn begin(stack: *const usize, words: &[&CStr]) {
    // SAFETY: by the caller's word.
    let start = unsafe { Start::of(stack) };
    // SAFETY: `Start` holds the kernel's arrays.
    let is_wanted = start.is_at_its_addresses() && unsafe { holds_one_of(start.arguments(), words) };
    if !is_wanted || itself::is_on_read_only_mount() {
        return;
    }
    // What comes back from here could not be moved, and the program tries and tells by itself.
    if let Ok(clone) = itself::read_only_clone() {
        // SAFETY: by the caller's word.
        unsafe { itself::move_to(clone, &start) };
    }
}

/// # Safety
/// The arguments are C strings, and end in a null pointer.
unsafe fn holds_one_of(mut arguments: *const *const c_char, words: &[&CStr]) -> bool {
    // SAFETY: by the caller's word, up to and with the null pointer.
    unsafe {
        while !arguments.read().is_null() {
            if words.iter().any(|word| is_same(arguments.read(), word.as_ptr())) {
                return true;
            }
            arguments = arguments.add(1);
        }
    }
    false
}

/// # Safety
/// Both are C strings.
unsafe fn is_same(mut one: *const c_char, mut other: *const c_char) -> bool {
    // SAFETY: by the caller's word; no byte after the end of either is read.
    unsafe {
        // Volatile, so that no compiler makes a call of the C library out of this.
        while one.read_volatile() == other.read_volatile() {
            if one.read_volatile() == 0 {
                return true;
            }
            (one, other) = (one.add(1), other.add(1));
        }
    }
    false
}

static ARGUMENTS: AtomicPtr<*const c_char> = AtomicPtr::new(null_mut());

/// Keeps the arguments that `main` is given, for [`arguments`]: the standard library learns of them before a `main` of its
/// own alone, but for one C library.
///
/// # Safety
/// These are C strings, and a null pointer after them, that nobody changes from now on.
pub unsafe fn keep_arguments(arguments: *const *const c_char) {
    ARGUMENTS.store(arguments.cast_mut(), Ordering::Release);
}

/// The arguments of the program, its name first, as `main` was given them.
pub fn arguments() -> Vec<OsString> {
    let mut next = ARGUMENTS.load(Ordering::Acquire).cast_const();
    let mut arguments = Vec::new();
    // SAFETY: by the word of `keep_arguments`'s caller, up to and with the null pointer.
    unsafe {
        while !next.is_null() && !next.read().is_null() {
            arguments.push(OsStr::from_bytes(CStr::from_ptr(next.read()).to_bytes()).to_owned());
            next = next.add(1);
        }
    }
    arguments
}

/// An address below which the stack of the first thread is, or 0 in a program without [`entry!`](crate::entry): the kernel
/// puts the arguments there.
pub fn stack_bottom() -> usize {
    ARGUMENTS.load(Ordering::Acquire) as usize
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
