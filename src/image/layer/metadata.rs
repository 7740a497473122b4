//! Owner, mode, times and extended attributes of an entry, from the tar header and its PAX records.
use super::super::xattr;
use super::sparse::SparseHeader;
use super::tape::Member;
use super::{Error, refuse};
use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// What an entry becomes beside its content.
#[derive(Debug, Clone)]
pub(super) struct Metadata {
    uid: u32,
    gid: u32,
    mode: u32,
    mtime: Timespec,
    xattrs: Vec<(String, Vec<u8>)>,
    pub(super) sparse: SparseHeader,
}

impl Metadata {
    pub(super) fn of(member: &Member) -> Result<Self, Error> {
        let (header, records, name) = (&member.header, &member.records, &member.path);
        let malformed = |error: std::io::Error| refuse(name, &format!("has a malformed header: {error}"));
        let id = |key: &str, field: &dyn Fn() -> std::io::Result<u64>| {
            let id = match records.number(key).map_err(|reason| refuse(name, reason))? {
                Some(id) => id,
                None => field().map_err(malformed)?,
            };
            u32::try_from(id)
                .ok()
                .filter(|id| *id != u32::MAX)
                .ok_or_else(|| refuse(name, "has an owner above 4294967294"))
        };
        let mut metadata = Self {
            uid: id("uid", &|| header.uid())?,
            gid: id("gid", &|| header.gid())?,
            mode: header.mode().map_err(malformed)? & 0o7777,
            mtime: Timespec { tv_sec: header.mtime().map_err(malformed)? as i64, tv_nsec: 0 },
            xattrs: Vec::new(),
            sparse: SparseHeader::default(),
        };
        if let Some((size, extents)) = &member.sparse {
            metadata.sparse = SparseHeader::old_gnu(*size, extents.clone());
        }
        for (key, value) in records.iter() {
            metadata.take(key, value, name)?;
        }
        Ok(metadata)
    }

    fn take(&mut self, key: &str, value: &[u8], name: &[u8]) -> Result<(), Error> {
        if let Some(xattr) = key.strip_prefix("SCHILY.xattr.") {
            if is_kept(xattr) {
                self.xattrs.push((xattr.to_owned(), value.to_vec()));
            }
        } else if key == "mtime" {
            let time = std::str::from_utf8(value).ok().and_then(parse_time);
            self.mtime = time.ok_or_else(|| refuse(name, "has a malformed mtime"))?;
        } else {
            self.sparse.take(key, value);
        }
        Ok(())
    }

    /// Everything of a file or directory that is open.
    pub(super) fn apply_to_fd(&self, fd: BorrowedFd<'_>) -> Result<(), Errno> {
        self.own_and_mode(fd)?;
        for (name, value) in &self.xattrs {
            tolerate(name, rustix::fs::fsetxattr(fd, name.as_str(), value, XattrFlags::empty()))?;
        }
        Ok(())
    }

