//! A range of the host's ids that a user namespace shows as 0 and up.
use super::namespaces::IdMaps;
use super::spawn::SpawnError;
use super::user_namespace;
use oci_spec::runtime::{LinuxIdMapping, LinuxIdMappingBuilder};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::os::fd::OwnedFd;
use std::str::FromStr;

/// Ids `start..start + size` of the host, uids and gids alike, which are `0..size` inside. Never empty, never
/// with the host's root in it, and never past the last id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Extent", into = "Extent")]
pub struct IdRange {
    start: u32,
    size: u32,
}

/// As it is written to files.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Extent {
    start: u32,
    size: u32,
}

/// A text or pair of numbers that is no range.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} is no range of ids START:SIZE, such as 100000:65536, without the host's root and below 4294967295"
)]
pub struct InvalidRange(String);

impl IdRange {
    /// A range of `size` ids from `start` on.
    ///
    /// # Errors
    /// When it is empty, starts at 0 or runs past the last id, 4294967294.
    pub fn new(start: u32, size: u32) -> Result<Self, InvalidRange> {
        match start.checked_add(size) {
            Some(_) if start > 0 && size > 0 => Ok(Self { start, size }),
            _ => Err(InvalidRange(format!("{start}:{size}"))),
        }
    }

    /// The host's id of 0 inside.
    pub fn root(self) -> u32 {
        self.start
    }

    /// How many ids it has.
    pub fn size(self) -> u32 {
        self.size
    }

    /// The host's id of an id inside.
    pub fn to_host(self, inside: u32) -> Option<u32> {
        (inside < self.size).then(|| self.start + inside)
    }

    /// The id inside of an id of the host.
    pub fn to_inside(self, host: u32) -> Option<u32> {
        host.checked_sub(self.start).filter(|inside| *inside < self.size)
    }

    /// Whether the two have an id in common.
    pub fn overlaps(self, other: Self) -> bool {
        self.start < other.start + other.size && other.start < self.start + self.size
    }

    /// As `linux.uidMappings` of the runtime-spec.
    pub fn mappings(self) -> Vec<LinuxIdMapping> {
        let mapping = LinuxIdMappingBuilder::default().container_id(0u32).host_id(self.start).size(self.size);
        // Nothing is missing, so it is one.
        mapping.build().into_iter().collect()
    }

    /// A user namespace of this range, for idmapped mounts. No process is in it.
    ///
    /// # Errors
    /// Names what could not be done.
    pub fn user_namespace(self) -> Result<OwnedFd, SpawnError> {
        let map = format!("0 {} {}\n", self.start, self.size);
        user_namespace::with_maps(&IdMaps { uid: map.clone(), gid: map }, "for idmapped layers")
    }
}

impl fmt::Display for IdRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.start, self.size)
    }
}

impl FromStr for IdRange {
    type Err = InvalidRange;

    fn from_str(text: &str) -> Result<Self, InvalidRange> {
        let numbers =
            text.split_once(':').and_then(|(start, size)| Some((start.parse().ok()?, size.parse().ok()?)));
        numbers
            .and_then(|(start, size)| Self::new(start, size).ok())
            .ok_or_else(|| InvalidRange(text.to_owned()))
    }
}

impl TryFrom<Extent> for IdRange {
    type Error = InvalidRange;

    fn try_from(extent: Extent) -> Result<Self, InvalidRange> {
        Self::new(extent.start, extent.size)
    }
}

impl From<IdRange> for Extent {
    fn from(range: IdRange) -> Self {
        Self { start: range.start, size: range.size }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_mapped_both_ways_within_the_range_alone() {
        let range: IdRange = "100000:65536".parse().unwrap();
        assert_eq!(
            (range.to_host(0), range.to_host(65535), range.to_host(65536)),
            (Some(100_000), Some(165_535), None)
        );
        assert_eq!(
            (range.to_inside(100_000), range.to_inside(99_999), range.to_inside(165_536)),
            (Some(0), None, None)
        );
    }

    #[test]
    fn ranges_that_meet_are_told_from_neighbours() {
        let range = |text: &str| text.parse::<IdRange>().unwrap();
        assert!(range("10:10").overlaps(range("19:1")) && range("19:1").overlaps(range("10:10")));
        assert!(!range("10:10").overlaps(range("20:5")) && !range("20:5").overlaps(range("10:10")));
    }

    #[test]
    fn what_holds_the_hosts_root_or_runs_past_the_last_id_is_no_range() {
        for text in ["0:65536", "1:0", "4294967295:1", "4294967294:2", "1", "1:", "a:1", "1:1:1", "-1:5"] {
            assert!(text.parse::<IdRange>().is_err(), "{text}");
        }
        assert!("4294967294:1".parse::<IdRange>().is_ok());
    }
}
