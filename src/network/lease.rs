//! Addresses of instances: taken before the network namespace exists, given back when the instance goes.
use super::link::{Link, Links};
use super::record::{Leased, Store, lock_host};
use super::subnet::{self, Subnet};
use super::{Error, bridge, names, naming};
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

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
    /// Name of the store's nftables table, family `ip`.
    pub table: String,
    /// Name of the instance.
    pub instance: String,
    /// The directory the lease is recorded in.
    pub state: PathBuf,
}

impl Lease {
    pub(super) fn subnet(&self) -> Subnet {
        Subnet::new(self.address, self.prefix)
    }
}

/// Takes a free address for `instance` and records it below `state` (ROOT/network), under a lock.
/// The same instance gets its own address again.
///
/// Call it at each start: when no instance runs and the store's subnet has meanwhile come to overlap
/// another network of the host, a new subnet is chosen and every instance gets an address from it.
///
/// # Errors
/// When the subnet is full, when the host's routes leave no private subnet free, or when the record
/// cannot be written.
pub fn lease(state: &Path, instance: &str) -> Result<Lease, Error> {
    let mut store = Store::open(state)?;
    let bridge = naming::bridge(store.directory());
    let before = store.record.clone();
    let subnet = settle_subnet(&mut store, &bridge)?;
    let address = match store.record.leases.get(instance) {
        Some(leased) => leased.address,
        None => take_address(&mut store, subnet, instance)?,
    };
    if store.record != before {
        store.save()?;
    }
    Ok(Lease {
        address,
        prefix: subnet.prefix(),
        gateway: subnet.gateway(),
        bridge,
        veth: naming::veth(store.directory(), instance),
        table: naming::table(store.directory()),
        instance: instance.to_owned(),
        state: store.directory().to_owned(),
    })
}

/// Gives the address back. A missing lease is no error.
///
/// # Errors
/// When the record cannot be written, or when what a crash left of the bridge cannot be removed.
pub fn release(state: &Path, instance: &str) -> Result<(), Error> {
    let Some(mut store) = Store::open_existing(state)? else { return Ok(()) };
    if store.record.leases.remove(instance).is_some() {
        store.save()?;
    }
    let mut links = Links::open()?;
    if let Some(bridge) = links.find(&naming::bridge(store.directory()))?
        && links.ports(&bridge)?.is_empty()
    {
        let host = lock_host()?;
        bridge::settle(&mut links, &host, store.directory(), &store.record)?;
    }
    Ok(())
}

/// The store's subnet: the recorded one, or a new one when there is none or it can no longer be used.
fn settle_subnet(store: &mut Store, bridge: &str) -> Result<Subnet, Error> {
    let mut links = Links::open()?;
    let own = links.find(bridge)?;
    let running = own.as_ref().map_or(Ok(false), |own| links.ports(own).map(|ports| !ports.is_empty()))?;
    if let (true, Some(subnet)) = (running, store.record.subnet) {
        return Ok(subnet);
    }
    let taken = taken_subnets(&mut links, own.as_ref())?;
    if let Some(subnet) = store.record.subnet
        && !taken.iter().any(|other| other.overlaps(subnet))
    {
        return Ok(subnet);
    }
    let preference = naming::subnet_preference(store.directory());
    let chosen = subnet::choose(&taken, preference).ok_or(Error::NoSubnet)?;
    store.record.subnet = Some(chosen);
    store.record.leases.clear();
    Ok(chosen)
}

/// What the host reaches by a route, and the name servers it reaches by its default route.
fn taken_subnets(links: &mut Links, own: Option<&Link>) -> Result<Vec<Subnet>, Error> {
    let own = own.map(|link| link.index);
    let routes = links.routes()?.into_iter().filter(|route| own.is_none() || route.link != own);
    let servers = names::host_nameservers()?.into_iter().map(|server| Subnet::new(server, 32));
    Ok(routes.map(|route| route.destination).chain(servers).collect())
}

fn take_address(store: &mut Store, subnet: Subnet, instance: &str) -> Result<Ipv4Addr, Error> {
    let record = &mut store.record;
    let taken: Vec<_> = record.leases.values().map(|leased| leased.address).collect();
    let mut free = subnet.instances_after(record.last).filter(|address| !taken.contains(address));
    let address = free.next().ok_or_else(|| Error::SubnetFull(subnet.to_string()))?;
    record.last = Some(address);
    record.leases.insert(instance.to_owned(), Leased { address, ports: Vec::new() });
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_same_instance_gets_its_own_address_again() {
        let scratch = tempfile::tempdir().expect("scratch");
        let web = lease(scratch.path(), "web").expect("web");
        let db = lease(scratch.path(), "db").expect("db");
        assert_ne!(web.address, db.address);
        assert_ne!(web.veth, db.veth);
        assert_eq!(lease(scratch.path(), "web").expect("web again"), web);
        assert!(web.subnet().contains(db.address));
    }

    #[test]
    fn an_address_given_back_is_free_but_not_the_next_one() {
        let scratch = tempfile::tempdir().expect("scratch");
        let first = lease(scratch.path(), "a").expect("a").address;
        release(scratch.path(), "a").expect("release");
        release(scratch.path(), "a").expect("release twice");
        assert_ne!(lease(scratch.path(), "b").expect("b").address, first);
    }

    #[test]
    fn leases_at_once_are_different_addresses() {
        let scratch = tempfile::tempdir().expect("scratch");
        let state = scratch.path();
        let addresses: HashSet<_> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4)
                .map(|worker| {
                    scope.spawn(move || {
                        let one = |n| lease(state, &format!("i{worker}-{n}")).expect("lease").address;
                        (0..16).map(one).collect::<Vec<_>>()
                    })
                })
                .collect();
            workers.into_iter().flat_map(|worker| worker.join().expect("worker")).collect()
        });
        assert_eq!(addresses.len(), 64);
    }

    #[test]
    fn a_thousand_leases_fit() {
        let scratch = tempfile::tempdir().expect("scratch");
        let mut store = Store::open(scratch.path()).expect("open");
        let subnet = Subnet::new(Ipv4Addr::new(10, 208, 0, 0), 20);
        let mut take = |n| take_address(&mut store, subnet, &format!("i{n}")).expect("address");
        let addresses: HashSet<_> = (0..1000).map(&mut take).collect();
        assert_eq!(addresses.len(), 1000);
    }

    #[test]
    fn a_full_subnet_says_so() {
        let scratch = tempfile::tempdir().expect("scratch");
        let mut store = Store::open(scratch.path()).expect("open");
        let subnet = Subnet::new(Ipv4Addr::new(10, 9, 0, 0), 30);
        take_address(&mut store, subnet, "only").expect("one address");
        let error = take_address(&mut store, subnet, "more").expect_err("full").to_string();
        assert_eq!(error, "no free address in 10.9.0.0/30; remove instances that are no longer needed");
    }

    #[test]
    fn release_makes_no_store() {
        let scratch = tempfile::tempdir().expect("scratch");
        let state = scratch.path().join("network");
        release(&state, "web").expect("nothing to do");
        assert!(!state.exists());
    }
}
