//! An upper directory of overlayfs: what an instance has written, and what it has taken away.
//!
//! The instance may be running and change it meanwhile, and what is in it is as hostile as the instance. Each
//! entry is opened by its name in an open directory and never followed; what is said about it is about that
//! descriptor.
mod attributes;
mod diff;

pub(super) use attributes::attributes;
pub use diff::{Difference, DifferenceKind, differences};

use super::layer::{OVERLAY_OPAQUE, names_in};
use super::{Error, xattr};
use crate::sandbox::IdRange;
use rustix::fs::{CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// A layer that is nested deeper cannot be applied, and a descriptor is open for each level.
const DEPTH_LIMIT: usize = 256;

/// The upper directory of an instance.
#[derive(Debug)]
pub struct UpperDirectory<'a> {
    directory: OwnedFd,
    /// The ids of the host that are the instance's own.
    pub(in crate::image) ids: Option<IdRange>,
    /// Where something is mounted in the instance: the runtime makes what is missing there.
    mount_points: &'a [PathBuf],
}

/// One entry, open and not followed.
#[derive(Debug)]
pub(in crate::image) struct Entry {
    /// From the upper directory on; empty for the directory itself.
    pub(in crate::image) path: Vec<u8>,
    pub(in crate::image) kind: Kind,
    pub(in crate::image) stat: Stat,
    /// As a location alone.
    fd: OwnedFd,
    attribute_names: Vec<String>,
}

/// What an entry means to overlayfs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::image) enum Kind {
    /// Hides what lower layers have at its name.
    Whiteout,
    /// An opaque one hides all that lower layers have in it.
    Directory { opaque: bool },
    /// Takes the place of what lower layers have.
    Other(FileType),
}

/// What is done with each entry, and what it is told of the directory that it is in.
type Visit<'a, T> = dyn FnMut(&Entry, &T) -> Result<Option<T>, Error> + 'a;

impl<'a> UpperDirectory<'a> {
    /// Opens the directory at a path of the host.
    ///
    /// # Errors
    /// Names the directory.
    pub fn open(path: &Path, ids: Option<IdRange>, mount_points: &'a [PathBuf]) -> Result<Self, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(CWD, path, flags, Mode::empty());
        let directory = directory.map_err(|errno| Error::file("open", path)(errno.into()))?;
        Ok(Self { directory, ids, mount_points })
    }

    /// The directory as an entry.
    pub(in crate::image) fn root(&self) -> Result<Entry, Error> {
        let root = Entry::open(self.directory.as_fd(), b".", Vec::new(), false)?;
        root.ok_or_else(|| failed(b"", "open", Errno::NOENT))
    }

    /// Visits every entry but the root, names in order and directories before what is in them. The visitor
    /// returns what it wants to know with the entries of this directory, `None` to leave them out.
    pub(in crate::image) fn walk<T>(&self, root: &T, visit: &mut Visit<'_, T>) -> Result<(), Error> {
        self.walk_directory(&self.root()?, 1, root, visit)
    }

    fn walk_directory<T>(
        &self,
        directory: &Entry,
        depth: usize,
        context: &T,
        visit: &mut Visit<'_, T>,
    ) -> Result<(), Error> {
        if depth > DEPTH_LIMIT {
            let reason = format!("is nested more than {DEPTH_LIMIT} directories deep, which no layer can be");
            return Err(Error::invalid(display(&directory.path), reason));
        }
        let open = directory.open_directory()?;
        let marks_by_attribute = directory.says_opaque(b"x")?;
        for name in sorted_names(open.as_fd()).map_err(|errno| failed(&directory.path, "list", errno))? {
            let path = joined(&directory.path, &name);
            // What a running instance has removed meanwhile is not there.
            let Some(entry) = Entry::open(open.as_fd(), &name, path, marks_by_attribute)? else { continue };
            if self.is_mount_point(&entry)? {
                continue;
            }
            if let Some(context) = visit(&entry, context)? {
                self.walk_directory(&entry, depth + 1, &context, visit)?;
            }
        }
        Ok(())
    }

    /// An empty directory or file where something is mounted was made by the runtime: whatever the instance
    /// writes there goes elsewhere.
    fn is_mount_point(&self, entry: &Entry) -> Result<bool, Error> {
        let here = |place: &PathBuf| place.as_os_str().as_bytes().strip_prefix(b"/") == Some(&entry.path[..]);
        if !self.mount_points.iter().any(here) {
            return Ok(false);
        }
        match entry.kind {
            Kind::Whiteout => Ok(false),
            Kind::Other(kind) => Ok(kind == FileType::RegularFile && entry.stat.st_size == 0),
            Kind::Directory { .. } => {
                let names = sorted_names(entry.open_directory()?.as_fd());
                Ok(names.map_err(|errno| failed(&entry.path, "list", errno))?.is_empty())
            }
        }
    }
}

