//! Everything there is to say about the files below a directory, to compare two of them.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// One text for each path: kind, mode, owner, time, size, contents, attributes and the other names it has.
/// Owners are less `shift`; paths in `skipped` are left out with all below, and so are sockets.
pub(crate) fn tree(root: &Path, shift: u32, skipped: &[PathBuf]) -> BTreeMap<String, String> {
    let mut found = Found { root, shift, skipped, texts: BTreeMap::new(), names: HashMap::new() };
    found.visit(Path::new(""));
    for names in found.names.into_values().filter(|names| names.len() > 1) {
        for name in &names {
            found.texts.get_mut(name).expect("it was listed").push_str(&format!(" names {names:?}"));
        }
    }
    found.texts
}

/// Fails unless the two are the same; names what differs.
#[track_caller]
pub(crate) fn assert_same_tree(ours: &BTreeMap<String, String>, theirs: &BTreeMap<String, String>) {
    let missing = |of: &BTreeMap<String, String>, from: &BTreeMap<String, String>, whose: &str| {
        let lines = of.iter().filter(|(path, text)| from.get(*path) != Some(text));
        lines.map(|(path, text)| format!("{whose} {path:?} {text}\n")).collect::<String>()
    };
    let differing = missing(ours, theirs, "one  ") + &missing(theirs, ours, "other");
    assert!(differing.is_empty(), "{differing}");
}

/// Where something is mounted in a process's mount namespace, the root left out.
pub(crate) fn mount_points(pid: i64) -> Vec<PathBuf> {
    let table = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).expect("the mount table");
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).filter(|place| *place != "/");
    points.map(|place| PathBuf::from(place.trim_start_matches('/'))).collect()
}

struct Found<'a> {
    root: &'a Path,
    shift: u32,
    skipped: &'a [PathBuf],
    texts: BTreeMap<String, String>,
    names: HashMap<(u64, u64), Vec<String>>,
}

impl Found<'_> {
    fn visit(&mut self, relative: &Path) {
        let path = self.root.join(relative);
        // Through /proc/PID/root the root itself is a link.
        let path = if relative.as_os_str().is_empty() { path.join(".") } else { path };
        let data = std::fs::symlink_metadata(&path).expect("it can be looked at");
        let kind = data.file_type();
        if self.skipped.iter().any(|skipped| skipped == relative) || kind.is_socket() {
            return;
        }
        let shown = relative.as_os_str().as_bytes().escape_ascii().to_string();
        let id = |id: u32| i64::from(id) - i64::from(self.shift);
        let mut text = format!("{:o} {}:{}", data.mode(), id(data.uid()), id(data.gid()));
        text.push_str(&format!(" {}.{:09}", data.mtime(), data.mtime_nsec()));
        if kind.is_file() {
            let contents = std::fs::read(&path).expect("it can be read");
            use sha2::Digest as _;
            text.push_str(&format!(" {} {}", data.len(), hex::encode(sha2::Sha256::digest(contents))));
        } else if kind.is_symlink() {
            text.push_str(&format!(" -> {:?}", std::fs::read_link(&path).expect("a link")));
        } else if kind.is_char_device() || kind.is_block_device() {
            text.push_str(&format!(" device {}", data.rdev()));
        }
        text.push_str(&attributes(&path));
        if !kind.is_dir() && data.nlink() > 1 {
            self.names.entry((data.dev(), data.ino())).or_default().push(shown.clone());
        }
        self.texts.insert(shown, text);
        if kind.is_dir() {
            let mut names: Vec<_> = std::fs::read_dir(&path)
                .expect("it can be listed")
                .map(|entry| entry.expect("entry").file_name())
                .collect();
            names.sort();
            names.iter().for_each(|name| self.visit(&relative.join(name)));
        }
    }
}

fn attributes(path: &Path) -> String {
    let mut names = [0u8; 4096];
    let length = rustix::fs::llistxattr(path, &mut names[..]).expect("attributes");
    let mut texts = Vec::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let name = String::from_utf8(name.to_vec()).expect("UTF-8");
        let mut value = [0u8; 4096];
        let length = rustix::fs::lgetxattr(path, &*name, &mut value[..]).expect("a value");
        texts.push(format!(" {name}={}", hex::encode(&value[..length])));
    }
    texts.sort();
    texts.concat()
}

/// Whether a file cannot be opened for writing by this path, whoever tries: its mount is read-only.
pub(crate) fn is_on_read_only_mount(path: &Path) -> bool {
    rustix::fs::statvfs(path).unwrap().f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY)
}
