//! The walk over a layer's entries.
use super::extended::Extended;
use super::file::{self, Copier};
use super::guard::Guard;
use super::metadata::{Metadata, check_global, drop_xattrs};
use super::place::{EntryPath, Places, kind_at, remove_at};
use super::whiteout::{Mark, Whiteouts, is_whiteout, set_opaque};
use super::{Error, Limits, refuse};
use rustix::fs::{AtFlags, FileType, Mode};
use rustix::io::Errno;
use std::collections::HashMap;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use tar::{Archive, Entry, EntryType};

/// Applies a decompressed layer to the tree below `root`.
///
/// # Errors
/// Names the entry. The tree is half made then, and the caller's to remove.
pub(in crate::image) fn apply(
    stream: impl Read,
    root: BorrowedFd<'_>,
    whiteouts: Whiteouts,
    limits: Limits,
) -> Result<(), Error> {
    let guard = Guard::new(limits, ", unless you trust it: then raise --max-layer-size");
    let mut archive = Archive::new(guard.stream(stream));
    let mut layer = Layer {
        places: Places::new(root),
        root,
        whiteouts,
        copier: Copier::new(),
        directories: HashMap::new(),
        guard: guard.clone(),
    };
    let mut entries = archive.entries().map_err(unreadable)?;
    for count in 0.. {
        guard.expect_headers();
        let Some(entry) = entries.next() else { break };
        if count >= limits.entries {
            let reason = format!("has more than {} entries; raise --max-layer-entries", limits.entries);
            return Err(Error::invalid("the layer", reason));
        }
        let mut entry = entry.map_err(unreadable)?;
        guard.expect_content();
        layer.entry(&mut entry)?;
        // What is left of the entry is content too, and must not count as headers.
        std::io::copy(&mut entry, &mut std::io::sink()).map_err(unreadable)?;
    }
    guard.expect_content();
    layer.finish()
}

fn unreadable(error: std::io::Error) -> Error {
    Error::Unreadable(error)
}

struct Layer<'a> {
    places: Places<'a>,
    root: BorrowedFd<'a>,
    whiteouts: Whiteouts,
    copier: Copier,
    /// Directories keep their mtime until the end, because every entry in them changes it.
    directories: HashMap<EntryPath, Metadata>,
    guard: Guard,
}

