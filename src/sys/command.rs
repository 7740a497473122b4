//! What a new process of [`std::process::Command`] does before its `execve(2)`.
use rustix::mount::MountPropagationFlags;
use rustix::process::{Gid, Uid};
use rustix::thread::{
    ThreadNameSpaceType, UnshareFlags, move_into_thread_name_spaces, set_thread_res_gid, set_thread_res_uid,
};
use std::ffi::CString;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

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
