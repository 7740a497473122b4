//! Overlays of layers that are mounts of their own, on kernels before 6.15: those take only what is mounted
//! in the caller's mount namespace. A thread gets one to itself, and what it mounts there ends with it; the
//! overlay keeps its layers.
use super::compose::{Refused, Writable, compose};
use super::ids::IdmappedLayers;
use super::{Error, UPPER, Upper, WORK};
use nix::sched::{CloneFlags, unshare};
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, MoveMountFlags, mount_change, move_mount};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

/// Mounts each layer over itself and the tmpfs at its place, where only this thread sees it.
pub(super) fn mount(
    layers: &[PathBuf],
    idmapped: Option<&IdmappedLayers>,
    upper: Upper<'_>,
    memory: Option<&OwnedFd>,
) -> Result<OwnedFd, Error> {
    let work = || mount_here(layers, idmapped, upper, memory);
    let ended = std::thread::scope(|scope| scope.spawn(work).join());
    ended.unwrap_or_else(|_| Err(Error::Config("the thread that mounts the overlay panicked".to_owned())))
}

fn mount_here(
    layers: &[PathBuf],
    idmapped: Option<&IdmappedLayers>,
    upper: Upper<'_>,
    memory: Option<&OwnedFd>,
) -> Result<OwnedFd, Error> {
    let failed = |errno: Errno| Error::File {
        action: "make a mount namespace for",
        path: "the overlay".to_owned(),
        source: errno.into(),
    };
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS)
        .map_err(|errno| failed(Errno::from_raw_os_error(errno as i32)))?;
    // Nothing of what follows may reach the host.
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).map_err(failed)?;
    for (layer, tree) in layers.iter().zip(idmapped.iter().flat_map(|idmapped| &idmapped.0)) {
        attach(tree, layer)?;
    }
    let composed = match upper {
        Upper::Disk { upper, work, volatile } => compose(layers, Some(Writable { upper, work, volatile })),
        Upper::Memory { place, .. } => {
            if let Some(tmpfs) = memory {
                attach(tmpfs, place)?;
            }
            let (upper, work) = (place.join(UPPER), place.join(WORK));
            compose(layers, Some(Writable { upper: &upper, work: &work, volatile: false }))
        }
    };
    composed.map_err(|refused| match (idmapped, refused.errno) {
        (Some(_), Errno::INVAL) => Error::Idmap {
            path: layers.last().map(|layer| layer.display().to_string()).unwrap_or_default(),
            reason: "overlayfs of this kernel takes no idmapped layers, which needs Linux 5.19".to_owned(),
        },
        _ => Refused::into_error(refused),
    })
}

fn attach(tree: &OwnedFd, place: &Path) -> Result<(), Error> {
    move_mount(tree.as_fd(), "", CWD, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(|errno| Error::file("mount over", place)(errno.into()))
}
