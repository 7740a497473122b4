//! One line of the log.
use std::io::{self, Write};
use std::time::SystemTime;

/// Which of the service's streams a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output, or the terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// One line of the log, borrowed from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// RFC 3339, nanoseconds.
    pub time: &'a str,
    /// Where it came from.
    pub stream: Stream,
    /// Whether the service ended the line.
    pub complete: bool,
    /// What it wrote, without the line's end.
    pub text: &'a [u8],
}

impl<'a> Record<'a> {
    /// Reads a line without its end; `None` for what no writer of ours wrote.
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let mut parts = line.splitn(4, |byte| *byte == b' ');
        let time = std::str::from_utf8(parts.next()?).ok().filter(|time| time.ends_with('Z'))?;
        let stream = match parts.next()? {
            b"stdout" => Stream::Stdout,
            b"stderr" => Stream::Stderr,
            _ => return None,
        };
        let complete = match parts.next()? {
            b"F" => true,
            b"P" => false,
            _ => return None,
        };
        Some(Self { time, stream, complete, text: parts.next()? })
    }
}

/// Writes one record.
pub(super) fn write(
    out: &mut impl Write,
    at: SystemTime,
    stream: Stream,
    complete: bool,
    text: &[u8],
) -> io::Result<()> {
    let tag = if complete { 'F' } else { 'P' };
    write!(out, "{} {} {tag} ", humantime::format_rfc3339_nanos(at), stream.name())?;
    out.write_all(text)?;
    out.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_byte_for_byte() {
        let texts: [&[u8]; 4] = [b"hello  world ", b"", b"\xff\x00 F stdout", "grüß".as_bytes()];
        for (complete, text) in [true, false].into_iter().flat_map(|c| texts.map(|text| (c, text))) {
            let mut line = Vec::new();
            write(&mut line, SystemTime::UNIX_EPOCH, Stream::Stderr, complete, text).unwrap();
            assert_eq!(line.pop(), Some(b'\n'));
            let record = Record::parse(&line).unwrap();
            assert_eq!((record.stream, record.complete, record.text), (Stream::Stderr, complete, text));
            assert_eq!(record.time, "1970-01-01T00:00:00.000000000Z");
        }
    }

    #[test]
    fn half_a_line_is_no_record() {
        for line in
            ["", "2026", "2026-01-01T00:00:00Z stdout", "2026-01-01T00:00:00Z stdin F x", "x stdout F x"]
        {
            assert_eq!(Record::parse(line.as_bytes()), None, "{line:?}");
        }
    }
}
