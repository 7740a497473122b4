//! Compressed streams, told apart by their first bytes and never by a name.
use std::io::{self, BufRead, BufReader, Read};

/// Large enough that a read is worth its system call.
const BUFFER: usize = 256 << 10;

/// How a stream is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    fn of(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            // RFC 8878 3.1.2: a skippable frame, which zstd:chunked may begin with.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::None,
        }
    }
}

/// How far back a zstd stream may refer, which is what decompressing it takes of memory: RFC 8878 3.1.1.1.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Window {
    /// 8 MiB, which every decoder is to support and almost every encoder keeps to.
    Usual,
    /// 32 MiB, for the highest levels of some encoders.
    Large,
}

impl Window {
    fn log2(self) -> u32 {
        match self {
            Self::Usual => 23,
            Self::Large => 25,
        }
    }

    /// Whether a stream failed because it wants a larger window.
    pub(super) fn is_exceeded(error: &io::Error) -> bool {
        error.to_string().contains("requires too much memory")
    }
}

/// Decompresses a stream whose kind its first bytes tell; several gzip members or zstd frames in a row
/// are one stream.
pub(super) fn decompressed<'a>(source: impl Read + 'a) -> io::Result<(Compression, Box<dyn Read + 'a>)> {
    decompressed_within(source, Window::Large)
}

/// The same with a bound on memory.
pub(super) fn decompressed_within<'a>(
    source: impl Read + 'a,
    window: Window,
) -> io::Result<(Compression, Box<dyn Read + 'a>)> {
    let mut source = BufReader::with_capacity(BUFFER, source);
    let compression = Compression::of(source.fill_buf()?);
    let stream: Box<dyn Read + 'a> = match compression {
        Compression::None => Box::new(source),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(source)?;
            decoder.window_log_max(window.log2())?;
            Box::new(decoder)
        }
    };
    Ok((compression, stream))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_window_that_is_too_large_is_told_from_other_failures() {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(24).unwrap();
        encoder.write_all(b"text").unwrap();
        let stream = encoder.finish().unwrap();
        let read = |window| {
            let (_, mut stream) = decompressed_within(&stream[..], window).unwrap();
            io::read_to_string(&mut stream)
        };
        assert!(Window::is_exceeded(&read(Window::Usual).unwrap_err()));
        assert_eq!(read(Window::Large).unwrap(), "text");
        let (_, mut cut) = decompressed(&stream[..stream.len() - 1]).unwrap();
        assert!(!Window::is_exceeded(&io::read_to_string(&mut cut).unwrap_err()));
    }
}
