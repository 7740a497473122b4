//! What a container has from the host and an image does not hold: mounts, and namespaces joined by path.
//!
//! CRIU calls these external. At dump each is named by a key, for a mount its place in the container; at
//! restore each key is given what stands for it now.
use super::criu::{Criu, bundle_error};
use crate::container::Error;
use crate::sys::mountinfo;
use oci_spec::runtime::{LinuxNamespaceType, Spec};
use rustix::fs::{Mode, OFlags, open};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// What masked files are covered with.
const NULL: &str = "/dev/null";

/// A mount that the config takes from the host.
#[derive(Debug, PartialEq, Eq)]
struct HostMount {
    /// In the container.
    place: PathBuf,
    /// On the host.
    source: PathBuf,
    /// Whether the host's mounts below the source are there as well.
    recursive: bool,
}

/// Names what the dumped process has from the host.
pub(super) fn name_for_dump(criu: &mut Criu, spec: &Spec, pid: i32) -> Result<(), Error> {
    let present = mount_points(&format!("/proc/{pid}/mountinfo"))?;
    let mut keys = BTreeSet::new();
    for mount in host_mounts(spec, Path::new("/")) {
        // A masked directory is covered by a file system of the container's own.
        let is_cover = mount.source == Path::new(NULL);
        if present.get(&mount.place).is_some_and(|root| !is_cover || root.ends_with("null")) {
            keys.insert(mount.place.clone());
        }
        if mount.recursive {
            keys.extend(present.keys().filter(|point| point.starts_with(&mount.place)).cloned());
        }
    }
    for place in keys {
        criu.external(&format!("mnt[{0}]:{0}", place.display()));
    }
    for (kind, path, at) in joined(spec)? {
        let number = fs::metadata(path).map_err(bundle_error("look at", path))?.ino();
        let (name, key) = kind_words(kind, &at)?;
        criu.external(&format!("{name}[{number}]:{key}"));
    }
    Ok(())
}

/// Says what stands for it now.
pub(super) fn give_for_restore(criu: &mut Criu, spec: &Spec, bundle: &Path) -> Result<(), Error> {
    let on_host = mount_points("/proc/self/mountinfo")?;
    for mount in host_mounts(spec, bundle) {
        let mut give = |place: &Path, source: &Path| {
            criu.external(&format!("mnt[{}]:{}", place.display(), source.display()));
        };
        give(&mount.place, &mount.source);
        let below = on_host.keys().filter(|_| mount.recursive);
        for point in below.filter_map(|point| point.strip_prefix(&mount.source).ok()) {
            if point != Path::new("") {
                give(&mount.place.join(point), &mount.source.join(point));
            }
        }
    }
    for (kind, path, at) in joined(spec)? {
        // Inherited by CRIU, which is told the number.
        let fd = open(path, OFlags::RDONLY, Mode::empty())
            .map_err(|errno| bundle_error("open", path)(errno.into()))?;
        let (_, key) = kind_words(kind, &at)?;
        criu.inherit(key, fd);
    }
    Ok(())
}

fn host_mounts(spec: &Spec, bundle: &Path) -> Vec<HostMount> {
    let mut found = Vec::new();
    for mount in spec.mounts().iter().flatten() {
        let has = |word: &str| mount.options().iter().flatten().any(|option| option == word);
        if let Some(source) = mount.source()
            && (has("bind") || has("rbind") || mount.typ().as_deref() == Some("bind"))
        {
            let place = Path::new("/").join(mount.destination());
            found.push(HostMount { place, source: bundle.join(source), recursive: has("rbind") });
        }
    }
    let linux = spec.linux().as_ref();
    let null = |path: &String| HostMount { place: path.into(), source: NULL.into(), recursive: false };
    found.extend(linux.and_then(|linux| linux.masked_paths().as_ref()).into_iter().flatten().map(null));
    // In a user namespace device nodes are bound, for none can be made there.
    let listed = linux.and_then(|linux| linux.devices().as_ref()).into_iter().flatten();
    let listed = listed.map(|device| device.path().clone());
    let standard = ["null", "zero", "full", "random", "urandom", "tty"];
    let standard = standard.iter().map(|name| Path::new("/dev").join(name));
    let node = |path: PathBuf| HostMount { place: path.clone(), source: path, recursive: false };
    found.extend(listed.chain(standard).map(node));
    found
}

/// Namespaces of the config that are joined by path, with the JSON path.
fn joined(spec: &Spec) -> Result<Vec<(LinuxNamespaceType, &PathBuf, String)>, Error> {
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    let listed = namespaces.into_iter().flatten().enumerate();
    let found = listed.filter_map(|(index, namespace)| {
        let path = namespace.path().as_ref()?;
        Some((namespace.typ(), path, format!("linux.namespaces[{index}].path")))
    });
    Ok(found.collect())
}

/// CRIU's word for the kind, and the key that it expects for the root task's own.
fn kind_words(kind: LinuxNamespaceType, at: &str) -> Result<(&'static str, &'static str), Error> {
    match kind {
        LinuxNamespaceType::Network => Ok(("net", "extRootNetNS")),
        LinuxNamespaceType::Pid => Ok(("pid", "extRootPidNS")),
        _ => Err(Error::config(at, "only network and pid namespaces may be joined by path to be restored")),
    }
}

/// Mount points of a `mountinfo` file, and what of its file system each shows; `proc_pid_mountinfo(5)`.
fn mount_points(file: &str) -> Result<BTreeMap<PathBuf, PathBuf>, Error> {
    let text = fs::read_to_string(file).map_err(bundle_error("read", Path::new(file)))?;
    Ok(mountinfo::parse(&text).map(|mount| (mount.point, mount.root)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_the_host_is_known_by_the_config() {
        let spec: Spec = serde_json::from_value(serde_json::json!({
            "ociVersion": "1.0.2",
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/data", "type": "bind", "source": "data", "options": ["rbind"]},
            ],
            "linux": {"maskedPaths": ["/proc/keys"]},
        }))
        .expect("spec");
        let found = host_mounts(&spec, Path::new("/bundle"));
        let data = HostMount { place: "/data".into(), source: "/bundle/data".into(), recursive: true };
        assert!(found.contains(&data), "{found:?}");
        assert!(found.iter().any(|mount| mount.place == Path::new("/proc/keys")), "{found:?}");
        assert!(!found.iter().any(|mount| mount.place == Path::new("/proc")), "{found:?}");
    }
}
