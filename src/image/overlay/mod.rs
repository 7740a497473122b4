//! An instance's root file system: layers, shared and never written, below a place of its own.
mod apart;
mod compose;
mod ids;

use super::Error;
use super::layer::is_opaque;
use compose::{Refused, Writable, compose};
use ids::IdmappedLayers;
use rustix::fs::{CWD, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What a root file system is put together from.
#[derive(Debug, Clone, Copy)]
pub struct Overlay<'a> {
    /// Directories of the layers, lowest first.
    pub layers: &'a [PathBuf],
    /// Where what is written goes.
    pub upper: Upper<'a>,
    /// As whose ids those of the layers show. What is on disk stays as it is.
    pub user_namespace: Option<BorrowedFd<'a>>,
}

/// Where what an instance writes goes.
#[derive(Debug, Clone, Copy)]
pub enum Upper<'a> {
    /// Two directories of one file system.
    Disk {
        /// What is written.
        upper: &'a Path,
        /// The kernel's own.
        work: &'a Path,
        /// Whether it ends with the instance in any case, so that nothing of it need be brought to the disk: neither by
        /// an fsync(2) inside nor when it is unmounted.
        volatile: bool,
    },
    /// A tmpfs that nobody else sees and that ends with the mount.
    Memory {
        /// The most it holds; the kernel's default, half of the machine's memory, when `None`.
        size_bytes: Option<u64>,
        /// Host id of the user and group that own its root.
        owner: u32,
        /// An empty directory, for kernels that need a place.
        place: &'a Path,
    },
}

impl Overlay<'_> {
    /// Mounts it detached: the mount never appears in the host's mount table and ends with its last user.
    /// See overlayfs.rst.
    ///
    /// # Errors
    /// Names the layer the kernel refused.
    pub fn mount(&self) -> Result<OwnedFd, Error> {
        if self.layers.is_empty() {
            return Err(Error::Config("the image has no layers, so there is nothing to run".to_owned()));
        }
        let layers = without_repeats(above_opaque_root(self.layers));
        if let (Upper::Disk { upper, work, volatile }, None) = (self.upper, self.user_namespace) {
            return compose(&layers, Some(Writable { upper, work, volatile })).map_err(Refused::into_error);
        }
        let idmapped = self.user_namespace.map(|ids| IdmappedLayers::open(&layers, ids)).transpose()?;
        let memory = self.memory()?;
        let detached = match &idmapped {
            Some(idmapped) => idmapped.paths(),
            None => layers.clone(),
        };
        let by_descriptor = |tmpfs: &OwnedFd| PathBuf::from(format!("/proc/self/fd/{}", tmpfs.as_raw_fd()));
        let (upper, work, volatile) = match (self.upper, &memory) {
            (Upper::Disk { upper, work, volatile }, _) => (upper.to_owned(), work.to_owned(), volatile),
            (Upper::Memory { place, .. }, memory) => {
                let tmpfs = memory.as_ref().map_or_else(|| place.to_owned(), by_descriptor);
                (tmpfs.join(UPPER), tmpfs.join(WORK), false)
            }
        };
        match compose::detached(&detached, Some(Writable { upper: &upper, work: &work, volatile })) {
            // Kernels before 6.15 take no layers that are not mounted anywhere.
            Err(_) => apart::mount(&layers, idmapped.as_ref(), self.upper, memory.as_ref()),
            done => done.map_err(Refused::into_error),
        }
    }

    fn memory(&self) -> Result<Option<OwnedFd>, Error> {
        let Upper::Memory { size_bytes, owner, .. } = self.upper else { return Ok(None) };
        new_tmpfs(size_bytes, owner).map(Some).map_err(|errno| Error::File {
            action: "mount a tmpfs as",
            path: "the instance's upper directory".to_owned(),
            source: errno.into(),
        })
    }
}

/// Names in the tmpfs: overlayfs wants both directories in one mount.
const UPPER: &str = "upper";
const WORK: &str = "work";

fn new_tmpfs(size_bytes: Option<u64>, owner: u32) -> Result<OwnedFd, Errno> {
    let context = fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(context.as_fd(), c"mode", "0700")?;
    if let Some(bytes) = size_bytes {
        fsconfig_set_string(context.as_fd(), c"size", bytes.to_string())?;
    }
    fsconfig_create(context.as_fd())?;
    let tmpfs = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    for (name, mode) in [(UPPER, 0o755), (WORK, 0o700)] {
        rustix::fs::mkdirat(&tmpfs, name, Mode::from_raw_mode(mode))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(&tmpfs, name, flags, Mode::empty())?;
        rustix::fs::fchown(&directory, Some(Uid::from_raw(owner)), Some(Gid::from_raw(owner)))?;
        // Whatever the umask was.
        rustix::fs::fchmod(&directory, Mode::from_raw_mode(mode))?;
    }
    Ok(tmpfs)
}

/// What the layers (lowest first) show together, to be read only. `place` is an empty directory's name, for
/// kernels that need one.
///
/// # Errors
/// Names the layer the kernel refused.
pub fn merged_layers(layers: &[PathBuf], place: &Path) -> Result<OwnedFd, Error> {
    let layers = without_repeats(above_opaque_root(layers));
    match &layers[..] {
        [] => Err(Error::Config("the image has no layers".to_owned())),
        // overlayfs wants two at least.
        [only] => {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::openat(CWD, only, flags, Mode::empty())
                .map_err(|errno| Error::file("open", only)(errno.into()))
        }
        layers => compose::read_only(layers, place).map_err(Refused::into_error),
    }
}

/// A layer may hide all that is below it, but overlayfs heeds the mark in directories within layers only,
/// not on the roots that it is given.
pub(super) fn above_opaque_root(layers: &[PathBuf]) -> &[PathBuf] {
    let lowest = layers.iter().rposition(|layer| is_opaque(layer)).unwrap_or(0);
    &layers[lowest..]
}

/// overlayfs takes no directory twice, and images repeat layers, empty ones above all. The topmost copy
/// hides what the others would show.
fn without_repeats(layers: &[PathBuf]) -> Vec<PathBuf> {
    let is_last = |(index, layer): &(usize, &PathBuf)| !layers[index + 1..].contains(layer);
    layers.iter().enumerate().filter(is_last).map(|(_, layer)| layer.clone()).collect()
}
