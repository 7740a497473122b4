//! Files of procfs, sysfs and cgroupfs that the kernel shows as one record.
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::path::Arg;
use std::os::fd::AsFd;

/// Larger than what such files hold as a rule.
const ROOM: usize = 4096;

/// Reads such a file. One that has room to spare after a read is whole, which saves asking for its end; do
/// not use it on files of many records, such as `mountinfo` and `cgroup.procs`.
///
/// # Errors
/// The kernel's, see `open(2)` and `read(2)`.
pub fn read(path: impl Arg) -> Result<Vec<u8>, Errno> {
    let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut text = Vec::with_capacity(ROOM);
    loop {
        let length = rustix::io::read(&fd, rustix::buffer::spare_capacity(&mut text))?;
        if length == 0 || text.len() < text.capacity() {
            return Ok(text);
        }
        text.reserve(ROOM);
    }
}

/// Reads a regular file, up to this many bytes; its size tells where it ends, which saves asking, unless it states none
/// (procfs). `None` for what is no regular file.
///
/// # Errors
/// The kernel's, see `fstat(2)` and `read(2)`.
pub fn read_file(file: impl AsFd, limit: usize) -> Result<Option<Vec<u8>>, Errno> {
    let stat = rustix::fs::fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Ok(None);
    }
    let size = usize::try_from(stat.st_size).unwrap_or(0).min(limit);
    let end = if size == 0 { limit } else { size };
    let mut contents = Vec::with_capacity(if size == 0 { ROOM } else { size });
    while contents.len() < end {
        if contents.len() == contents.capacity() {
            contents.reserve(ROOM);
        }
        if rustix::io::read(&file, rustix::buffer::spare_capacity(&mut contents))? == 0 {
            break;
        }
    }
    contents.truncate(end);
    Ok(Some(contents))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_and_short_files_come_back_whole() {
        let scratch = tempfile::tempdir().unwrap();
        for length in [0, 1, ROOM - 1, ROOM, ROOM + 1, 3 * ROOM] {
            let path = scratch.path().join("file");
            std::fs::write(&path, vec![b'x'; length]).unwrap();
            assert_eq!(read(&path).unwrap().len(), length);
        }
        let file = |path: &std::path::Path| std::fs::File::open(path).unwrap();
        for (length, limit) in [(0, 9), (1, 9), (3 * ROOM, usize::MAX), (3 * ROOM, ROOM + 1)] {
            let path = scratch.path().join("file");
            std::fs::write(&path, vec![b'x'; length]).unwrap();
            let contents = read_file(file(&path), limit).unwrap().unwrap();
            assert_eq!(contents.len(), length.min(limit));
        }
        assert_eq!(read_file(file(scratch.path()), 9), Ok(None));
        let unsized_file = read_file(file("/proc/self/status".as_ref()), usize::MAX).unwrap().unwrap();
        assert!(unsized_file.ends_with(b"\n"), "a file that states no size is read to its end");
        let status = String::from_utf8(read("/proc/self/status").unwrap()).unwrap();
        assert!(status.contains("CapBnd:") && status.ends_with('\n'), "{status}");
        assert_eq!(read("/proc/self/absent"), Err(Errno::NOENT));
    }
}
