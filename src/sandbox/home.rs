//! `HOME` of a process whose config does not set it: the user's directory in the image's passwd(5).
use super::plan::Rootfs;
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// An image may make its passwd a FIFO, or endless (CVE-2024-9676).
const PASSWD_LIMIT: u64 = 1 << 20;

/// The user's home directory, `/` when the image does not say.
pub(super) fn of(rootfs: &Rootfs, uid: u32) -> String {
    look_up(rootfs, uid).unwrap_or_else(|| "/".to_owned())
}

fn look_up(rootfs: &Rootfs, uid: u32) -> Option<String> {
    let text = match rootfs {
        Rootfs::Tree(tree) => read_passwd(tree.as_fd()),
        Rootfs::Directory(path) => {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            read_passwd(rustix::fs::openat(CWD, path, flags, Mode::empty()).ok()?.as_fd())
        }
    }?;
    text.lines().find_map(|line| {
        let fields: Vec<_> = line.split(':').collect();
        let home = fields.get(5).filter(|home| home.starts_with('/'))?;
        (fields[2].parse() == Ok(uid)).then(|| (*home).to_owned())
    })
}

fn read_passwd(root: BorrowedFd<'_>) -> Option<String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let file: OwnedFd = openat2(root, c"etc/passwd", flags, Mode::empty(), resolve).ok()?;
    if FileType::from_raw_mode(fstat(&file).ok()?.st_mode) != FileType::RegularFile {
        return None;
    }
    let mut text = String::new();
    std::fs::File::from(file).take(PASSWD_LIMIT).read_to_string(&mut text).ok()?;
    Some(text)
}
