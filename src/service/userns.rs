//! `--userns`: which ids of the host an instance has for its own.
use super::{Error, Instance, Roots};
use crate::sandbox::IdRange;
use oci_spec::runtime::{Linux, LinuxNamespace, LinuxNamespaceType, Mount};
use rustix::fs::FlockOperation;
use std::fs::File;
use std::path::Path;
use std::str::FromStr;

/// Ids that systemd sets aside for containers, one range of 65536 after the other; systemd's
/// UIDS-GIDS.md, "Special Systemd UID Ranges".
const CONTAINER_IDS: std::ops::RangeInclusive<u32> = 524_288..=1_879_048_191;
const RANGE_SIZE: u32 = 65_536;

/// `--userns MODE`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum UserNamespace {
    /// The host's.
    #[default]
    Host,
    /// One of its own, with ids that nobody else has.
    Auto,
    /// One of its own, with these ids.
    Range(IdRange),
}

impl FromStr for UserNamespace {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "host" => Ok(Self::Host),
            "auto" => Ok(Self::Auto),
            range => match range.parse() {
                Ok(range) => Ok(Self::Range(range)),
                Err(error) => Err(Error::option("--userns", format!("{error}; or host, or auto"))),
            },
        }
    }
}

/// A range that no other creation takes while this lives; once the instance is there, its wish holds it.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) range: IdRange,
    _lock: File,
}

/// Finds the ids of a new instance; `None` when they are the host's.
pub(super) fn claim(roots: &Roots, wanted: UserNamespace) -> Result<Option<Claim>, Error> {
    if wanted == UserNamespace::Host {
        return Ok(None);
    }
    let path = roots.instances().join(".ids.lock");
    let lock = File::options().create(true).truncate(false).write(true).open(&path);
    let lock = lock.map_err(Error::file("open", &path))?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).map_err(Error::file("lock", &path))?;
    let range = match wanted {
        UserNamespace::Range(range) => range,
        _ => free_range(&taken(roots)?)?,
    };
    Ok(Some(Claim { range, _lock: lock }))
}

fn taken(roots: &Roots) -> Result<Vec<IdRange>, Error> {
    let mut taken: Vec<IdRange> =
        Instance::all(roots)?.iter().filter_map(|instance| instance.wish().userns).collect();
    for path in ["/etc/subuid", "/etc/subgid"].map(Path::new) {
        match std::fs::read_to_string(path) {
            Ok(text) => taken.extend(subordinate(&text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::file("read", path)(error)),
        }
    }
    Ok(taken)
}

/// Lines `NAME:START:SIZE` of subuid(5).
fn subordinate(text: &str) -> Vec<IdRange> {
    let range = |line: &str| line.trim().split_once(':').and_then(|(_, range)| range.parse().ok());
    text.lines().filter_map(range).collect()
}

/// Begins at a random place, so that instances below other roots hardly ever get the same one.
fn free_range(taken: &[IdRange]) -> Result<IdRange, Error> {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::system("get random bytes")(std::io::Error::other(error.to_string())))?;
    free_range_from(u32::from_le_bytes(bytes), taken).ok_or_else(|| {
        Error::option("--userns", "every range of the host's container ids is taken; give START:SIZE")
    })
}

fn free_range_from(place: u32, taken: &[IdRange]) -> Option<IdRange> {
    let count = (CONTAINER_IDS.end() - CONTAINER_IDS.start() + 1) / RANGE_SIZE;
    let at = |index: u32| IdRange::new(CONTAINER_IDS.start() + index * RANGE_SIZE, RANGE_SIZE).ok();
    let candidates = (0..count).filter_map(|step| at((place % count + step) % count));
    candidates.into_iter().find(|range| !taken.iter().any(|other| other.overlaps(*range)))
}

/// The host's /sys in place of a new one, which only the owner of a network namespace may mount; what is
/// mounted below it stays outside.
pub(super) fn share_sysfs(mounts: &mut [Mount]) {
    for mount in mounts.iter_mut().filter(|mount| mount.typ().as_deref() == Some("sysfs")) {
        let options = ["bind", "private", "nosuid", "noexec", "nodev", "ro"].map(str::to_owned);
        mount
            .set_typ(Some("bind".to_owned()))
            .set_source(Some("/sys".into()))
            .set_options(Some(options.into()));
    }
}

/// Writes a user namespace of its own into an instance's spec.
pub(super) fn set(linux: &mut Linux, range: IdRange) {
    let mut namespaces = linux.namespaces().clone().unwrap_or_default();
    let mut user = LinuxNamespace::default();
    user.set_typ(LinuxNamespaceType::User);
    namespaces.push(user);
    linux
        .set_namespaces(Some(namespaces))
        .set_uid_mappings(Some(range.mappings()))
        .set_gid_mappings(Some(range.mappings()));
    if let Some(groups) =
        linux.sysctl_mut().as_mut().and_then(|keys| keys.get_mut("net.ipv4.ping_group_range"))
    {
        // The kernel takes only groups that the namespace has.
        *groups = format!("0 {}", range.size() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_range_is_one_that_nobody_has() {
        let first = free_range_from(0, &[]).unwrap();
        assert_eq!(first.to_string(), "524288:65536");
        let taken = [first, "589824:1".parse().unwrap()];
        assert_eq!(free_range_from(0, &taken).unwrap().to_string(), "655360:65536");
        let last = free_range_from(u32::MAX / 2, &[]).unwrap();
        assert!(
            CONTAINER_IDS.contains(&last.root()) && CONTAINER_IDS.contains(&last.to_host(65_535).unwrap())
        );
        assert_eq!(free_range_from(7, &["1:4294967294".parse().unwrap()]), None);
    }

    #[test]
    fn lines_of_subuid_are_ranges_and_others_are_left_out() {
        let ranges = subordinate("me:100000:65536\n# a comment\nyou:1:x\n1000:200000:10\n");
        let texts: Vec<_> = ranges.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["100000:65536", "200000:10"]);
    }

    #[test]
    fn a_mode_is_a_word_or_a_range() {
        assert_eq!("host".parse::<UserNamespace>().unwrap(), UserNamespace::Host);
        assert_eq!("auto".parse::<UserNamespace>().unwrap(), UserNamespace::Auto);
        assert!(matches!("100000:65536".parse().unwrap(), UserNamespace::Range(_)));
        for text in ["", "private", "0:65536", "100000"] {
            let error = text.parse::<UserNamespace>().unwrap_err().to_string();
            assert!(error.starts_with("--userns: ") && error.contains("auto"), "{error}");
        }
    }
}
