//! Compressed streams, told apart by their first bytes and never by a name.
use std::io::{self, BufRead, BufReader, Chain, Cursor, Read};

/// Large enough that a read is worth its system call.
const BUFFER: usize = 256 << 10;
/// How much of a stream tells its kind.
const MARK: u64 = 4;

/// A stream of which the beginning was read already, from its beginning.
pub(super) type Whole<R> = Chain<Cursor<Vec<u8>>, R>;

/// How a stream is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8878; zstd:chunked is read as what it is, zstd.
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

    /// Looks at the beginning of a stream, and gives it back whole. A pipe may bring a byte at a time.
    pub(super) fn detect<R: Read>(mut source: R) -> io::Result<(Self, Whole<R>)> {
        let mut start = Vec::new();
        source.by_ref().take(MARK).read_to_end(&mut start)?;
        Ok((Self::of(&start), Cursor::new(start).chain(source)))
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
    // Mostly one read brings enough, and then nothing stands between the stream and its decoder.
    if source.fill_buf()?.len() as u64 >= MARK {
        let compression = Compression::of(source.buffer());
        return Ok((compression, decoder(compression, source, window)?));
    }
    let (compression, source) = Compression::detect(source)?;
    Ok((compression, decoder(compression, BufReader::with_capacity(BUFFER, source), window)?))
}

fn decoder<'a>(
    compression: Compression,
    source: impl BufRead + 'a,
    window: Window,
) -> io::Result<Box<dyn Read + 'a>> {
    Ok(match compression {
        Compression::None => Box::new(source),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(source)?;
            decoder.window_log_max(window.log2())?;
            Box::new(decoder)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    struct Dripping<'a>(&'a [u8]);

    impl Read for Dripping<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = self.0.len().min(buffer.len()).min(1);
            self.0.read(&mut buffer[..length])
        }
    }

    #[test]
    fn a_stream_that_comes_byte_by_byte_is_known_for_what_it_is() {
        let zstd = zstd::stream::encode_all(&b"content"[..], 0).unwrap();
        for (bytes, kind) in [(&zstd[..], Compression::Zstd), (b"content", Compression::None)] {
            let (found, mut stream) = decompressed(Dripping(bytes)).unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            assert_eq!((found, text.as_str()), (kind, "content"));
        }
        let (found, mut stream) = decompressed(Dripping(b"ab")).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert_eq!((found, text.as_str()), (Compression::None, "ab"));
    }

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