impl Layer<'_> {
    fn entry<R: Read>(&mut self, entry: &mut Entry<'_, R>) -> Result<(), Error> {
        let header = entry.header().clone();
        let refused = |reason| refuse(&header.path_bytes(), reason);
        let extended = self.guard.with_headers(Extended::parse).map_err(refused)?;
        extended.check_size(&header, entry.size()).map_err(refused)?;
        let raw = extended.name(&header).map_err(refused)?.into_owned();
        let link = extended.link(&header).map_err(refused)?;
        let kind = kind_of(entry, &raw)?;
        if kind == EntryType::XGlobalHeader {
            let mut records = Vec::new();
            self.guard.expect_headers();
            entry.read_to_end(&mut records).map_err(unreadable)?;
            return check_global(&records);
        }
        let metadata = Metadata::of(entry, &extended, &raw)?;
        let path = EntryPath::parse(metadata.sparse.name.as_deref().unwrap_or(&raw))?;
        if path.is_root() {
            return self.root_entry(kind, metadata);
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
        self.create(entry, kind, &path, link.as_deref(), metadata)
    }

    /// A directory that this layer does not state keeps the time that a lower one gave it.
    fn note_time_of_parent(&mut self, path: &EntryPath) {
        let parent = path.parent();
        if matches!(self.whiteouts, Whiteouts::Overlay) || self.directories.contains_key(&parent) {
            return;
        }
        // One that is missing is about to be made.
        let Ok(fd) = self.places.directory(&parent) else { return };
        if let Ok(stat) = rustix::fs::fstat(&fd) {
            self.directories.insert(parent, Metadata::time_of(&stat));
        }
    }

    /// The root stays the directory that it is; it takes owner, mode and times (CVE-2021-29136).
    fn root_entry(&mut self, kind: EntryType, metadata: Metadata) -> Result<(), Error> {
        if kind != EntryType::Directory {
            return Err(refuse(b"/", "is the root of the layer, but no directory; refused"));
        }
        let root = EntryPath::parse(b".")?;
        let fd = self.places.directory(&root).map_err(|errno| failed(b"/", "open", errno))?;
        drop_xattrs(fd.as_fd())
            .and_then(|()| metadata.apply_to_fd(fd.as_fd()))
            .map_err(|errno| failed(b"/", "set owner and mode of", errno))?;
        self.directories.insert(root, metadata.times_only());
        Ok(())
    }

    fn create<R: Read>(
        &mut self,
        entry: &mut Entry<'_, R>,
        kind: EntryType,
        path: &EntryPath,
        link: Option<&[u8]>,
        metadata: Metadata,
    ) -> Result<(), Error> {
        let name = path.c_name();
        let bytes = path.bytes();
        if kind == EntryType::Directory {
            return self.directory(path, metadata);
        }
        self.clear(path)?;
        match kind {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let sparse = kind == EntryType::GNUSparse;
                self.regular(entry, path, &metadata, sparse)
            }
            EntryType::Link => self.hard_link(path, link),
            EntryType::Symlink => {
                let target = link.ok_or_else(|| refuse(&bytes, "is a symlink to nowhere"))?;
                let parent = self.places.parent(path)?;
                rustix::fs::symlinkat(target, parent, &name)
                    .and_then(|()| metadata.apply_at(parent, path.name(), true))
                    .and_then(|()| metadata.set_times(parent, path.name()))
                    .map_err(|errno| failed(&bytes, "create symlink", errno))
            }
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                let (kind, number) = node(entry, kind, &bytes)?;
                let parent = self.places.parent(path)?;
                rustix::fs::mknodat(parent, &name, kind, metadata.permissions(), number)
                    .and_then(|()| metadata.apply_at(parent, path.name(), false))
                    .and_then(|()| metadata.set_times(parent, path.name()))
                    .map_err(|errno| failed(&bytes, "create device", errno))
            }
            other => Err(refuse(
                &bytes,
                &format!("has type {:?}, which is not supported", char::from(other.as_byte())),
            )),
        }
    }

    /// Makes room: later entries of a layer replace earlier ones. A link is removed, never written through.
    fn clear(&mut self, path: &EntryPath) -> Result<(), Error> {
        let parent = self.places.parent(path)?;
        let found = kind_at(parent, path.name()).and_then(|kind| match kind {
            None => Ok(false),
            Some(kind) => remove_at(parent, path.name()).map(|()| kind == FileType::Directory),
        });
        if found.map_err(|errno| failed(&path.bytes(), "replace", errno))? {
            self.places.forget();
        }
        Ok(())
    }

    fn directory(&mut self, path: &EntryPath, metadata: Metadata) -> Result<(), Error> {
        let bytes = path.bytes();
        let parent = self.places.parent(path)?;
        let error = |errno| failed(&bytes, "create directory", errno);
        let hides_lower = match kind_at(parent, path.name()).map_err(error)? {
            Some(FileType::Directory) => None,
            Some(_) => {
                // A whiteout before the directory of the same name hides what lower layers have in it.
                let whiteout = is_whiteout(parent, path.name());
                remove_at(parent, path.name()).map_err(error)?;
                Some(whiteout)
            }
            None => Some(false),
        };
        if hides_lower.is_some() {
            rustix::fs::mkdirat(parent, path.name(), Mode::from(0o700)).map_err(error)?;
        }
        let fd = self.places.directory(path).map_err(error)?;
        if hides_lower == Some(true) && matches!(self.whiteouts, Whiteouts::Overlay) {
            set_opaque(fd.as_fd()).map_err(error)?;
        }
        if hides_lower.is_none() {
            drop_xattrs(fd.as_fd()).map_err(error)?;
        }
        metadata.apply_to_fd(fd.as_fd()).map_err(error)?;
        self.directories.insert(path.clone(), metadata.times_only());
        Ok(())
    }

    fn regular<R: Read>(
        &mut self,
        entry: &mut Entry<'_, R>,
        path: &EntryPath,
        metadata: &Metadata,
        gnu_sparse: bool,
    ) -> Result<(), Error> {
        let bytes = path.bytes();
        let parent = self.places.parent(path)?;
        let mut file =
            file::create(parent, path.name()).map_err(|errno| failed(&bytes, "create file", errno))?;
        let size = entry.size();
        // Holes are not in the stream, but they take time and room all the same (CVE-2021-20291).
        let holes = if gnu_sparse { size } else { metadata.sparse.size().unwrap_or(0) };
        self.guard.take(holes).map_err(unreadable)?;
        let copied = if metadata.sparse.is_present() {
            metadata.sparse.write(entry, &mut file)
        } else if gnu_sparse {
            self.copier.copy_sparse(entry, &mut file, size)
        } else {
            self.copier.copy(entry, &mut file)
        };
        copied.map_err(|source| Error::File { action: "write", path: display(&bytes), source })?;
        metadata
            .apply_to_fd(file.as_fd())
            .and_then(|()| metadata.set_times_of(&file))
            .map_err(|errno| failed(&bytes, "set owner, mode and attributes of", errno))
    }

    /// Both names are in this layer; the target is linked as it is, a symlink as a symlink.
    fn hard_link(&mut self, path: &EntryPath, target: Option<&[u8]>) -> Result<(), Error> {
        let bytes = path.bytes();
        let target = target.ok_or_else(|| refuse(&bytes, "is a hard link to nothing"))?;
        let target = EntryPath::parse(target)?;
        if target.is_root() {
            return Err(refuse(&bytes, "is a hard link to the root; refused"));
        }
        let error = |errno| failed(&bytes, "create hard link", errno);
        let from = Places::new(self.root).parent(&target)?.try_clone_to_owned().map_err(|source| {
            Error::File { action: "open the directory of", path: display(&target.bytes()), source }
        })?;
        let parent = self.places.parent(path)?;
        rustix::fs::linkat(&from, target.name(), parent, path.name(), AtFlags::empty()).map_err(error)
    }

    fn finish(self) -> Result<(), Error> {
        for (path, metadata) in &self.directories {
            // A directory may have been replaced by a later entry.
            let Ok(fd) = self.places.directory(path) else { continue };
            metadata.set_times_of(fd).map_err(|errno| failed(&path.bytes(), "set the time of", errno))?;
        }
        Ok(())
    }
}

