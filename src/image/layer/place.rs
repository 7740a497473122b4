//! Where an entry goes: its parent as a descriptor, and its last name.
use super::whiteout::{is_whiteout, set_opaque};
use super::{Error, refuse};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Removing a tree holds a descriptor a level, of which a process has 1024 by default.
const DEPTH_LIMIT: usize = 256;

/// A cleaned path inside the layer: plain names only, none for the root itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct EntryPath {
    names: Vec<Vec<u8>>,
}

impl EntryPath {
    /// Drops leading slashes and `.`; refuses `..` and names that no file system takes.
    pub(super) fn parse(path: &[u8]) -> Result<Self, Error> {
        let mut names = Vec::new();
        for name in path.split(|byte| *byte == b'/') {
            match name {
                b"" | b"." => {}
                b".." => return Err(refuse(path, "climbs with '..'; refused")),
                name if name.contains(&0) => return Err(refuse(path, "holds a NUL byte; refused")),
                name => names.push(name.to_vec()),
            }
        }
        if names.len() > DEPTH_LIMIT {
            return Err(refuse(path, "is nested too deeply; refused"));
        }
        Ok(Self { names })
    }

    pub(super) fn is_root(&self) -> bool {
        self.names.is_empty()
    }

    /// The last name; empty for the root.
    pub(super) fn name(&self) -> &[u8] {
        self.names.last().map_or(b"", Vec::as_slice)
    }

    pub(super) fn parent(&self) -> Self {
        let end = self.names.len().saturating_sub(1);
        Self { names: self.names[..end].to_vec() }
    }

    pub(super) fn child(&self, name: &[u8]) -> Self {
        let mut names = self.names.clone();
        names.push(name.to_vec());
        Self { names }
    }

    /// Names joined with `/`; `.` for the root.
    pub(super) fn bytes(&self) -> Vec<u8> {
        if self.is_root() { b".".to_vec() } else { self.names.join(&b'/') }
    }

    pub(super) fn c_name(&self) -> CString {
        CString::new(self.name()).unwrap_or_default()
    }
}

const RESOLVE: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);
const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Opens parents below the layer's root, remembering the last one: entries of a directory follow each
/// other in almost every layer.
#[derive(Debug)]
pub(super) struct Places<'a> {
    root: BorrowedFd<'a>,
    last: Option<(EntryPath, OwnedFd)>,
}

impl<'a> Places<'a> {
    pub(super) fn new(root: BorrowedFd<'a>) -> Self {
        Self { root, last: None }
    }

    /// The directory that holds the entry; missing ones are made, 0755 and root's.
    pub(super) fn parent(&mut self, path: &EntryPath) -> Result<BorrowedFd<'_>, Error> {
        let parent = path.parent();
        if self.last.as_ref().is_none_or(|(known, _)| *known != parent) {
            let fd = open_or_create(self.root, &parent).map_err(|errno| {
                refuse(&path.bytes(), &format!("open its parent: {}", std::io::Error::from(errno)))
            })?;
            self.last = Some((parent, fd));
        }
        Ok(self.last.as_ref().map_or(self.root, |(_, fd)| fd.as_fd()))
    }

    /// Opens a directory of the layer for reading.
    pub(super) fn directory(&self, path: &EntryPath) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        openat2(self.root, path.bytes(), flags, Mode::empty(), RESOLVE)
    }

    /// Must be called when a directory has been replaced, because a descriptor of it may be remembered.
    pub(super) fn forget(&mut self) {
        self.last = None;
    }
}

fn open_or_create(root: BorrowedFd<'_>, path: &EntryPath) -> Result<OwnedFd, Errno> {
    let open = |path: &EntryPath| openat2(root, path.bytes(), DIRECTORY, Mode::empty(), RESOLVE);
    match open(path) {
        Err(Errno::NOENT | Errno::NOTDIR) if !path.is_root() => {}
        done => return done,
    }
    let parent = open_or_create(root, &path.parent())?;
    if is_whiteout(parent.as_fd(), path.name()) {
        // The layer hides the directory that lower layers have, and then has one of that name itself.
        rustix::fs::unlinkat(&parent, path.name(), AtFlags::empty())?;
        rustix::fs::mkdirat(&parent, path.name(), Mode::from(0o755))?;
        rustix::fs::chmodat(&parent, path.name(), Mode::from(0o755), AtFlags::empty())?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        set_opaque(rustix::fs::openat(&parent, path.name(), flags, Mode::empty())?.as_fd())?;
    }
    match rustix::fs::mkdirat(&parent, path.name(), Mode::from(0o755)) {
        Ok(()) => rustix::fs::chmodat(&parent, path.name(), Mode::from(0o755), AtFlags::empty())?,
        Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    open(path)
}

/// What stands at a name, without following it.
pub(super) fn kind_at(parent: BorrowedFd<'_>, name: &[u8]) -> Result<Option<FileType>, Errno> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Removes whatever stands at a name, a directory with all below it; symlinks are removed, not followed.
pub(super) fn remove_at(parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(Errno::NOENT) => return Ok(()),
        done => return done,
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    for child in names_in(directory.as_fd())? {
        remove_at(directory.as_fd(), &child)?;
    }
    rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)
}

/// Names in a directory, without `.` and `..`.
pub(super) fn names_in(directory: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}
