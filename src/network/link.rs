//! Links, addresses and routes of one network namespace.
use super::Error;
use super::subnet::Subnet;
use crate::sys::netlink::Netlink;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind, InfoVeth, LinkAttribute, LinkFlags,
    LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

/// An Ethernet address.
pub(super) type HardwareAddress = [u8; 6];

/// What is asked about a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    /// Free text that stays with the link as long as it lives (`ip link show`).
    pub(super) alias: String,
    pub(super) hardware_address: Vec<u8>,
    /// Index of the bridge it is a port of.
    pub(super) controller: Option<u32>,
    /// Index of the other end of a veth pair, in the other end's namespace.
    pub(super) peer: Option<u32>,
}

/// An IPv4 route's destination and the link it leaves by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) destination: Subnet,
    pub(super) link: Option<u32>,
}

/// The hardware address that belongs to an IPv4 address. With it, an instance that comes back with its
/// address is found at once: neighbours need not forget an older one first.
pub(super) fn hardware_address(address: Ipv4Addr) -> HardwareAddress {
    let [a, b, c, d] = address.octets();
    // Locally administered, unicast.
    [0x0a, 0x57, a, b, c, d]
}

/// The operations; each names itself in its error.
#[derive(Debug)]
pub(super) struct Links(Netlink<RouteNetlinkMessage>);

impl Links {
    /// Of the calling thread's network namespace.
    pub(super) fn open() -> Result<Self, Error> {
        Netlink::open(NETLINK_ROUTE).map(Self).map_err(step("open an rtnetlink socket"))
    }

    pub(super) fn all(&mut self) -> Result<Vec<Link>, Error> {
        let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let messages = self.0.dump(&request).map_err(step("list the links"))?;
        Ok(messages.into_iter().filter_map(read_link).collect())
    }

    /// The ports of a bridge.
    pub(super) fn ports(&mut self, bridge: &Link) -> Result<Vec<Link>, Error> {
        let mut request = LinkMessage::default();
        // The kernel leaves out what has another controller (rtnl_dump_ifinfo in rtnetlink.c).
        request.attributes = vec![LinkAttribute::Controller(bridge.index)];
        let messages = self.0.dump(&RouteNetlinkMessage::GetLink(request));
        let messages = messages.map_err(step(format!("list the ports of the bridge {}", bridge.name)))?;
        let links = messages.into_iter().filter_map(read_link);
        Ok(links.filter(|link| link.controller == Some(bridge.index)).collect())
    }

    pub(super) fn find(&mut self, name: &str) -> Result<Option<Link>, Error> {
        let mut request = LinkMessage::default();
        request.attributes = vec![LinkAttribute::IfName(name.to_owned())];
        match self.0.get(RouteNetlinkMessage::GetLink(request)) {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            found => Ok(found.map_err(step(format!("look for the link {name}")))?.and_then(read_link)),
        }
    }

    /// IPv4 routes of all tables, default routes left out.
    pub(super) fn routes(&mut self) -> Result<Vec<Route>, Error> {
        let mut request = RouteMessage::default();
        request.header.address_family = AddressFamily::Inet;
        let messages =
            self.0.dump(&RouteNetlinkMessage::GetRoute(request)).map_err(step("list the routes"))?;
        Ok(messages.into_iter().filter_map(read_route).collect())
    }