/// What the entry is, as GNU tar reads it. Only files have content: other readers take the blocks that a
/// link or directory claims for the next entries (CVE-2025-62518).
fn kind_of<R: Read>(entry: &Entry<'_, R>, name: &[u8]) -> Result<EntryType, Error> {
    let header = entry.header();
    let kind = match header.entry_type() {
        EntryType::Regular if name.ends_with(b"/") => EntryType::Directory,
        kind => kind,
    };
    let has_content = matches!(
        kind,
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse | EntryType::XGlobalHeader
    );
    // What is no plain number has another meaning to each reader; GNU tar takes `+` for base 64.
    let size = &header.as_old().size;
    if size[0] & 0x80 == 0 && !size.iter().all(|byte| matches!(byte, b'0'..=b'7' | b' ' | 0)) {
        return Err(refuse(name, "has a malformed size; refused"));
    }
    if !has_content && (entry.size() != 0 || header.entry_size().unwrap_or(1) != 0) {
        return Err(refuse(name, "has content, but is no file; refused"));
    }
    Ok(kind)
}

fn node<R: Read>(entry: &Entry<'_, R>, kind: EntryType, name: &[u8]) -> Result<(FileType, u64), Error> {
    let malformed = |error: std::io::Error| refuse(name, &format!("has a malformed device number: {error}"));
    let kind = match kind {
        EntryType::Char => FileType::CharacterDevice,
        EntryType::Block => FileType::BlockDevice,
        _ => return Ok((FileType::Fifo, 0)),
    };
    let major = entry.header().device_major().map_err(malformed)?.unwrap_or(0);
    let minor = entry.header().device_minor().map_err(malformed)?.unwrap_or(0);
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
