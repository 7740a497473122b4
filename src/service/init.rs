//! Process 1 of an instance that was started with `--init`: starts the service as its child, passes
//! signals on to it, and reaps every orphan.
use crate::service::{NOT_EXECUTABLE, NOT_FOUND, OWN_FAILURE};
use crate::sys::command::reset_signals_in_exec;
use crate::sys::signal;
use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::process::Command;

/// Signals that concern this process and are not passed on.
const KEPT: [i32; 7] =
    [libc::SIGCHLD, libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGABRT, libc::SIGSYS];

/// The command that makes the program this, with a program and its arguments after it.
pub const COMMAND: &str = "init";

/// Runs `command` and returns its exit status, 128 and the signal's number when a signal ended it.
pub fn run(command: &[OsString]) -> u8 {
    let Some((program, arguments)) = command.split_first() else { return OWN_FAILURE };
    let waited = signal::all();
    if sigprocmask(SigmaskHow::SIG_SETMASK, Some(&waited), None).is_err() {
        return OWN_FAILURE;
    }
    let mut command = Command::new(program);
    command.args(arguments);
    reset_signals_in_exec(&mut command);
    match command.spawn() {
        Ok(child) => match i32::try_from(child.id()) {
            Ok(pid) => attend(Pid::from_raw(pid), &waited),
            Err(_) => OWN_FAILURE,
        },
        Err(error) => {
            // The exit status tells whoever cannot be told so.
            let _ = writeln!(io::stderr(), "wharf: execute {}: {error}", program.to_string_lossy());
            if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE }
        }
    }
}

fn attend(service: Pid, waited: &SigSet) -> u8 {
    loop {
        // Ended children first: they may have ended before the first wait for a signal.
        if let Some(status) = reap(service) {
            return status;
        }
        match signal::wait(waited) {
            // The service may have ended a moment ago; its end is seen in the next round.
            Ok(signal) if !KEPT.contains(&signal) => drop(signal::send(service, signal)),
            _ => {}
        }
    }
}

/// Reaps every ended child; the exit status of the service when it was among them.
fn reap(service: Pid) -> Option<u8> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == service => {
                return Some(u8::try_from(code).unwrap_or(u8::MAX));
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == service => {
                return Some(u8::try_from(128 + signal as i32).unwrap_or(u8::MAX));
            }
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return None,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return None,
        }
    }
}
