//! Directories that a layer has something in and no entry for. They are implied: the layer says nothing of their
//! owner, mode, times and attributes, and what lower layers say of them holds.
//!
//! A layer that is a directory of its own needs them all the same, and overlayfs would show them as they are
//! there. So they are marked, and what the marks mean is made up for once an image's layers are known. overlayfs
//! shows no attribute of its own prefix to anybody, and no image can bring one.
use rustix::fs::XattrFlags;
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::path::Path;

/// On a directory that no entry states, the root included. The value tells whether lower layers do.
pub(in crate::image) const IMPLIED: &str = "trusted.overlay.wharf.implied";
/// What lower layers say of it holds.
const AS_BELOW: &[u8] = b"y";
/// Its layer takes away the one that lower layers have.
const ANEW: &[u8] = b"n";
/// On the root of a layer that had to make such directories below it.
const HAS_IMPLIED: &str = "trusted.overlay.wharf.has-implied";

/// Marks the implied directories of a layer while it is applied.
#[derive(Debug)]
pub(super) struct Marks {
    wanted: bool,
    made: bool,
    /// An entry states the root, which is never made.
    root_is_stated: bool,
}

impl Marks {
    /// `wanted` where the layer is a directory of its own.
    pub(super) fn new(wanted: bool) -> Self {
        Self { wanted, made: false, root_is_stated: false }
    }

    /// Marks a directory that was made for what is in it.
    pub(super) fn implied(&mut self, parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
        self.mark(parent, name, AS_BELOW)
    }

    /// Marks one that was made in the place of a whiteout.
    pub(super) fn implied_anew(&mut self, parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
        self.mark(parent, name, ANEW)
    }

    fn mark(&mut self, parent: BorrowedFd<'_>, name: &[u8], value: &[u8]) -> Result<(), Errno> {
        if !self.wanted {
            return Ok(());
        }
        self.made = true;
        let mut path = format!("/proc/self/fd/{}/", parent.as_raw_fd()).into_bytes();
        path.extend_from_slice(name);
        tolerate(rustix::fs::lsetxattr(&path, IMPLIED, value, XattrFlags::empty()))
    }

    /// An entry states the directory after all.
    pub(super) fn stated(&self, directory: BorrowedFd<'_>) -> Result<(), Errno> {
        if !self.made {
            return Ok(());
        }
        match rustix::fs::fremovexattr(directory, IMPLIED) {
            Err(Errno::NODATA) => Ok(()),
            removed => tolerate(removed),
        }
    }

    /// An entry states the root.
    pub(super) fn root_is_stated(&mut self) {
        self.root_is_stated = true;
    }

    /// All is there: says on the root what there is below it, and whether an entry has stated the root.
    pub(super) fn finish(&self, root: BorrowedFd<'_>) -> Result<(), Errno> {
        let set = |name| tolerate(rustix::fs::fsetxattr(root, name, AS_BELOW, XattrFlags::empty()));
        if self.wanted && !self.root_is_stated {
            set(IMPLIED)?;
        }
        if self.made { set(HAS_IMPLIED) } else { Ok(()) }
    }
}

/// Where no attribute can be set, an implied directory shows as it was made.
fn tolerate(done: Result<(), Errno>) -> Result<(), Errno> {
    match done {
        Err(Errno::OPNOTSUPP) => Ok(()),
        done => done,
    }
}

/// Whether lower layers say how this directory of a layer is. It is open for reading.
pub(in crate::image) fn is_implied(directory: impl AsFd) -> Result<bool, Errno> {
    let mut value = [0; 1];
    match rustix::fs::fgetxattr(directory, IMPLIED, &mut value[..]) {
        Ok(_) => Ok(value == AS_BELOW),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Whether the layer in this directory may have implied directories below its root.
pub(in crate::image) fn has_implied(layer: &Path) -> bool {
    rustix::fs::getxattr(layer, HAS_IMPLIED, &mut [0; 1][..]).is_ok()
}
