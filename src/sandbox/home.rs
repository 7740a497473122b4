//! `HOME` of a process whose config does not set it: the user's directory in the image's passwd(5).
use super::inputs::Rootfs;
use crate::sys::{pidfd, record};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// An image may make its passwd a FIFO, or endless (CVE-2024-9676).
const PASSWD_LIMIT: usize = 1 << 20;

/// The user's home directory, `/` when the image does not say.
pub(super) fn of(rootfs: &Rootfs, uid: u32) -> String {
    look_up(rootfs, uid).unwrap_or_else(|| "/".to_owned())
}

/// The same in the root of a running process.
pub(super) fn of_process(process: BorrowedFd<'_>, uid: u32) -> String {
    let root = pidfd::root(process).ok();
    root.and_then(|root| find(root.as_fd(), uid)).unwrap_or_else(|| "/".to_owned())
}

fn look_up(rootfs: &Rootfs, uid: u32) -> Option<String> {
    match rootfs {
        Rootfs::Tree(tree) => find(tree.as_fd(), uid),
        Rootfs::Directory(path) => find(open_directory(path)?.as_fd(), uid),
    }
}

fn open_directory(path: &Path) -> Option<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, path, flags, Mode::empty()).ok()
}

fn find(root: BorrowedFd<'_>, uid: u32) -> Option<String> {
    read_passwd(root)?.lines().find_map(|line| {
        let fields: Vec<_> = line.split(':').collect();
        let home = fields.get(5).filter(|home| home.starts_with('/'))?;
        (fields[2].parse() == Ok(uid)).then(|| (*home).to_owned())
    })
}

fn read_passwd(root: BorrowedFd<'_>) -> Option<String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let file: OwnedFd = openat2(root, c"etc/passwd", flags, Mode::empty(), resolve).ok()?;
    let text = record::read_file(&file, PASSWD_LIMIT).ok()??;
    String::from_utf8(text).ok()
}
