//! What a layer takes away from those below it: image-spec layer.md#whiteouts.
use super::place::{EntryPath, kind_at, names_in, remove_at};
use super::{Error, refuse};
use rustix::fs::{FileType, Mode, XattrFlags};
use rustix::io::Errno;
use std::collections::HashSet;
use std::os::fd::{AsFd, BorrowedFd};

pub(super) const PREFIX: &[u8] = b".wh.";
pub(super) const OPAQUE: &[u8] = b".wh..wh..opq";
/// overlayfs.rst, "whiteouts and opaque directories".
pub(in crate::image) const OVERLAY_OPAQUE: &str = "trusted.overlay.opaque";

/// A mark in the layer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Mark<'a> {
    /// Hides this name of lower layers.
    Name(&'a [u8]),
    /// Hides everything in this directory of lower layers.
    Opaque,
    /// AUFS's own files, of no meaning to others.
    Ignored,
}

impl<'a> Mark<'a> {
    /// Reads an entry's last name; `None` is an ordinary entry.
    pub(super) fn parse(name: &'a [u8]) -> Option<Self> {
        if name == OPAQUE {
            return Some(Self::Opaque);
        }
        match name.strip_prefix(PREFIX)? {
            hidden if hidden.starts_with(PREFIX) => Some(Self::Ignored),
            hidden => Some(Self::Name(hidden)),
        }
    }
}

/// What becomes of the marks.
#[derive(Debug)]
pub(in crate::image) enum Whiteouts {
    /// The layer is a directory of its own: marks take overlayfs's form.
    Overlay,
    /// Layers are laid over each other in one directory: marks remove. Holds what this layer has made,
    /// because a mark is about lower layers only.
    Remove(Own),
}

/// What is of the layer itself.
#[derive(Debug, Default)]
pub(in crate::image) struct Own {
    paths: HashSet<Vec<u8>>,
    /// Directories that hold nothing else any more, so that a mark repeated without end costs nothing
    /// (CVE-2021-20291).
    cleared: HashSet<Vec<u8>>,
}

impl Own {
    fn is_cleared(&self, directory: &EntryPath) -> bool {
        let mut path = directory.clone();
        while !path.is_root() && !self.cleared.contains(path.bytes()) {
            path = path.parent();
        }
        self.cleared.contains(path.bytes())
    }

    /// Removes what the layer has not made itself, however deep.
    fn clear(&mut self, directory: BorrowedFd<'_>, at: &EntryPath) -> Result<(), Errno> {
        if self.is_cleared(at) {
            return Ok(());
        }
        for name in names_in(directory)? {
            let path = at.child(&name);
            if !self.paths.contains(path.bytes()) {
                remove_at(directory, &name)?;
            } else if kind_at(directory, &name)? == Some(FileType::Directory) {
                self.clear(open_directory(directory, &name)?.as_fd(), &path)?;
            }
        }
        self.cleared.insert(at.bytes().to_vec());
        Ok(())
    }
}

impl Whiteouts {
    /// Marks that remove, for the next layer of one directory.
    pub(in crate::image) fn removing() -> Self {
        Self::Remove(Own::default())
    }

    /// Remembers an entry of this layer.
    pub(super) fn made(&mut self, path: &EntryPath) {
        if let Self::Remove(own) = self {
            let mut path = path.clone();
            while !path.is_root() && own.paths.insert(path.bytes().to_vec()) {
                path = path.parent();
            }
        }
    }

    /// Hides one name of lower layers.
    pub(super) fn hide(&mut self, parent: BorrowedFd<'_>, at: &EntryPath, name: &[u8]) -> Result<(), Error> {
        if name.is_empty() || name == b"." || name == b".." {
            return Err(refuse(at.bytes(), "is a whiteout of nothing; refused"));
        }
        let there = kind_at(parent, name).map_err(|errno| failed(at, errno))?;
        let hidden = at.parent().child(name);
        let done = match self {
            // What the layer has there itself stays; what lower layers have in it does not.
            Self::Remove(own) if own.paths.contains(hidden.bytes()) => match there {
                Some(FileType::Directory) => {
                    open_directory(parent, name).and_then(|fd| own.clear(fd.as_fd(), &hidden))
                }
                _ => Ok(()),
            },
            Self::Remove(_) => remove_at(parent, name),
            Self::Overlay => match there {
                None => make_whiteout(parent, name),
                // The layer has this directory itself: only what lower layers have in it is to be hidden.
                Some(FileType::Directory) => {
                    open_directory(parent, name).and_then(|fd| set_opaque(fd.as_fd()))
                }
                Some(_) => Ok(()),
            },
        };
        done.map_err(|errno| failed(at, errno))
    }

    /// Hides everything that lower layers have in this directory.
    pub(super) fn hide_all(&mut self, directory: BorrowedFd<'_>, at: &EntryPath) -> Result<(), Error> {
        let done = match self {
            Self::Overlay => open_directory(directory, b".").and_then(|fd| set_opaque(fd.as_fd())),
            Self::Remove(own) => {
                open_directory(directory, b".").and_then(|fd| own.clear(fd.as_fd(), &at.parent()))
            }
        };
        done.map_err(|errno| failed(at, errno))
    }
}

fn failed(at: &EntryPath, errno: Errno) -> Error {
    refuse(at.bytes(), &format!("apply the whiteout: {}", std::io::Error::from(errno)))
}

/// overlayfs takes a character device 0:0 for a whiteout.
fn make_whiteout(parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    rustix::fs::mknodat(parent, name, FileType::CharacterDevice, Mode::empty(), rustix::fs::makedev(0, 0))
}

/// Whether overlayfs would take what stands there for a whiteout.
pub(super) fn is_whiteout(parent: BorrowedFd<'_>, name: &[u8]) -> bool {
    rustix::fs::statat(parent, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
    })
}

pub(super) fn set_opaque(directory: BorrowedFd<'_>) -> Result<(), Errno> {
    rustix::fs::fsetxattr(directory, OVERLAY_OPAQUE, b"y", XattrFlags::empty())
}

/// Whether a layer in overlay's form hides all that lower layers have in this directory.
pub(in crate::image) fn is_opaque(directory: &std::path::Path) -> bool {
    let mut value = [0; 2];
    let length = rustix::fs::getxattr(directory, OVERLAY_OPAQUE, &mut value[..]);
    length.is_ok_and(|length| value[..length] == *b"y")
}

/// The same of a directory that is open for reading.
pub(in crate::image) fn hides_lower(directory: BorrowedFd<'_>) -> Result<bool, Errno> {
    let mut value = [0; 2];
    match rustix::fs::fgetxattr(directory, OVERLAY_OPAQUE, &mut value[..]) {
        Ok(length) => Ok(value[..length] == *b"y"),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(false),
        Err(errno) => Err(errno),
    }
}

fn open_directory(parent: BorrowedFd<'_>, name: &[u8]) -> Result<std::os::fd::OwnedFd, Errno> {
    use rustix::fs::OFlags;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_told_from_names() {
        assert_eq!(Mark::parse(b".wh.gone"), Some(Mark::Name(b"gone")));
        assert_eq!(Mark::parse(b".wh..wh..opq"), Some(Mark::Opaque));
        assert_eq!(Mark::parse(b".wh..wh.plnk"), Some(Mark::Ignored));
        assert_eq!(Mark::parse(b".whatever"), None);
    }
}
