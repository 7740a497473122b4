//! The files of an archive or layout, by name: a directory is read in place, a tar stream is staged in
//! the store while its digests are taken.
use super::super::compression::{Compression, decompressed};
use super::super::layer::{Guard, Limits};
use super::super::manifest::DOCUMENT_LIMIT;
use super::super::store::blobs::{Staged, Staging};
use super::super::{Error, Source};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use tar::EntryType;

/// An archive has a few files a layer; the rest is not an image.
const FILES_LIMIT: usize = 20_000;
/// No image is larger; a decompression bomb is stopped by it at the latest.
const LIMITS: Limits = Limits { bytes: Some(256 << 30), entries: FILES_LIMIT as u64 };

#[derive(Debug)]
enum Place {
    Directory(PathBuf),
    /// An archive that is not compressed, in which one can read where one likes.
    Archive(Arc<File>, HashMap<String, Member<Region>>),
    /// A stream that has passed.
    Staged(HashMap<String, Member<Staged>>),
}

#[derive(Debug)]
enum Member<T> {
    File(T),
    /// docker save writes repeated layers as links.
    Link(String),
}

/// A file within an archive.
#[derive(Debug, Clone, Copy)]
struct Region {
    offset: u64,
    length: u64,
}

/// How a file of the archive is there.
pub(in crate::image) enum Content {
    /// It is to be copied into the store.
    New,
    /// It has been.
    Staged(Staged),
}

/// What `wharf load` was given.
#[derive(Debug)]
pub(in crate::image) struct Files<'a> {
    staging: &'a Staging,
    place: Place,
    /// How to call it in an error.
    pub(super) what: String,
}

impl<'a> Files<'a> {
    pub(in crate::image) fn open(source: &Source, staging: &'a Staging) -> Result<Self, Error> {
        let path = match source {
            Source::Path(path) => path,
            Source::Stdin => {
                let what = "standard input".to_owned();
                let place = Place::Staged(stage_all(io::stdin().lock(), staging, &what)?);
                return Ok(Self { staging, place, what });
            }
        };
        let what = path.display().to_string();
        if path.is_dir() {
            return Ok(Self { staging, place: Place::Directory(path.clone()), what });
        }
        let mut file = File::open(path).map_err(Error::file("open", path))?;
        let is_file = file.metadata().map_err(Error::file("look at", path))?.is_file();
        let place = if is_file && is_plain(&mut file).map_err(Error::file("read", path))? {
            let members = scan(&file, &what)?;
            Place::Archive(Arc::new(file), members)
        } else {
            Place::Staged(stage_all(file, staging, &what)?)
        };
        Ok(Self { staging, place, what })
    }

    /// Whether there is a file of that name.
    pub(super) fn has(&self, name: &str) -> bool {
        match &self.place {
            Place::Directory(directory) => open_inside(directory, name).is_ok(),
            Place::Archive(_, members) => member(members, name).is_some(),
            Place::Staged(members) => member(members, name).is_some(),
        }
    }

    /// A small document, whole.
    pub(super) fn document(&self, name: &str) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        let read = self.reader(name)?.take(DOCUMENT_LIMIT + 1).read_to_end(&mut bytes);
        read.map_err(|error| Error::invalid(format!("{name} of {}", self.what), unreadable_words(&error)))?;
        if bytes.len() as u64 > DOCUMENT_LIMIT {
            return Err(Error::invalid(
                format!("{name} of {}", self.what),
                format!("is larger than {DOCUMENT_LIMIT} bytes"),
            ));
        }
        Ok(bytes)
    }

    /// A file in the store's staging area, its digest taken.
    pub(super) fn staged(&self, name: &str) -> Result<Staged, Error> {
        match self.content(name)? {
            Content::Staged(staged) => Ok(staged),
            Content::New => self.staging.stage(self.reader(name)?, &format!("{name} of {}", self.what)),
        }
    }

    /// How a file is there.
    pub(in crate::image) fn content(&self, name: &str) -> Result<Content, Error> {
        match &self.place {
            Place::Directory(_) | Place::Archive(..) => Ok(Content::New),
            Place::Staged(members) => {
                member(members, name).cloned().map(Content::Staged).ok_or_else(|| self.missing(name))
            }
        }
    }

    /// Bytes of a file.
    pub(super) fn size(&self, name: &str) -> Result<u64, Error> {
        let length = match &self.place {
            Place::Directory(_) => self.open_in_directory(name)?.metadata().ok().map(|data| data.len()),
            Place::Archive(_, members) => member(members, name).map(|region| region.length),
            Place::Staged(members) => member(members, name).map(|staged| staged.size),
        };
        length.ok_or_else(|| self.missing(name))
    }

    /// Reads a file.
    pub(in crate::image) fn reader(&self, name: &str) -> Result<Box<dyn Read + Send>, Error> {
        match &self.place {
            Place::Directory(_) => Ok(Box::new(self.open_in_directory(name)?)),
            Place::Archive(archive, members) => {
                let Region { offset, length } = *member(members, name).ok_or_else(|| self.missing(name))?;
                Ok(Box::new(Section { archive: Arc::clone(archive), offset, left: length }))
            }
            Place::Staged(members) => {
                let path = &member(members, name).ok_or_else(|| self.missing(name))?.path;
                Ok(Box::new(File::open(path).map_err(Error::file("open", path))?))
            }
        }
    }

    fn open_in_directory(&self, name: &str) -> Result<File, Error> {
        let Place::Directory(directory) = &self.place else { return Err(self.missing(name)) };
        match open_inside(directory, name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(self.missing(name)),
            file => file.map_err(Error::file("open", &directory.join(name))),
        }
    }

    /// Stages a document that was made here.
    pub(super) fn stage_bytes(&self, bytes: &[u8]) -> Result<Staged, Error> {
        self.staging.stage(bytes, "the manifest")
    }

    pub(super) fn missing(&self, name: &str) -> Error {
        Error::invalid(&self.what, format!("lacks {name}; the archive is incomplete"))
    }
}