    /// chown(2) clears setuid and file capabilities, so it comes first.
    fn own_and_mode(&self, fd: BorrowedFd<'_>) -> Result<(), Errno> {
        rustix::fs::fchown(fd, Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)))?;
        rustix::fs::fchmod(fd, Mode::from_raw_mode(self.mode))
    }

    /// A symlink, device or FIFO that was just made at this name; a symlink's mode means nothing.
    pub(super) fn apply_at(&self, parent: BorrowedFd<'_>, name: &[u8], symlink: bool) -> Result<(), Errno> {
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        if !symlink {
            rustix::fs::chmodat(parent, name, Mode::from_raw_mode(self.mode), AtFlags::empty())?;
        }
        let mut path = format!("/proc/self/fd/{}/", parent.as_raw_fd()).into_bytes();
        path.extend_from_slice(name);
        for (key, value) in &self.xattrs {
            tolerate(key, rustix::fs::lsetxattr(&path, key.as_str(), value, XattrFlags::empty()))?;
        }
        Ok(())
    }

    /// mtime, and the same as atime, so that the same layer always gives the same tree.
    pub(super) fn set_times(&self, parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
        rustix::fs::utimensat(parent, name, &self.timestamps(), AtFlags::SYMLINK_NOFOLLOW)
    }

    pub(super) fn set_times_of(&self, fd: impl AsFd) -> Result<(), Errno> {
        rustix::fs::futimens(fd, &self.timestamps())
    }

    fn timestamps(&self) -> Timestamps {
        Timestamps { last_access: self.mtime, last_modification: self.mtime }
    }

    /// Without what has been applied already: only the times are needed again.
    pub(super) fn times_only(mut self) -> Self {
        self.xattrs = Vec::new();
        self.sparse = SparseHeader::default();
        self
    }

    /// What a directory has that the layer does not state.
    pub(super) fn of_nothing() -> Self {
        let mtime = Timespec { tv_sec: 0, tv_nsec: 0 };
        Self { uid: 0, gid: 0, mode: 0o755, mtime, xattrs: Vec::new(), sparse: SparseHeader::default() }
    }

    /// The time of a directory that is there already, and nothing else.
    pub(super) fn time_of(stat: &rustix::fs::Stat) -> Self {
        let mtime = Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as i64 };
        let sparse = SparseHeader::default();
        Self { uid: stat.st_uid, gid: stat.st_gid, mode: 0, mtime, xattrs: Vec::new(), sparse }
    }

    /// Permission bits, for nodes.
    pub(super) fn permissions(&self) -> Mode {
        Mode::from_raw_mode(self.mode)
    }
}

/// overlayfs reads these as instructions, so they must not come from an image; a label of another host's
/// policy means nothing here.
pub(in crate::image) fn is_kept(xattr: &str) -> bool {
    !(xattr.starts_with("trusted.overlay.")
        || xattr.starts_with("user.overlay.")
        || xattr == "security.selinux")
}

/// Takes off what a directory has from an earlier entry: the later one states all of it, image-spec
/// layer.md#changeset-over-existing-files. The host's own labels stay.
pub(super) fn drop_xattrs(directory: BorrowedFd<'_>) -> Result<(), Errno> {
    for name in xattr::names(directory)? {
        if let Ok(name) = std::str::from_utf8(&name)
            && ["user.", "trusted.", "system.posix_acl_"].iter().any(|prefix| name.starts_with(prefix))
            && is_kept(name)
        {
            rustix::fs::fremovexattr(directory, name)?;
        }
    }
    Ok(())
}

/// A file system without user attributes loses nothing that programs rely on; capabilities are another matter.
fn tolerate(name: &str, done: Result<(), Errno>) -> Result<(), Errno> {
    match done {
        Err(Errno::OPNOTSUPP | Errno::PERM) if name.starts_with("user.") => Ok(()),
        done => done,
    }
}

/// `seconds[.fraction]`, possibly negative: pax(1), "mtime".
fn parse_time(text: &str) -> Option<Timespec> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let negative = seconds.starts_with('-');
    let seconds: i64 = seconds.parse().ok()?;
    if !fraction.chars().all(|c| c.is_ascii_digit()) {
        return None;
    }
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanos: i64 = digits.parse().ok()?;
    // A timespec's nanoseconds count upwards, also before 1970.
    match negative && nanos > 0 {
        true => Some(Timespec { tv_sec: seconds.checked_sub(1)?, tv_nsec: 1_000_000_000 - nanos }),
        false => Some(Timespec { tv_sec: seconds, tv_nsec: nanos }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_kept_to_the_nanosecond() {
        let time = |text| parse_time(text).map(|time| (time.tv_sec, time.tv_nsec));
        assert_eq!(time("12.5"), Some((12, 500_000_000)));
        assert_eq!(time("12.123456789123"), Some((12, 123_456_789)));
        assert_eq!(time("-1.25"), Some((-2, 750_000_000)));
        assert_eq!(time("1.-5"), None);
        assert_eq!(time("x"), None);
    }

    #[test]
    fn overlay_instructions_from_an_image_are_dropped() {
        assert!(!is_kept("trusted.overlay.redirect"));
        assert!(is_kept("security.capability"));
    }
}
