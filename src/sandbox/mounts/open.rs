//! What is opened of the host before the clone, by the parent or its deputy: bind mounts' sources, /dev/null
//! and the root, each as a detached copy that belongs to no mount namespace.
use super::id_maps::{IdMap, Mapping};
use super::{HostTree, Source, Symlink};
use crate::sandbox::inputs::Rootfs;
use crate::sandbox::namespaces::IdMaps;
use crate::sandbox::spawn::{SpawnError, host_error, open_host, step};
use crate::sandbox::user_namespace;
use crate::sys::mount::{MountAttr, clone_tree, mount_setattr};
use rustix::fs::{CWD, FileType, Mode, OFlags, makedev};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, OpenTreeFlags};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

/// Opens every source that is the parent's to open; the child's slots stay empty.
pub(in crate::sandbox) fn open_sources(sources: &[Source]) -> Result<Vec<Option<OwnedFd>>, SpawnError> {
    let mut namespaces = UserNamespaces::default();
    let mut open = |source: &Source| {
        Ok(match source {
            Source::Host(tree) => {
                let fd = open_tree(tree).map_err(|errno| source_error(source, errno))?;
                if let Some(id_map) = &tree.id_map {
                    namespaces.map_ids(fd.as_fd(), id_map, &tree.source)?;
                }
                Some(fd)
            }
            source => open_source(source).map_err(|errno| source_error(source, errno))?,
        })
    };
    sources.iter().map(&mut open).collect()
}

/// Opens one source, whose ids are as they are on the host; `None` when it is the child's to make.
pub(in crate::sandbox) fn open_source(source: &Source) -> Result<Option<OwnedFd>, Errno> {
    match source {
        Source::Host(tree) => open_tree(tree).map(Some),
        Source::Null => open_null().map(Some),
        Source::Late(_) | Source::New => Ok(None),
    }
}

/// What stands in the way of opening a source.
pub(in crate::sandbox) fn source_error(source: &Source, errno: Errno) -> SpawnError {
    match source {
        Source::Host(tree) => host_error(&tree.at, &tree.source)(errno),
        _ => host_error("linux.maskedPaths", Path::new(DEV_NULL))(errno),
    }
}

const DEV_NULL: &str = "/dev/null";

/// The user namespaces of idmapped mounts; mounts with the same maps share one.
#[derive(Default)]
struct UserNamespaces(BTreeMap<IdMaps, OwnedFd>);

impl UserNamespaces {
    fn map_ids(&mut self, mount: BorrowedFd<'_>, id_map: &IdMap, source: &Path) -> Result<(), SpawnError> {
        let joined;
        let namespace = match &id_map.mapping {
            Mapping::Namespace(path) => {
                joined = open_host(path, "linux.namespaces")?;
                &joined
            }
            Mapping::Maps(maps) => match self.0.entry(maps.clone()) {
                Entry::Occupied(made) => made.into_mut(),
                Entry::Vacant(missing) => {
                    let made = user_namespace::with_maps(maps, "for an idmapped mount");
                    missing.insert(made.map_err(|error| error.at(&id_map.at))?)
                }
            },
        };
        let attr = MountAttr {
            set: MountAttrFlags::MOUNT_ATTR_IDMAP.bits().into(),
            userns_fd: namespace.as_raw_fd() as u64,
            ..MountAttr::default()
        };
        mount_setattr(mount, c"", id_map.recursive, &attr).map_err(|errno| SpawnError::IdMap {
            at: id_map.at.clone(),
            path: source.display().to_string(),
            reason: match errno {
                Errno::INVAL if id_map.recursive => {
                    "a file system there cannot be idmapped on this kernel".to_owned()
                }
                Errno::INVAL => "its file system cannot be idmapped on this kernel".to_owned(),
                Errno::PERM => "it is idmapped already, or wharf-oci is not root of the host".to_owned(),
                errno => std::io::Error::from(errno).to_string(),
            },
        })
    }
}

