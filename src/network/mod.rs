//! How an instance is reached: bridge, veth pair, address, published ports and name files.
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::BorrowedFd;
use std::path::Path;

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

/// `-p [HOST_IP:]HOST_PORT:CONTAINER_PORT[/tcp|udp]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedPort {
    /// Address of the host to publish on; `None` is every address.
    pub host_ip: Option<IpAddr>,
    /// Port of the host.
    pub host_port: u16,
    /// Port of the instance.
    pub container_port: u16,
    /// Transport protocol.
    pub protocol: Protocol,
}

/// Transport protocol of a published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// What went wrong with the network of an instance.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No more addresses in the bridge's subnet.
    #[error("no free address in {0}; remove instances or choose a larger subnet")]
    SubnetFull(String),
}

/// An address taken for an instance, before its network namespace exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The instance's address.
    pub address: Ipv4Addr,
    /// Prefix length of the subnet.
    pub prefix: u8,
    /// The bridge's address, the instance's default route.
    pub gateway: Ipv4Addr,
    /// Name of the bridge.
    pub bridge: String,
    /// Name of the host's end of the veth pair.
    pub veth: String,
}

/// Takes a free address for `instance` and records it below `state` (ROOT/network), under a lock.
/// The same instance gets its own address again.
///
/// # Errors
/// When the subnet is full or the record cannot be written.
pub fn lease(_state: &Path, _instance: &str) -> Result<Lease, Error> {
    Err(Error::SubnetFull(String::new()))
}

/// Gives the address back. A missing lease is no error.
///
/// # Errors
/// When the record cannot be written.
pub fn release(_state: &Path, _instance: &str) -> Result<(), Error> {
    Ok(())
}

/// Host ports held by bound sockets for as long as this value lives, so that a second instance, or any
/// other program, is told `address already in use` instead of losing its traffic.
#[derive(Debug)]
pub struct HeldPorts(());

/// Binds every published port.
///
/// # Errors
/// Names the port that is in use.
pub fn hold_ports(_ports: &[PublishedPort]) -> Result<HeldPorts, Error> {
    Ok(HeldPorts(()))
}

/// Makes the bridge when it is missing, joins the network namespace to it and publishes the ports.
/// Undoes itself when it fails; calling it again for the same lease is harmless.
///
/// # Errors
/// Names the step.
pub fn attach(_lease: &Lease, _namespace: BorrowedFd<'_>, _ports: &[PublishedPort]) -> Result<(), Error> {
    Ok(())
}

/// Removes the veth pair and the instance's rules; removes the bridge and the table with the last one.
/// Goes on after a failure and returns the first. What is gone already is no error.
///
/// # Errors
/// Names the step.
pub fn detach(_lease: &Lease) -> Result<(), Error> {
    Ok(())
}

/// Text of `/etc/hosts` for an instance.
pub fn hosts_file(_hostname: &str, _address: Option<Ipv4Addr>, _extra: &[(String, IpAddr)]) -> String {
    String::new()
}

/// Text of `/etc/resolv.conf` for an instance, from the host's; a loopback resolver is of no use in
/// another network namespace and is left out.
///
/// # Errors
/// When the host's file cannot be read for another reason than being missing.
pub fn resolv_conf(_mode: Mode) -> Result<String, Error> {
    Ok(String::new())
}
