//! Where an entry goes: its parent as a descriptor, and its last name.
use super::implied::Marks;
use super::whiteout::{is_whiteout, set_opaque};
use super::{Error, refuse};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Removing a tree holds a descriptor a level, of which a process has 1024 by default.
const DEPTH_LIMIT: usize = 256;
/// Levels of the way to the last parent that are kept open, for every layer that is unpacked just now.
const OPEN_LIMIT: usize = 32;

/// A cleaned path inside the layer: plain names joined with `/`, none for the root itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct EntryPath(Vec<u8>);

impl EntryPath {
    /// The layer's root.
    pub(super) const ROOT: Self = Self(Vec::new());

    /// Drops leading slashes and `.`; refuses `..` and names that no file system takes.
    pub(super) fn parse(path: &[u8]) -> Result<Self, Error> {
        let mut cleaned = Vec::with_capacity(path.len());
        let mut depth = 0;
        for name in path.split(|byte| *byte == b'/') {
            match name {
                b"" | b"." => {}
                b".." => return Err(refuse(path, "climbs with '..'; refused")),
                name if name.contains(&0) => return Err(refuse(path, "holds a NUL byte; refused")),
                name => {
                    if depth > 0 {
                        cleaned.push(b'/');
                    }
                    cleaned.extend_from_slice(name);
                    depth += 1;
                }
            }
        }
        if depth > DEPTH_LIMIT {
            return Err(refuse(path, "is nested too deeply; refused"));
        }
        Ok(Self(cleaned))
    }

    pub(super) fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The last name; empty for the root.
    pub(super) fn name(&self) -> &[u8] {
        self.0.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
    }

    fn parent_bytes(&self) -> &[u8] {
        self.0.iter().rposition(|byte| *byte == b'/').map_or(&[], |slash| &self.0[..slash])
    }

    pub(super) fn parent(&self) -> Self {
        Self(self.parent_bytes().to_vec())
    }

    pub(super) fn child(&self, name: &[u8]) -> Self {
        let mut path = self.0.clone();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        Self(path)
    }

    /// As the kernel takes it: `.` for the root.
    pub(super) fn bytes(&self) -> &[u8] {
        if self.is_root() { b"." } else { &self.0 }
    }
}

const RESOLVE: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);
const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Opens parents below the layer's root. The way to the last one stays open, because entries of a directory
/// follow each other in almost every layer, and the next directory is most often its neighbour.
///
/// Each level is opened from the one above and never through a symlink. Where a layer's own symlink is in the
/// way, the kernel resolves the path inside the root as a whole.
#[derive(Debug)]
pub(super) struct Places<'a> {
    root: BorrowedFd<'a>,
    way: Vec<(Vec<u8>, OwnedFd)>,
    /// The last parent that was found through a symlink, or too deep to keep its way.
    resolved: Option<(Vec<u8>, OwnedFd)>,
    /// For directories that are made because something is in them.
    pub(super) marks: Marks,
}

impl<'a> Places<'a> {
    pub(super) fn new(root: BorrowedFd<'a>, marks: Marks) -> Self {
        Self { root, way: Vec::new(), resolved: None, marks }
    }

    /// The directory that holds the entry; missing ones are made, 0755 and root's.
    pub(super) fn parent(&mut self, path: &EntryPath) -> Result<BorrowedFd<'_>, Error> {
        self.find(path.parent_bytes()).map_err(|errno| {
            refuse(path.bytes(), &format!("open its parent: {}", std::io::Error::from(errno)))
        })
    }

    fn find(&mut self, parent: &[u8]) -> Result<BorrowedFd<'_>, Errno> {
        if self.resolved.as_ref().is_none_or(|(known, _)| known != parent) && !self.walk(parent)? {
            let fd = open_or_create(self.root, parent, &mut self.marks)?;
            self.resolved = Some((parent.to_vec(), fd));
        }
        Ok(match &self.resolved {
            Some((known, fd)) if known == parent => fd.as_fd(),
            _ => self.way.last().map_or(self.root, |(_, fd)| fd.as_fd()),
        })
    }

    /// Goes from the way that is open to another directory; false when it cannot be reached so.
    fn walk(&mut self, parent: &[u8]) -> Result<bool, Errno> {
        let names = || parent.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
        let common = names().zip(&self.way).take_while(|(name, (known, _))| name == known).count();
        self.way.truncate(common);
        for name in names().skip(common) {
            if self.way.len() >= OPEN_LIMIT {
                return Ok(false);
            }
            let above = self.way.last().map_or(self.root, |(_, fd)| fd.as_fd());
            let open = || openat(above, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty());
            let fd = match open() {
                Err(Errno::NOENT) => make_implied(above, name, &mut self.marks).and_then(|()| open())?,
                // A symlink, with O_DIRECTORY before O_NOFOLLOW in the kernel's mind; or no directory at all.
                Err(Errno::NOTDIR | Errno::LOOP) => return Ok(false),
                opened => opened?,
            };
            self.way.push((name.to_vec(), fd));
        }
        Ok(true)
    }

    /// Opens a directory of the layer for reading.
    pub(super) fn directory(&self, path: &EntryPath) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        openat2(self.root, path.bytes(), flags, Mode::empty(), RESOLVE)
    }

    /// Opens the directory that holds an entry, which must be there.
    pub(super) fn existing_parent(&self, path: &EntryPath) -> Result<OwnedFd, Errno> {
        openat2(self.root, path.parent().bytes(), DIRECTORY, Mode::empty(), RESOLVE)
    }

    /// Must be called when something has been replaced: descriptors may lead to what was there before.
    pub(super) fn forget(&mut self) {
        self.way.clear();
        self.resolved = None;
    }
}

/// Makes a directory that the layer has no entry for, yet.
fn make_implied(parent: BorrowedFd<'_>, name: &[u8], marks: &mut Marks) -> Result<(), Errno> {
    match make_directory(parent, name) {
        Ok(()) => marks.implied(parent, name),
        Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno),
    }
}

fn make_directory(parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    rustix::fs::mkdirat(parent, name, Mode::from(0o755))?;
    rustix::fs::chmodat(parent, name, Mode::from(0o755), AtFlags::empty())
}

fn open_or_create(root: BorrowedFd<'_>, path: &[u8], marks: &mut Marks) -> Result<OwnedFd, Errno> {
    let path = EntryPath(path.to_vec());
    let open = || openat2(root, path.bytes(), DIRECTORY, Mode::empty(), RESOLVE);
    match open() {
        Err(Errno::NOENT | Errno::NOTDIR) if !path.is_root() => {}
        done => return done,
    }
    let parent = open_or_create(root, path.parent_bytes(), marks)?;
    if is_whiteout(parent.as_fd(), path.name()) {
        // The layer hides the directory that lower layers have, and then has one of that name itself: a new one,
        // of which nothing that they say holds.
        rustix::fs::unlinkat(&parent, path.name(), AtFlags::empty())?;
        make_directory(parent.as_fd(), path.name())?;
        marks.implied_anew(parent.as_fd(), path.name())?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        set_opaque(openat(&parent, path.name(), flags, Mode::empty())?.as_fd())?;
    }
    make_implied(parent.as_fd(), path.name(), marks)?;
    open()
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
pub(in crate::image) fn names_in(directory: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>, Errno> {
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
