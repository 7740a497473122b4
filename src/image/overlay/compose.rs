//! The calls that put an overlay together.
use super::Error;
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, OpenTreeFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
};
use std::ffi::{CStr, CString};
use std::fs;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// fsconfig(2) takes strings of up to this length.
const STRING_LIMIT: usize = 255;

/// A renamed directory is copied and changed metadata takes the whole file along, so that an upper directory
/// says all there is to say about what it changes, whatever this kernel's defaults are.
const WHOLE: [(&CStr, &str); 2] = [(c"redirect_dir", "off"), (c"metacopy", "off")];

const VOLATILE: &CStr = c"volatile";

/// A path that the kernel refused, and its answer.
#[derive(Debug)]
pub(super) struct Refused {
    path: PathBuf,
    pub(super) errno: Errno,
}

impl Refused {
    fn of(path: &Path) -> impl Fn(Errno) -> Self + use<'_> {
        |errno| Self { path: path.to_owned(), errno }
    }

    pub(super) fn into_error(self) -> Error {
        let path = self.path.display().to_string();
        Error::File { action: "mount the overlay with", path, source: self.errno.into() }
    }
}

/// What is on top of the layers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Writable<'a> {
    pub(super) upper: &'a Path,
    pub(super) work: &'a Path,
    /// Never brought to the disk, overlayfs.rst "Volatile mount".
    pub(super) volatile: bool,
}

/// Layers, lowest first, below a directory and its work directory.
pub(super) fn compose(layers: &[PathBuf], upper: Option<Writable<'_>>) -> Result<OwnedFd, Refused> {
    match (detached(layers, upper), upper) {
        // Kernels before 6.5 do not know `lowerdir+`; some say so at once, others when all is put together.
        (Err(Refused { errno: Errno::INVAL, .. }), Some(Writable { work, .. })) => {
            mounted(layers, upper, &work.with_file_name("merged"))
        }
        (done, _) => done,
    }
}

/// Layers alone.
pub(super) fn read_only(layers: &[PathBuf], place: &Path) -> Result<OwnedFd, Refused> {
    match detached(layers, None) {
        Err(Refused { errno: Errno::INVAL, .. }) => mounted(layers, None, place),
        done => done,
    }
}

/// The mount is nowhere, and its layers need not be mounted anywhere.
pub(super) fn detached(layers: &[PathBuf], upper: Option<Writable<'_>>) -> Result<OwnedFd, Refused> {
    let top = upper
        .map_or_else(|| layers.last().map_or(Path::new("/"), PathBuf::as_path), |writable| writable.upper);
    let context = fsopen(c"overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(Refused::of(top))?;
    for layer in layers.iter().rev() {
        set_path(context.as_fd(), c"lowerdir+", layer).map_err(Refused::of(layer))?;
    }
    if let Some(Writable { upper, work, volatile }) = upper {
        for (key, path) in [(c"upperdir", upper), (c"workdir", work)] {
            set_path(context.as_fd(), key, path).map_err(Refused::of(path))?;
        }
        for (key, value) in WHOLE {
            fsconfig_set_string(context.as_fd(), key, value).map_err(Refused::of(top))?;
        }
        if volatile {
            forget_volatile(work);
            fsconfig_set_flag(context.as_fd(), VOLATILE).map_err(Refused::of(top))?;
        }
    }
    fsconfig_create(context.as_fd()).map_err(Refused::of(top))?;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).map_err(Refused::of(top))
}

/// The kernel refuses the work directory of an earlier volatile mount, for a power failure in between may have taken what
/// was written. What is mounted so does not outlive one: the earlier mount is of a start that was tried a moment ago.
fn forget_volatile(work: &Path) {
    // What cannot be removed, the kernel refuses by name.
    let _ = fs::remove_dir_all(work.join("work/incompat"));
}

/// A path too long for fsconfig(2) is opened and named by its descriptor.
fn set_path(context: BorrowedFd<'_>, key: &CStr, path: &Path) -> Result<(), Errno> {
    if path.as_os_str().len() <= STRING_LIMIT {
        return fsconfig_set_string(context, key, path);
    }
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    let fd = rustix::fs::open(path, flags, rustix::fs::Mode::empty())?;
    fsconfig_set_string(context, key, format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// The way of older kernels: mount at a place of our own, take the mount from there.
fn mounted(layers: &[PathBuf], upper: Option<Writable<'_>>, place: &Path) -> Result<OwnedFd, Refused> {
    let refused = || Refused::of(place);
    let made = fs::create_dir_all(place);
    made.map_err(|error| refused()(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
    let lower: Vec<Vec<u8>> = layers.iter().rev().map(|layer| escaped(layer)).collect();
    let mut data = b"lowerdir=".to_vec();
    data.extend(lower.join(&b':'));
    if let Some(Writable { upper, work, volatile }) = upper {
        for (key, path) in [(&b",upperdir="[..], upper), (b",workdir=", work)] {
            data.extend_from_slice(key);
            data.extend(escaped(path));
        }
        for (key, value) in WHOLE {
            data.extend([b",", key.to_bytes(), b"=", value.as_bytes()].concat());
        }
        if volatile {
            forget_volatile(work);
            data.extend([b",", VOLATILE.to_bytes()].concat());
        }
    }
    let data = CString::new(data).map_err(|_| refused()(Errno::INVAL))?;
    rustix::mount::mount(c"overlay", place, c"overlay", MountFlags::empty(), &*data).map_err(refused())?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = rustix::mount::open_tree(CWD, place, flags).map_err(refused());
    rustix::mount::unmount(place, UnmountFlags::DETACH).map_err(refused())?;
    // An empty directory left behind does no harm.
    let _ = fs::remove_dir(place);
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
