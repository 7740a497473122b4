//! Extended attributes of a directory that several layers have: those of the topmost alone, as overlayfs shows
//! them.
use rustix::io::Errno;
use std::os::fd::BorrowedFd;

/// An attribute list has at most 64 KiB; xattr(7).
const LIMIT: usize = 64 << 10;

/// Takes away what an earlier layer gave the directory, but for what overlayfs and this host's policy put there.
pub(super) fn clear(directory: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut few = [0; 256];
    let list = match rustix::fs::flistxattr(directory, &mut few[..]) {
        Ok(length) => few[..length].to_vec(),
        Err(Errno::OPNOTSUPP) => return Ok(()),
        Err(Errno::RANGE) => {
            let mut many = vec![0; LIMIT];
            let length = rustix::fs::flistxattr(directory, &mut many[..])?;
            many.truncate(length);
            many
        }
        Err(errno) => return Err(errno),
    };
    for name in list.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        if name.starts_with(b"trusted.overlay.") || name == b"security.selinux" {
            continue;
        }
        match rustix::fs::fremovexattr(directory, name) {
            Ok(()) | Err(Errno::NODATA) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
