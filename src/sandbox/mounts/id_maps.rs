//! Idmapped mounts: `mounts[].uidMappings`, `gidMappings` and the options `idmap` and `ridmap`;
//! runtime-spec config.md#posix-platform-mounts, mount_setattr(2) "ID-mapped mounts".
use super::options::IdMapWord;
use crate::sandbox::namespaces::{IdMaps, Namespaces, id_map};
use crate::sandbox::plan::Error;
use oci_spec::runtime::{Linux, LinuxIdMapping, LinuxIdMappingBuilder, LinuxNamespaceType, Mount};
use std::path::{Path, PathBuf};

/// How the ids of a bind mount's files are shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::sandbox) struct IdMap {
    pub(super) mapping: Mapping,
    /// Also of the mounts below.
    pub(super) recursive: bool,
    /// JSON path, for errors.
    pub(super) at: String,
}

impl IdMap {
    pub(super) fn path(&self) -> &str {
        &self.at
    }
}

/// A user namespace that says what an id on disk becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mapping {
    /// A namespace to be made with these maps.
    Maps(IdMaps),
    /// The namespace that the container joins.
    Namespace(PathBuf),
}

/// The container's own user namespace.
#[derive(Debug, Clone, Copy)]
pub(in crate::sandbox) enum OwnUserNamespace<'a> {
    Host,
    New { uid: &'a [LinuxIdMapping], gid: &'a [LinuxIdMapping] },
    Joined(&'a Path),
}

impl<'a> OwnUserNamespace<'a> {
    pub(in crate::sandbox) fn of(linux: Option<&'a Linux>, namespaces: &'a Namespaces) -> Self {
        if let Some(join) = namespaces.joins.iter().find(|join| join.kind == LinuxNamespaceType::User) {
            return Self::Joined(&join.path);
        }
        if !namespaces.makes(LinuxNamespaceType::User) {
            return Self::Host;
        }
        Self::New {
            uid: linux.and_then(|linux| linux.uid_mappings().as_deref()).unwrap_or_default(),
            gid: linux.and_then(|linux| linux.gid_mappings().as_deref()).unwrap_or_default(),
        }
    }
}

/// The id map of a mount, `None` when it has none.
pub(super) fn compile(
    mount: &Mount,
    word: Option<&IdMapWord>,
    own: OwnUserNamespace<'_>,
    at: &str,
) -> Result<Option<IdMap>, Error> {
    let listed = |list: &'_ Option<Vec<LinuxIdMapping>>| list.clone().unwrap_or_default();
    let (uid, gid) = (listed(mount.uid_mappings()), listed(mount.gid_mappings()));
    let options = format!("{at}.options");
    let mapping = match (word, uid.is_empty() && gid.is_empty()) {
        (None, true) => return Ok(None),
        (_, false) => Mapping::Maps(IdMaps {
            uid: id_map(&format!("{at}.uidMappings"), &uid)?,
            gid: id_map(&format!("{at}.gidMappings"), &gid)?,
        }),
        (Some(IdMapWord { custom: Some(custom), .. }), true) => Mapping::Maps(parse(custom, own, &options)?),
        (Some(_), true) => of_the_container(own, &options)?,
    };
    let recursive = word.is_some_and(|word| word.recursive);
    let at = if uid.is_empty() { options } else { format!("{at}.uidMappings") };
    Ok(Some(IdMap { mapping, recursive, at }))
}

fn of_the_container(own: OwnUserNamespace<'_>, at: &str) -> Result<Mapping, Error> {
    match own {
        OwnUserNamespace::Joined(path) => Ok(Mapping::Namespace(path.to_owned())),
        OwnUserNamespace::New { uid, gid } => Ok(Mapping::Maps(IdMaps {
            uid: id_map("linux.uidMappings", uid)?,
            gid: id_map("linux.gidMappings", gid)?,
        })),
        OwnUserNamespace::Host => Err(Error::config(
            at,
            "idmap needs uidMappings and gidMappings of the mount, or a user namespace in linux.namespaces",
        )),
    }
}

/// crun's form, which Podman sends: `uids=0-1-10#10-11-10;gids=0-100-10`. A leading `@` makes the second
/// number an id inside the container.
fn parse(custom: &str, own: OwnUserNamespace<'_>, at: &str) -> Result<IdMaps, Error> {
    let (mut uid, mut gid) = (Vec::new(), Vec::new());
    for part in custom.split(';') {
        let (list, ranges) = match part.split_once('=') {
            Some(("uids", ranges)) => (&mut uid, ranges),
            Some(("gids", ranges)) => (&mut gid, ranges),
            _ => return Err(Error::config(at, format!("{part:?} in idmap= is neither uids=… nor gids=…"))),
        };
        let inside = match (own, part.starts_with('u')) {
            (OwnUserNamespace::New { uid, .. }, true) => uid,
            (OwnUserNamespace::New { gid, .. }, false) => gid,
            _ => &[],
        };
        for range in ranges.split('#') {
            list.push(parse_range(range, inside).ok_or_else(|| {
                let reason = format!("{range:?} in idmap= is not a range START-HOST-LENGTH");
                Error::config(at, format!("{reason}, with @ in front one inside linux.uidMappings"))
            })?);
        }
    }
    Ok(IdMaps { uid: id_map(at, &uid)?, gid: id_map(at, &gid)? })
}

fn parse_range(range: &str, inside: &[LinuxIdMapping]) -> Option<LinuxIdMapping> {
    let relative = range.strip_prefix('@');
    let mut numbers = relative.unwrap_or(range).splitn(3, '-').map(str::parse);
    let mut next = || numbers.next()?.ok();
    let (start, mut host, size): (u32, u32, u32) = (next()?, next()?, next()?);
    if relative.is_some() {
        let holds = |map: &&LinuxIdMapping| {
            let offset = host.checked_sub(map.container_id());
            offset.and_then(|offset| offset.checked_add(size)).is_some_and(|end| end <= map.size())
        };
        let map = inside.iter().find(holds)?;
        host = map.host_id().checked_add(host - map.container_id())?;
    }
    LinuxIdMappingBuilder::default().container_id(start).host_id(host).size(size).build().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(container: u32, host: u32, size: u32) -> LinuxIdMapping {
        LinuxIdMappingBuilder::default().container_id(container).host_id(host).size(size).build().unwrap()
    }

    #[test]
    fn ranges_of_podman_are_read() {
        let maps = parse("uids=0-1-10#10-11-10;gids=0-100-10", OwnUserNamespace::Host, "x").unwrap();
        assert_eq!(maps, IdMaps { uid: "0 1 10\n10 11 10\n".into(), gid: "0 100 10\n".into() });
    }

    #[test]
    fn ranges_inside_the_container_become_ids_of_the_host() {
        let uid = [map(0, 0, 1), map(1, 2, 1000)];
        assert_eq!(parse_range("@1-3-10", &uid), Some(map(1, 4, 10)));
        assert_eq!(parse_range("@1-995-10", &uid), None, "runs past the container's ids");
    }

    #[test]
    fn what_is_no_range_is_refused_with_its_path() {
        for custom in ["", "uids", "uids=", "uids=1-2", "uids=a-b-c;gids=0-0-1", "uids=0-0-1", "users=0-0-1"]
        {
            let error = parse(custom, OwnUserNamespace::Host, "mounts[0].options").unwrap_err();
            assert!(error.to_string().starts_with("mounts[0].options: "), "{error}");
        }
    }
}
