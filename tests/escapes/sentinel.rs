//! Something of the host that an attack aims at: a directory whose every byte, mode and entry is known.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// A directory outside every container, and what was in it when the attack began.
#[derive(Debug)]
pub(crate) struct Sentinel {
    pub(crate) path: PathBuf,
    before: BTreeMap<PathBuf, (u32, u64, Vec<u8>)>,
}

impl Sentinel {
    /// Makes the directory with the given files, each holding `untouched`.
    pub(crate) fn new(path: PathBuf, files: &[&str]) -> Self {
        std::fs::create_dir_all(&path).unwrap();
        for file in files {
            let file = path.join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, "untouched\n").unwrap();
        }
        let before = contents(&path);
        Self { path, before }
    }
    /// The path as text.
    pub(crate) fn arg(&self) -> &str {
        self.path.to_str().unwrap()
    }
    /// Fails unless everything is as it was.
    #[track_caller]
    pub(crate) fn assert_untouched(&self) {
        assert_eq!(contents(&self.path), self.before, "the host was touched at {}", self.path.display());
    }
}

/// A setting of the host's kernel that an attack aims at; put back when the test ends, however it ends.
#[derive(Debug)]
pub(crate) struct Setting {
    path: &'static str,
    before: String,
}

/// Which program the host's kernel runs, as root, on a crash: the prize of most of these attacks.
pub(crate) const CORE_PATTERN: &str = "/proc/sys/kernel/core_pattern";

impl Setting {
    /// Remembers the value.
    pub(crate) fn of(path: &'static str) -> Self {
        Self { path, before: std::fs::read_to_string(path).unwrap() }
    }
    /// Fails unless the value is as it was.
    #[track_caller]
    pub(crate) fn assert_untouched(&self) {
        assert_eq!(std::fs::read_to_string(self.path).unwrap(), self.before, "{} was changed", self.path);
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        if std::fs::read_to_string(self.path).is_ok_and(|now| now != self.before) {
            let _ = std::fs::write(self.path, &self.before);
        }
    }
}

/// Mode, inode and contents of everything below a directory, itself included.
fn contents(top: &Path) -> BTreeMap<PathBuf, (u32, u64, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![top.to_owned()];
    while let Some(path) = waiting.pop() {
        let metadata = std::fs::symlink_metadata(&path).unwrap();
        let mut bytes = Vec::new();
        if metadata.is_dir() {
            waiting.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if metadata.is_file() {
            bytes = std::fs::read(&path).unwrap();
        }
        found.insert(path, (metadata.mode(), metadata.ino(), bytes));
    }
    found
}
