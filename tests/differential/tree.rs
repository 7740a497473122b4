//! A file tree entry by entry, so that two of them can be held against each other.
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// All that a layer can say of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    /// Type, setuid and sticky bits, permissions.
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    /// Bytes; nothing of a directory.
    pub(crate) size: Option<u64>,
    /// Seconds and nanoseconds; nothing when it is the time of unpacking, which no layer stated.
    pub(crate) mtime: Option<(i64, i64)>,
    pub(crate) device: u64,
    pub(crate) target: Option<PathBuf>,
    /// SHA-256 of a file's content.
    pub(crate) content: Option<String>,
    pub(crate) xattrs: BTreeMap<String, Vec<u8>>,
    /// The first name, in sorted order, of the same inode.
    pub(crate) first_name: PathBuf,
}

/// Entries by path; the root is the empty path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tree(pub(crate) BTreeMap<PathBuf, Node>);

impl Tree {
    /// Reads everything below a directory, itself included, following no symlink.
    pub(crate) fn read(top: &Path) -> Self {
        // What was unpacked a moment ago and what a layer dates differ by years.
        let recent = SystemTime::now() - Duration::from_secs(3600);
        let recent = recent.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64;
        let mut paths = BTreeSet::new();
        collect(top, Path::new(""), &mut paths);
        let mut inodes = HashMap::new();
        let nodes = paths.into_iter().map(|path| {
            let node = node(&at(top, &path), &path, recent, &mut inodes);
            (path, node)
        });
        Self(nodes.collect())
    }

    /// Without one entry: the root, say, where it is not the layers' to decide.
    pub(crate) fn without(mut self, path: &str) -> Self {
        self.0.remove(Path::new(path));
        self
    }

    /// Without the times of directories.
    pub(crate) fn undated(mut self) -> Self {
        self.0.values_mut().filter(|node| node.size.is_none()).for_each(|node| node.mtime = None);
        self
    }

    pub(crate) fn names(&self) -> Vec<&str> {
        self.0.keys().map(|path| path.to_str().unwrap()).filter(|name| !name.is_empty()).collect()
    }

    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> &Node {
        self.0.get(Path::new(path)).unwrap_or_else(|| panic!("no {path:?} among {:?}", self.names()))
    }

    /// Fails unless both hold the same; says where they differ.
    #[track_caller]
    pub(crate) fn assert_same(&self, what: &str, other: &Self, other_what: &str) {
        let paths: BTreeSet<_> = self.0.keys().chain(other.0.keys()).collect();
        let differing = paths.into_iter().filter(|path| self.0.get(*path) != other.0.get(*path));
        let lines: Vec<String> = differing
            .map(|path| {
                let show =
                    |tree: &Self| tree.0.get(path).map_or("missing".to_owned(), |node| format!("{node:?}"));
                format!("{path:?}\n  {what}: {}\n  {other_what}: {}", show(self), show(other))
            })
            .collect();
        assert!(lines.is_empty(), "{what} and {other_what} differ in\n{}", lines.join("\n"));
    }
}

/// Without the slash that an empty path would leave, and that follows a symlink.
fn at(top: &Path, path: &Path) -> PathBuf {
    if path.as_os_str().is_empty() { top.join(".") } else { top.join(path) }
}

fn collect(top: &Path, path: &Path, paths: &mut BTreeSet<PathBuf>) {
    paths.insert(path.to_owned());
    if !fs::symlink_metadata(at(top, path)).unwrap().is_dir() {
        return;
    }
    for entry in fs::read_dir(at(top, path)).unwrap() {
        collect(top, &path.join(entry.unwrap().file_name()), paths);
    }
}

fn node(path: &Path, name: &Path, recent: i64, inodes: &mut HashMap<(u64, u64), PathBuf>) -> Node {
    let stat = fs::symlink_metadata(path).unwrap();
    let kind = stat.file_type();
    let first_name = match kind.is_dir() {
        true => name.to_owned(),
        false => inodes.entry((stat.dev(), stat.ino())).or_insert_with(|| name.to_owned()).clone(),
    };
    Node {
        mode: stat.mode(),
        owner: (stat.uid(), stat.gid()),
        size: (!kind.is_dir()).then(|| stat.size()),
        mtime: Some((stat.mtime(), stat.mtime_nsec())).filter(|(seconds, _)| *seconds < recent),
        device: stat.rdev(),
        target: kind.is_symlink().then(|| fs::read_link(path).unwrap()),
        content: kind.is_file().then(|| hex::encode(Sha256::digest(fs::read(path).unwrap()))),
        xattrs: xattrs(path),
        first_name,
    }
}

fn xattrs(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut names = vec![0; 64 << 10];
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap();
    let names = names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names
        .map(|name| {
            let mut value = vec![0; 64 << 10];
            let name = std::ffi::OsStr::from_bytes(name);
            let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
            (name.to_str().unwrap().to_owned(), value[..length].to_vec())
        })
        .collect()
}
