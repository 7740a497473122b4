//! What the parent opens of the host before the clone: bind mounts' sources, /dev/null and the root, each
//! as a detached copy that belongs to no mount namespace.
use super::{HostTree, Source};
use crate::sandbox::plan::Rootfs;
use crate::sandbox::spawn::{SpawnError, host_error};
use crate::sys::mount::{MountAttr, mount_setattr};
use rustix::fs::{CWD, FileType, makedev};
use rustix::io::Errno;
use rustix::mount::OpenTreeFlags;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Opens every source that is the parent's to open; the child's slots stay empty.
pub(in crate::sandbox) fn open_sources(sources: &[Source]) -> Result<Vec<Option<OwnedFd>>, SpawnError> {
    let open = |source: &Source| {
        Ok(match source {
            Source::Host(tree) => Some(open_tree(tree)?),
            Source::Null => Some(open_null()?),
            Source::New => None,
        })
    };
    sources.iter().map(open).collect()
}

const CLONE: OpenTreeFlags = OpenTreeFlags::OPEN_TREE_CLONE.union(OpenTreeFlags::OPEN_TREE_CLOEXEC);

fn open_tree(tree: &HostTree) -> Result<OwnedFd, SpawnError> {
    let error = host_error(&tree.at, &tree.source);
    let recursive = if tree.recursive { OpenTreeFlags::AT_RECURSIVE } else { OpenTreeFlags::empty() };
    let fd = rustix::mount::open_tree(CWD, &tree.source, CLONE | recursive).map_err(&error)?;
    for (attr, recursive) in [(&tree.attr, false), (&tree.recursive_attr, true)] {
        if !attr.is_empty() {
            mount_setattr(fd.as_fd(), c"", recursive, attr).map_err(&error)?;
        }
    }
    for (propagation, recursive) in &tree.propagation {
        let attr = MountAttr { propagation: *propagation, ..MountAttr::default() };
        mount_setattr(fd.as_fd(), c"", *recursive, &attr).map_err(&error)?;
    }
    Ok(fd)
}

/// The host's /dev/null, and nothing else that stands at its place.
fn open_null() -> Result<OwnedFd, SpawnError> {
    let path = Path::new("/dev/null");
    let error = host_error("linux.maskedPaths", path);
    let fd = rustix::mount::open_tree(CWD, path, CLONE).map_err(&error)?;
    let stat = rustix::fs::fstat(&fd).map_err(&error)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::CharacterDevice || stat.st_rdev != makedev(1, 3) {
        return Err(error(Errno::NODEV));
    }
    let attr = MountAttr { propagation: libc::MS_PRIVATE, ..MountAttr::default() };
    mount_setattr(fd.as_fd(), c"", false, &attr).map_err(&error)?;
    Ok(fd)
}

/// Opens the container's root.
pub(in crate::sandbox) fn open_root(rootfs: &Rootfs, shared: bool) -> Result<OwnedFd, SpawnError> {
    match rootfs {
        Rootfs::Tree(tree) => tree
            .try_clone()
            .map_err(|source| SpawnError::Step { step: "duplicate the rootfs".to_owned(), source }),
        Rootfs::Directory(path) => {
            let error = host_error("root.path", path);
            let flags = CLONE | OpenTreeFlags::AT_RECURSIVE;
            let fd = rustix::mount::open_tree(CWD, path, flags).map_err(&error)?;
            if !shared {
                let attr = MountAttr { propagation: libc::MS_SLAVE, ..MountAttr::default() };
                mount_setattr(fd.as_fd(), c"", true, &attr).map_err(&error)?;
            }
            Ok(fd)
        }
    }
}
