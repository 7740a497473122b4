//! IPv4 subnets, and which of them a bridge gets.
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::Ipv4Addr;

/// An IPv4 network. Host bits are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Subnet {
    network: Ipv4Addr,
    prefix: u8,
}

/// 4093 instances. A Linux bridge has at most 1024 ports (`BR_MAX_PORTS`), so that this is enough to
/// leave an address that was given back alone for a while.
const PREFIX: u8 = 20;

/// Private ranges (RFC 1918) that subnets are cut from, best first. The second half of 10.208.0.0/12
/// and its like see less use than 10.0, 172.17 (Docker), 10.88 (Podman) or 192.168.0 and .1 (homes).
const RANGES: [Subnet; 3] = [
    Subnet { network: Ipv4Addr::new(10, 208, 0, 0), prefix: 12 },
    Subnet { network: Ipv4Addr::new(172, 16, 0, 0), prefix: 12 },
    Subnet { network: Ipv4Addr::new(192, 168, 0, 0), prefix: 16 },
];

impl Subnet {
    /// The network of `prefix` bits that `address` is in. More than 32 bits are taken as 32.
    pub(super) fn new(address: Ipv4Addr, prefix: u8) -> Self {
        let prefix = prefix.min(32);
        let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
        Self { network: Ipv4Addr::from_bits(address.to_bits() & mask), prefix }
    }

    pub(super) fn prefix(self) -> u8 {
        self.prefix
    }

    /// The bridge's own address: the first one.
    pub(super) fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.network.to_bits().saturating_add(1))
    }

    pub(super) fn contains(self, address: Ipv4Addr) -> bool {
        Self::new(address, self.prefix) == self
    }

    pub(super) fn overlaps(self, other: Self) -> bool {
        let shorter = self.prefix.min(other.prefix);
        Self::new(self.network, shorter) == Self::new(other.network, shorter)
    }

    /// Addresses for instances, from the one after `last` round to it: an address that was given back
    /// is used again as late as possible.
    pub(super) fn instances_after(self, last: Option<Ipv4Addr>) -> impl Iterator<Item = Ipv4Addr> {
        let network = self.network.to_bits();
        let size = 1u32.checked_shl(32 - u32::from(self.prefix)).unwrap_or(u32::MAX);
        // Neither the network's address, nor the gateway's, nor the broadcast address.
        let usable = size.saturating_sub(3);
        let start = match last {
            Some(last) if self.contains(last) => (last.to_bits() - network).saturating_sub(1),
            _ => 0,
        };
        (0..usable).map(move |step| Ipv4Addr::from_bits(network + 2 + (start + step) % usable))
    }

    /// The `index`th part of `prefix` bits.
    fn part(self, prefix: u8, index: u32) -> Self {
        Self::new(Ipv4Addr::from_bits(self.network.to_bits() + (index << (32 - u32::from(prefix)))), prefix)
    }

    fn parts(self, prefix: u8) -> u32 {
        1 << (prefix - self.prefix)
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

/// The first subnet that overlaps none of `taken`. `start` turns the order within each range, so that
/// stores on one host prefer different subnets.
pub(super) fn choose(taken: &[Subnet], start: u32) -> Option<Subnet> {
    RANGES.iter().find_map(|range| {
        let parts = range.parts(PREFIX);
        (0..parts)
            .map(|step| range.part(PREFIX, (start % parts + step) % parts))
            .find(|candidate| !taken.iter().any(|other| other.overlaps(*candidate)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        let (network, prefix) = text.split_once('/').expect("slash");
        Subnet::new(network.parse().expect("address"), prefix.parse().expect("prefix"))
    }

    #[test]
    fn host_bits_are_cleared() {
        assert_eq!(subnet("10.1.2.3/8").to_string(), "10.0.0.0/8");
        assert_eq!(subnet("10.1.2.3/32").to_string(), "10.1.2.3/32");
        assert_eq!(subnet("10.1.2.3/0").to_string(), "0.0.0.0/0");
        assert_eq!(subnet("10.1.2.3/99").to_string(), "10.1.2.3/32");
    }

    #[test]
    fn overlap_is_containment_either_way() {
        assert!(subnet("10.0.0.0/8").overlaps(subnet("10.208.16.0/20")));
        assert!(subnet("10.208.16.0/20").overlaps(subnet("10.0.0.0/8")));
        assert!(!subnet("10.208.0.0/20").overlaps(subnet("10.208.16.0/20")));
    }

    #[test]
    fn the_choice_avoids_what_is_taken() {
        let table: [(&[&str], u32, Option<&str>); 6] = [
            (&[], 0, Some("10.208.0.0/20")),
            (&[], 255, Some("10.223.240.0/20")),
            (&["10.208.0.7/32"], 0, Some("10.208.16.0/20")),
            (&["10.208.240.0/20", "10.223.240.0/24"], 255, Some("10.208.0.0/20")),
            (&["10.0.0.0/8", "172.17.0.0/16"], 16, Some("172.18.0.0/20")),
            (&["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"], 0, None),
        ];
        for (taken, start, expected) in table {
            let taken: Vec<_> = taken.iter().map(|text| subnet(text)).collect();
            assert_eq!(
                choose(&taken, start).map(|found| found.to_string()).as_deref(),
                expected,
                "{taken:?}"
            );
        }
    }

    #[test]
    fn instances_get_every_address_but_three() {
        let small = subnet("10.9.0.0/29");
        let all: Vec<_> = small.instances_after(None).map(|address| address.octets()[3]).collect();
        assert_eq!(all, [2, 3, 4, 5, 6]);
        assert_eq!(small.gateway(), Ipv4Addr::new(10, 9, 0, 1));
    }

    #[test]
    fn the_next_address_is_the_one_after_the_last_given() {
        let small = subnet("10.9.0.0/29");
        let after = |last: u8| -> Vec<u8> {
            small
                .instances_after(Some(Ipv4Addr::new(10, 9, 0, last)))
                .map(|address| address.octets()[3])
                .collect()
        };
        assert_eq!(after(3), [4, 5, 6, 2, 3]);
        assert_eq!(after(6), [2, 3, 4, 5, 6]);
        let foreign = small.instances_after(Some(Ipv4Addr::new(172, 16, 0, 9))).next();
        assert_eq!(foreign, Some(Ipv4Addr::new(10, 9, 0, 2)));
    }
}
