//! Content of regular files.
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::BorrowedFd;

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
}
