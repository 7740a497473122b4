//! `tmpcopyup`: the directory that a tmpfs covers, copied into it. As all of [`super`], nothing here
//! allocates: buffers are on the stack, and the depth of a tree is bounded.
//!
//! Every name is one component below an open directory and symlinks are never followed, so nothing
//! outside the directory is read. Nobody else can reach the tmpfs before it is attached.
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, RawDir, Stat, Timespec, Timestamps, Uid};
use rustix::fs::{XattrFlags, chownat, fgetxattr, fsetxattr, mkdirat, mknodat, openat, statat};
use rustix::io::Errno;
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd};

/// Deeper trees are refused: every level holds two descriptors and its buffer.
const DEPTH: usize = 128;

/// `PATH_MAX`, the longest that a symlink can be.
pub(super) const LINK: usize = 4096;

const READ: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Copies everything in one directory to the other.
pub(super) fn copy_contents(from: BorrowedFd<'_>, to: BorrowedFd<'_>, depth: usize) -> Result<(), Errno> {
    if depth == DEPTH {
        return Err(Errno::NAMETOOLONG);
    }
    let mut buffer = [MaybeUninit::uninit(); 2048];
    let mut entries = RawDir::new(from, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            copy_entry(from, to, name, depth)?;
        }
    }
    Ok(())
}

fn copy_entry(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, depth: usize) -> Result<(), Errno> {
    let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            mkdirat(to, name, Mode::RWXU)?;
            let source = openat(from, name, READ | OFlags::DIRECTORY, Mode::empty())?;
            let copy = openat(to, name, READ | OFlags::DIRECTORY, Mode::empty())?;
            copy_contents(source.as_fd(), copy.as_fd(), depth + 1)?;
            copy_metadata(source.as_fd(), copy.as_fd(), &stat)
        }
        FileType::RegularFile => {
            let source = openat(from, name, READ | OFlags::NONBLOCK, Mode::empty())?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let copy = openat(to, name, flags, Mode::RWXU)?;
            while rustix::fs::sendfile(&copy, &source, None, 1 << 30)? > 0 {}
            copy_metadata(source.as_fd(), copy.as_fd(), &stat)
        }
        FileType::Symlink => {
            let mut buffer = [0; LINK];
            rustix::fs::symlinkat(read_link(from, name, &mut buffer)?, to, name)?;
            own(to, name, &stat)?;
            rustix::fs::utimensat(to, name, &times(&stat), AtFlags::SYMLINK_NOFOLLOW)
        }
        kind => {
            mknodat(to, name, kind, Mode::empty(), stat.st_rdev)?;
            own(to, name, &stat)?;
            rustix::fs::chmodat(to, name, mode(&stat), AtFlags::empty())?;
            rustix::fs::utimensat(to, name, &times(&stat), AtFlags::SYMLINK_NOFOLLOW)
        }
    }
}

/// Where a symlink points to; with an empty name `at` is the symlink.
pub(super) fn read_link<'a>(
    at: BorrowedFd<'_>,
    name: &CStr,
    buffer: &'a mut [u8; LINK],
) -> Result<&'a CStr, Errno> {
    let room = LINK - 1;
    let length: usize = rustix::fs::readlinkat_raw(at, name, &mut buffer[..room])?;
    buffer[length] = 0;
    CStr::from_bytes_until_nul(&buffer[..]).map_err(|_| Errno::NAMETOOLONG)
}

/// The owner comes first: a change of owner takes set-user-ID away.
fn copy_metadata(from: BorrowedFd<'_>, to: BorrowedFd<'_>, stat: &Stat) -> Result<(), Errno> {
    rustix::fs::fchown(to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    rustix::fs::fchmod(to, mode(stat))?;
    copy_attributes(from, to)?;
    rustix::fs::futimens(to, &times(stat))
}

fn own(at: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> Result<(), Errno> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    chownat(at, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
}

fn mode(stat: &Stat) -> Mode {
    Mode::from_raw_mode(stat.st_mode & 0o7777)
}

fn times(stat: &Stat) -> Timestamps {
    let time = |seconds, nanoseconds: u64| Timespec {
        tv_sec: seconds,
        tv_nsec: i64::try_from(nanoseconds).unwrap_or(0),
    };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

/// Extended attributes, except what a tmpfs, or root of a user namespace, cannot have.
fn copy_attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Errno> {
    let (mut names, mut value) = ([0_u8; 4096], [0_u8; 4096]);
    let length: usize = match rustix::fs::flistxattr(from, &mut names[..]) {
        Err(Errno::NOTSUP) => 0,
        length => length?,
    };
    let mut rest = &names[..length];
    while let Ok(name) = CStr::from_bytes_until_nul(rest) {
        rest = &rest[name.count_bytes() + 1..];
        let size: usize = fgetxattr(from, name, &mut value[..])?;
        match fsetxattr(to, name, &value[..size], XattrFlags::empty()) {
            Err(Errno::NOTSUP | Errno::PERM) => {}
            set => set?,
        }
    }
    Ok(())
}