fn member<'a, T>(members: &'a HashMap<String, Member<T>>, name: &str) -> Option<&'a T> {
    let mut name = plain_name(Path::new(name));
    // Links of links happen; a circle must not hang.
    for _ in 0..8 {
        match members.get(&name)? {
            Member::File(file) => return Some(file),
            Member::Link(target) => name.clone_from(target),
        }
    }
    None
}

/// A part of an archive, read independently of others.
struct Section {
    archive: Arc<File>,
    offset: u64,
    left: u64,
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let length = self.archive.read_at(&mut buffer[..wanted], self.offset)?;
        if length == 0 && wanted > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.offset += length as u64;
        self.left -= length as u64;
        Ok(length)
    }
}

/// Whether the file begins like a tar archive that is not compressed.
fn is_plain(file: &mut File) -> io::Result<bool> {
    let (compression, _) = decompressed(&mut *file)?;
    file.rewind()?;
    Ok(compression == Compression::None)
}

/// Where the files are in an archive.
fn scan(file: &File, what: &str) -> Result<HashMap<String, Member<Region>>, Error> {
    let guard = Guard::new(LIMITS, "");
    let mut archive = tar::Archive::new(guard.stream(file));
    let entries = archive.entries_with_seek().map_err(unreadable(what))?;
    collect(entries, &guard, what, |_, entry| {
        Ok(Region { offset: entry.raw_file_position(), length: entry.size() })
    })
}

/// Copies all files of a stream into the staging area.
fn stage_all(
    stream: impl Read,
    staging: &Staging,
    what: &str,
) -> Result<HashMap<String, Member<Staged>>, Error> {
    let (_, stream) = decompressed(stream).map_err(unreadable(what))?;
    let guard = Guard::new(LIMITS, "");
    let mut archive = tar::Archive::new(guard.stream(stream));
    let entries = archive.entries().map_err(unreadable(what))?;
    collect(entries, &guard, what, |name, entry| {
        let staged = staging.stage(&mut *entry, &format!("{name} of {what}"))?;
        // What is left of the entry is content too, and must not count as headers.
        io::copy(entry, &mut io::sink()).map_err(unreadable(what))?;
        Ok(staged)
    })
}

fn collect<R: Read, T>(
    mut entries: tar::Entries<'_, R>,
    guard: &Guard,
    what: &str,
    take: impl Fn(&str, &mut tar::Entry<'_, R>) -> Result<T, Error>,
) -> Result<HashMap<String, Member<T>>, Error> {
    let mut members = HashMap::new();
    for count in 0.. {
        guard.expect_headers();
        let Some(entry) = entries.next() else { break };
        let mut entry = entry.map_err(unreadable(what))?;
        guard.expect_content();
        let raw = entry.path_bytes().into_owned();
        let name = plain_name(Path::new(&*String::from_utf8_lossy(&raw)));
        let kind = entry.header().entry_type();
        let member = match kind {
            EntryType::Regular | EntryType::Continuous => Member::File(take(&name, &mut entry)?),
            EntryType::Link | EntryType::Symlink => {
                let target = entry.link_name().map_err(unreadable(what))?.unwrap_or_default();
                let base = if kind == EntryType::Link { PathBuf::new() } else { parent_of(&name) };
                Member::Link(plain_name(&base.join(target)))
            }
            _ => {
                io::copy(&mut entry, &mut io::sink()).map_err(unreadable(what))?;
                continue;
            }
        };
        members.insert(name, member);
        if count >= FILES_LIMIT {
            let reason = format!("has more than {FILES_LIMIT} files; no image archive does");
            return Err(Error::invalid(what, reason));
        }
    }
    if members.is_empty() {
        return Err(Error::invalid(what, "is empty or no tar archive"));
    }
    Ok(members)
}

fn unreadable(what: &str) -> impl Fn(io::Error) -> Error + use<'_> {
    move |error| Error::invalid(what, unreadable_words(&error))
}

fn unreadable_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "is truncated".to_owned(),
        _ => format!("is damaged, or no tar archive (plain, gzip or zstd): {error}"),
    }
}

fn parent_of(name: &str) -> PathBuf {
    Path::new(name).parent().map(Path::to_owned).unwrap_or_default()
}

/// Opens a regular file of a layout directory. The names come from the layout's own documents, so they
/// must not lead out of it, and a FIFO in a blob's place must not hang.
fn open_inside(directory: &Path, name: &str) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let root = File::open(directory)?;
    let file = File::from(openat2(&root, name, flags, Mode::empty(), resolve)?);
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "is no regular file")),
    }
}

/// Names are keys here, never paths of the host; `..` is resolved as text.
fn plain_name(path: &Path) -> String {
    let mut names: Vec<String> = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name.to_string_lossy().into_owned()),
            Component::ParentDir => drop(names.pop()),
            _ => {}
        }
    }
    names.join("/")
}
