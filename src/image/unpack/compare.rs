//! Whether two trees are the same, entry by entry: kind, mode, owner, size, time, device, link target, extended
//! attributes, hard links and content. Nothing in them is followed.
use super::super::layer::{IMPLIED, names_in};
use super::super::xattr;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, fstat, openat, statat};
use rustix::io::Errno;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

const BUFFER: usize = 256 << 10;

/// The first difference found, as `PATH: what`.
pub(super) fn first_difference(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> io::Result<Option<String>> {
    let mut compare = Compare { links: HashMap::new(), buffers: [vec![0; BUFFER], vec![0; BUFFER]] };
    let roots = (fstat(one)?, fstat(other)?);
    if let Some(what) = unequal(&roots.0, &roots.1) {
        return Ok(Some(format!("/: {what}")));
    }
    compare.directory(one, other, "")
}

struct Compare {
    /// Inodes with several names: one and other belong together.
    links: HashMap<u64, u64>,
    buffers: [Vec<u8>; 2],
}

impl Compare {
    fn directory(
        &mut self,
        one: BorrowedFd<'_>,
        other: BorrowedFd<'_>,
        path: &str,
    ) -> io::Result<Option<String>> {
        let attributes = xattrs(one, b".")?;
        if attributes != xattrs(other, b".")? {
            return Ok(Some(format!("{path}/: extended attributes")));
        }
        // One that no entry states has the time at which it was made.
        let is_dated = !attributes.contains_key(IMPLIED.as_bytes());
        if is_dated && time(&fstat(one)?) != time(&fstat(other)?) {
            let path = if path.is_empty() { "/" } else { path };
            return Ok(Some(format!("{path}: {MODIFICATION_TIME}")));
        }
        let (mut names, mut others) = (names_in(one)?, names_in(other)?);
        names.sort();
        others.sort();
        if names != others {
            let differs = |name: &&Vec<u8>| !names.contains(name) || !others.contains(name);
            let name = names.iter().chain(&others).find(differs);
            let name = name.map_or_else(String::new, |name| String::from_utf8_lossy(name).into_owned());
            return Ok(Some(format!("{path}/{name}: there is one only")));
        }
        for name in names {
            let path = format!("{path}/{}", String::from_utf8_lossy(&name));
            if let Some(found) = self.entry(one, other, &name, &path)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn entry(
        &mut self,
        one: BorrowedFd<'_>,
        other: BorrowedFd<'_>,
        name: &[u8],
        path: &str,
    ) -> io::Result<Option<String>> {
        let stats =
            (statat(one, name, AtFlags::SYMLINK_NOFOLLOW)?, statat(other, name, AtFlags::SYMLINK_NOFOLLOW)?);
        if let Some(what) = unequal(&stats.0, &stats.1) {
            return Ok(Some(format!("{path}: {what}")));
        }
        let kind = FileType::from_raw_mode(stats.0.st_mode);
        if kind == FileType::Directory {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let open = |parent| -> Result<OwnedFd, Errno> { openat(parent, name, flags, Mode::empty()) };
            return self.directory(open(one)?.as_fd(), open(other)?.as_fd(), path);
        }
        if stats.0.st_nlink > 1
            && *self.links.entry(stats.0.st_ino).or_insert(stats.1.st_ino) != stats.1.st_ino
        {
            return Ok(Some(format!("{path}: hard links")));
        }
        if xattrs(one, name)? != xattrs(other, name)? {
            return Ok(Some(format!("{path}: extended attributes")));
        }
        let same = match kind {
            FileType::Symlink => {
                rustix::fs::readlinkat(one, name, Vec::new())?
                    == rustix::fs::readlinkat(other, name, Vec::new())?
            }
            FileType::RegularFile => self.same_content(one, other, name)?,
            _ => true,
        };
        Ok((!same).then(|| format!("{path}: content")))
    }

    fn same_content(&mut self, one: BorrowedFd<'_>, other: BorrowedFd<'_>, name: &[u8]) -> io::Result<bool> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = |parent| openat(parent, name, flags, Mode::empty()).map(File::from);
        let (mut one, mut other) = (open(one)?, open(other)?);
        let [buffer, other_buffer] = &mut self.buffers;
        loop {
            let length = one.read(buffer)?;
            if length == 0 {
                return Ok(other.read(other_buffer)? == 0);
            }
            match other.read_exact(&mut other_buffer[..length]) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
                read => read?,
            }
            if buffer[..length] != other_buffer[..length] {
                return Ok(false);
            }
        }
    }
}

const MODIFICATION_TIME: &str = "modification time";

fn time(stat: &Stat) -> (i64, u64) {
    (stat.st_mtime, stat.st_mtime_nsec)
}

/// The times of directories left out, of which attributes tell whether they count.
fn unequal(one: &Stat, other: &Stat) -> Option<&'static str> {
    let kind = FileType::from_raw_mode(one.st_mode);
    let directory = kind == FileType::Directory;
    // A whiteout has no time: overlayfs never shows it.
    let whiteout = kind == FileType::CharacterDevice && one.st_rdev == 0;
    let checks = [
        (one.st_mode == other.st_mode, "kind or mode"),
        ((one.st_uid, one.st_gid) == (other.st_uid, other.st_gid), "owner"),
        // A directory's size and links are the file system's own affair.
        (directory || one.st_size == other.st_size, "size"),
        (directory || one.st_nlink == other.st_nlink, "hard links"),
        (one.st_rdev == other.st_rdev, "device number"),
        (directory || whiteout || time(one) == time(other), MODIFICATION_TIME),
    ];
    checks.into_iter().find(|(same, _)| !same).map(|(_, what)| what)
}

