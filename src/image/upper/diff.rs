//! What an instance has changed against its image.
use super::attributes::attributes;
use super::{Entry, Error, Kind, UpperDirectory, display, failed, joined, sorted_names};
use rustix::fs::Stat;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

/// One path that is not as in the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// What has become of it.
    pub kind: DifferenceKind,
    /// Absolute, in the instance; on one line, what is not printable or no ASCII as in a Rust string.
    pub path: String,
}

/// What has become of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DifferenceKind {
    /// The image does not have it.
    Added,
    /// The image has another.
    Changed,
    /// The image has it.
    Deleted,
}

impl fmt::Display for DifferenceKind {
    /// Docker's letters.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Added => "A",
            Self::Changed => "C",
            Self::Deleted => "D",
        })
    }
}

/// All differences between an upper directory and `image`, the merged layers below it, by path. A directory
/// has changed when something in it has, or its owner, mode or attributes.
///
/// # Errors
/// Names the path that cannot be read.
pub fn differences(upper: &UpperDirectory<'_>, image: OwnedFd) -> Result<Vec<Difference>, Error> {
    let mut found = Found::default();
    let root = Below { directory: Some(image), hidden: false };
    upper.walk(&root, &mut |entry, below| found.compare(upper, entry, below))?;
    Ok(found.finish())
}

/// What the image has where a directory of the upper is.
struct Below {
    directory: Option<OwnedFd>,
    /// Whether the upper hides all of it.
    hidden: bool,
}

#[derive(Default)]
struct Found {
    kinds: BTreeMap<Vec<u8>, DifferenceKind>,
    /// Directories that are as in the image themselves.
    same: BTreeSet<Vec<u8>>,
}

impl Found {
    fn compare(
        &mut self,
        upper: &UpperDirectory<'_>,
        entry: &Entry,
        below: &Below,
    ) -> Result<Option<Below>, Error> {
        let image =
            below.directory.as_ref().map(|directory| image_has(directory.as_fd(), entry)).transpose()?;
        let image = image.flatten();
        match (entry.kind, &image) {
            (Kind::Whiteout, None) => {}
            (Kind::Whiteout, Some(_)) => self.add(&entry.path, DifferenceKind::Deleted),
            (_, None) => self.add(&entry.path, DifferenceKind::Added),
            (Kind::Directory { opaque }, Some(image)) if image.is_directory() => {
                return self.compare_directories(upper, entry, image, opaque || below.hidden).map(Some);
            }
            (_, Some(_)) => self.add(&entry.path, DifferenceKind::Changed),
        }
        let is_directory = matches!(entry.kind, Kind::Directory { .. });
        Ok(is_directory.then_some(Below { directory: None, hidden: false }))
    }

    fn compare_directories(
        &mut self,
        upper: &UpperDirectory<'_>,
        entry: &Entry,
        image: &InImage,
        hidden: bool,
    ) -> Result<Below, Error> {
        if image.differs_from(upper, entry)? {
            self.add(&entry.path, DifferenceKind::Changed);
        } else {
            self.same.insert(entry.path.clone());
        }
        let directory = image.entry.open_directory()?;
        if hidden {
            let own = sorted_names(entry.open_directory()?.as_fd())
                .map_err(|errno| failed(&entry.path, "list", errno))?;
            let names =
                sorted_names(directory.as_fd()).map_err(|errno| failed(&entry.path, "list", errno))?;
            for name in names.into_iter().filter(|name| own.binary_search(name).is_err()) {
                self.add(&joined(&entry.path, &name), DifferenceKind::Deleted);
            }
        }
        Ok(Below { directory: Some(directory), hidden })
    }

    fn add(&mut self, path: &[u8], kind: DifferenceKind) {
        self.kinds.insert(path.to_vec(), kind);
    }

    /// With the directories that hold a difference.
    fn finish(mut self) -> Vec<Difference> {
        let paths: Vec<Vec<u8>> = self.kinds.keys().cloned().collect();
        for path in paths {
            let mut rest = &path[..];
            while let Some(end) = rest.iter().rposition(|byte| *byte == b'/') {
                rest = &rest[..end];
                if self.same.contains(rest) {
                    self.kinds.insert(rest.to_vec(), DifferenceKind::Changed);
                }
            }
        }
        let difference =
            |(path, kind): (&Vec<u8>, &DifferenceKind)| Difference { kind: *kind, path: display(path) };
        self.kinds.iter().map(difference).collect()
    }
}

/// What the image has at the place of an entry.
struct InImage {
    entry: Entry,
}

fn image_has(directory: BorrowedFd<'_>, entry: &Entry) -> Result<Option<InImage>, Error> {
    let found = Entry::open(directory, entry.name(), entry.path.clone(), false)?;
    // An image of one layer is looked at as it lies on disk.
    Ok(found.filter(|found| found.kind != Kind::Whiteout).map(|entry| InImage { entry }))
}

impl InImage {
    fn is_directory(&self) -> bool {
        matches!(self.entry.kind, Kind::Directory { .. })
    }

    fn differs_from(&self, upper: &UpperDirectory<'_>, entry: &Entry) -> Result<bool, Error> {
        let inside = |host: u32| upper.ids.map_or(Some(host), |ids| ids.to_inside(host));
        let owner = |stat: &Stat| (Some(stat.st_uid), Some(stat.st_gid));
        let (ours, theirs) = (&entry.stat, &self.entry.stat);
        if (inside(ours.st_uid), inside(ours.st_gid)) != owner(theirs) || ours.st_mode != theirs.st_mode {
            return Ok(true);
        }
        Ok(attributes(entry, upper.ids)? != attributes(&self.entry, None)?)
    }
}
