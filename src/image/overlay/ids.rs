//! Layers shown with the ids of a user namespace, mount_setattr(2) "ID-mapped mounts".
use super::Error;
use crate::sys::mount::{MountAttr, clone_tree};
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, OpenTreeFlags};
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// A detached mount of each layer, lowest first.
#[derive(Debug)]
pub(super) struct IdmappedLayers(pub(super) Vec<OwnedFd>);

impl IdmappedLayers {
    pub(super) fn open(layers: &[PathBuf], user_namespace: BorrowedFd<'_>) -> Result<Self, Error> {
        let attr = MountAttr {
            set: MountAttrFlags::MOUNT_ATTR_IDMAP.bits().into(),
            propagation: libc::MS_PRIVATE,
            userns_fd: user_namespace.as_raw_fd() as u64,
            ..MountAttr::default()
        };
        let open = |layer: &PathBuf| {
            clone_tree(CWD, layer, OpenTreeFlags::empty(), &attr).map_err(|errno| refused(layer, errno))
        };
        layers.iter().map(open).collect::<Result<_, _>>().map(Self)
    }

    /// Paths by which this process reaches them.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        self.0.iter().map(|fd| PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))).collect()
    }
}

fn refused(layer: &Path, errno: Errno) -> Error {
    let reason = match errno {
        Errno::INVAL => "its file system cannot be idmapped on this kernel".to_owned(),
        errno => std::io::Error::from(errno).to_string(),
    };
    Error::Idmap { path: layer.display().to_string(), reason }
}
