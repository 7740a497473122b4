//! A layer of our own over an image's, which states again the directories that the image's upper layers only
//! imply: each as the topmost layer that has an entry for it states it.
//!
//! It depends on all layers of an image, so it is made once for each sequence of layers, when that is first used,
//! and has its place among them, by a digest of theirs. Where there is nothing to state it is empty and takes no
//! part in the overlay.
use super::super::layer::{IMPLIED, has_implied, hides_lower, is_implied, is_kept};
use super::super::overlay::above_opaque_root;
use super::super::{Digest, Error, xattr};
use super::claim::Claim;
use super::{Layer, Unpacked, Verdict};
use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags, openat2,
};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Goes into the digest: another way of making these layers gives them other names.
const FORM: &str = "wharf.restated.1";

/// The name of the layer over these.
pub(in crate::image) fn restated_name(layers: &[Layer]) -> Digest {
    let lines = layers.iter().map(|layer| format!("\n{}", layer.diff_id));
    Digest::of([FORM.to_owned()].into_iter().chain(lines).collect::<String>().as_bytes())
}

impl Unpacked {
    /// What goes over these layers, all of which are there; `None` for almost every image.
    pub(in crate::image) fn restated(&self, layers: &[Layer]) -> Result<Option<PathBuf>, Error> {
        let directories = self.paths(layers);
        if !directories.iter().skip(1).any(|layer| has_implied(layer)) {
            return Ok(None);
        }
        let name = restated_name(layers);
        let done = self.path(&name);
        if let Some(claim) = Claim::take(&self.directory, &name, &done)? {
            write(&directories, claim.root())?;
            claim.commit()?;
        }
        let first = fs::read_dir(&done).map_err(Error::file("list", &done))?.next();
        Ok(first.is_some().then_some(done))
    }

    /// Compares the layer over these, if it is there, with what it should be, and replaces it where that differs
    /// and is wanted.
    pub(in crate::image) fn verify_restated(
        &self,
        layers: &[Layer],
        replace: bool,
    ) -> Result<Option<Verdict>, Error> {
        let path = self.path(&restated_name(layers));
        let directories = self.paths(layers);
        if !path.exists() || !directories.iter().all(|layer| layer.exists()) {
            return Ok(None);
        }
        self.compare_with(&path, replace, |root| write(&directories, root)).map(Some)
    }

    fn paths(&self, layers: &[Layer]) -> Vec<PathBuf> {
        layers.iter().map(|layer| self.path(&layer.diff_id)).collect()
    }
}

/// Fills the root of the layer over these, lowest first.
fn write(layers: &[PathBuf], root: BorrowedFd<'_>) -> Result<(), Error> {
    let stack = Stack::open(above_opaque_root(layers))?;
    let mut restated = Restated::new();
    let all: Vec<usize> = (0..stack.0.len()).collect();
    if let Some(shown) = stack.look(ROOT, &all)? {
        let mut way = vec![(ROOT.to_vec(), shown.stated)];
        stack.find(ROOT, &shown, &mut way, &mut restated)?;
    }
    if restated.is_empty() {
        // It has the time at which it was made.
        return rustix::fs::fsetxattr(root, IMPLIED, b"y", XattrFlags::empty()).map_err(failed(ROOT));
    }
    // Parents come before what is in them.
    for path in restated.keys().filter(|path| path[..] != *ROOT) {
        rustix::fs::mkdirat(root, &path[..], Mode::from(0o700)).map_err(failed(path))?;
    }
    for (path, layer) in &restated {
        copy_attributes(stack.open_at(*layer, path), open(root, path)).map_err(failed(path))?;
    }
    Ok(())
}

/// Other paths begin with it and a slash.
const ROOT: &[u8] = b".";

/// Directories to state, by path, and the layer that says how they are.
type Restated = BTreeMap<Vec<u8>, usize>;

/// Layers, topmost first.
struct Stack(Vec<Member>);

struct Member {
    root: OwnedFd,
    /// Whether it may hold implied directories.
    implies: bool,
}

/// What the layers show as one directory.
struct Shown {
    /// The layers whose entries it has, topmost first.
    merged: Vec<usize>,
    /// The topmost that states it; the topmost of all where none does.
    stated: usize,
}

