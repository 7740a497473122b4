//! `linux.netDevices`: network interfaces of the host that the container takes over, with their hardware
//! address, MTU and permanent global addresses (runtime-spec config-linux.md#network-devices).
//!
//! The parent moves them while the child waits. When the container's network namespace ends, the kernel
//! gives physical interfaces back to the host and removes virtual ones (network_namespaces(7)).
use super::namespaces::Namespaces;
use super::plan::Error;
use crate::sys::netlink::Netlink;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope,
};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use oci_spec::runtime::{Linux, LinuxNamespaceType};
use rustix::fs::{Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};

/// An interface, by its name on the host and in the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NetDevice {
    host: String,
    inside: String,
}

pub(super) fn compile(linux: Option<&Linux>, namespaces: &Namespaces) -> Result<Vec<NetDevice>, Error> {
    let listed = linux.and_then(|linux| linux.net_devices().as_ref()).into_iter().flatten();
    let mut devices: Vec<NetDevice> = listed
        .map(|(host, device)| {
            let inside = device.name().clone().filter(|name| !name.is_empty());
            NetDevice { host: host.clone(), inside: inside.unwrap_or_else(|| host.clone()) }
        })
        .collect();
    if devices.is_empty() {
        return Ok(devices);
    }
    if !namespaces.isolates(LinuxNamespaceType::Network) {
        let reason = "needs a network namespace of the container's own: add {\"type\": \"network\"}";
        return Err(Error::config("linux.netDevices", reason));
    }
    // The map has no order; errors and moves should.
    devices.sort_by(|a, b| a.host.cmp(&b.host));
    for (index, device) in devices.iter().enumerate() {
        let at = format!("linux.netDevices.{}", device.host);
        for (at, name) in [(at.clone(), &device.host), (format!("{at}.name"), &device.inside)] {
            if !is_name(name) {
                let reason =
                    format!("{name:?} is no interface name: 1 to 15 bytes without /, : and white space");
                return Err(Error::config(&at, reason));
            }
        }
        if let Some(other) = devices[..index].iter().find(|other| other.inside == device.inside) {
            let reason = format!("{} would be the name of {} too", device.inside, other.host);
            return Err(Error::config(&format!("{at}.name"), reason));
        }
    }
    Ok(devices)
}

/// `dev_valid_name` of net/core/dev.c.
fn is_name(name: &str) -> bool {
    (1..16).contains(&name.len())
        && !matches!(name, "." | "..")
        && !name.bytes().any(|byte| matches!(byte, 0 | b'/' | b':') || byte.is_ascii_whitespace())
}

