//! What a new process of [`std::process::Command`] is given, and does before its `execve(2)`.
use super::clone::{Cloned, clone_child, exit_now};
use rustix::fs::MemfdFlags;
use rustix::io::{Errno, FdFlags};
use rustix::mount::MountPropagationFlags;
use rustix::process::{DumpableBehavior, Gid, Signal, Uid, WaitId, WaitIdOptions, waitid};
use rustix::thread::{
    ThreadNameSpaceType, UnshareFlags, move_into_thread_name_spaces, set_thread_res_gid, set_thread_res_uid,
};
use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// A file in memory, close-on-exec, for a command to read from or to write to: of a pipe, a process that is made meanwhile
/// would hold an end. See `memfd_create(2)`.
///
/// # Errors
/// The kernel's.
pub fn memory_file(name: &str) -> std::io::Result<File> {
    Ok(rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC)?.into())
}

/// Has the command's process join these namespaces of another process, see `setns(2)`, as root of a user
/// namespace that is among them, and then go to this directory.
pub fn join_before_exec(
    command: &mut Command,
    process: OwnedFd,
    namespaces: ThreadNameSpaceType,
    directory: CString,
) {
    let join = move || {
        if !namespaces.is_empty() {
            move_into_thread_name_spaces(process.as_fd(), namespaces)?;
        }
        if namespaces.contains(ThreadNameSpaceType::USER) {
            set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)?;
            set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)?;
        }
        Ok(rustix::process::chdir(directory.as_c_str())?)
    };
    // SAFETY: between fork and exec the closure makes system calls only, on values made before; it
    // neither allocates nor locks.
    unsafe { command.pre_exec(join) };
}

/// Has the command's process hold this descriptor until it ends, and with it a lock of `flock(2)`: what it does is over
/// before another has the lock, also when this process is killed meanwhile.
pub fn hold_in_exec(command: &mut Command, descriptor: OwnedFd) {
    let hold = move || Ok(rustix::io::fcntl_setfd(&descriptor, FdFlags::empty())?);
    // SAFETY: as above, a system call only.
    unsafe { command.pre_exec(hold) };
}

/// Has the command's process start with every signal unblocked and SIGPIPE as the kernel has it, whatever this one has.
pub fn reset_signals_in_exec(command: &mut Command) {
    let reset = || {
        super::exec::reset_signals();
        Ok(())
    };
    // SAFETY: as above, system calls only.
    unsafe { command.pre_exec(reset) };
}

/// As [`join_before_exec`], for a caller without privileges over any of these namespaces but the user
/// namespace, which is its own: that is joined first. The program runs in a process of its own, born into the
/// pid namespace; the command's process waits for it and ends as it does, and takes it along when it is killed.
pub fn join_as_owner_before_exec(
    command: &mut Command,
    process: OwnedFd,
    namespaces: ThreadNameSpaceType,
    directory: CString,
) {
    let join = move || {
        // Until execve it holds descriptors of the host, which are nobody's business inside.
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
        move_into_thread_name_spaces(process.as_fd(), ThreadNameSpaceType::USER)?;
        set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)?;
        set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)?;
        let others = namespaces.difference(ThreadNameSpaceType::USER) | ThreadNameSpaceType::PROCESS_ID;
        move_into_thread_name_spaces(process.as_fd(), others)?;
        rustix::process::chdir(directory.as_c_str())?;
        match clone_child(0, None)? {
            Cloned::Child => Ok(rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?),
            Cloned::Parent { pidfd, .. } => await_and_end(pidfd.as_fd()),
        }
    };
    // SAFETY: as above, system calls only; the process that waits never returns into the program.
    unsafe { command.pre_exec(join) };
}

/// Waits for a child with no other descriptor open, for whoever reads from one of ours waits for its end, and
/// ends as a shell would for it.
fn await_and_end(child: BorrowedFd<'_>) -> std::io::Result<()> {
    super::fd::become_standard_stream(child, 0)?;
    super::fd::close_between(1, u32::MAX)?;
    let status = loop {
        match waitid(WaitId::PidFd(rustix::stdio::stdin()), WaitIdOptions::EXITED) {
            Err(Errno::INTR) => {}
            done => break done?,
        }
    };
    let status =
        status.and_then(|status| status.exit_status().or(status.terminating_signal().map(|n| 128 + n)));
    exit_now(status.unwrap_or(1))
}

/// Has the command's process work in a mount namespace of its own, from which nothing spreads to the host. What
/// the host mounts still spreads to it: a container's mounts may have been saved as slaves of the host's, and
/// CRIU joins them to the same peer groups again.
pub fn isolate_before_exec(command: &mut Command) {
    let isolate = || {
        super::namespace::unshare(UnshareFlags::NEWNS)?;
        let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
        Ok(rustix::mount::mount_change(c"/", slave)?)
    };
    // SAFETY: as above, system calls only.
    unsafe { command.pre_exec(isolate) };
}
