//! Content of regular files, with holes left as holes.
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::BorrowedFd;

/// The block size of common file systems: a smaller hole saves nothing.
const BLOCK: usize = 4096;
const BUFFER: usize = 256 << 10;

/// Makes a new file; whatever stood there must be gone.
pub(super) fn create(parent: BorrowedFd<'_>, name: &[u8]) -> Result<File, Errno> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::from(0o600)).map(File::from)
}

/// Reuses one buffer for all files of a layer.
#[derive(Debug)]
pub(super) struct Copier {
    buffer: Vec<u8>,
}

impl Copier {
    pub(super) fn new() -> Self {
        Self { buffer: vec![0; BUFFER] }
    }

    /// Copies to the end of the content.
    pub(super) fn copy(&mut self, content: &mut impl Read, file: &mut File) -> io::Result<()> {
        loop {
            match content.read(&mut self.buffer)? {
                0 => return Ok(()),
                length => file.write_all(&self.buffer[..length])?,
            }
        }
    }

    /// Copies and leaves a hole for every block of zeros; the file ends up `size` long.
    pub(super) fn copy_sparse(
        &mut self,
        content: &mut impl Read,
        file: &mut File,
        size: u64,
    ) -> io::Result<()> {
        loop {
            let length = read_full(content, &mut self.buffer)?;
            if length == 0 {
                return file.set_len(size);
            }
            for block in self.buffer[..length].chunks(BLOCK) {
                if block.iter().all(|byte| *byte == 0) {
                    file.seek(SeekFrom::Current(block.len() as i64))?;
                } else {
                    file.write_all(block)?;
                }
            }
        }
    }
}

fn read_full(content: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match content.read(&mut buffer[filled..])? {
            0 => break,
            length => filled += length,
        }
    }
    Ok(filled)
}