type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// Of an entry itself, which is not followed.
fn xattrs(parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<Xattrs> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let entry = openat(parent, name, flags, Mode::empty())?;
    let mut found = Xattrs::new();
    for name in xattr::names(&entry)? {
        let value = xattr::value(&entry, &name)?;
        found.insert(name, value);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::path::Path;

    fn tree(at: &Path) {
        fs::create_dir(at.join("d")).unwrap();
        fs::write(at.join("d/file"), "text").unwrap();
        fs::hard_link(at.join("d/file"), at.join("link")).unwrap();
        symlink("d/file", at.join("soft")).unwrap();
        for name in ["d/file", "d", "."] {
            let time = std::time::SystemTime::UNIX_EPOCH;
            fs::File::open(at.join(name)).unwrap().set_modified(time).unwrap();
        }
        let time = rustix::fs::Timespec { tv_sec: 0, tv_nsec: 0 };
        let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(rustix::fs::CWD, at.join("soft"), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }

    #[test]
    fn every_kind_of_difference_is_seen() {
        type Change = fn(&Path);
        let changes: [(&str, Change); 6] = [
            ("/d/file: content", |at| {
                let time = std::time::SystemTime::UNIX_EPOCH;
                fs::write(at.join("d/file"), "tex!").unwrap();
                fs::File::open(at.join("d/file")).unwrap().set_modified(time).unwrap();
            }),
            ("/d/file: kind or mode", |at| {
                fs::set_permissions(at.join("d/file"), fs::Permissions::from_mode(0o600)).unwrap();
            }),
            ("/d/file: hard links", |at| {
                fs::hard_link(at.join("link"), at.parent().unwrap().join("third")).unwrap();
            }),
            ("/: modification time", |at| {
                fs::remove_file(at.join("soft")).unwrap();
            }),
            ("/d: modification time", |at| fs::write(at.join("d/more"), "").unwrap()),
            ("/d/file: modification time", |at| {
                let now = std::time::SystemTime::now();
                fs::File::open(at.join("link")).unwrap().set_modified(now).unwrap();
            }),
        ];
        for (expected, change) in changes {
            let scratch = tempfile::tempdir().unwrap();
            let (one, other) = (scratch.path().join("one"), scratch.path().join("other"));
            for at in [&one, &other] {
                fs::create_dir(at).unwrap();
                tree(at);
            }
            let compare = || {
                let (one, other) = (fs::File::open(&one).unwrap(), fs::File::open(&other).unwrap());
                first_difference(one.as_fd(), other.as_fd()).unwrap()
            };
            assert_eq!(compare(), None);
            change(&other);
            assert_eq!(compare().as_deref(), Some(expected));
        }
    }
}
