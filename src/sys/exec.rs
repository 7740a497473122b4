//! `execve(2)`, and what a process must put right before it.
use super::clone::last_errno;
use super::itself;
use rustix::io::Errno;
use std::ffi::{CStr, CString, OsString, c_char};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;

/// A null-terminated array of C strings, ready for `execve(2)`.
#[derive(Debug)]
pub struct StringArray {
    strings: Vec<CString>,
    pointers: Vec<*const c_char>,
}

impl StringArray {
    /// Takes the strings; their order is kept.
    pub fn new(strings: Vec<CString>) -> Self {
        let pointers =
            strings.iter().map(|string| string.as_ptr()).chain(std::iter::once(std::ptr::null())).collect();
        Self { strings, pointers }
    }

    /// The strings.
    pub fn strings(&self) -> &[CString] {
        &self.strings
    }
}

/// Executes a program; returns only the reason why it could not. See `execve(2)`.
pub fn execve(path: &CStr, arguments: &StringArray, environment: &StringArray) -> Errno {
    // SAFETY: both arrays end in a null pointer and point into C strings that the arrays own and never
    // change; the path is null-terminated by its type.
    unsafe { libc::execve(path.as_ptr(), arguments.pointers.as_ptr(), environment.pointers.as_ptr()) };
    last_errno()
}

/// Executes an open file with the program's own arguments and environment; returns only the reason why it could not.
pub fn execute_again(file: OwnedFd) -> Errno {
    let text = |text: OsString| CString::new(text.into_vec()).unwrap_or_default();
    let arguments = StringArray::new(super::entry::arguments().into_iter().map(text).collect());
    let variables = std::env::vars_os().map(|(mut key, value)| {
        key.push("=");
        key.push(value);
        text(key)
    });
    let environment = StringArray::new(variables.collect());
    // SAFETY: as for `execve`.
    unsafe { itself::execute(file, arguments.pointers.as_ptr(), environment.pointers.as_ptr()) }
}

/// Gives every signal its default action and unblocks all, so that the program does not inherit the
/// runtime's ignored SIGPIPE or blocked signals. See `sigaction(2)` and `sigprocmask(2)`.
///
/// `CLONE_CLEAR_SIGHAND` has reset handlers already; ignored signals are left to do here.
pub fn reset_signals() {
    // SAFETY: an all-zero sigset_t and sigaction are valid (empty mask, SIG_DFL), and the calls only
    // change this process's own signal state.
    unsafe {
        let action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(libc::SIGPIPE, &raw const action, std::ptr::null_mut());
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}
