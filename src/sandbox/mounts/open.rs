//! What the parent opens of the host before the clone: bind mounts' sources, /dev/null and the root, each
//! as a detached copy that belongs to no mount namespace.
use super::id_maps::{IdMap, Mapping};
use super::{HostTree, Source, Symlink};
use crate::sandbox::namespaces::IdMaps;
use crate::sandbox::plan::Rootfs;
use crate::sandbox::spawn::{SpawnError, host_error, open_host};
use crate::sandbox::user_namespace;
use crate::sys::mount::{MountAttr, clone_tree, mount_setattr};
use rustix::fs::{CWD, FileType, Mode, OFlags, makedev};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, OpenTreeFlags};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// Opens every source that is the parent's to open; the child's slots stay empty.
pub(in crate::sandbox) fn open_sources(sources: &[Source]) -> Result<Vec<Option<OwnedFd>>, SpawnError> {
    let mut namespaces = UserNamespaces::default();
    let mut open = |source: &Source| {
        Ok(match source {
            Source::Host(tree) => {
                let fd = open_tree(tree)?;
                if let Some(id_map) = &tree.id_map {
                    namespaces.map_ids(fd.as_fd(), id_map, &tree.source)?;
                }
                Some(fd)
            }
            Source::Null => Some(open_null()?),
            Source::New => None,
        })
    };
    sources.iter().map(&mut open).collect()
}

/// The user namespaces of idmapped mounts; mounts with the same maps share one.
#[derive(Default)]
struct UserNamespaces(HashMap<IdMaps, OwnedFd>);

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
                Entry::Vacant(missing) => missing.insert(user_namespace::with_maps(maps)?),
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

fn open_tree(tree: &HostTree) -> Result<OwnedFd, SpawnError> {
    let error = host_error(&tree.at, &tree.source);
    let recursive = if tree.recursive { OpenTreeFlags::AT_RECURSIVE } else { OpenTreeFlags::empty() };
    let itself = match tree.symlink {
        Symlink::Followed => OpenTreeFlags::empty(),
        Symlink::Bound => OpenTreeFlags::AT_SYMLINK_NOFOLLOW,
        Symlink::Copied => {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fd = rustix::fs::open(&tree.source, flags, Mode::empty()).map_err(&error)?;
            let mode = rustix::fs::fstat(&fd).map_err(&error)?.st_mode;
            if FileType::from_raw_mode(mode) == FileType::Symlink {
                return Ok(fd);
            }
            OpenTreeFlags::AT_SYMLINK_NOFOLLOW
        }
    };
    let Changes { whole, top, later } = changes(tree);
    let source = CString::new(tree.source.as_os_str().as_bytes()).map_err(|_| error(Errno::INVAL))?;
    let fd = clone_tree(CWD, &source, recursive | itself, &whole).map_err(&error)?;
    if !top.is_empty() {
        mount_setattr(fd.as_fd(), c"", false, &top).map_err(&error)?;
    }
    for (propagation, recursive) in later {
        let attr = MountAttr { propagation: *propagation, ..MountAttr::default() };
        mount_setattr(fd.as_fd(), c"", *recursive, &attr).map_err(&error)?;
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
fn open_null() -> Result<OwnedFd, SpawnError> {
    let path = Path::new("/dev/null");
    let error = host_error("linux.maskedPaths", path);
    let attr = MountAttr { propagation: libc::MS_PRIVATE, ..MountAttr::default() };
    let fd = clone_tree(CWD, c"/dev/null", OpenTreeFlags::empty(), &attr).map_err(&error)?;
    let stat = rustix::fs::fstat(&fd).map_err(&error)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::CharacterDevice || stat.st_rdev != makedev(1, 3) {
        return Err(error(Errno::NODEV));
    }
    Ok(fd)
}

/// Opens the container's root.
pub(in crate::sandbox) fn open_root(rootfs: &Rootfs) -> Result<OwnedFd, SpawnError> {
    match rootfs {
        Rootfs::Tree(tree) => tree
            .try_clone()
            .map_err(|source| SpawnError::Step { step: "duplicate the rootfs".to_owned(), source }),
        Rootfs::Directory(path) => {
            let error = host_error("root.path", path);
            let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| error(Errno::INVAL))?;
            // Whatever linux.rootfsPropagation says, which comes last: pivot_root(2) takes no shared root.
            let attr = MountAttr { propagation: libc::MS_SLAVE, ..MountAttr::default() };
            clone_tree(CWD, &path, OpenTreeFlags::AT_RECURSIVE, &attr).map_err(&error)
        }
    }
}