    /// Makes a bridge, down, without an address.
    pub(super) fn add_bridge(&mut self, name: &str, address: HardwareAddress) -> Result<(), Error> {
        let mut message = LinkMessage::default();
        message.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            // Without one of its own a bridge takes over a port's, and changes it as ports come and go.
            LinkAttribute::Address(address.to_vec()),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]),
        ];
        let message = RouteNetlinkMessage::NewLink(message);
        self.0.change(message, NLM_F_CREATE | NLM_F_EXCL).map_err(step(format!("make the bridge {name}")))
    }

    /// Makes a veth pair, both ends down: one here, one as `peer` in `namespace`. One message, so that
    /// the pair never exists half moved.
    pub(super) fn add_veth(
        &mut self,
        name: &str,
        namespace: BorrowedFd<'_>,
        peer: &str,
        peer_address: HardwareAddress,
    ) -> Result<(), Error> {
        let mut other_end = LinkMessage::default();
        other_end.attributes = vec![
            LinkAttribute::IfName(peer.to_owned()),
            LinkAttribute::Address(peer_address.to_vec()),
            LinkAttribute::NetNsFd(namespace.as_raw_fd()),
        ];
        let mut message = LinkMessage::default();
        message.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Veth),
                LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(other_end))),
            ]),
        ];
        let message = RouteNetlinkMessage::NewLink(message);
        let action = format!("make the veth pair {name} with {peer} in the instance");
        self.0.change(message, NLM_F_CREATE | NLM_F_EXCL).map_err(step(action))
    }

    /// Makes `port` a port of `bridge`.
    pub(super) fn join_bridge(&mut self, port: &Link, bridge: &Link) -> Result<(), Error> {
        let mut message = change_of(port);
        message.attributes = vec![LinkAttribute::Controller(bridge.index)];
        let action = format!("join {} to the bridge {}", port.name, bridge.name);
        self.0.change(RouteNetlinkMessage::SetLink(message), 0).map_err(step(action))
    }

    /// Lets the bridge send a frame back by the port it came from. Where br_netfilter is loaded, an
    /// instance that calls its own published port is answered on this way and on no other.
    pub(super) fn set_hairpin(&mut self, port: &Link) -> Result<(), Error> {
        let mut message = change_of(port);
        message.attributes = vec![LinkAttribute::LinkInfo(vec![
            LinkInfo::PortKind(InfoPortKind::Bridge),
            LinkInfo::PortData(InfoPortData::BridgePort(vec![InfoBridgePort::HairpinMode(true)])),
        ])];
        let action = format!("set hairpin mode of the bridge port {}", port.name);
        self.0.change(RouteNetlinkMessage::NewLink(message), 0).map_err(step(action))
    }

    pub(super) fn set_up(&mut self, link: &Link) -> Result<(), Error> {
        let mut message = change_of(link);
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        let action = format!("set {} up", link.name);
        self.0.change(RouteNetlinkMessage::SetLink(message), 0).map_err(step(action))
    }

    pub(super) fn set_alias(&mut self, link: &Link, alias: &str) -> Result<(), Error> {
        let mut message = change_of(link);
        message.attributes = vec![LinkAttribute::IfAlias(alias.to_owned())];
        let action = format!("set the alias of {}", link.name);
        self.0.change(RouteNetlinkMessage::SetLink(message), 0).map_err(step(action))
    }

    /// Removes a link. One that is gone is no error.
    pub(super) fn delete(&mut self, link: &Link) -> Result<(), Error> {
        let message = RouteNetlinkMessage::DelLink(change_of(link));
        let done = unless(libc::ENODEV, self.0.change(message, 0));
        done.map_err(step(format!("remove the link {}", link.name)))
    }

    /// Adds an address. One that is there is no error.
    pub(super) fn add_address(&mut self, link: &Link, address: Ipv4Addr, prefix: u8) -> Result<(), Error> {
        let broadcast = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0) | address.to_bits();
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.prefix_len = prefix;
        message.header.index = link.index;
        message.attributes = vec![
            AddressAttribute::Local(IpAddr::V4(address)),
            AddressAttribute::Address(IpAddr::V4(address)),
            AddressAttribute::Broadcast(Ipv4Addr::from_bits(broadcast)),
        ];
        let message = RouteNetlinkMessage::NewAddress(message);
        let done = unless(libc::EEXIST, self.0.change(message, NLM_F_CREATE | NLM_F_EXCL));
        done.map_err(step(format!("give {} the address {address}/{prefix}", link.name)))
    }

    /// Sets the default route.
    pub(super) fn set_default_route(&mut self, link: &Link, gateway: Ipv4Addr) -> Result<(), Error> {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = RouteProtocol::Static;
        message.header.scope = RouteScope::Universe;
        message.header.kind = RouteType::Unicast;
        message.attributes =
            vec![RouteAttribute::Gateway(RouteAddress::Inet(gateway)), RouteAttribute::Oif(link.index)];
        let message = RouteNetlinkMessage::NewRoute(message);
        let action = format!("set the default route by {gateway}");
        self.0.change(message, NLM_F_CREATE | NLM_F_REPLACE).map_err(step(action))
    }
}

/// A message that changes `link`, by index.
fn change_of(link: &Link) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = link.index;
    message
}

fn step(action: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
    |source| Error::Link { action: action.into(), source }
}

/// Takes the error number that says that the work was done before as done.
fn unless(errno: i32, done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.raw_os_error() == Some(errno) => Ok(()),
        done => done,
    }
}

fn read_link(message: RouteNetlinkMessage) -> Option<Link> {
    let RouteNetlinkMessage::NewLink(message) = message else { return None };
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        alias: String::new(),
        hardware_address: Vec::new(),
        controller: None,
        peer: None,
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::IfAlias(alias) => link.alias = alias,
            LinkAttribute::Address(address) => link.hardware_address = address,
            LinkAttribute::Controller(index) => link.controller = Some(index),
            LinkAttribute::Link(index) => link.peer = Some(index),
            _ => {}
        }
    }
    Some(link)
}

fn read_route(message: RouteNetlinkMessage) -> Option<Route> {
    let RouteNetlinkMessage::NewRoute(message) = message else { return None };
    let mut destination = None;
    let mut link = None;
    for attribute in message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => destination = Some(address),
            RouteAttribute::Oif(index) => link = Some(index),
            _ => {}
        }
    }
    let prefix = message.header.destination_prefix_length;
    // A default route covers all and reserves nothing.
    (prefix > 0).then_some(Route { destination: Subnet::new(destination?, prefix), link })
}
