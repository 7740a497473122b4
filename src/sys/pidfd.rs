//! What a pidfd tells of a process that is not our child.
use super::clone::last_errno;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::Pid;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// `struct pidfd_info`, first published version, `linux/pidfd.h`.
#[derive(Default)]
#[repr(C)]
struct PidfdInfo {
    mask: u64,
    cgroup_id: u64,
    ids: [u32; 11],
    exit_code: i32,
}

/// `PIDFD_INFO_EXIT`.
const INFO_EXIT: u64 = 1 << 3;
/// `_IOWR(0xFF, 11, struct pidfd_info)`.
const GET_INFO: libc::c_ulong = 3 << 30 | (size_of::<PidfdInfo>() as libc::c_ulong) << 16 | 0xff << 8 | 11;

/// How a process ended, as `wait(2)` would have told its parent; `None` while it lives or has not been
/// reaped. Needs Linux 6.15, and a pidfd that was opened before the process was reaped.
///
/// # Errors
/// `ENOTTY` or `EINVAL` on kernels that cannot tell.
pub fn exit_status(pidfd: BorrowedFd<'_>) -> Result<Option<i32>, Errno> {
    let mut info = PidfdInfo { mask: INFO_EXIT, ..PidfdInfo::default() };
    // SAFETY: the request's number carries the size of `info`, which the kernel reads and writes within,
    // and `info` outlives the call.
    let result = unsafe { libc::ioctl(pidfd.as_raw_fd(), GET_INFO as _, &raw mut info) };
    match result {
        -1 => match last_errno() {
            // The process has been reaped, and this kernel keeps nothing of it.
            Errno::SRCH => Err(Errno::INVAL),
            errno => Err(errno),
        },
        _ if info.mask & INFO_EXIT == 0 => Ok(None),
        _ => Ok(Some(info.exit_code)),
    }
}

/// The process's id in the caller's pid namespace; see `pidfd_open(2)` on its `fdinfo`.
///
/// # Errors
/// `ESRCH` when the process has been reaped, or is none of this namespace; the kernel's without a /proc.
pub fn pid(pidfd: BorrowedFd<'_>) -> io::Result<Pid> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd()))?;
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok());
    // 0 stands for another namespace's process, -1 for one that is gone.
    pid.filter(|pid| *pid > 0).and_then(Pid::from_raw).ok_or_else(|| Errno::SRCH.into())
}

/// The process's root directory, as a location (`O_PATH`).
///
/// # Errors
/// As [`pid`].
pub fn root(pidfd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let path = format!("/proc/{}/root", pid(pidfd)?.as_raw_nonzero());
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(&path, flags, Mode::empty())?;
    // Had the process ended before, its pid could have been another's by then.
    pid(pidfd).map(|_| root)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{PidfdFlags, pidfd_open};
    use std::os::fd::AsFd as _;

    #[test]
    fn the_exit_status_of_a_reaped_process_is_known() {
        let mut child = std::process::Command::new("sh")
            .args(["-c", "read x; exit 7"])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        let alive = exit_status(pidfd.as_fd());
        drop(child.stdin.take());
        child.wait().unwrap();
        match exit_status(pidfd.as_fd()) {
            Ok(status) => {
                assert_eq!(alive, Ok(None));
                assert_eq!(status, Some(7 << 8));
            }
            // Before Linux 6.15.
            Err(errno) => assert!(matches!(errno, Errno::NOTTY | Errno::INVAL), "{errno}"),
        }
    }
}
