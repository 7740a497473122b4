//! Reads a log across its rotations, and waits for more.
use super::record::Record;
use super::writer::numbered;
use crate::service::Error;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Time between two looks at a log that is followed.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// More rotated files than anyone keeps.
const MOST_FILES: u32 = 10_000;

/// Whether to wait for more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follow {
    /// There may be more.
    GoOn,
    /// Nobody writes any more; what is there now is the rest.
    Finish,
}

/// A place in a log, from its oldest line on.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    /// Oldest last; the file being read is not among them.
    waiting: Vec<File>,
    current: Option<BufReader<File>>,
    line: Vec<u8>,
}

impl Reader {
    /// Opens every file of the log, so that a rotation meanwhile takes nothing away.
    ///
    /// # Errors
    /// When a file cannot be opened.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let mut waiting: Vec<File> = Vec::new();
        waiting.extend(open(path)?);
        let mut number = 1;
        while number < MOST_FILES
            && let Some(file) = open(&numbered(path, number))?
        {
            // A rotation between two of these opens shows one file twice.
            if !waiting.last().is_some_and(|newer| same_file(newer, &file)) {
                waiting.push(file);
            }
            number += 1;
        }
        let current = waiting.pop().map(BufReader::new);
        Ok(Self { path: path.to_owned(), waiting, current, line: Vec::new() })
    }

    /// Hands over every whole record that is there now.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn read(&mut self, mut each: impl FnMut(Record<'_>)) -> Result<(), Error> {
        loop {
            while self.next_line().map_err(Error::file("read", &self.path))? {
                // What is no record was cut off when the disk was full or the machine went down.
                if let Some(record) = Record::parse(&self.line) {
                    each(record);
                }
                self.line.clear();
            }
            if !self.next_file()? {
                return Ok(());
            }
        }
    }

    /// Hands over every record, and those still to come for as long as `more` says so.
    ///
    /// # Errors
    /// As [`Reader::read`], and what `more` fails with.
    pub fn follow(
        &mut self,
        mut each: impl FnMut(Record<'_>),
        mut more: impl FnMut() -> Result<Follow, Error>,
    ) -> Result<(), Error> {
        loop {
            // Asked before the read, so that the last words are read after the writer's end.
            let follow = more()?;
            self.read(&mut each)?;
            if follow == Follow::Finish {
                return Ok(());
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Reads on to the end of a line into `line`, without its end; a line without one is kept for later.
    fn next_line(&mut self) -> io::Result<bool> {
        let Some(current) = &mut self.current else { return Ok(false) };
        current.read_until(b'\n', &mut self.line)?;
        let whole = self.line.last() == Some(&b'\n');
        if whole {
            self.line.pop();
        }
        Ok(whole)
    }

    /// Goes on to the next newer file, when the current one has come to its end.
    fn next_file(&mut self) -> Result<bool, Error> {
        if self.waiting.is_empty() {
            self.look_for_newer()?;
        }
        let Some(next) = self.waiting.pop() else { return Ok(false) };
        self.line.clear();
        self.current = Some(BufReader::new(next));
        Ok(true)
    }

    /// Finds the files that a rotation has put before the current one.
    fn look_for_newer(&mut self) -> Result<(), Error> {
        let mut newer = Vec::new();
        for number in 0..MOST_FILES {
            let path = if number == 0 { self.path.clone() } else { numbered(&self.path, number) };
            let Some(file) = open(&path)? else { break };
            if self.current.as_ref().is_some_and(|current| same_file(current.get_ref(), &file)) {
                break;
            }
            newer.push(file);
        }
        // The current file may have been written once more before it was rotated.
        let finished =
            self.current.as_mut().is_none_or(|current| current.fill_buf().is_ok_and(<[u8]>::is_empty));
        if finished {
            self.waiting = newer;
        }
        Ok(())
    }
}

fn open(path: &Path) -> Result<Option<File>, Error> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::file("open", path)(error)),
    }
}

fn same_file(a: &File, b: &File) -> bool {
    match (a.metadata(), b.metadata()) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{LogLimits, Stream, Writer};
    use super::*;

    #[test]
    fn a_follower_misses_nothing_over_rotations() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("log");
        let mut log = Writer::open(&path, LogLimits { file_bytes: 300, files: 4 }).unwrap();
        let mut reader = Reader::open(&path).unwrap();
        let mut seen = Vec::new();
        for number in 0..200 {
            log.write(Stream::Stdout, format!("{number}\n").as_bytes()).unwrap();
            // Less often than a rotation happens, more often than a file is dropped.
            if number % 9 == 0 {
                reader.read(|record| seen.push(String::from_utf8_lossy(record.text).into_owned())).unwrap();
            }
        }
        reader.read(|record| seen.push(String::from_utf8_lossy(record.text).into_owned())).unwrap();
        let expected: Vec<String> = (0..200).map(|number| number.to_string()).collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_log_that_is_not_there_yet_is_empty() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("log");
        let mut reader = Reader::open(&path).unwrap();
        let mut count = 0;
        reader.read(|_| count += 1).unwrap();
        Writer::open(&path, LogLimits::default()).unwrap().write(Stream::Stderr, b"x\n").unwrap();
        reader.read(|_| count += 1).unwrap();
        assert_eq!(count, 1);
    }
}
