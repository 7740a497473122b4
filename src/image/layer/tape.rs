//! The members of a tar stream: their headers, extended by PAX records and GNU's long names, and their content.
//!
//! The stream is cut into members here, and not by the tar crate, because that takes a line break for the end of
//! a record: a value with one in it (file capabilities are binary) would fail, or change the size by which
//! the next header is found. docs/decisions/011-tar-reader.md says more. Fields of a header are read by the crate.
use super::guard::Guard;
use super::records::Records;
use super::{Error, refuse};
use std::io::{self, Read};
use tar::{EntryType, GnuExtSparseHeader, Header};

const BLOCK: usize = 512;
/// A real file has an extent for each of its holes; more than this is none.
const EXTENTS_LIMIT: usize = 1 << 20;

/// One member.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) header: Header,
    pub(super) kind: EntryType,
    pub(super) path: Vec<u8>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) records: Records,
    /// Real size and extents of a file that is sparse in GNU's old form.
    pub(super) sparse: Option<(u64, Vec<(u64, u64)>)>,
}

/// A stream of members.
#[derive(Debug)]
pub(super) struct Tape<R> {
    stream: R,
    guard: Guard,
    /// Of the member's content.
    left: u64,
    padding: u64,
    broken: bool,
}

/// What headers before the one of a member say of it.
#[derive(Debug, Default)]
struct Extension {
    records: Option<Records>,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl<R: Read> Tape<R> {
    /// `stream` is under `guard`.
    pub(super) fn new(stream: R, guard: Guard) -> Self {
        Self { stream, guard, left: 0, padding: 0, broken: false }
    }

    /// Whether content could not be read, so that a failure to copy it is the stream's.
    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    /// The next member; what is left of the last one is passed over.
    pub(super) fn next(&mut self) -> Result<Option<Member>, Error> {
        self.guard.expect_content();
        let rest = self.left.saturating_add(self.padding);
        let passed = io::copy(&mut self.stream.by_ref().take(rest), &mut io::sink());
        if passed.map_err(Error::Unreadable)? != rest {
            return Err(truncated());
        }
        (self.left, self.padding) = (0, 0);
        self.guard.expect_headers();
        let member = self.member();
        self.guard.expect_content();
        member
    }

    fn member(&mut self) -> Result<Option<Member>, Error> {
        let mut extension = Extension::default();
        loop {
            let Some(header) = self.header()? else { return Ok(None) };
            let size = header.entry_size().map_err(Error::Unreadable)?;
            let kind = header.entry_type();
            let name = || header.path_bytes().into_owned();
            match kind {
                EntryType::XHeader if extension.records.is_some() => {
                    return Err(refuse(&name(), "has two extended headers; refused"));
                }
                EntryType::XHeader => {
                    let records = Records::parse(&self.bytes(size)?);
                    extension.records = Some(records.map_err(|reason| refuse(&name(), reason))?);
                }
                EntryType::XGlobalHeader => check_global(&self.bytes(size)?)?,
                EntryType::GNULongName => extension.name = Some(until_nul(self.bytes(size)?)),
                EntryType::GNULongLink => extension.link = Some(until_nul(self.bytes(size)?)),
                _ => return self.complete(header, extension).map(Some),
            }
        }
    }

    fn complete(&mut self, header: Header, extension: Extension) -> Result<Member, Error> {
        let records = extension.records.unwrap_or_default();
        let shown = extension.name.clone().unwrap_or_else(|| header.path_bytes().into_owned());
        let decisive = |key| records.decisive(key).map_err(|reason| refuse(&shown, reason));
        let path = match (decisive("path")?, extension.name) {
            (Some(path), Some(name)) if path != name => {
                return Err(refuse(&shown, "has two different names; refused"));
            }
            (Some(path), _) => path.to_vec(),
            (None, _) => shown.clone(),
        };
        let link = match (decisive("linkpath")?, extension.link) {
            (Some(link), Some(name)) if link != name => {
                return Err(refuse(&shown, "has two different targets; refused"));
            }
            (Some(link), _) => Some(link.to_vec()),
            (None, Some(link)) => Some(link),
            (None, None) => header.link_name_bytes().map(std::borrow::Cow::into_owned),
        };
        let stated = records.number("size").map_err(|reason| refuse(&path, reason))?;
        let size = match stated {
            Some(size) => size,
            None => plain_size(&header).ok_or_else(|| refuse(&path, "has a malformed size; refused"))?,
        };
        let kind = kind_of(&header, &path, size)?;
        let sparse = if kind == EntryType::GNUSparse { Some(self.sparse(&header, &path)?) } else { None };
        self.left = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
        Ok(Member { header, kind, path, link, records, sparse })
    }

    /// The next header; `None` at the end of the archive.
    fn header(&mut self) -> Result<Option<Header>, Error> {
        let mut block = [0; BLOCK];
        if !self.block(&mut block)? {
            return Ok(None);
        }
        if block == [0; BLOCK] {
            return match self.block(&mut block)? && block != [0; BLOCK] {
                true => Err(refuse(b"(header)", "follows a lone block of zeros; refused")),
                false => Ok(None),
            };
        }
        let mut header = Header::new_old();
        header.as_mut_bytes().copy_from_slice(&block);
        match header.cksum() {
            Ok(sum) if sums(&block).contains(&i64::from(sum)) => Ok(Some(header)),
            _ => Err(Error::Unreadable(io::Error::new(
                io::ErrorKind::InvalidData,
                "a header's checksum is wrong; it is damaged, or no tar archive",
            ))),
        }
    }

    /// Reads a whole block; false at the end of the stream.
    fn block(&mut self, block: &mut [u8; BLOCK]) -> Result<bool, Error> {
        let mut filled = 0;
        while filled < BLOCK {
            match self.stream.read(&mut block[filled..]).map_err(Error::Unreadable)? {
                0 if filled == 0 => return Ok(false),
                0 => return Err(Error::Unreadable(io::ErrorKind::UnexpectedEof.into())),
                length => filled += length,
            }
        }
        Ok(true)
    }

    /// The content of an extending header, which the guard bounds.
    fn bytes(&mut self, size: u64) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        let padded = size.checked_next_multiple_of(BLOCK as u64).unwrap_or(u64::MAX);
        self.stream.by_ref().take(padded).read_to_end(&mut bytes).map_err(Error::Unreadable)?;
        if bytes.len() as u64 != padded {
            return Err(truncated());
        }
        bytes.truncate(usize::try_from(size).unwrap_or(usize::MAX));
        Ok(bytes)
    }

