//! Joining an instance's network namespace to the store's bridge, and taking it off again.
//!
//! The kernel's objects are the state: the bridge exists while it has ports, a port of it is a running
//! instance, and the table follows from both. Every step is made only when it is missing, so that
//! attach and detach may be repeated, and cut short by a kill at any step.
use super::firewall::{self, Change, Firewall, Published};
use super::link::{Link, Links, hardware_address};
use super::namespace::{Setting, inside};
use super::record::{Lock, Record, Store, lock_host};
use super::{Error, Lease, Protocol, PublishedPort, conntrack, naming};
use std::collections::HashSet;
use std::os::fd::BorrowedFd;
use std::path::Path;

/// Name of the instance's own interface.
const INTERFACE: &str = "eth0";

/// Alias of a bridge of any store, for people and for [`give_back_forwarding`].
const ALIAS: &str = "wharf bridge";
/// Alias of the bridge that owes the host `net.ipv4.ip_forward=0`.
const ALIAS_FORWARDING_WAS_OFF: &str = "wharf bridge, ip_forward was 0";

/// An instance on its way to the bridge: its rules are being made.
///
/// Others wait for it to be dropped. It may be [joined](Attachment::join) by another thread.
#[derive(Debug)]
#[must_use = "what has begun is finished, or detached"]
pub struct Attachment {
    // Dropped before the locks.
    rules: Change,
    links: Links,
    lease: Lease,
    /// Whether other instances are on the bridge.
    has_bridge: bool,
    host: Lock,
    store: Store,
}

/// Begins to join an instance to the bridge and to publish its ports. Undoes itself when it fails; calling it again for
/// the same lease is harmless. [`detach`] undoes what it has begun.
///
/// A bridged instance needs `net.ipv4.ip_forward=1` on the host: it is set when it is off, and set
/// back when the last bridge of any store goes. A host firewall that drops forwarded packets by policy
/// is left as it is and must let the bridge's subnet pass. From other machines and other bridges only
/// published ports can be reached.
///
/// Hold the ports ([`super::hold_ports`]) before: a port that another lease still lists is taken from it.
///
/// # Errors
/// Names the step.
pub fn attach(lease: &Lease, ports: &[PublishedPort]) -> Result<Attachment, Error> {
    for port in ports {
        port.host_ipv4()?;
    }
    let mut store = Store::open(&lease.state)?;
    record_ports(&mut store, lease, ports)?;
    let host = lock_host()?;
    let mut links = Links::open()?;
    let begun = standing_ports(&mut links, lease).and_then(|ports| {
        let published = published(&ports, &lease.state, &store.record, Some(&lease.instance));
        let subnet = lease.subnet();
        let firewall = Firewall { table: &lease.table, bridge: &lease.bridge, subnet, published };
        Ok((firewall.begin(&host)?, !ports.is_empty()))
    });
    match begun {
        Ok((rules, has_bridge)) => {
            Ok(Attachment { rules, links, lease: lease.clone(), has_bridge, host, store })
        }
        Err(error) => {
            // The first error says what went wrong; what cannot be undone now, detach or the next attach undoes.
            let _ = leave(&mut links, &host, Some(&store.record), lease);
            Err(error)
        }
    }
}

impl Attachment {
    /// Makes the bridge when it is missing, and joins the network namespace to it. Undoes all of the attachment when it fails.
    ///
    /// # Errors
    /// Names the step.
    pub fn join(self, namespace: BorrowedFd<'_>) -> Result<(), Error> {
        let Self { rules, mut links, lease, has_bridge, host, store } = self;
        let joined = join(&mut links, &lease, has_bridge, rules, namespace)
            .and_then(|()| forget_flows(&store.record, &lease));
        if joined.is_err() {
            // As above.
            let _ = leave(&mut links, &host, Some(&store.record), &lease);
        }
        joined
    }
}

/// Removes the veth pair and the instance's rules; removes the bridge and the table with the last one.
/// Goes on after a failure and returns the first. What is gone already is no error.
///
/// # Errors
/// Names the step.
pub fn detach(lease: &Lease) -> Result<(), Error> {
    let store = Store::open_existing(&lease.state);
    let host = lock_host()?;
    let mut links = Links::open()?;
    let gone = Record::default();
    let record = store.as_ref().ok().map(|store| store.as_ref().map_or(&gone, |store| &store.record));
    let left = leave(&mut links, &host, record, lease);
    store.map(drop).and(left)
}

