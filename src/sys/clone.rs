//! `clone3(2)`: a child in new namespaces and a chosen cgroup, with a pidfd.
use rustix::io::Errno;
use rustix::process::Pid;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// `linux/sched.h`; libc declares these two with a type too narrow for them.
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Which side of the clone is running.
#[derive(Debug)]
pub enum Cloned {
    /// The caller, with its new child.
    Parent {
        /// The child's pid in the caller's pid namespace.
        pid: Pid,
        /// The child's pidfd, close-on-exec.
        pidfd: OwnedFd,
    },
    /// The child. It must end in `execve` or [`exit_now`], and neither allocate nor lock.
    Child,
}

/// Clones the calling process with `namespaces` (`CLONE_NEW*`) and, where given, into a cgroup v2
/// directory. Signal handlers of the caller are reset in the child (`CLONE_CLEAR_SIGHAND`).
///
/// # Errors
/// The kernel's, see `clone3(2)`.
pub fn clone_child(namespaces: u64, cgroup: Option<BorrowedFd<'_>>) -> Result<Cloned, Errno> {
    clone(namespaces, libc::SIGCHLD as u64, cgroup)
}

/// As [`clone_child`], but the new process is a child of the caller's parent (`CLONE_PARENT`), which it
/// signals as the caller does.
///
/// # Errors
/// The kernel's, see `clone3(2)`.
pub fn clone_sibling(namespaces: u64, cgroup: Option<BorrowedFd<'_>>) -> Result<Cloned, Errno> {
    clone(namespaces | libc::CLONE_PARENT as u64, 0, cgroup)
}

fn clone(flags: u64, exit_signal: u64, cgroup: Option<BorrowedFd<'_>>) -> Result<Cloned, Errno> {
    let mut pidfd: libc::c_int = -1;
    let mut flags = flags | libc::CLONE_PIDFD as u64 | CLONE_CLEAR_SIGHAND;
    if cgroup.is_some() {
        flags |= CLONE_INTO_CGROUP;
    }
    let args = libc::clone_args {
        flags,
        pidfd: std::ptr::from_mut(&mut pidfd) as u64,
        child_tid: 0,
        parent_tid: 0,
        exit_signal,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: cgroup.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    // SAFETY: `args` is a complete clone_args and its size is passed with it; without CLONE_VM and
    // without a stack the child runs on its own copy of this stack, as after fork(2).
    let result = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of_val(&args)) };
    match result {
        -1 => Err(last_errno()),
        0 => Ok(Cloned::Child),
        pid => {
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(Errno::INVAL)?;
            // SAFETY: CLONE_PIDFD made the kernel store a new descriptor that nothing else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Cloned::Parent { pid, pidfd })
        }
    }
}

/// Ends the process at once: no destructors, no atexit handlers; see `_exit(2)`.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: _exit(2) takes any status and does not return.
    unsafe { libc::_exit(status) }
}

pub(crate) fn last_errno() -> Errno {
    // SAFETY: __errno_location(3) returns the calling thread's errno, valid for its life.
    Errno::from_raw_os_error(unsafe { *libc::__errno_location() })
}
