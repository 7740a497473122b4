//! The standard streams: they lead outside, so an image only remembers what they were, and a restored
//! process gets those of its restorer in their place.
use super::criu::{Criu, bundle_error};
use crate::container::Error;
use crate::sys::mountinfo;
use rustix::io::fcntl_dupfd_cloexec;
use rustix::io::{FdFlags, fcntl_setfd};
use std::collections::BTreeSet;
use std::fs;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// In the image directory: three strings, each in the form that criu(8) `--inherit-fd` wants, or empty for
/// what CRIU restores by itself.
const FILE: &str = "descriptors.json";

/// Remembers the streams, and tells CRIU which of them are files of the host.
pub(super) fn remember(criu: &mut Criu, pid: i32, image: &Path) -> Result<(), Error> {
    let own = mount_ids(pid)?;
    let mut resources = Vec::new();
    for number in 0..3 {
        let resource = resource(pid, number, &own)?;
        if resource.starts_with("file[") {
            criu.external(&resource);
        }
        resources.push(resource);
    }
    let path = image.join(FILE);
    let text = serde_json::to_vec(&resources).map_err(|error| bundle_error("write", &path)(error.into()))?;
    fs::write(&path, text).map_err(bundle_error("write", &path))
}

/// Has CRIU put the caller's own streams in the place of those that led outside.
pub(super) fn replace(criu: &mut Criu, image: &Path) -> Result<(), Error> {
    let path = image.join(FILE);
    let text = fs::read(&path).map_err(bundle_error("read", &path))?;
    let resources: Vec<String> =
        serde_json::from_slice(&text).map_err(|source| Error::Record { path: path.clone(), source })?;
    let own = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    let mut seen = BTreeSet::new();
    for (resource, stream) in resources.iter().zip(own) {
        let outside = ["pipe:[", "socket:[", "file["].iter().any(|kind| resource.starts_with(kind));
        if outside && seen.insert(resource) {
            let copy = inheritable(stream).map_err(|errno| bundle_error("read", &path)(errno.into()))?;
            // Files are named without the colon that /proc writes.
            criu.inherit(resource, copy);
        }
    }
    Ok(())
}

/// A copy beyond CRIU's own streams that stays open over its execve.
fn inheritable(stream: BorrowedFd<'_>) -> rustix::io::Result<OwnedFd> {
    let copy = fcntl_dupfd_cloexec(stream, 10)?;
    fcntl_setfd(&copy, FdFlags::empty())?;
    Ok(copy)
}

fn resource(pid: i32, number: u32, own_mounts: &BTreeSet<u64>) -> Result<String, Error> {
    let path = format!("/proc/{pid}/fd/{number}");
    let path = Path::new(&path);
    let Ok(target) = fs::read_link(path) else { return Ok(String::new()) };
    let target = target.to_string_lossy().into_owned();
    if !target.starts_with('/') {
        return Ok(target);
    }
    let info = format!("/proc/{pid}/fdinfo/{number}");
    let text = fs::read_to_string(&info).map_err(bundle_error("read", Path::new(&info)))?;
    let mount = text.lines().find_map(|line| line.strip_prefix("mnt_id:"));
    let mount: Option<u64> = mount.and_then(|id| id.trim().parse().ok());
    match mount.filter(|id| !own_mounts.contains(id)) {
        Some(id) => {
            let inode = fs::metadata(path).map_err(bundle_error("look at", path))?.ino();
            Ok(format!("file[{id:x}:{inode:x}]"))
        }
        None => Ok(String::new()),
    }
}

fn mount_ids(pid: i32) -> Result<BTreeSet<u64>, Error> {
    let path = format!("/proc/{pid}/mountinfo");
    let text = fs::read_to_string(&path).map_err(bundle_error("read", Path::new(&path)))?;
    Ok(mountinfo::parse(&text).map(|mount| mount.id).collect())
}