/// Writes down which ports are asked for, before anything exists that would have to be found again.
fn record_ports(store: &mut Store, lease: &Lease, ports: &[PublishedPort]) -> Result<(), Error> {
    let before = store.record.clone();
    for (instance, leased) in &mut store.record.leases {
        if *instance != lease.instance {
            leased.ports.retain(|port| !ports.iter().any(|wanted| wanted.overlaps(port)));
        }
    }
    match store.record.leases.get_mut(&lease.instance) {
        Some(leased) if leased.address == lease.address => leased.ports = ports.to_vec(),
        _ => return Err(Error::LeaseGone { instance: lease.instance.clone(), address: lease.address }),
    }
    if store.record != before {
        store.save()?;
    }
    Ok(())
}

fn join(
    links: &mut Links,
    lease: &Lease,
    has_bridge: bool,
    rules: Change,
    namespace: BorrowedFd<'_>,
) -> Result<(), Error> {
    if !has_bridge {
        make_bridge(links, lease)?;
    }
    let bridge = ready_bridge(links, lease)?;
    let port = ready_pair(links, lease, &bridge, namespace)?;
    Setting::of_interface("ipv6", &lease.veth, "disable_ipv6").write_if_present("1")?;
    links.join_bridge(&port, &bridge)?;
    links.set_hairpin(&port)?;
    inside(namespace, || configure_instance(lease))?;
    // The rules before the link: no frame of the instance's passes without them.
    rules.wait()?;
    links.set_up(&port)
}

/// UDP flows that were sent elsewhere before.
fn forget_flows(record: &Record, lease: &Lease) -> Result<(), Error> {
    let ports = record.leases.get(&lease.instance).into_iter().flat_map(|leased| &leased.ports);
    let udp: Vec<_> =
        ports.filter(|port| port.protocol == Protocol::Udp).map(|port| port.host_port).collect();
    if udp.is_empty() { Ok(()) } else { conntrack::forget_udp(&udp) }
}

/// The ports of the bridge. One without is taken down: a crash has left it, perhaps half made and perhaps for another
/// subnet.
fn standing_ports(links: &mut Links, lease: &Lease) -> Result<Vec<Link>, Error> {
    let Some(bridge) = links.find(&lease.bridge)? else { return Ok(Vec::new()) };
    let ports = links.ports(&bridge)?;
    if ports.is_empty() {
        take_down(links, &bridge, &lease.table)?;
    }
    Ok(ports)
}

/// The bridge, up and with its address.
fn ready_bridge(links: &mut Links, lease: &Lease) -> Result<Link, Error> {
    let bridge = require(links, &lease.bridge)?;
    allow_forwarding(links, &bridge)?;
    // No IPv6 of the host's on the bridge: an instance must not advertise routers to it (CVE-2020-13401).
    Setting::of_interface("ipv6", &lease.bridge, "accept_ra").write_if_present("0")?;
    Setting::of_interface("ipv6", &lease.bridge, "disable_ipv6").write_if_present("1")?;
    // Lets the host reach what it published on 127.0.0.1; the table keeps instances off its loopback.
    Setting::of_interface("ipv4", &lease.bridge, "route_localnet").write("1")?;
    links.add_address(&bridge, lease.gateway, lease.prefix)?;
    links.set_up(&bridge)?;
    Ok(bridge)
}

fn make_bridge(links: &mut Links, lease: &Lease) -> Result<(), Error> {
    let subnet = lease.subnet();
    if links.routes()?.iter().any(|route| route.destination.overlaps(subnet)) {
        return Err(Error::SubnetTaken { subnet: subnet.to_string() });
    }
    links.add_bridge(&lease.bridge, hardware_address(lease.gateway))
}

/// The host's end of the veth pair whose other end is in `namespace`.
fn ready_pair(
    links: &mut Links,
    lease: &Lease,
    bridge: &Link,
    namespace: BorrowedFd<'_>,
) -> Result<Link, Error> {
    if let Some(port) = links.find(&lease.veth)? {
        let other_end = inside(namespace, || Links::open()?.find(INTERFACE))?;
        let ours = other_end.is_some_and(|other_end| {
            other_end.peer == Some(port.index)
                && other_end.hardware_address == hardware_address(lease.address)
        });
        if ours && port.controller.is_none_or(|controller| controller == bridge.index) {
            return Ok(port);
        }
        // Of an earlier run of this instance, whose namespace has not gone yet.
        links.delete(&port)?;
    }
    links.add_veth(&lease.veth, namespace, INTERFACE, hardware_address(lease.address))?;
    require(links, &lease.veth)
}

