//! An instance's root file system: layers, shared and never written, below a directory of its own.
use super::Error;
use super::layer::is_opaque;
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, OpenTreeFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen,
};
use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// fsconfig(2) takes strings of up to this length.
const STRING_LIMIT: usize = 255;

/// Mounts layers (lowest first), `upper` and `work` as a detached overlay: the mount never appears in
/// the host's mount table and ends with its last user. See overlayfs.rst.
///
/// # Errors
/// Names the layer the kernel refused.
pub fn mount_overlay(layers: &[PathBuf], upper: &Path, work: &Path) -> Result<OwnedFd, Error> {
    if layers.is_empty() {
        return Err(Error::Config("the image has no layers, so there is nothing to run".to_owned()));
    }
    let layers = &without_repeats(above_opaque_root(layers));
    match mount_detached(layers, upper, work) {
        // Kernels before 6.5 do not know `lowerdir+`; some say so at once, others when all is put together.
        Err((_, Errno::INVAL)) => mount_by_path(layers, upper, work),
        done => done.map_err(|(path, errno)| refused(&path.display().to_string(), errno)),
    }
}

/// A layer may hide all that is below it, but overlayfs heeds the mark in directories within layers only,
/// not on the roots that it is given.
fn above_opaque_root(layers: &[PathBuf]) -> &[PathBuf] {
    let lowest = layers.iter().rposition(|layer| is_opaque(layer)).unwrap_or(0);
    &layers[lowest..]
}

/// overlayfs takes no directory twice, and images repeat layers, empty ones above all. The topmost copy
/// hides what the others would show.
fn without_repeats(layers: &[PathBuf]) -> Vec<PathBuf> {
    let is_last = |(index, layer): &(usize, &PathBuf)| !layers[index + 1..].contains(layer);
    layers.iter().enumerate().filter(is_last).map(|(_, layer)| layer.clone()).collect()
}

/// The error names the path that was refused.
fn mount_detached<'a>(
    layers: &'a [PathBuf],
    upper: &'a Path,
    work: &'a Path,
) -> Result<OwnedFd, (&'a Path, Errno)> {
    let context = fsopen(c"overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(|errno| (upper, errno))?;
    for layer in layers.iter().rev() {
        set_path(context.as_fd(), c"lowerdir+", layer).map_err(|errno| (layer.as_path(), errno))?;
    }
    for (key, path) in [(c"upperdir", upper), (c"workdir", work)] {
        set_path(context.as_fd(), key, path).map_err(|errno| (path, errno))?;
    }
    fsconfig_create(context.as_fd()).map_err(|errno| (upper, errno))?;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
        .map_err(|errno| (upper, errno))
}

fn refused(what: &str, errno: Errno) -> Error {
    Error::File { action: "mount the overlay with", path: what.to_owned(), source: errno.into() }
}

/// A path too long for fsconfig(2) is opened and named by its descriptor.
fn set_path(context: BorrowedFd<'_>, key: &std::ffi::CStr, path: &Path) -> Result<(), Errno> {
    if path.as_os_str().len() <= STRING_LIMIT {
        return fsconfig_set_string(context, key, path);
    }
    use std::os::fd::AsRawFd;
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    let fd = rustix::fs::open(path, flags, rustix::fs::Mode::empty())?;
    fsconfig_set_string(context, key, format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// The way of older kernels: mount at a place of our own, take the mount from there.
fn mount_by_path(layers: &[PathBuf], upper: &Path, work: &Path) -> Result<OwnedFd, Error> {
    let place = work.with_file_name("merged");
    fs::create_dir_all(&place).map_err(Error::file("create", &place))?;
    let lower: Vec<Vec<u8>> = layers.iter().rev().map(|layer| escaped(layer)).collect();
    let mut data = b"lowerdir=".to_vec();
    data.extend(lower.join(&b':'));
    for (key, path) in [(&b",upperdir="[..], upper), (b",workdir=", work)] {
        data.extend_from_slice(key);
        data.extend(escaped(path));
    }
    let data = CString::new(data).map_err(|_| refused("a path with a NUL byte", Errno::INVAL))?;
    let name = place.display().to_string();
    rustix::mount::mount(c"overlay", &place, c"overlay", MountFlags::empty(), &*data)
        .map_err(|errno| refused(&name, errno))?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = rustix::mount::open_tree(CWD, &place, flags).map_err(|errno| refused(&name, errno));
    rustix::mount::unmount(&place, UnmountFlags::DETACH).map_err(|errno| refused(&name, errno))?;
    // An empty directory left behind does no harm.
    let _ = fs::remove_dir(&place);
    tree
}

/// overlayfs splits at `:` and `,`.
fn escaped(path: &Path) -> Vec<u8> {
    let mut text = Vec::new();
    for byte in path.as_os_str().as_bytes() {
        if b":,\\".contains(byte) {
            text.push(b'\\');
        }
        text.push(*byte);
    }
    text
}
