//! Extended attributes of what an instance has written, as a layer has them: ids in them are those inside.
use super::super::layer::is_kept;
use super::super::xattr;
use super::{Entry, Error, display, failed};
use crate::sandbox::IdRange;
use rustix::io::Errno;
use std::os::fd::BorrowedFd;

const CAPABILITY: &str = "security.capability";
const ACLS: [&str; 2] = ["system.posix_acl_access", "system.posix_acl_default"];

/// Names and values of an entry's attributes, by name, without those that belong to overlayfs or to a policy of
/// this host.
pub(in crate::image) fn attributes(
    entry: &Entry,
    ids: Option<IdRange>,
) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let mut attributes = Vec::new();
    for name in entry.attribute_names.iter().filter(|name| is_kept(name)) {
        let value = match xattr::value(&entry.fd, name.as_bytes()) {
            Err(Errno::NODATA) => continue,
            value => value.map_err(|errno| failed(&entry.path, "read attributes of", errno))?,
        };
        let value = match ids {
            Some(ids) => seen_inside(name, value, ids).ok_or_else(|| {
                Error::invalid(
                    display(&entry.path),
                    format!("has {name} with ids that are not the instance's"),
                )
            })?,
            None => value,
        };
        attributes.push((name.clone(), value));
    }
    Ok(attributes)
}

/// Sorted. A name that is not UTF-8 is none that any program of Linux gives.
pub(super) fn names(fd: BorrowedFd<'_>) -> Result<Vec<String>, Errno> {
    let names = xattr::names(fd)?;
    let mut names: Vec<String> =
        names.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    names.sort();
    Ok(names)
}

/// The value as a process of the instance sees it; `None` when it holds an id of somebody else.
fn seen_inside(name: &str, value: Vec<u8>, ids: IdRange) -> Option<Vec<u8>> {
    if name == CAPABILITY {
        return capability_inside(value, ids);
    }
    if ACLS.contains(&name) { acl_inside(value, ids) } else { Some(value) }
}

/// `struct vfs_ns_cap_data` of linux/capability.h: version 3 is version 2 and the id of the namespace's root.
fn capability_inside(value: Vec<u8>, ids: IdRange) -> Option<Vec<u8>> {
    const VERSION_2: u8 = 2;
    const VERSION_3: u8 = 3;
    let (Some(&VERSION_3), Some((rest, root))) = (value.get(3), value.split_last_chunk::<4>()) else {
        return Some(value);
    };
    let root = ids.to_inside(u32::from_le_bytes(*root))?;
    let mut inside = rest.to_vec();
    match root {
        0 => inside[3] = VERSION_2,
        other => inside.extend(other.to_le_bytes()),
    }
    Some(inside)
}

/// `struct posix_acl_xattr_header` and entries of linux/posix_acl_xattr.h.
fn acl_inside(mut value: Vec<u8>, ids: IdRange) -> Option<Vec<u8>> {
    const USER: u16 = 2;
    const GROUP: u16 = 8;
    for entry in value.get_mut(4..)?.chunks_exact_mut(8) {
        let tag = u16::from_le_bytes([entry[0], entry[1]]);
        if tag == USER || tag == GROUP {
            let host = u32::from_le_bytes(entry[4..].try_into().ok()?);
            entry[4..].copy_from_slice(&ids.to_inside(host)?.to_le_bytes());
        }
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids() -> IdRange {
        "100000:65536".parse().unwrap()
    }

    #[test]
    fn capabilities_of_a_namespaces_root_are_plain_ones_inside() {
        let data = [1, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let version = |version: u8| [&[1, 0, 0, version][..], &data].concat();
        let with_root = |root: u32| [version(3), root.to_le_bytes().to_vec()].concat();
        assert_eq!(capability_inside(with_root(100_000), ids()).unwrap(), version(2));
        assert_eq!(capability_inside(with_root(100_007), ids()).unwrap(), with_root(7));
        assert_eq!(capability_inside(with_root(5), ids()), None);
        assert_eq!(capability_inside(version(2), ids()).unwrap(), version(2));
        assert_eq!(capability_inside(Vec::new(), ids()).unwrap(), b"");
    }

    #[test]
    fn ids_of_access_lists_are_those_inside() {
        let acl = |id: u32| {
            let undefined = u32::MAX.to_le_bytes();
            let owner = [&1u16.to_le_bytes()[..], &6u16.to_le_bytes(), &undefined].concat();
            let user = [&2u16.to_le_bytes()[..], &6u16.to_le_bytes(), &id.to_le_bytes()].concat();
            [2u32.to_le_bytes().to_vec(), owner, user].concat()
        };
        assert_eq!(acl_inside(acl(101_000), ids()).unwrap(), acl(1000));
        assert_eq!(acl_inside(acl(1000), ids()), None);
    }
}
