//! `linux.namespaces`: which are made, which are joined, and the id maps of a new user namespace.
use super::plan::Error;
use crate::sys::network_ahead::NetworkAhead;
use oci_spec::runtime::{Linux, LinuxIdMapping, LinuxNamespaceType, Spec};
use std::path::PathBuf;

/// A namespace to join by path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Join {
    pub(super) kind: LinuxNamespaceType,
    pub(super) path: PathBuf,
    /// JSON path, for errors.
    pub(super) at: String,
}

/// Every namespace of the container.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Namespaces {
    /// `CLONE_NEW*` of the namespaces to make.
    pub(super) new: u64,
    /// The namespaces to join; the user namespace comes first, since it grants the right to join others.
    pub(super) joins: Vec<Join>,
}

/// `linux.timeOffsets` as lines for `/proc/self/timens_offsets`, see `time_namespaces(7)`.
pub(super) type TimeOffsets = String;

/// Text for `/proc/PID/uid_map` and `gid_map`, see `user_namespaces(7)`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct IdMaps {
    pub(super) uid: String,
    pub(super) gid: String,
}

impl Namespaces {
    pub(super) fn compile(linux: Option<&Linux>) -> Result<Self, Error> {
        let mut namespaces = Self::default();
        let listed = linux.and_then(|linux| linux.namespaces().as_deref()).unwrap_or_default();
        for (index, namespace) in listed.iter().enumerate() {
            let at = format!("linux.namespaces[{index}]");
            if let Some(first) = listed[..index].iter().position(|other| other.typ() == namespace.typ()) {
                let reason = format!("{} is listed in linux.namespaces[{first}] already", namespace.typ());
                return Err(Error::config(&at, reason));
            }
            match namespace.path() {
                None => namespaces.new |= flag(namespace.typ()),
                Some(path) if path.is_absolute() => namespaces.joins.push(Join {
                    kind: namespace.typ(),
                    path: path.clone(),
                    at: format!("{at}.path"),
                }),
                Some(path) => {
                    let reason = format!("{} is not an absolute path", path.display());
                    return Err(Error::config(&format!("{at}.path"), reason));
                }
            }
        }
        namespaces.joins.sort_by_key(|join| join.kind != LinuxNamespaceType::User);
        namespaces.check()?;
        Ok(namespaces)
    }

    fn check(&self) -> Result<(), Error> {
        if !self.isolates(LinuxNamespaceType::Mount) {
            let reason =
                "has no mount namespace; wharf never mounts in the host's own: add {\"type\": \"mount\"}";
            return Err(Error::config("linux.namespaces", reason));
        }
        if let Some(join) = self.place_of(LinuxNamespaceType::Mount)
            && self.makes(LinuxNamespaceType::User)
        {
            let reason = "a new user namespace has no right to mount in a mount namespace that is joined; \
                          leave out the path, or join the user namespace that it belongs to";
            return Err(Error::config(&self.joins[join].at, reason));
        }
        Ok(())
    }

    /// Whether this kind of namespace is a new one.
    pub(super) fn makes(&self, kind: LinuxNamespaceType) -> bool {
        self.new & flag(kind) != 0
    }

    /// Whether this kind of namespace is joined by path.
    pub(super) fn joins(&self, kind: LinuxNamespaceType) -> bool {
        self.place_of(kind).is_some()
    }

    /// Which of the joins is of this kind.
    pub(super) fn place_of(&self, kind: LinuxNamespaceType) -> Option<usize> {
        self.joins.iter().position(|join| join.kind == kind)
    }

    /// Whether this kind of namespace is another than the caller's.
    pub(super) fn isolates(&self, kind: LinuxNamespaceType) -> bool {
        self.makes(kind) || self.joins(kind)
    }

    /// `CLONE_NEW*` of everything that is not the host's, for joining a process that has them.
    pub(super) fn all_flags(&self) -> u64 {
        self.joins.iter().fold(self.new, |flags, join| flags | flag(join.kind))
    }
}

/// Has the new network namespace of a container made beside what comes before its clone, where that changes nothing: it
/// belongs to the user namespace it is made in, and no time namespace is entered by a process of several threads.
pub fn network_ahead(spec: &Spec) -> Option<NetworkAhead> {
    let listed = spec.linux().as_ref()?.namespaces().as_deref()?;
    let mut wanted = false;
    for namespace in listed {
        match namespace.typ() {
            LinuxNamespaceType::Network => wanted = namespace.path().is_none(),
            LinuxNamespaceType::User | LinuxNamespaceType::Time => return None,
            _ => {}
        }
    }
    wanted.then(NetworkAhead::begin).flatten()
}

/// `CLONE_NEW*` of a kind of namespace.
pub(super) fn flag(kind: LinuxNamespaceType) -> u64 {
    let flag = match kind {
        LinuxNamespaceType::Mount => libc::CLONE_NEWNS,
        LinuxNamespaceType::Cgroup => libc::CLONE_NEWCGROUP,
        LinuxNamespaceType::Uts => libc::CLONE_NEWUTS,
        LinuxNamespaceType::Ipc => libc::CLONE_NEWIPC,
        LinuxNamespaceType::User => libc::CLONE_NEWUSER,
        LinuxNamespaceType::Pid => libc::CLONE_NEWPID,
        LinuxNamespaceType::Network => libc::CLONE_NEWNET,
        LinuxNamespaceType::Time => libc::CLONE_NEWTIME,
    };
    flag as u64
}

