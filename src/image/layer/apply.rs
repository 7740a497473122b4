//! The walk over a layer's entries.
use super::file::{self, Copier};
use super::guard::Guard;
use super::implied::Marks;
use super::metadata::{Metadata, drop_xattrs};
use super::place::{EntryPath, Places, kind_at, remove_at};
use super::tape::{Member, Tape};
use super::whiteout::{Mark, Whiteouts, is_whiteout, set_opaque};
use super::{Error, refuse};
use rustix::fs::{AtFlags, FileType, Mode};
use rustix::io::Errno;
use std::collections::HashMap;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use tar::EntryType;

/// Directories of which times are remembered. A hostile layer has millions.
const DIRECTORIES_LIMIT: usize = 50_000;

/// Applies a decompressed layer to the tree below `root`. `stream` is under `guard`.
///
/// # Errors
/// Names the entry. The tree is half made then, and the caller's to remove.
pub(in crate::image) fn apply(
    stream: impl Read,
    root: BorrowedFd<'_>,
    whiteouts: Whiteouts,
    guard: &Guard,
) -> Result<(), Error> {
    let mut layer = Layer {
        places: Places::new(root, Marks::new(matches!(whiteouts, Whiteouts::Overlay))),
        tape: Tape::new(stream, guard.clone()),
        whiteouts,
        copier: Copier::new(),
        directories: HashMap::new(),
        settled: false,
        guard: guard.clone(),
    };
    for count in 0.. {
        let Some(member) = layer.tape.next()? else { break };
        let limit = guard.entries_limit();
        if count >= limit {
            let reason = format!("has more than {limit} entries; raise --max-layer-entries");
            return Err(Error::invalid("the layer", reason));
        }
        layer.member(&member)?;
        if layer.directories.len() > DIRECTORIES_LIMIT {
            layer.settle_times()?;
        }
    }
    layer.places.marks.finish(root).map_err(|errno| failed(b"/", "mark", errno))?;
    layer.finish()
}

struct Layer<'a, R> {
    places: Places<'a>,
    tape: Tape<R>,
    whiteouts: Whiteouts,
    copier: Copier,
    /// Directories keep their mtime until the end, because every entry in them changes it.
    directories: HashMap<EntryPath, Metadata>,
    /// Some have got theirs before the end, so that memory stays bounded.
    settled: bool,
    guard: Guard,
}