const WHITEOUT: &str = "trusted.overlay.whiteout";
/// A directory or file that is not whole: wharf mounts so that the kernel makes none.
const PARTIAL: [&str; 2] = ["trusted.overlay.redirect", "trusted.overlay.metacopy"];

impl Entry {
    /// `None` when there is nothing of that name.
    fn open(
        parent: BorrowedFd<'_>,
        name: &[u8],
        path: Vec<u8>,
        marks_by_attribute: bool,
    ) -> Result<Option<Self>, Error> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = match rustix::fs::openat(parent, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            fd => fd.map_err(|errno| failed(&path, "open", errno))?,
        };
        let stat = rustix::fs::fstat(&fd).map_err(|errno| failed(&path, "look at", errno))?;
        let attribute_names =
            attributes::names(fd.as_fd()).map_err(|errno| failed(&path, "list attributes of", errno))?;
        let kind = Kind::Other(FileType::from_raw_mode(stat.st_mode));
        let mut entry = Self { path, kind, stat, fd, attribute_names };
        if let Some(partial) = PARTIAL.iter().find(|name| entry.has_attribute(name)) {
            return Err(Error::invalid(
                display(&entry.path),
                format!("has {partial}, so it cannot be read by itself"),
            ));
        }
        entry.kind = entry.meaning(marks_by_attribute)?;
        Ok(Some(entry))
    }

    /// overlayfs.rst, "Whiteouts and opaque directories".
    fn meaning(&self, marks_by_attribute: bool) -> Result<Kind, Error> {
        Ok(match self.kind {
            Kind::Other(FileType::Directory) => Kind::Directory { opaque: self.says_opaque(b"y")? },
            Kind::Other(FileType::CharacterDevice) if self.stat.st_rdev == 0 => Kind::Whiteout,
            Kind::Other(FileType::RegularFile)
                if marks_by_attribute && self.stat.st_size == 0 && self.has_attribute(WHITEOUT) =>
            {
                Kind::Whiteout
            }
            kind => kind,
        })
    }

    fn has_attribute(&self, name: &str) -> bool {
        self.attribute_names.iter().any(|known| known == name)
    }

    fn says_opaque(&self, word: &[u8]) -> Result<bool, Error> {
        if !self.has_attribute(OVERLAY_OPAQUE) {
            return Ok(false);
        }
        let value = xattr::value(&self.fd, OVERLAY_OPAQUE.as_bytes());
        Ok(value.map_err(|errno| failed(&self.path, "read attributes of", errno))? == word)
    }

    /// The last part of its path.
    pub(in crate::image) fn name(&self) -> &[u8] {
        self.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
    }

    /// Opens a directory for reading.
    pub(in crate::image) fn open_directory(&self) -> Result<OwnedFd, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.fd, ".", flags, Mode::empty())
            .map_err(|errno| failed(&self.path, "open", errno))
    }

    /// Opens a regular file for reading: the very file that was looked at, whatever has its name by now.
    pub(in crate::image) fn open_file(&self) -> Result<std::fs::File, Error> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        rustix::fs::open(own_path(self.fd.as_fd()), flags, Mode::empty())
            .map(std::fs::File::from)
            .map_err(|errno| failed(&self.path, "open", errno))
    }

    /// Where a symlink points.
    pub(in crate::image) fn link_target(&self) -> Result<Vec<u8>, Error> {
        let target = rustix::fs::readlinkat(&self.fd, "", Vec::new());
        target.map(std::ffi::CString::into_bytes).map_err(|errno| failed(&self.path, "read symlink", errno))
    }
}

/// A path that leads to an open location and is not resolved any further.
fn own_path(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Names in a directory, without `.` and `..`.
fn sorted_names(directory: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = names_in(directory)?;
    names.sort();
    Ok(names)
}

fn joined(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}

/// A path of the instance on one line, whatever is in it.
pub(in crate::image) fn display(path: &[u8]) -> String {
    format!("/{}", path.escape_ascii())
}

pub(in crate::image) fn failed(path: &[u8], action: &'static str, errno: Errno) -> Error {
    Error::File { action, path: display(path), source: errno.into() }
}
