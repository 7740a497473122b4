//! The files of an archive or layout, by name: a directory is read in place, a tar stream is staged in
//! the store while its digests are taken.
use super::super::compression::decompressed;
use super::super::layer::{Guard, Limits};
use super::super::manifest::DOCUMENT_LIMIT;
use super::super::store::blobs::{Staged, Staging};
use super::super::{Error, Source};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use tar::EntryType;

/// An archive has a few files a layer; the rest is not an image.
const FILES_LIMIT: usize = 20_000;
/// No image is larger; a decompression bomb is stopped by it at the latest.
const BYTES_LIMIT: u64 = 256 << 30;

#[derive(Debug)]
enum Place {
    Directory(PathBuf),
    Staged(HashMap<String, Member>),
}

#[derive(Debug)]
enum Member {
    File(Staged),
    /// docker save writes repeated layers as links.
    Link(String),
}

/// What `wharf load` was given.
#[derive(Debug)]
pub(super) struct Files<'a> {
    staging: &'a Staging,
    place: Place,
    /// How to call it in an error.
    pub(super) what: String,
}

impl<'a> Files<'a> {
    pub(super) fn open(source: &Source, staging: &'a Staging) -> Result<Self, Error> {
        match source {
            Source::Path(path) if path.is_dir() => {
                let place = Place::Directory(path.clone());
                Ok(Self { staging, place, what: path.display().to_string() })
            }
            Source::Path(path) => {
                let file = File::open(path).map_err(Error::file("open", path))?;
                Self::stage_all(file, staging, path.display().to_string())
            }
            Source::Stdin => Self::stage_all(io::stdin().lock(), staging, "standard input".to_owned()),
        }
    }

    fn stage_all(stream: impl Read, staging: &'a Staging, what: String) -> Result<Self, Error> {
        let unreadable = |error: io::Error| Error::invalid(&what, unreadable_words(&error));
        let (_, stream) = decompressed(stream).map_err(unreadable)?;
        let guard = Guard::new(Limits { bytes: Some(BYTES_LIMIT), entries: FILES_LIMIT as u64 }, "");
        let mut archive = tar::Archive::new(guard.stream(stream));
        let mut members = HashMap::new();
        let mut entries = archive.entries().map_err(unreadable)?;
        loop {
            guard.expect_headers();
            let Some(entry) = entries.next() else { break };
            let mut entry = entry.map_err(unreadable)?;
            guard.expect_content();
            let raw = entry.path_bytes().into_owned();
            let name = plain_name(Path::new(&*String::from_utf8_lossy(&raw)));
            let kind = entry.header().entry_type();
            let member = match kind {
                EntryType::Regular | EntryType::Continuous => {
                    Member::File(staging.stage(&mut entry, &format!("{name} of {what}"))?)
                }
                EntryType::Link | EntryType::Symlink => {
                    let target = entry.link_name().map_err(unreadable)?.unwrap_or_default();
                    let base = if kind == EntryType::Link { PathBuf::new() } else { parent_of(&name) };
                    Member::Link(plain_name(&base.join(target)))
                }
                _ => {
                    io::copy(&mut entry, &mut io::sink()).map_err(unreadable)?;
                    continue;
                }
            };
            io::copy(&mut entry, &mut io::sink()).map_err(unreadable)?;
            members.insert(name, member);
            if members.len() > FILES_LIMIT {
                return Err(Error::invalid(
                    &what,
                    format!("has more than {FILES_LIMIT} files; no image archive does"),
                ));
            }
        }
        if members.is_empty() {
            return Err(Error::invalid(&what, "is empty or no tar archive"));
        }
        Ok(Self { staging, place: Place::Staged(members), what })
    }

    /// Whether there is a file of that name.
    pub(super) fn has(&self, name: &str) -> bool {
        match &self.place {
            Place::Directory(directory) => open_inside(directory, name).is_ok(),
            Place::Staged(_) => self.member(name).is_some(),
        }
    }

    /// A small document, whole.
    pub(super) fn document(&self, name: &str) -> Result<Vec<u8>, Error> {
        let (path, file) = match &self.place {
            Place::Directory(directory) => (directory.join(name), open_inside(directory, name)),
            Place::Staged(_) => {
                let path = self.member(name).ok_or_else(|| self.missing(name))?.path.clone();
                (path.clone(), File::open(path))
            }
        };
        let file = file.map_err(Error::file("open", &path))?;
        let mut bytes = Vec::new();
        file.take(DOCUMENT_LIMIT + 1).read_to_end(&mut bytes).map_err(Error::file("read", &path))?;
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
        match &self.place {
            Place::Staged(_) => self.member(name).cloned().ok_or_else(|| self.missing(name)),
            Place::Directory(directory) => {
                let path = directory.join(name);
                let file = match open_inside(directory, name) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(self.missing(name)),
                    file => file.map_err(Error::file("open", &path))?,
                };
                self.staging.stage(file, &path.display().to_string())
            }
        }
    }

    /// Stages a document that was made here.
    pub(super) fn stage_bytes(&self, bytes: &[u8]) -> Result<Staged, Error> {
        self.staging.stage(bytes, "the manifest")
    }

    fn member(&self, name: &str) -> Option<&Staged> {
        let Place::Staged(members) = &self.place else { return None };
        let mut name = plain_name(Path::new(name));
        // Links of links happen; a circle must not hang.
        for _ in 0..8 {
            match members.get(&name)? {
                Member::File(staged) => return Some(staged),
                Member::Link(target) => name.clone_from(target),
            }
        }
        None
    }

    fn missing(&self, name: &str) -> Error {
        Error::invalid(&self.what, format!("lacks {name}; the archive is incomplete"))
    }
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