impl<R: Read> Layer<'_, R> {
    fn member(&mut self, member: &Member) -> Result<(), Error> {
        let metadata = Metadata::of(member)?;
        let path = EntryPath::parse(metadata.sparse.name.as_deref().unwrap_or(&member.path))?;
        if path.is_root() {
            return self.root_entry(member.kind, metadata);
        }
        self.note_time_of_parent(&path);
        if let Some(mark) = Mark::parse(path.name()) {
            let parent = self.places.parent(&path)?;
            return match mark {
                Mark::Name(name) => {
                    self.whiteouts.hide(parent, &path, name)?;
                    self.places.forget();
                    Ok(())
                }
                Mark::Opaque => self.whiteouts.hide_all(parent, &path),
                Mark::Ignored => Ok(()),
            };
        }
        self.whiteouts.made(&path);
        self.create(member, &path, metadata)
    }

    /// A directory that this layer does not state keeps the time that a lower one gave it, and one that has got
    /// its time keeps it too.
    fn note_time_of_parent(&mut self, path: &EntryPath) {
        if matches!(self.whiteouts, Whiteouts::Overlay) && !self.settled {
            return;
        }
        // Where it is missing it is about to be made, which changes the one above it.
        let mut parent = path.parent();
        while !self.directories.contains_key(&parent) {
            if let Ok(fd) = self.places.directory(&parent) {
                if let Ok(stat) = rustix::fs::fstat(&fd) {
                    self.directories.insert(parent, Metadata::time_of(&stat));
                }
                return;
            }
            if parent.is_root() {
                return;
            }
            parent = parent.parent();
        }
    }

    /// The root stays the directory that it is; it takes owner, mode and times (CVE-2021-29136).
    fn root_entry(&mut self, kind: EntryType, metadata: Metadata) -> Result<(), Error> {
        if kind != EntryType::Directory {
            return Err(refuse(b"/", "is the root of the layer, but no directory; refused"));
        }
        let root = EntryPath::ROOT;
        let fd = self.places.directory(&root).map_err(|errno| failed(b"/", "open", errno))?;
        self.places.marks.root_is_stated();
        drop_xattrs(fd.as_fd())
            .and_then(|()| metadata.apply_to_fd(fd.as_fd()))
            .map_err(|errno| failed(b"/", "set owner and mode of", errno))?;
        self.directories.insert(root, metadata.times_only());
        Ok(())
    }

    fn create(&mut self, member: &Member, path: &EntryPath, metadata: Metadata) -> Result<(), Error> {
        match member.kind {
            EntryType::Directory => self.directory(path, metadata),
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                self.regular(path, &metadata)
            }
            EntryType::Link => self.hard_link(member, path),
            EntryType::Symlink => {
                let target =
                    member.link.as_deref().ok_or_else(|| refuse(path.bytes(), "is a symlink to nowhere"))?;
                self.place(path, "create symlink", |parent, name| {
                    rustix::fs::symlinkat(target, parent, name)?;
                    metadata.apply_at(parent, name, true)?;
                    metadata.set_times(parent, name)
                })
            }
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                let (kind, number) = node(member, path.bytes())?;
                self.place(path, "create device", |parent, name| {
                    rustix::fs::mknodat(parent, name, kind, metadata.permissions(), number)?;
                    metadata.apply_at(parent, name, false)?;
                    metadata.set_times(parent, name)
                })
            }
            other => Err(refuse(
                path.bytes(),
                &format!("has type {:?}, which is not supported", char::from(other.as_byte())),
            )),
        }
    }

    /// Makes something new at a place. Later entries of a layer replace earlier ones: what is in the way is
    /// removed, a link too, and never written through.
    fn place<T>(
        &mut self,
        path: &EntryPath,
        action: &'static str,
        make: impl Fn(BorrowedFd<'_>, &[u8]) -> Result<T, Errno>,
    ) -> Result<T, Error> {
        let made = match make(self.places.parent(path)?, path.name()) {
            Err(Errno::EXIST) => {
                let parent = self.places.parent(path)?;
                remove_at(parent, path.name()).map_err(|errno| failed(path.bytes(), "replace", errno))?;
                self.places.forget();
                make(self.places.parent(path)?, path.name())
            }
            made => made,
        };
        made.map_err(|errno| failed(path.bytes(), action, errno))
    }

    fn directory(&mut self, path: &EntryPath, metadata: Metadata) -> Result<(), Error> {
        let error = |errno| failed(path.bytes(), "create directory", errno);
        let parent = self.places.parent(path)?;
        // A whiteout before the directory of the same name hides what lower layers have in it.
        let mut hides_lower = false;
        let mut was_there = false;
        if let Err(errno) = rustix::fs::mkdirat(parent, path.name(), Mode::from(0o700)) {
            let found = kind_at(parent, path.name()).map_err(error)?;
            was_there = errno == Errno::EXIST && found == Some(FileType::Directory);
            if !was_there {
                hides_lower = is_whiteout(parent, path.name());
                self.place(path, "create directory", |parent, name| {
                    rustix::fs::mkdirat(parent, name, Mode::from(0o700))
                })?;
            }
        }
        let fd = self.places.directory(path).map_err(error)?;
        if hides_lower && matches!(self.whiteouts, Whiteouts::Overlay) {
            set_opaque(fd.as_fd()).map_err(error)?;
        }
        if was_there {
            drop_xattrs(fd.as_fd()).map_err(error)?;
            self.places.marks.stated(fd.as_fd()).map_err(error)?;
        }
        metadata.apply_to_fd(fd.as_fd()).map_err(error)?;
        self.directories.insert(path.clone(), metadata.times_only());
        Ok(())
    }

    fn regular(&mut self, path: &EntryPath, metadata: &Metadata) -> Result<(), Error> {
        let mut file = self.place(path, "create file", file::create)?;
        // Holes are not in the stream, but they take time and room all the same (CVE-2021-20291).
        self.guard.take(metadata.sparse.size().unwrap_or(0)).map_err(Error::Unreadable)?;
        let copied = if metadata.sparse.is_present() {
            metadata.sparse.write(&mut self.tape, &mut file)
        } else {
            self.copier.copy(&mut self.tape, &mut file)
        };
        copied.map_err(|source| match self.tape.is_broken() {
            true => Error::Unreadable(source),
            false => Error::File { action: "write", path: display(path.bytes()), source },
        })?;
        metadata
            .apply_to_fd(file.as_fd())
            .and_then(|()| metadata.set_times_of(&file))
            .map_err(|errno| failed(path.bytes(), "set owner, mode and attributes of", errno))
    }

    /// Both names are in this layer; the target is linked as it is, a symlink as a symlink.
    fn hard_link(&mut self, member: &Member, path: &EntryPath) -> Result<(), Error> {
        let target =
            member.link.as_deref().ok_or_else(|| refuse(path.bytes(), "is a hard link to nothing"))?;
        let target = EntryPath::parse(target)?;
        if target.is_root() {
            return Err(refuse(path.bytes(), "is a hard link to the root; refused"));
        }
        let from = self
            .places
            .existing_parent(&target)
            .map_err(|errno| failed(target.bytes(), "create hard link to", errno))?;
        self.place(path, "create hard link", |parent, name| {
            rustix::fs::linkat(&from, target.name(), parent, name, AtFlags::empty())
        })
    }

    fn finish(mut self) -> Result<(), Error> {
        // The same layer gives the same tree, whenever it is unpacked.
        if matches!(self.whiteouts, Whiteouts::Overlay) && !self.settled {
            self.directories.entry(EntryPath::ROOT).or_insert_with(Metadata::of_nothing);
        }
        self.settle_times()
    }

    fn settle_times(&mut self) -> Result<(), Error> {
        for (path, metadata) in self.directories.drain() {
            // A directory may have been replaced by a later entry.
            let Ok(fd) = self.places.directory(&path) else { continue };
            metadata.set_times_of(fd).map_err(|errno| failed(path.bytes(), "set the time of", errno))?;
        }
        self.settled = true;
        Ok(())
    }
}

fn node(member: &Member, name: &[u8]) -> Result<(FileType, u64), Error> {
    let malformed = |error: std::io::Error| refuse(name, &format!("has a malformed device number: {error}"));
    let kind = match member.kind {
        EntryType::Char => FileType::CharacterDevice,
        EntryType::Block => FileType::BlockDevice,
        _ => return Ok((FileType::Fifo, 0)),
    };
    let major = member.header.device_major().map_err(malformed)?.unwrap_or(0);
    let minor = member.header.device_minor().map_err(malformed)?.unwrap_or(0);
    if kind == FileType::CharacterDevice && (major, minor) == (0, 0) {
        return Err(refuse(name, "is device 0:0, which overlayfs takes for a whiteout; refused"));
    }
    Ok((kind, rustix::fs::makedev(major, minor)))
}

fn display(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

fn failed(name: &[u8], action: &'static str, errno: Errno) -> Error {
    Error::File { action, path: display(name), source: errno.into() }
}
