//! A path inside the container's root, resolved by the kernel so that it cannot leave it.
//!
//! Every lookup is one `openat2(2)` with `RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS` below the root's
//! descriptor, and what follows acts on the resulting descriptor. This closes the race between check
//! and use that CVE-2019-18837, CVE-2021-30465 and CVE-2024-45310 lived in.
//!
//! [`Target::parse`] runs in the parent; everything else runs between clone and execve and neither
//! allocates nor locks.
use super::step::Slot;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

/// What is made where nothing stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    File,
}

/// A clean path relative to the container's root; `.` is the root itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    path: CString,
    /// Refuse symlinks on the way: for /proc and /sys (CVE-2025-54867) and /dev (CVE-2026-41579).
    no_symlinks: bool,
    /// A symlink at the end is meant itself.
    itself: bool,
    /// The new file system of the Plan that the last name is directly in.
    within: Option<Slot>,
}

impl Target {
    /// Cleans an absolute path as `chroot` would see it: `..` at the root stays at the root.
    /// `None` when a name holds a NUL byte.
    pub(super) fn parse(path: &Path) -> Option<Self> {
        let mut clean: Vec<u8> = Vec::with_capacity(path.as_os_str().len() + 1);
        for component in path.components() {
            match component {
                Component::Normal(name) => {
                    if !clean.is_empty() {
                        clean.push(b'/');
                    }
                    clean.extend_from_slice(name.as_bytes());
                }
                Component::ParentDir => clean.truncate(last_slash(&clean).unwrap_or(0)),
                _ => {}
            }
        }
        if clean.is_empty() {
            clean.push(b'.');
        }
        let path = CString::new(clean).ok()?;
        Some(Self { path, no_symlinks: false, itself: false, within: None })
    }

    /// Refuses symlinks anywhere on the way.
    pub(super) fn without_symlinks(mut self) -> Self {
        self.no_symlinks = true;
        self
    }

    /// Means a symlink at the end itself, and not what it points to.
    pub(super) fn itself(mut self) -> Self {
        self.itself = true;
        self
    }

    /// Says that the last name is directly in this file system, which the Plan makes itself: it needs no
    /// lookup, for nothing that an image contains lies on the way.
    pub(super) fn set_within(&mut self, slot: Slot) {
        self.within = Some(slot);
    }

    /// What [`Target::set_within`] said.
    pub(super) fn within(&self) -> Option<Slot> {
        self.within
    }

    /// The path below the root, without a slash at its beginning.
    pub(super) fn path(&self) -> &CStr {
        &self.path
    }

    /// The path that the last name is in; `None` for what is directly in the root.
    pub(super) fn parent(&self) -> Option<&[u8]> {
        let path = self.path.to_bytes();
        last_slash(path).map(|slash| &path[..slash])
    }

    /// Last name of the path; `.` for the root itself.
    pub(super) fn name(&self) -> &CStr {
        let path = self.path.to_bytes_with_nul();
        let name = &path[last_slash(path).map_or(0, |slash| slash + 1)..];
        CStr::from_bytes_with_nul(name).unwrap_or(c".")
    }

    fn flags(&self) -> ResolveFlags {
        let flags = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        if self.no_symlinks { flags | ResolveFlags::NO_SYMLINKS } else { flags }
    }

    /// Opens what stands there, as a location (`O_PATH`).
    pub(super) fn open(&self, root: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
        let itself = if self.itself { OFlags::NOFOLLOW } else { OFlags::empty() };
        self.open_prefix(root, &self.path, itself)
    }

    /// Opens the directory that stands there, to be read.
    pub(super) fn open_directory(&self, root: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        retry_again(|| openat2(root, &*self.path, flags, Mode::empty(), self.flags()))
    }

    fn open_prefix(&self, root: BorrowedFd<'_>, path: &CStr, more: OFlags) -> Result<OwnedFd, Errno> {
        let flags = OFlags::PATH | OFlags::CLOEXEC | more;
        retry_again(|| openat2(root, path, flags, Mode::empty(), self.flags()))
    }

    /// Opens what stands there; makes missing parents (0755) and the last name.
    pub(super) fn open_or_create(&self, root: BorrowedFd<'_>, kind: Kind) -> Result<OwnedFd, Errno> {
        match self.open(root) {
            Err(Errno::NOENT) => {}
            done => return done,
        }
        let parent = self.create_parents(root)?;
        let name = self.name();
        let parent = parent.as_ref().map_or(root, |fd| fd.as_fd());
        match kind {
            Kind::Directory => existing_is_fine(rustix::fs::mkdirat(parent, name, Mode::from(0o755)))?,
            // Through the root, so that a dangling symlink, as images have at /etc/resolv.conf, gets the
            // file that it points to; inside the root, wherever it points.
            Kind::File => drop(retry_again(|| {
                let flags =
                    OFlags::CREATE | OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
                openat2(root, &*self.path, flags, Mode::from(0o644), self.flags())
            })?),
        }
        self.open(root)
    }