impl Stack {
    fn open(layers: &[PathBuf]) -> Result<Self, Error> {
        let member = |layer: &PathBuf| {
            let root = File::open(layer).map_err(Error::file("open", layer))?;
            Ok(Member { root: root.into(), implies: has_implied(layer) })
        };
        layers.iter().rev().map(member).collect::<Result<_, _>>().map(Self)
    }

    /// Looks at a path in the layers that show its parent.
    fn look(&self, path: &[u8], parent: &[usize]) -> Result<Option<Shown>, Error> {
        let (mut merged, mut stated, mut hidden) = (Vec::new(), None, false);
        for layer in parent {
            let directory = match self.open_at(*layer, path) {
                Err(Errno::NOENT) => continue,
                // Another kind of file, or a whiteout: what is below belongs to something else.
                Err(Errno::NOTDIR | Errno::LOOP) => break,
                // The kernel takes no longer paths, so this one stays as it is.
                Err(Errno::NAMETOOLONG) => return Ok(None),
                opened => opened.map_err(failed(path))?,
            };
            if !hidden {
                merged.push(*layer);
            }
            if stated.is_none() && !is_implied(&directory).map_err(failed(path))? {
                stated = Some(*layer);
            }
            // An opaque mark hides what is in the lower directory, and not how that is.
            hidden |= hides_lower(directory.as_fd()).map_err(failed(path))?;
            if hidden && stated.is_some() {
                break;
            }
        }
        Ok(merged.first().copied().map(|top| Shown { merged, stated: stated.unwrap_or(top) }))
    }

    /// Finds what is to be stated below a directory. `way` is that directory and those that it is in.
    fn find(
        &self,
        path: &[u8],
        shown: &Shown,
        way: &mut Vec<(Vec<u8>, usize)>,
        restated: &mut Restated,
    ) -> Result<(), Error> {
        let Some((_lowest, upper)) = shown.merged.split_last() else { return Ok(()) };
        let mut names = BTreeSet::new();
        for layer in upper.iter().filter(|layer| self.0[**layer].implies) {
            let listed = self
                .open_at(*layer, path)
                .and_then(|directory| add_directories(directory.as_fd(), &mut names));
            listed.map_err(failed(path))?;
        }
        for name in names {
            let path = [path, b"/", &name].concat();
            let Some(below) = self.look(&path, &shown.merged)? else { continue };
            way.push((path.clone(), below.stated));
            if below.merged.first() != Some(&below.stated) {
                restated.extend(way.iter().cloned());
            }
            self.find(&path, &below, way, restated)?;
            way.pop();
        }
        Ok(())
    }

    fn open_at(&self, layer: usize, path: &[u8]) -> Result<OwnedFd, Errno> {
        open(self.0[layer].root.as_fd(), path)
    }
}

/// Opens a directory of a layer for reading.
fn open(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat2(root, path, flags, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)
}

fn add_directories(directory: BorrowedFd<'_>, names: &mut BTreeSet<Vec<u8>>) -> Result<(), Errno> {
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        let kind = match entry.file_type() {
            FileType::Unknown => rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
                .map(|stat| FileType::from_raw_mode(stat.st_mode))?,
            kind => kind,
        };
        if kind == FileType::Directory && name != b"." && name != b".." {
            names.insert(name.to_vec());
        }
    }
    Ok(())
}

/// Makes one directory say of itself what another does. Nothing is put into it afterwards.
fn copy_attributes(from: Result<OwnedFd, Errno>, to: Result<OwnedFd, Errno>) -> Result<(), Errno> {
    let (from, to) = (from?, to?);
    let stat = rustix::fs::fstat(&from)?;
    rustix::fs::fchown(&to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    rustix::fs::fchmod(&to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    for name in xattr::names(&from)? {
        if let Ok(name) = std::str::from_utf8(&name)
            // One that no layer states at all was made at some time too.
            && (is_kept(name) || name == IMPLIED)
        {
            let value = xattr::value(&from, name.as_bytes())?;
            rustix::fs::fsetxattr(&to, name, &value, XattrFlags::empty())?;
        }
    }
    let mtime = Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as i64 };
    rustix::fs::futimens(&to, &Timestamps { last_access: mtime, last_modification: mtime })
}

fn failed(path: &[u8]) -> impl Fn(Errno) -> Error + use<> {
    let path = String::from_utf8_lossy(path).into_owned();
    move |errno| Error::file("restate directory", Path::new(&path))(errno.into())
}
