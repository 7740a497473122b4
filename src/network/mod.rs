//! How an instance is reached: bridge, veth pair, address, published ports and name files.
//!
//! A bridged instance is started in this order: [`lease`] an address (its [`hosts_file`] needs it),
//! [`hold_ports`] on the host, [`attach`] it, [join](Attachment::join) its network namespace. Stopping it is [`detach`];
//! removing it is [`release`]. Each of them may be repeated, and the next one puts right what a kill
//! left of an earlier one.
//!
//! ```text
//! host   eth0 ── routing, nftables table (masquerade, published ports) ── bridge, first address
//!                                                                         │       │
//!                                                                        veth    veth
//! ────────────────────────────────────────────────────────────────────────┼───────┼────
//! instances                                                              eth0    eth0
//! ```
//!
//! Every store (`--root`) has a bridge, a subnet and a table of its own, named after its path.
//! IPv4 only: an instance has a link-local IPv6 address and accepts no router's advertisements.

mod bridge;
mod conntrack;
mod extra_host;
mod firewall;
mod held_ports;
mod lease;
mod link;
mod names;
mod namespace;
mod naming;
mod netfilter;
mod published_port;
mod record;
mod subnet;

pub use bridge::{Attachment, attach, detach};
pub use extra_host::{ExtraHost, InvalidExtraHost};
pub use held_ports::{HeldPorts, hold_ports};
pub use lease::{Lease, lease, release};
pub use names::{hosts_file, resolv_conf};
pub use published_port::{InvalidPublishedPort, Protocol, PublishedPort, PublishedPortFault};

use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::ExitStatus;
use std::str::FromStr;

/// `--network`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// A new network namespace with loopback only.
    None,
    /// The host's network namespace.
    Host,
    /// A new network namespace joined to the bridge.
    #[default]
    Bridge,
}

/// A `--network` that is none of the known ones.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown network {0:?}; use bridge, host or none")]
pub struct UnknownMode(String);

impl FromStr for Mode {
    type Err = UnknownMode;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "none" => Ok(Self::None),
            "host" => Ok(Self::Host),
            "bridge" => Ok(Self::Bridge),
            other => Err(UnknownMode(other.to_owned())),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Host => "host",
            Self::Bridge => "bridge",
        })
    }
}

/// What went wrong with the network of an instance.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No more addresses in the bridge's subnet.
    #[error("no free address in {0}; remove instances that are no longer needed")]
    SubnetFull(String),
    /// Every private subnet overlaps a route of the host.
    #[error(
        "no private subnet for the bridge: the host's routes cover 10.208.0.0/12, 172.16.0.0/12 and 192.168.0.0/16; free a /20 of them"
    )]
    NoSubnet,
    /// Another network came up between the lease and the attach.
    #[error(
        "subnet {subnet} was free and is now routed elsewhere (see ip route); start the instance again to get another"
    )]
    SubnetTaken {
        /// The bridge's subnet.
        subnet: String,
    },
    /// The lease was released, or the store chose another subnet.
    #[error("address {address} is no longer leased to {instance}; start the instance again")]
    LeaseGone {
        /// Name of the instance.
        instance: String,
        /// The address it had.
        address: Ipv4Addr,
    },
    /// A value that did not come from text, with an IPv6 address.
    #[error(transparent)]
    PublishedPort(#[from] InvalidPublishedPort),
    /// Two of the ports of one instance are the same port of the host.
    #[error("{first} and {second} publish the same port of the host; remove one")]
    PortTwice {
        /// The earlier one.
        first: PublishedPort,
        /// The later one.
        second: PublishedPort,
    },
    /// Another instance or program has the port.
    #[error(
        "cannot publish {port}: address already in use: {}; choose another port or stop what uses it",
        address_of(port)
    )]
    PortInUse {
        /// The port.
        port: PublishedPort,
    },
    /// The address to publish on is not the host's.
    #[error("cannot publish {port}: {} is not an address of this host; see ip address", ip_of(port))]
    NotOurAddress {
        /// The port.
        port: PublishedPort,
    },
    /// The port cannot be bound for another reason.
    #[error("cannot publish {port}: bind {}: {source}", address_of(port))]
    HoldPort {
        /// The port.
        port: PublishedPort,
        /// The reason.
        source: io::Error,
    },
    /// A file cannot be read.
    #[error("read {path}: {source}")]
    ReadFile {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A file of the store cannot be written.
    #[error("write {path}: {source}")]
    WriteFile {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The store's record of its network is no such record.
    #[error(
        "network record {path} cannot be used: {source}; stop the instances of this root and remove the file"
    )]
    Record {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: serde_json::Error,
    },
    /// The lock cannot be had.
    #[error("lock {path}: {source}")]
    Lock {
        /// The lock's file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The kernel refused a change to links, addresses or routes.
    #[error("{action}: {source}")]
    Link {
        /// What was to be done, and with what.
        action: String,
        /// The kernel's error.
        source: io::Error,
    },
    /// A link that was there is there no longer.
    #[error("link {name} is gone; something else removes links of wharf")]
    LinkGone {
        /// Name of the link.
        name: String,
    },
    /// The instance's network namespace cannot be entered.
    #[error("enter the network namespace of the instance: {source}")]
    EnterNamespace {
        /// The reason.
        source: io::Error,
    },
    /// A network setting of the kernel cannot be written.
    #[error("write {value} to {path}: {source}")]
    Setting {
        /// The setting's file.
        path: PathBuf,
        /// The value.
        value: String,
        /// The reason.
        source: io::Error,
    },
    /// There is no `nft`.
    #[error("program nft is not installed; install the package nftables, or use --network host or none")]
    NftMissing,
    /// `nft` cannot be run.
    #[error("run nft: {source}")]
    RunNft {
        /// The reason.
        source: io::Error,
    },
    /// The kernel refused to tell of a table or to remove it.
    #[error("{action} the nftables table ip {table}: {source}")]
    Table {
        /// What was to be done.
        action: &'static str,
        /// Name of the table.
        table: String,
        /// The kernel's error.
        source: io::Error,
    },
    /// `nft` refused the rules.
    #[error("set the nftables table ip {table}: nft ended with {status}: {message}")]
    Rules {
        /// Name of the table.
        table: String,
        /// How nft ended.
        status: ExitStatus,
        /// The first line nft printed.
        message: String,
    },
}

fn ip_of(port: &PublishedPort) -> IpAddr {
    port.host_ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
}

fn address_of(port: &PublishedPort) -> String {
    format!("{}:{}", ip_of(port), port.host_port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_printed_as_they_are_typed() {
        for text in ["none", "host", "bridge"] {
            assert_eq!(text.parse::<Mode>().expect(text).to_string(), text);
        }
        let error = "vlan".parse::<Mode>().expect_err("unknown").to_string();
        assert_eq!(error, "unknown network \"vlan\"; use bridge, host or none");
    }
}
