//! Seccomp: an OCI profile is compiled into one BPF program.
//!
//! ```text
//! linux.seccomp ── filter ──▶ Filter: per architecture, number → verdict
//!                                │ program: ranges of numbers, a search tree, blocks of comparisons
//!                                ▼
//!                             Program ── sys::seccomp::install, in the child
//! ```
//!
//! Where profiles leave room, they mean what they mean to runc and libseccomp:
//! - names that an architecture does not have are skipped;
//! - a rule whose action is the default action says nothing;
//! - a rule without arguments decides alone, wherever it stands; of several, the first. Otherwise the
//!   rules of a call are tried in order;
//! - the arguments of a rule must all match, unless two of them look at the same argument: then any may;
//! - a call newer than the newest one the profile names fails with `ENOSYS`, not with the default
//!   action, so that programs fall back to an older call as they would on an older kernel;
//! - an architecture the profile does not list kills the process.

mod agent;
mod arch;
mod assembler;
mod default_calls;
mod default_profile;
mod filter;
#[cfg(test)]
mod interpreter;
mod program;
#[cfg(test)]
mod tests;

pub use agent::{Agent, Listening};
pub use default_profile::default_profile;

use arch::Family;
use libc::{
    SECCOMP_FILTER_FLAG_LOG, SECCOMP_FILTER_FLAG_NEW_LISTENER, SECCOMP_FILTER_FLAG_SPEC_ALLOW,
    SECCOMP_FILTER_FLAG_TSYNC, SECCOMP_FILTER_FLAG_TSYNC_ESRCH, SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
};
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompFilterFlag};

/// A profile that cannot become a program; the message names the JSON path.
#[derive(Debug, thiserror::Error)]
#[error("linux.seccomp{path}: {reason}")]
pub struct Error {
    /// Path below `linux.seccomp`, such as `.syscalls[3].args[0]`.
    pub path: String,
    /// What is wrong, and what to do.
    pub reason: String,
}

impl Error {
    fn new(path: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { path: path.into(), reason: reason.into() }
    }
}

/// A BPF program and how to install it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The filter, for `seccomp(SECCOMP_SET_MODE_FILTER)`.
    pub instructions: Vec<seccompiler::sock_filter>,
    /// `SECCOMP_FILTER_FLAG_*`.
    pub flags: u64,
    /// The profile notifies: installing the program yields a listener, which belongs to the socket at
    /// `linux.seccomp.listenerPath`. `flags` asks for it already.
    pub listener: bool,
}

/// Compiles `linux.seccomp`.
///
/// # Errors
/// Names the JSON path.
pub fn compile(profile: &LinuxSeccomp) -> Result<Program, Error> {
    let family = Family::native().ok_or_else(|| {
        Error::new(
            "",
            "wharf knows no system call table for this machine; remove linux.seccomp to run without",
        )
    })?;
    compile_for(profile, family)
}

fn compile_for(profile: &LinuxSeccomp, family: Family) -> Result<Program, Error> {
    let listener = notifies(profile);
    check_listener(profile, listener)?;
    let flags = flags(profile, listener)?;
    let filter = filter::resolve(profile, family)?;
    Ok(Program { instructions: program::assemble(&filter)?, flags, listener })
}

fn notifies(profile: &LinuxSeccomp) -> bool {
    profile.syscalls().iter().flatten().any(|s| s.action() == LinuxSeccompAction::ScmpActNotify)
}

/// runtime-spec config-linux.md#seccomp, `listenerPath` and `listenerMetadata`.
fn check_listener(profile: &LinuxSeccomp, listener: bool) -> Result<(), Error> {
    if profile.default_action() == LinuxSeccompAction::ScmpActNotify {
        return Err(Error::new(
            ".defaultAction",
            "SCMP_ACT_NOTIFY would have an agent answer for every system call; give it to single calls",
        ));
    }
    match (profile.listener_path(), profile.listener_metadata()) {
        (None, _) if listener => Err(Error::new(
            ".listenerPath",
            "missing, and SCMP_ACT_NOTIFY needs a socket to send the listener to",
        )),
        (None, Some(metadata)) if !metadata.is_empty() => {
            Err(Error::new(".listenerMetadata", "given without listenerPath"))
        }
        (Some(path), _) if listener => {
            // unix(7): sun_path holds 108 bytes with the null byte at its end.
            let fits = (1..=107).contains(&path.as_os_str().len()) && path.is_absolute();
            let refused = || Error::new(".listenerPath", "must be an absolute path of at most 107 bytes");
            if fits { Ok(()) } else { Err(refused()) }
        }
        _ => Ok(()),
    }
}

fn flags(profile: &LinuxSeccomp, listener: bool) -> Result<u64, Error> {
    let mut flags = 0;
    if listener {
        flags |= SECCOMP_FILTER_FLAG_NEW_LISTENER;
    }
    let Some(named) = profile.flags() else {
        // As runc: without it, kernels before 5.16 slow every process under a filter down by turning
        // speculative store bypass off.
        return Ok(flags | SECCOMP_FILTER_FLAG_SPEC_ALLOW);
    };
    for (index, flag) in named.iter().enumerate() {
        flags |= match flag {
            // With a listener, seccomp(2) reports the thread that cannot follow by ESRCH, or not at all.
            LinuxSeccompFilterFlag::SeccompFilterFlagTsync if listener => {
                SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_TSYNC_ESRCH
            }
            LinuxSeccompFilterFlag::SeccompFilterFlagTsync => SECCOMP_FILTER_FLAG_TSYNC,
            LinuxSeccompFilterFlag::SeccompFilterFlagLog => SECCOMP_FILTER_FLAG_LOG,
            LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => SECCOMP_FILTER_FLAG_SPEC_ALLOW,
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv if listener => {
                SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
            }
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => {
                return Err(Error::new(
                    format!(".flags[{index}]"),
                    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV needs a rule with SCMP_ACT_NOTIFY",
                ));
            }
        };
    }
    Ok(flags)
}
