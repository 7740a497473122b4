//! The same source tree in every format that GNU tar writes.
use crate::common::layer::{Dialect, Entry};
use crate::common::{Call, Scratch};
use crate::image::{Image, require_tools};
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid};
use std::fs;
use std::path::{Path, PathBuf};

/// GNU tar's names of all that it writes; image-spec layer.md asks readers for the last two.
const FORMATS: [&str; 6] = ["v7", "oldgnu", "gnu", "ustar", "pax", "posix"];

/// A directory to be archived.
pub(crate) struct Source {
    scratch: Scratch,
}

impl Source {
    pub(crate) fn new(name: &str) -> Self {
        let scratch = Scratch::new(name);
        fs::create_dir(scratch.path().join("source")).unwrap();
        Self { scratch }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join("source").join(name)
    }

    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> &Self {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), content).unwrap();
        self
    }

    pub(crate) fn owned(&self, name: &str, user: u32, group: u32, mode: u32) -> &Self {
        let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
        rustix::fs::chown(self.path(name), Some(user), Some(group)).unwrap();
        rustix::fs::chmod(self.path(name), Mode::from_raw_mode(mode)).unwrap();
        self
    }

    pub(crate) fn node(&self, name: &str, kind: FileType, device: (u32, u32)) -> &Self {
        let number = rustix::fs::makedev(device.0, device.1);
        rustix::fs::mknodat(CWD, self.path(name), kind, Mode::from_raw_mode(0o620), number).unwrap();
        self
    }

    pub(crate) fn link(&self, name: &str, target: &str) -> &Self {
        fs::hard_link(self.path(target), self.path(name)).unwrap();
        self
    }

    pub(crate) fn symlink(&self, name: &str, target: &str) -> &Self {
        std::os::unix::fs::symlink(target, self.path(name)).unwrap();
        self
    }

    pub(crate) fn xattr(&self, name: &str, key: &str, value: &[u8]) -> &Self {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::lsetxattr(self.path(name), key, value, flags).unwrap();
        self
    }

    pub(crate) fn dated(&self, name: &str, seconds: i64, nanoseconds: i64) -> &Self {
        let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(CWD, self.path(name), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        self
    }

    /// The archive that `tar --create OPTIONS .` makes of it.
    pub(crate) fn tar(&self, options: &[&str]) -> Vec<u8> {
        let archive = self.scratch.path().join("made.tar");
        let call = Call::new("tar").args(["--create", "--numeric-owner", "--sort=name"]).args(options);
        call.arg("--file").arg(&archive).arg("--directory").arg(self.path("")).arg(".").ok();
        fs::read(archive).unwrap()
    }
}

/// Everything that the oldest format can say.
fn modest(source: &Source) {
    source
        .file("file", "content")
        .owned("file", 12, 34, 0o640)
        .file("a/b/deep", vec![7; 5000])
        .file("empty", "")
        .owned("empty", 0, 0, 0o4755)
        .link("a/other", "file")
        .symlink("way", "a/b")
        .owned("a/b", 1000, 1000, 0o1777);
    for name in ["file", "a/b/deep", "empty", "way", "a/b", "a", ""] {
        source.dated(name, 1_234_567_890, 0);
    }
}

fn check(source: &Source, options: &[&str]) {
    let image = Image::new("format").raw(&source.tar(options));
    let tree = image.assert_as_umoci();
    tree.assert_same("umoci", &image.by_tar(), "GNU tar");
}

#[test]
fn every_format_of_gnu_tar_gives_the_same_tree_as_umoci_and_gnu_tar_make() {
    require_tools!("umoci", "tar");
    let source = Source::new("modest");
    modest(&source);
    for format in FORMATS {
        check(&source, &[&format!("--format={format}")]);
    }
}

#[test]
fn devices_and_pipes_come_in_every_format_that_has_them() {
    require_tools!("umoci", "tar");
    let source = Source::new("nodes");
    source
        .node("null", FileType::CharacterDevice, (1, 3))
        .node("loop", FileType::BlockDevice, (7, 200))
        .node("large", FileType::CharacterDevice, (511, 70_000))
        .node("fifo", FileType::Fifo, (0, 0))
        .owned("fifo", 3, 4, 0o622)
        .link("same", "fifo");
    for name in ["null", "loop", "large", "fifo", ""] {
        source.dated(name, 1_234_567_890, 0);
    }
    for format in &FORMATS[1..] {
        check(&source, &[&format!("--format={format}")]);
    }
}

#[test]
fn files_of_block_sizes_and_one_more_or_less_keep_every_byte() {
    require_tools!("umoci", "tar");
    let source = Source::new("sizes");
    for size in [1, 511, 512, 513, 4095, 4096, 4097, 262_143, 262_144, 262_145, 3 << 20] {
        let content: Vec<u8> = (0..size).map(|at| (at % 251) as u8 + 1).collect();
        source.file(&format!("{size}"), content).dated(&format!("{size}"), 9, 0);
    }
    source.dated("", 9, 0);
    check(&source, &["--format=gnu"]);
    check(&source, &["--format=posix"]);
}

#[test]
fn an_archive_of_any_blocking_and_padding_ends_where_it_says() {
    require_tools!("umoci", "tar");
    let source = Source::new("blocking");
    source.file("file", "content").dated("file", 9, 0).dated("", 9, 0);
    check(&source, &["--blocking-factor=1"]);
    check(&source, &["--blocking-factor=512"]);
}

#[test]
fn a_stream_without_its_end_of_zeros_is_complete_all_the_same() {
    require_tools!("umoci");
    let mut stream = crate::common::layer::layer([Entry::file("a", "1"), Entry::file("b", "2")]);
    stream.truncate(stream.len() - 1024);
    Image::new("endless").raw(&stream).assert_as_umoci();
}

#[test]
fn what_follows_the_end_of_zeros_is_no_entry() {
    require_tools!("umoci", "tar");
    let first = crate::common::layer::layer([Entry::file("a", "1")]);
    let second = crate::common::layer::layer([Entry::file("b", "2")]);
    let image = Image::new("behind").raw(&[first, second].concat());
    assert_eq!(image.assert_as_umoci().names(), ["a"]);
    assert_eq!(image.by_tar().names(), ["a"]);
}

#[test]
fn an_empty_layer_is_no_fault() {
    require_tools!("umoci");
    Image::new("empty").layer([]).layer([Entry::file("a", "1")]).layer([]).assert_as_umoci();
}

#[test]
fn a_header_of_each_dialect_means_the_same() {
    require_tools!("umoci", "tar");
    for dialect in [Dialect::V7, Dialect::Ustar, Dialect::Gnu] {
        let entries = [
            Entry::directory("d/").mode(0o2755).owner(1, 2),
            Entry::file("d/file", "1").mode(0o6711).owner(0o7_777_777, 0o7_777_777),
            Entry::hard_link("hard", "d/file").mode(0o6711).owner(0o7_777_777, 0o7_777_777),
            Entry::symlink("soft", "d/file"),
            // The oldest form of a file's type, and the one for contiguous storage.
            Entry { kind: 0, ..Entry::file("nul", "2") },
            Entry { kind: b'7', ..Entry::file("contiguous", "3") },
        ];
        let image = Image::new("dialect").layer(entries.map(|entry| entry.dialect(dialect)));
        image.assert_as_tar();
    }
}

/// A path that has never been anything else.
pub(crate) fn long(parts: usize, length: usize) -> String {
    let part = "n".repeat(length);
    let path: PathBuf = std::iter::repeat_n(Path::new(&part), parts).collect();
    path.to_str().unwrap().to_owned()
}