impl IdMaps {
    /// The maps of a new user namespace, or those that a joined one is said to have, as CRI repeats them for
    /// every container of a pod; `None` when nothing is said.
    pub(super) fn compile(linux: Option<&Linux>, namespaces: &Namespaces) -> Result<Option<Self>, Error> {
        let uid = linux.and_then(|linux| linux.uid_mappings().as_deref()).unwrap_or_default();
        let gid = linux.and_then(|linux| linux.gid_mappings().as_deref()).unwrap_or_default();
        if namespaces.joins(LinuxNamespaceType::User) && uid.is_empty() && gid.is_empty() {
            return Ok(None);
        }
        if !namespaces.isolates(LinuxNamespaceType::User) {
            return match (uid, gid) {
                ([], []) => Ok(None),
                _ => Err(Error::config("linux.uidMappings", "needs a user namespace in linux.namespaces")),
            };
        }
        Ok(Some(Self { uid: id_map("linux.uidMappings", uid)?, gid: id_map("linux.gidMappings", gid)? }))
    }
}

/// The kernel takes at most 340 extents in one write, user_namespaces(7).
pub(super) fn id_map(path: &str, mappings: &[LinuxIdMapping]) -> Result<String, Error> {
    if mappings.is_empty() {
        return Err(Error::config(path, "is empty; uids and gids both need a map"));
    }
    if mappings.len() > 340 {
        let reason = format!("has {} extents; the kernel takes 340 at most", mappings.len());
        return Err(Error::config(path, reason));
    }
    let mut text = String::new();
    for (index, map) in mappings.iter().enumerate() {
        let overflows = |start: u32| start.checked_add(map.size()).is_none();
        if map.size() == 0 || overflows(map.host_id()) || overflows(map.container_id()) {
            let reason = format!("size {} is 0 or runs past the last id", map.size());
            return Err(Error::config(&format!("{path}[{index}]"), reason));
        }
        if let Some(other) = mappings[..index].iter().position(|other| overlap(map, other)) {
            let reason = format!("overlaps {path}[{other}]");
            return Err(Error::config(&format!("{path}[{index}]"), reason));
        }
        text.push_str(&format!("{} {} {}\n", map.container_id(), map.host_id(), map.size()));
    }
    // One write, smaller than a page: user_namespaces(7).
    if text.len() >= rustix::param::page_size() {
        let reason = format!("is {} bytes long for the kernel, which takes less than a page", text.len());
        return Err(Error::config(path, reason));
    }
    Ok(text)
}

fn overlap(one: &LinuxIdMapping, other: &LinuxIdMapping) -> bool {
    let meet = |start: fn(&LinuxIdMapping) -> u32| {
        let end = |map: &LinuxIdMapping| start(map).saturating_add(map.size());
        start(one) < end(other) && start(other) < end(one)
    };
    meet(LinuxIdMapping::container_id) || meet(LinuxIdMapping::host_id)
}

/// Lines for `/proc/self/timens_offsets`.
pub(super) fn time_offsets(
    linux: Option<&Linux>,
    namespaces: &Namespaces,
) -> Result<Option<TimeOffsets>, Error> {
    let Some(offsets) = linux.and_then(|linux| linux.time_offsets().as_ref()).filter(|map| !map.is_empty())
    else {
        return Ok(None);
    };
    if !namespaces.makes(LinuxNamespaceType::Time) {
        return Err(Error::config("linux.timeOffsets", "needs a new time namespace in linux.namespaces"));
    }
    let mut text = String::new();
    for (clock, offset) in offsets {
        if clock != "monotonic" && clock != "boottime" {
            let reason = "no such clock; the kernel has monotonic and boottime";
            return Err(Error::config(&format!("linux.timeOffsets.{clock}"), reason));
        }
        let (secs, nanosecs) = (offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0));
        text.push_str(&format!("{clock} {secs} {nanosecs}\n"));
    }
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::{LinuxIdMappingBuilder, LinuxNamespaceBuilder};

    fn compile(namespaces: &[(LinuxNamespaceType, Option<&str>)]) -> Result<Namespaces, Error> {
        let build = |(kind, path): &(LinuxNamespaceType, Option<&str>)| {
            let builder = LinuxNamespaceBuilder::default().typ(*kind);
            path.iter().fold(builder, LinuxNamespaceBuilder::path).build().unwrap()
        };
        let mut linux = Linux::default();
        linux.set_namespaces(Some(namespaces.iter().map(build).collect()));
        Namespaces::compile(Some(&linux))
    }

    #[test]
    fn a_namespace_listed_twice_is_refused_with_its_path() {
        use LinuxNamespaceType::{Mount, Pid};
        let error = compile(&[(Mount, None), (Pid, None), (Pid, None)]).unwrap_err();
        assert!(error.to_string().starts_with("linux.namespaces[2]: "), "{error}");
    }

    #[test]
    fn the_user_namespace_is_joined_first() {
        use LinuxNamespaceType::{Mount, Network, User};
        let joined = compile(&[(Network, Some("/n")), (Mount, None), (User, Some("/u"))]).unwrap();
        assert_eq!(joined.joins[0].kind, User);
    }

    #[test]
    fn a_map_past_the_last_id_is_refused() {
        let map = LinuxIdMappingBuilder::default().size(10u32).host_id(u32::MAX - 5).build().unwrap();
        assert!(id_map("linux.uidMappings", &[map]).is_err());
    }

    #[test]
    fn more_extents_than_the_kernel_takes_are_refused() {
        let map = LinuxIdMappingBuilder::default().size(1u32).build().unwrap();
        assert!(id_map("linux.uidMappings", &vec![map; 341]).unwrap_err().to_string().contains("340"));
    }
}
