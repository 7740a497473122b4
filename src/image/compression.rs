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

/// Decompresses a stream whose kind its first bytes tell; several gzip members or zstd frames in a row
/// are one stream.
pub(super) fn decompressed<'a>(source: impl Read + 'a) -> io::Result<(Compression, Box<dyn Read + 'a>)> {
    let mut source = BufReader::with_capacity(BUFFER, source);
    let compression = Compression::of(source.fill_buf()?);
    let stream: Box<dyn Read + 'a> = match compression {
        Compression::None => Box::new(source),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(source)?),
    };
    Ok((compression, stream))
}