    /// GNU's old form: a few extents in the header, more in blocks after it.
    fn sparse(&mut self, header: &Header, path: &[u8]) -> Result<(u64, Vec<(u64, u64)>), Error> {
        let malformed = |_| refuse(path, "has a malformed sparse map; refused");
        let gnu = header.as_gnu().ok_or_else(|| refuse(path, "is sparse without a map; refused"))?;
        let real_size = gnu.real_size().map_err(malformed)?;
        let mut extents = Vec::new();
        for extent in gnu.sparse.iter().filter(|extent| !extent.is_empty()) {
            extents.push((extent.offset().map_err(malformed)?, extent.length().map_err(malformed)?));
        }
        let mut more = gnu.is_extended();
        while more {
            let mut block = [0; BLOCK];
            if !self.block(&mut block)? {
                return Err(truncated());
            }
            let mut extension = GnuExtSparseHeader::new();
            extension.as_mut_bytes().copy_from_slice(&block);
            for extent in extension.sparse.iter().filter(|extent| !extent.is_empty()) {
                extents.push((extent.offset().map_err(malformed)?, extent.length().map_err(malformed)?));
            }
            more = extension.is_extended();
            if extents.len() > EXTENTS_LIMIT {
                return Err(refuse(path, "has a sparse map without end; refused"));
            }
        }
        Ok((real_size, extents))
    }
}

/// The content of the member.
impl<R: Read> Read for Tape<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        let read = self.stream.read(&mut buffer[..wanted]);
        self.broken = !matches!(read, Ok(length) if length > 0);
        let length = read?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= length as u64;
        Ok(length)
    }
}

fn truncated() -> Error {
    Error::Unreadable(io::ErrorKind::UnexpectedEof.into())
}

/// With bytes taken as unsigned and, as some old writers did, as signed; the field itself as blanks.
fn sums(block: &[u8; BLOCK]) -> [i64; 2] {
    let bytes =
        || block.iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { b' ' } else { *byte });
    [bytes().map(i64::from).sum(), bytes().map(|byte| i64::from(byte.cast_signed())).sum()]
}

/// What is no plain number has another meaning to each reader; GNU tar takes `+` for base 64.
fn plain_size(header: &Header) -> Option<u64> {
    let field = &header.as_old().size;
    let plain = field[0] & 0x80 != 0 || field.iter().all(|byte| matches!(byte, b'0'..=b'7' | b' ' | 0));
    header.entry_size().ok().filter(|_| plain)
}

/// What the member is, as GNU tar reads it. Only files have content: other readers take the blocks that a
/// link or directory claims for the next members (CVE-2025-62518).
fn kind_of(header: &Header, path: &[u8], size: u64) -> Result<EntryType, Error> {
    let kind = match header.entry_type() {
        EntryType::Regular if path.ends_with(b"/") => EntryType::Directory,
        kind => kind,
    };
    let has_content = matches!(kind, EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse);
    if !has_content && (size != 0 || plain_size(header) != Some(0)) {
        return Err(refuse(path, "has content, but is no file; refused"));
    }
    Ok(kind)
}

/// Refuses a global header that would change what all later members are.
fn check_global(bytes: &[u8]) -> Result<(), Error> {
    let records = Records::parse(bytes).map_err(|reason| refuse(b"(global header)", reason))?;
    for (key, _) in records.iter() {
        if matches!(key, "size" | "path" | "linkpath") || key.starts_with("GNU.sparse.") {
            return Err(refuse(b"(global header)", "sets the size or name of all entries; refused"));
        }
    }
    Ok(())
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
        bytes.truncate(end);
    }
    bytes
}