/// Runs in the instance's network namespace.
fn configure_instance(lease: &Lease) -> Result<(), Error> {
    let mut links = Links::open()?;
    // A neighbour on the bridge must not become the instance's IPv6 router (CVE-2020-13401).
    for interface in ["all", "default", INTERFACE] {
        Setting::of_interface("ipv6", interface, "accept_ra").write_if_present("0")?;
    }
    let (loopback, interface) = (require(&mut links, "lo")?, require(&mut links, INTERFACE)?);
    links.set_up(&loopback)?;
    links.add_address(&interface, lease.address, lease.prefix)?;
    links.set_up(&interface)?;
    links.set_default_route(&interface, lease.gateway)
}

fn require(links: &mut Links, name: &str) -> Result<Link, Error> {
    links.find(name)?.ok_or_else(|| Error::LinkGone { name: name.to_owned() })
}

/// Undoes an attachment. Without a record the other instances' rules stay as they are.
fn leave(links: &mut Links, host: &Lock, record: Option<&Record>, lease: &Lease) -> Result<(), Error> {
    let removed = match links.find(&lease.veth) {
        Ok(Some(port)) => links.delete(&port),
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    let settled = record.map_or(Ok(()), |record| settle(links, host, &lease.state, record));
    removed.and(settled)
}

/// Makes the table and the bridge of a store what the remaining ports of the bridge need.
pub(super) fn settle(links: &mut Links, host: &Lock, state: &Path, record: &Record) -> Result<(), Error> {
    let (bridge, table) = (naming::bridge(state), naming::table(state));
    let own = links.find(&bridge)?;
    let ports = own.as_ref().map_or(Ok(Vec::new()), |own| links.ports(own))?;
    match own {
        None => firewall::remove(&table),
        Some(own) if ports.is_empty() => take_down(links, &own, &table),
        Some(_) => {
            let Some(subnet) = record.subnet else { return Ok(()) };
            let published = published(&ports, state, record, None);
            Firewall { table: &table, bridge: &bridge, subnet, published }.begin(host)?.wait()
        }
    }
}

/// What the instances publish that are on the bridge right now, by its ports, and one that is about to be.
fn published<'a>(
    ports: &[Link],
    state: &Path,
    record: &'a Record,
    coming: Option<&str>,
) -> Vec<Published<'a>> {
    let on_bridge: HashSet<&str> = ports.iter().map(|link| link.name.as_str()).collect();
    let leases = record.leases.iter();
    leases
        .filter(|(instance, leased)| {
            let is_coming = Some(instance.as_str()) == coming;
            !leased.ports.is_empty()
                && (is_coming || on_bridge.contains(naming::veth(state, instance).as_str()))
        })
        .flat_map(|(_, leased)| leased.ports.iter().map(|port| Published { port, instance: leased.address }))
        .collect()
}

/// Removes what the last instance leaves. The bridge goes last: as long as it is there, the next
/// attach, detach or release finds that something is left to do.
fn take_down(links: &mut Links, bridge: &Link, table: &str) -> Result<(), Error> {
    let forwarding = give_back_forwarding(links, bridge);
    let rules = firewall::remove(table);
    links.delete(bridge).and(forwarding).and(rules)
}

/// Sets `net.ipv4.ip_forward`, and notes on the bridge when it was off. The note is on the kernel's
/// object, so that it lives exactly as long as the debt, and every store of the host sees it.
fn allow_forwarding(links: &mut Links, bridge: &Link) -> Result<(), Error> {
    let forwarding = Setting::new("ipv4/ip_forward");
    if forwarding.read()? == "0" {
        links.set_alias(bridge, ALIAS_FORWARDING_WAS_OFF)?;
        forwarding.write("1")
    } else if bridge.alias.is_empty() {
        links.set_alias(bridge, ALIAS)
    } else {
        Ok(())
    }
}

/// Sets `net.ipv4.ip_forward` back when wharf set it, or leaves that to a bridge of another store.
fn give_back_forwarding(links: &mut Links, bridge: &Link) -> Result<(), Error> {
    if bridge.alias != ALIAS_FORWARDING_WAS_OFF {
        return Ok(());
    }
    let all = links.all()?;
    match all.iter().find(|link| link.index != bridge.index && link.alias.starts_with(ALIAS)) {
        Some(other) => links.set_alias(other, ALIAS_FORWARDING_WAS_OFF),
        None => Setting::new("ipv4/ip_forward").write("0"),
    }
}