/// Moves the devices from the caller's network namespace into `namespace`. After a failure all are back,
/// as they were.
///
/// # Errors
/// What was attempted, with the JSON path, and why it failed.
pub(super) fn move_into(devices: &[NetDevice], namespace: BorrowedFd<'_>) -> Result<(), (String, io::Error)> {
    let opened = |error| ("open the network namespace for linux.netDevices".to_owned(), error);
    let own = rustix::fs::open(c"/proc/thread-self/ns/net", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let own = own.map_err(|errno| opened(errno.into()))?;
    let mut outside = Links::open().map_err(opened)?;
    let mut inside = Links::open_in(namespace, own.as_fd()).map_err(opened)?;
    let mut moved = Vec::with_capacity(devices.len());
    for device in devices {
        let names = (device.host.as_str(), device.inside.as_str());
        match transfer(&mut outside, &mut inside, namespace, names) {
            Ok(()) => moved.push(device),
            Err(error) => {
                for device in moved.into_iter().rev() {
                    // The error that led here is the one to report.
                    let names = (device.inside.as_str(), device.host.as_str());
                    let _ = transfer(&mut inside, &mut outside, own.as_fd(), names);
                }
                return Err((
                    format!("move the network interface (linux.netDevices.{})", device.host),
                    error,
                ));
            }
        }
    }
    Ok(())
}

/// Moves one interface; when it cannot be put right in its new place it goes back.
fn transfer(
    from: &mut Links,
    to: &mut Links,
    namespace: BorrowedFd<'_>,
    (name, new_name): (&str, &str),
) -> io::Result<()> {
    let link = from.find(name)?;
    let addresses = from.addresses(link.header.index)?;
    from.send_away(&link, namespace, new_name)?;
    let arrived = to.find(new_name)?;
    for address in addresses {
        to.add_address(arrived.header.index, address)?;
    }
    to.set_up(&arrived)
}

/// rtnetlink(7) of one network namespace.
struct Links(Netlink<RouteNetlinkMessage>);

impl Links {
    fn open() -> io::Result<Self> {
        Netlink::open(NETLINK_ROUTE).map(Self)
    }

    /// A socket stays in the namespace it was opened in.
    fn open_in(namespace: BorrowedFd<'_>, own: BorrowedFd<'_>) -> io::Result<Self> {
        move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))?;
        let opened = Self::open();
        move_into_link_name_space(own, Some(LinkNameSpaceType::Network))?;
        opened
    }

    fn find(&mut self, name: &str) -> io::Result<LinkMessage> {
        let mut request = LinkMessage::default();
        request.attributes = vec![LinkAttribute::IfName(name.to_owned())];
        match self.0.get(RouteNetlinkMessage::GetLink(request))? {
            Some(RouteNetlinkMessage::NewLink(link)) => Ok(link),
            _ => Err(io::Error::from_raw_os_error(libc::ENODEV)),
        }
    }

    /// What the specification wants kept: addresses of global scope that somebody has set.
    fn addresses(&mut self, index: u32) -> io::Result<Vec<AddressMessage>> {
        let messages = self.0.dump(&RouteNetlinkMessage::GetAddress(AddressMessage::default()))?;
        let kept = |message: &AddressMessage| {
            message.header.index == index
                && message.header.scope == AddressScope::Universe
                && message.header.flags.contains(AddressHeaderFlags::Permanent)
        };
        Ok(messages
            .into_iter()
            .filter_map(|message| match message {
                RouteNetlinkMessage::NewAddress(address) if kept(&address) => Some(address),
                _ => None,
            })
            .collect())
    }

    fn send_away(&mut self, link: &LinkMessage, namespace: BorrowedFd<'_>, name: &str) -> io::Result<()> {
        let mut message = change_of(link);
        message.attributes =
            vec![LinkAttribute::NetNsFd(namespace.as_raw_fd()), LinkAttribute::IfName(name.to_owned())];
        self.0.change(RouteNetlinkMessage::SetLink(message), 0)
    }

    fn add_address(&mut self, index: u32, address: AddressMessage) -> io::Result<()> {
        let mut message = AddressMessage::default();
        message.header.family = address.header.family;
        message.header.prefix_len = address.header.prefix_len;
        message.header.index = index;
        message.attributes = address.attributes.into_iter().filter_map(kept_attribute).collect();
        self.0.change(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL)
    }

    fn set_up(&mut self, link: &LinkMessage) -> io::Result<()> {
        let mut message = change_of(link);
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        self.0.change(RouteNetlinkMessage::SetLink(message), 0)
    }
}

fn change_of(link: &LinkMessage) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = link.header.index;
    message
}

/// A label carries the interface's old name, and state such as "tentative" is the kernel's own.
fn kept_attribute(attribute: AddressAttribute) -> Option<AddressAttribute> {
    let settable = AddressFlags::Nodad
        | AddressFlags::Homeaddress
        | AddressFlags::Managetempaddr
        | AddressFlags::Noprefixroute
        | AddressFlags::Mcautojoin;
    match attribute {
        AddressAttribute::Flags(flags) => Some(AddressAttribute::Flags(flags & settable)),
        AddressAttribute::Address(_)
        | AddressAttribute::Local(_)
        | AddressAttribute::Broadcast(_)
        | AddressAttribute::RoutePriority(_) => Some(attribute),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn devices(devices: &Value, namespaces: &Value) -> Result<Vec<NetDevice>, String> {
        let linux = json!({"netDevices": devices, "namespaces": namespaces});
        let linux: Linux = serde_json::from_value(linux).unwrap();
        let namespaces = Namespaces::compile(Some(&linux)).unwrap();
        compile(Some(&linux), &namespaces).map_err(|error| error.to_string())
    }

    #[test]
    fn a_device_keeps_its_name_unless_given_another() {
        let own = json!([{"type": "mount"}, {"type": "network"}]);
        let found = devices(&json!({"b": {"name": "eth1"}, "a": {}}), &own).unwrap();
        let names: Vec<_> = found.iter().map(|d| (d.host.as_str(), d.inside.as_str())).collect();
        assert_eq!(names, [("a", "a"), ("b", "eth1")]);
    }

    #[test]
    fn impossible_names_and_the_hosts_network_are_refused_by_path() {
        let own = json!([{"type": "mount"}, {"type": "network"}]);
        for (value, namespaces, path) in [
            (json!({"a": {}}), json!([{"type": "mount"}]), "linux.netDevices"),
            (json!({"a": {"name": "b/c"}}), own.clone(), "linux.netDevices.a.name"),
            (json!({"a234567890123456": {}}), own.clone(), "linux.netDevices.a234567890123456"),
            (json!({"a": {"name": "x"}, "b": {"name": "x"}}), own, "linux.netDevices.b.name"),
        ] {
            let error = devices(&value, &namespaces).unwrap_err();
            assert!(error.starts_with(&format!("{path}: ")), "{error}");
        }
    }
}
