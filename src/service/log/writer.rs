//! Writes captured output, and rotates.
use super::record::{Stream, write};
use crate::service::Error;
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The longest text of one record; longer lines go on in the next.
const LONGEST_TEXT: usize = 16 * 1024;

/// How much output is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLimits {
    /// A file that has grown to this size is rotated, bytes.
    pub file_bytes: u64,
    /// Files kept, the current one included; at least 1.
    pub files: u32,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self { file_bytes: 10 << 20, files: 5 }
    }
}

/// The current file of a log.
#[derive(Debug)]
pub(in crate::service) struct Writer {
    path: PathBuf,
    limits: LogLimits,
    file: File,
    size: u64,
    /// Whether a write was cut short, so that the next record must begin a new line.
    torn: bool,
    buffer: Vec<u8>,
}

impl Writer {
    /// Opens `path` to append to it.
    pub(in crate::service) fn open(path: &Path, limits: LogLimits) -> Result<Self, Error> {
        let (file, size) = open(path).map_err(Error::file("open", path))?;
        let torn = size > 0 && last_byte(&file, size).map_err(Error::file("read", path))? != b'\n';
        Ok(Self { path: path.to_owned(), limits, file, size, torn, buffer: Vec::new() })
    }

    /// Writes what was read from a stream, a record for each line.
    ///
    /// The caller goes on when this fails (no space, say): a service must not stand still because its
    /// log cannot be written.
    pub(in crate::service) fn write(&mut self, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        if self.size >= self.limits.file_bytes {
            self.rotate()?;
        }
        let at = SystemTime::now();
        self.buffer.clear();
        if self.torn {
            self.buffer.push(b'\n');
        }
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, complete) = line.strip_suffix(b"\n").map_or((line, false), |text| (text, true));
            let mut rest = text;
            while rest.len() > LONGEST_TEXT {
                let (head, tail) = rest.split_at(LONGEST_TEXT);
                write(&mut self.buffer, at, stream, false, head)?;
                rest = tail;
            }
            write(&mut self.buffer, at, stream, complete, rest)?;
        }
        let written = self.file.write_all(&self.buffer);
        self.torn = written.is_err();
        match written {
            Ok(()) => self.size += self.buffer.len() as u64,
            Err(_) => self.size = self.file.metadata().map_or(self.size, |data| data.len()),
        }
        written
    }

    /// `log` becomes `log.1`, `log.1` becomes `log.2`, and the oldest goes.
    fn rotate(&mut self) -> io::Result<()> {
        let oldest = self.limits.files.saturating_sub(1);
        for number in (1..oldest).rev() {
            rename(&numbered(&self.path, number), &numbered(&self.path, number + 1))?;
        }
        if oldest == 0 {
            std::fs::remove_file(&self.path)?;
        } else {
            rename(&self.path, &numbered(&self.path, 1))?;
        }
        (self.file, self.size) = open(&self.path)?;
        self.torn = false;
        Ok(())
    }
}

/// Path of a rotated file.
pub(super) fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut text = path.as_os_str().to_owned();
    text.push(format!(".{number}"));
    PathBuf::from(text)
}

fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match std::fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn open(path: &Path) -> io::Result<(File, u64)> {
    let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = File::from(rustix::fs::open(path, flags, Mode::from_raw_mode(0o600))?);
    let size = file.metadata()?.len();
    Ok((file, size))
}

fn last_byte(file: &File, size: u64) -> io::Result<u8> {
    use std::os::unix::fs::FileExt as _;
    let mut byte = [0];
    file.read_exact_at(&mut byte, size - 1)?;
    Ok(byte[0])
}

#[cfg(test)]
mod tests {
    use super::super::{Reader, Record};
    use super::*;

    fn read(path: &Path) -> Vec<u8> {
        let mut text = Vec::new();
        let mut reader = Reader::open(path).unwrap();
        reader
            .read(|record: Record<'_>| {
                text.extend_from_slice(record.text);
                if record.complete {
                    text.push(b'\n');
                }
            })
            .unwrap();
        text
    }

    #[test]
    fn lines_of_any_length_come_back_whole() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("log");
        let mut log = Writer::open(&path, LogLimits::default()).unwrap();
        let long = vec![b'x'; 3 * LONGEST_TEXT];
        for part in [b"one\ntw".as_slice(), b"o\n", &long, b"\nend"] {
            log.write(Stream::Stdout, part).unwrap();
        }
        let expected = [b"one\ntwo\n".as_slice(), &long, b"\nend"].concat();
        assert_eq!(read(&path), expected);
    }

    #[test]
    fn the_log_never_grows_beyond_its_files() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("log");
        let limits = LogLimits { file_bytes: 1000, files: 3 };
        let mut log = Writer::open(&path, limits).unwrap();
        for number in 0..500 {
            log.write(Stream::Stdout, format!("line {number}\n").as_bytes()).unwrap();
        }
        let files: Vec<_> =
            scratch.path().read_dir().unwrap().map(|e| e.unwrap().metadata().unwrap().len()).collect();
        assert_eq!(files.len(), 3);
        assert!(files.iter().all(|size| *size < 1100), "{files:?}");
        let text = String::from_utf8(read(&path)).unwrap();
        assert!(text.ends_with("line 498\nline 499\n"));
        assert_eq!(text.lines().count(), 500 - text.lines().next().unwrap()[5..].parse::<usize>().unwrap());
    }

    #[test]
    fn a_single_file_starts_over() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("log");
        let mut log = Writer::open(&path, LogLimits { file_bytes: 100, files: 1 }).unwrap();
        for _ in 0..50 {
            log.write(Stream::Stdout, b"line\n").unwrap();
        }
        assert_eq!(scratch.path().read_dir().unwrap().count(), 1);
    }

    #[test]
    fn a_line_that_was_cut_off_does_not_swallow_the_next() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("log");
        std::fs::write(&path, "2026-01-01T00:00:00Z stdout F good\n2026-01-01T00:00:00Z std").unwrap();
        Writer::open(&path, LogLimits::default()).unwrap().write(Stream::Stdout, b"next\n").unwrap();
        assert_eq!(read(&path), b"good\nnext\n");
    }
}
