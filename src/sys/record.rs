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

/// Reads a regular file, up to this many bytes; its size tells where it ends, which saves asking. `None` for what is no
/// regular file.
///
/// # Errors
/// The kernel's, see `fstat(2)` and `read(2)`.
pub fn read_file(file: impl AsFd, limit: usize) -> Result<Option<Vec<u8>>, Errno> {
    let stat = rustix::fs::fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Ok(None);
    }
    let mut contents = vec![0; usize::try_from(stat.st_size).unwrap_or(limit).min(limit)];
    let mut length = 0;
    while length < contents.len() {
        match rustix::io::read(&file, &mut contents[length..])? {
            0 => break,
            more => length += more,
        }
    }
    contents.truncate(length);
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
        let status = String::from_utf8(read("/proc/self/status").unwrap()).unwrap();
        assert!(status.contains("CapBnd:") && status.ends_with('\n'), "{status}");
        assert_eq!(read("/proc/self/absent"), Err(Errno::NOENT));
    }
}
