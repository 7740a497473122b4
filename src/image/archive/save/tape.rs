//! A tar stream: ustar headers that say nothing of this machine. It ends only when it is told to, since
//! one that was given up must not look complete.
use super::super::super::Error;
use super::content::Content;
use super::{Sink, output};
use std::io::{self, Write};
use tar::{EntryType, Header};

const BLOCK: u64 = 512;

/// Writes entries to a stream.
pub(super) struct Tape<'a> {
    out: &'a mut dyn Write,
    what: &'a str,
}

impl<'a> Tape<'a> {
    pub(super) fn new(out: &'a mut dyn Write, what: &'a str) -> Self {
        Self { out, what }
    }

    /// The end-of-archive marker.
    pub(super) fn finish(self) -> Result<(), Error> {
        self.out.write_all(&[0; 2 * BLOCK as usize]).map_err(output::failed(self.what))
    }

    fn header(&mut self, name: &str, kind: EntryType, mode: u32, size: u64) -> Result<(), Error> {
        let mut header = Header::new_ustar();
        header.set_path(name).map_err(|error| Error::invalid(name, format!("is no name: {error}")))?;
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(size);
        header.set_cksum();
        self.out.write_all(header.as_bytes()).map_err(output::failed(self.what))
    }
}

impl Sink for Tape<'_> {
    fn directory(&mut self, name: &str) -> Result<(), Error> {
        self.header(&format!("{name}/"), EntryType::Directory, 0o755, 0)
    }

    fn file(&mut self, name: &str, content: Content<'_>) -> Result<(), Error> {
        let size = content.size();
        self.header(name, EntryType::Regular, 0o644, size)?;
        content.write_to(self.out, output::failed(self.what))?;
        let padding = (BLOCK - size % BLOCK) % BLOCK;
        io::copy(&mut io::Read::take(io::repeat(0), padding), self.out)
            .map(drop)
            .map_err(output::failed(self.what))
    }
}