    /// Makes missing parents and returns the last one; `None` when the parent is the root.
    pub(super) fn create_parents(&self, root: BorrowedFd<'_>) -> Result<Option<OwnedFd>, Errno> {
        let path = self.path.to_bytes();
        let mut parent: Option<OwnedFd> = None;
        let mut room = [0; PATH_MAX];
        let (mut from, mut name_room) = (0, [0; NAME_MAX + 1]);
        for slash in path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(index, _)| index) {
            let prefix = terminated(&mut room, &path[..slash])?;
            let opened = match self.open_prefix(root, prefix, OFlags::DIRECTORY) {
                Err(Errno::NOENT) => {
                    let at = parent.as_ref().map_or(root, |fd| fd.as_fd());
                    let name = terminated(&mut name_room, &path[from..slash])?;
                    existing_is_fine(rustix::fs::mkdirat(at, name, Mode::from(0o755)))?;
                    self.open_prefix(root, prefix, OFlags::DIRECTORY)?
                }
                opened => opened?,
            };
            parent = Some(opened);
            from = slash + 1;
        }
        Ok(parent)
    }
}

/// `limits.h`, the terminating byte included in the first.
const PATH_MAX: usize = 4096;
const NAME_MAX: usize = 255;

/// The bytes as a C string in this room.
fn terminated<'a>(room: &'a mut [u8], bytes: &[u8]) -> Result<&'a CStr, Errno> {
    let length = bytes.len();
    let taken = room.get_mut(..=length).ok_or(Errno::NAMETOOLONG)?;
    taken[..length].copy_from_slice(bytes);
    taken[length] = 0;
    CStr::from_bytes_with_nul(taken).map_err(|_| Errno::INVAL)
}

fn last_slash(path: &[u8]) -> Option<usize> {
    path.iter().rposition(|byte| *byte == b'/')
}

impl std::fmt::Display for Target {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.path.to_bytes() {
            b"." => formatter.write_str("/"),
            path => write!(formatter, "/{}", String::from_utf8_lossy(path)),
        }
    }
}

fn existing_is_fine(made: Result<(), Errno>) -> Result<(), Errno> {
    match made {
        Err(Errno::EXIST) => Ok(()),
        made => made,
    }
}

/// `openat2` gives `EAGAIN` when a rename or mount anywhere raced with a `..` of the walk; it asks to
/// be tried again. Bounded, so that an attacker who renames without end gets an error and not a hang.
fn retry_again(mut open: impl FnMut() -> Result<OwnedFd, Errno>) -> Result<OwnedFd, Errno> {
    for _ in 0..128 {
        match open() {
            Err(Errno::AGAIN | Errno::INTR) => {}
            done => return done,
        }
    }
    Err(Errno::AGAIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dot_dot_is_cleaned_and_cannot_climb_above_the_root() {
        let target = Target::parse(Path::new("/a/../../b/./c//d")).unwrap();
        assert_eq!(
            (target.path(), target.name(), target.parent()),
            (c"b/c/d", c"d", Some(b"b/c".as_slice()))
        );
        let root = Target::parse(Path::new("/x/..")).unwrap();
        assert_eq!((root.to_string().as_str(), root.name(), root.parent()), ("/", c".", None));
        let one = Target::parse(Path::new("one")).unwrap();
        assert_eq!((one.name(), one.parent()), (c"one", None));
    }

    #[test]
    fn missing_parents_are_made_inside_the_root_even_through_an_absolute_symlink() {
        let root = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(outside.path(), root.path().join("escape")).unwrap();
        let fd = OwnedFd::from(std::fs::File::open(root.path()).unwrap());
        let target = Target::parse(Path::new("/escape/x/y")).unwrap();
        assert!(target.open_or_create(fd.as_fd(), Kind::File).is_err());
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
        let target = Target::parse(Path::new("/fresh/x/y")).unwrap();
        target.open_or_create(fd.as_fd(), Kind::File).unwrap();
        assert!(root.path().join("fresh/x/y").is_file());
    }

    #[test]
    fn a_symlink_is_refused_where_none_may_stand() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("real")).unwrap();
        std::os::unix::fs::symlink("real", root.path().join("proc")).unwrap();
        let fd = OwnedFd::from(std::fs::File::open(root.path()).unwrap());
        let target = Target::parse(Path::new("/proc")).unwrap();
        assert!(target.open(fd.as_fd()).is_ok());
        assert_eq!(target.without_symlinks().open(fd.as_fd()).unwrap_err(), Errno::LOOP);
    }
}
