//! Sparse files in PAX form, versions 0.0, 0.1 and 1.0, as GNU tar writes them: tar manual, "Sparse Formats".
//! The map of the old GNU form comes with the header.
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

/// A map has one extent a hole; more than this is no real file.
const EXTENTS_LIMIT: usize = 1 << 20;

/// What the extended header says of a sparse file.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct SparseHeader {
    /// Real name.
    pub(super) name: Option<Vec<u8>>,
    version: Option<(u32, u32)>,
    size: Option<u64>,
    map: Option<String>,
    /// Version 0.0: a record for each number, offsets and lengths in turn.
    numbers: Vec<u64>,
    /// The old GNU form.
    extents: Option<Vec<(u64, u64)>>,
}

impl SparseHeader {
    /// Takes one record of the extended header; false when it is about something else.
    pub(super) fn take(&mut self, key: &str, value: &[u8]) -> bool {
        let Some(key) = key.strip_prefix("GNU.sparse.") else { return false };
        let text = std::str::from_utf8(value).unwrap_or_default();
        match key {
            "name" => self.name = Some(value.to_vec()),
            "major" => self.version = Some((text.parse().unwrap_or(u32::MAX), self.minor())),
            "minor" => self.version = Some((self.major(), text.parse().unwrap_or(u32::MAX))),
            "realsize" | "size" => self.size = text.parse().ok(),
            "map" => self.map = Some(text.to_owned()),
            // Version 0.0. What is no number ends up past the end of any file, and is refused there.
            "offset" | "numbytes" if (key == "offset") == self.numbers.len().is_multiple_of(2) => {
                self.numbers.push(text.parse().unwrap_or(u64::MAX));
            }
            "offset" | "numbytes" => self.version = Some((u32::MAX, u32::MAX)),
            _ => {}
        }
        true
    }

    fn major(&self) -> u32 {
        self.version.map_or(0, |(major, _)| major)
    }

    fn minor(&self) -> u32 {
        self.version.map_or(0, |(_, minor)| minor)
    }

    /// A file that is sparse in GNU's old form.
    pub(super) fn old_gnu(size: u64, extents: Vec<(u64, u64)>) -> Self {
        Self { size: Some(size), extents: Some(extents), ..Self::default() }
    }

    /// How long the file is, holes counted.
    pub(super) fn size(&self) -> Option<u64> {
        self.size
    }

    /// Whether there is a sparse file to write. A size without a map is one, that cannot be read.
    pub(super) fn is_present(&self) -> bool {
        self.version.is_some() || self.map.is_some() || !self.numbers.is_empty() || self.size.is_some()
    }

    /// Writes the extents where they belong.
    pub(super) fn write(&self, content: &mut impl Read, file: &mut File) -> io::Result<()> {
        let extents = match (&self.map, self.version) {
            (None, None) if self.extents.is_some() => self.extents.clone().unwrap_or_default(),
            (_, Some((1, 0))) => read_map(content)?,
            (Some(map), None | Some((0, 1))) if self.numbers.is_empty() => parse_map(map)?,
            (None, None | Some((0, 0))) if !self.numbers.is_empty() => pairs(&self.numbers)?,
            _ => return Err(bad("is sparse in a form that wharf does not know")),
        };
        let size = self.size.ok_or_else(|| bad("is sparse but states no real size"))?;
        for (offset, length) in extents {
            if offset.checked_add(length).is_none_or(|end| end > size) {
                return Err(bad("has a sparse extent past its end"));
            }
            file.seek(SeekFrom::Start(offset))?;
            if io::copy(&mut content.by_ref().take(length), file)? != length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        file.set_len(size)
    }
}

fn bad(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

fn parse_map(map: &str) -> io::Result<Vec<(u64, u64)>> {
    let numbers: Result<Vec<u64>, _> = map.split(',').map(str::parse).collect();
    pairs(&numbers.map_err(|_| bad("has a malformed sparse map"))?)
}

fn pairs(numbers: &[u64]) -> io::Result<Vec<(u64, u64)>> {
    if !numbers.len().is_multiple_of(2) || numbers.len() > 2 * EXTENTS_LIMIT {
        return Err(bad("has a malformed sparse map"));
    }
    Ok(numbers.chunks(2).map(|pair| (pair[0], pair[1])).collect())
}

/// Version 1.0 puts the map before the data: a count and then pairs, one number a line, padded to 512.
fn read_map(content: &mut impl Read) -> io::Result<Vec<(u64, u64)>> {
    let mut lines = MapLines { content, block: [0; 512], used: 512 };
    let count = usize::try_from(lines.number()?).unwrap_or(usize::MAX);
    if count > EXTENTS_LIMIT {
        return Err(bad("has a sparse map without end"));
    }
    let mut numbers = Vec::with_capacity(count.min(1024) * 2);
    for _ in 0..2 * count {
        numbers.push(lines.number()?);
    }
    pairs(&numbers)
}

struct MapLines<'a, R> {
    content: &'a mut R,
    block: [u8; 512],
    used: usize,
}

impl<R: Read> MapLines<'_, R> {
    fn number(&mut self) -> io::Result<u64> {
        let mut number: u64 = 0;
        loop {
            if self.used == self.block.len() {
                self.content.read_exact(&mut self.block)?;
                self.used = 0;
            }
            let byte = self.block[self.used];
            self.used += 1;
            number = match byte {
                b'\n' => return Ok(number),
                b'0'..=b'9' => number
                    .checked_mul(10)
                    .and_then(|number| number.checked_add(u64::from(byte - b'0')))
                    .ok_or_else(|| bad("has a malformed sparse map"))?,
                _ => return Err(bad("has a malformed sparse map")),
            };
        }
    }
}