/// A detached copy of a tree, as it is to be mounted but for its ids.
pub(in crate::sandbox) fn open_tree(tree: &HostTree) -> Result<OwnedFd, Errno> {
    let recursive = if tree.recursive { OpenTreeFlags::AT_RECURSIVE } else { OpenTreeFlags::empty() };
    let itself = match tree.symlink {
        Symlink::Followed => OpenTreeFlags::empty(),
        Symlink::Bound => OpenTreeFlags::AT_SYMLINK_NOFOLLOW,
        Symlink::Copied => {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fd = rustix::fs::open(&tree.source, flags, Mode::empty())?;
            let mode = rustix::fs::fstat(&fd)?.st_mode;
            if FileType::from_raw_mode(mode) == FileType::Symlink {
                return Ok(fd);
            }
            OpenTreeFlags::AT_SYMLINK_NOFOLLOW
        }
    };
    let Changes { whole, top, later } = changes(tree);
    let fd = clone_tree(CWD, &tree.source, recursive | itself, &whole)?;
    if !top.is_empty() {
        mount_setattr(fd.as_fd(), c"", false, &top)?;
    }
    for (propagation, recursive) in later {
        let attr = MountAttr { propagation: *propagation, ..MountAttr::default() };
        mount_setattr(fd.as_fd(), c"", *recursive, &attr)?;
    }
    Ok(fd)
}

/// What is changed on all mounts of a copy, on its topmost one alone, and one after the other after that.
struct Changes<'a> {
    whole: MountAttr,
    top: MountAttr,
    later: &'a [(u64, bool)],
}

fn changes(tree: &HostTree) -> Changes<'_> {
    // What a recursive word decides, no other one does.
    let decided = tree.recursive_attr.set | tree.recursive_attr.clear;
    let (set, clear) = (tree.attr.set & !decided, tree.attr.clear & !decided);
    let top = MountAttr { set, clear, ..tree.attr };
    let mut changes = Changes { whole: tree.recursive_attr, top, later: &tree.propagation };
    if !tree.recursive {
        // There is one mount only.
        changes.whole.set |= set;
        changes.whole.clear |= clear;
        changes.top = MountAttr::default();
    }
    if let [(propagation, recursive), later @ ..] = changes.later
        && (*recursive || !tree.recursive)
    {
        changes.whole.propagation = *propagation;
        changes.later = later;
    }
    changes
}

/// The host's /dev/null, and nothing else that stands at its place.
fn open_null() -> Result<OwnedFd, Errno> {
    let attr = MountAttr { propagation: libc::MS_PRIVATE, ..MountAttr::default() };
    let fd = clone_tree(CWD, DEV_NULL, OpenTreeFlags::empty(), &attr)?;
    let stat = rustix::fs::fstat(&fd)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::CharacterDevice || stat.st_rdev != makedev(1, 3) {
        return Err(Errno::NODEV);
    }
    Ok(fd)
}

/// Opens the container's root.
pub(in crate::sandbox) fn open_root(rootfs: &Rootfs) -> Result<OwnedFd, Errno> {
    match rootfs {
        Rootfs::Tree(tree) => rustix::io::fcntl_dupfd_cloexec(tree, 3),
        Rootfs::Directory(path) => {
            // Whatever linux.rootfsPropagation says, which comes last: pivot_root(2) takes no shared root.
            let attr = MountAttr { propagation: libc::MS_SLAVE, ..MountAttr::default() };
            clone_tree(CWD, path, OpenTreeFlags::AT_RECURSIVE, &attr)
        }
    }
}

/// What stands in the way of opening the root.
pub(in crate::sandbox) fn root_error(rootfs: &Rootfs, errno: Errno) -> SpawnError {
    match rootfs {
        Rootfs::Tree(_) => step("duplicate the rootfs", errno),
        Rootfs::Directory(path) => host_error("root.path", path)(errno),
    }
}
