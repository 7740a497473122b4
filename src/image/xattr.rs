//! Extended attributes of an open file of any kind, also of one that is open as a location alone: xattr(7).
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd as _};

/// A value has at most so many bytes, and so has the list of names: XATTR_SIZE_MAX and XATTR_LIST_MAX of limits.h.
const LIMIT: usize = 64 << 10;
/// Enough for almost every file.
const USUAL: usize = 256;

/// Its names; none where the file system has no attributes.
pub(super) fn names(file: impl AsFd) -> Result<Vec<Vec<u8>>, Errno> {
    let path = path_of(file);
    let list = match read(|buffer| rustix::fs::listxattr(&path, buffer)) {
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        list => list?,
    };
    Ok(list.split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect())
}

/// The value of one.
pub(super) fn value(file: impl AsFd, name: &[u8]) -> Result<Vec<u8>, Errno> {
    let path = path_of(file);
    read(|buffer| rustix::fs::getxattr(&path, name, buffer))
}

/// The link leads to the open file itself, and is resolved no further.
fn path_of(file: impl AsFd) -> String {
    format!("/proc/self/fd/{}", file.as_fd().as_raw_fd())
}

fn read(call: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; USUAL];
    loop {
        match call(&mut buffer) {
            Err(Errno::RANGE) if buffer.len() < LIMIT => buffer = vec![0; LIMIT],
            length => {
                buffer.truncate(length?);
                return Ok(buffer);
            }
        }
    }
}
