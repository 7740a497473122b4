//! Instances on a bridge: who reaches whom, by which address, and what is left when they go.
mod common;
#[path = "network/machine.rs"]
mod machine;

use machine::{HOST, Machine, NEIGHBOUR, Namespace, Server, ask};
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;
use wharf::network::{self, Error, Lease, PublishedPort};

const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// A store's directory, in which nothing exists yet.
struct Store(TempDir);

impl Store {
    fn new() -> Self {
        Self(TempDir::new().expect("scratch"))
    }
    fn state(&self) -> std::path::PathBuf {
        self.0.path().join("network")
    }
}

/// A bridged instance with a server on port 80.
struct Instance {
    namespace: Namespace,
    lease: Lease,
    _server: Server,
}

impl Instance {
    fn start(machine: &Machine, store: &Store, name: &str, ports: &[&str]) -> Self {
        let namespace = Namespace::new();
        let lease = machine.host.run(|| network::lease(&store.state(), name)).expect("lease");
        attach(machine, &lease, &namespace, ports).expect("attach");
        let server = namespace.serve(name, Ipv4Addr::UNSPECIFIED, 80);
        Self { namespace, lease, _server: server }
    }
    fn address(&self) -> Ipv4Addr {
        self.lease.address
    }
    fn detach(&self, machine: &Machine) {
        machine.host.run(|| network::detach(&self.lease)).expect("detach");
    }
    fn remove(self, machine: &Machine) {
        self.detach(machine);
        machine.host.run(|| network::release(&self.lease.state, &self.lease.instance)).expect("release");
    }
}

fn published(texts: &[&str]) -> Vec<PublishedPort> {
    texts.iter().map(|text| text.parse().expect("port")).collect()
}

fn attach(machine: &Machine, lease: &Lease, namespace: &Namespace, ports: &[&str]) -> Result<(), Error> {
    machine.host.run(|| network::attach(lease, &published(ports))?.join(namespace.fd()))
}

/// What a test of this file needs.
macro_rules! require_network {
    () => {
        common::require_root!();
        common::require!(common::program_exists("nft"), "needs nft");
        common::require!(common::program_exists("ip"), "needs ip");
    };
}

#[test]
fn host_and_instance_reach_each_other_and_nothing_is_left() {
    require_network!();
    let (machine, store) = (Machine::new(), Store::new());
    let before = machine.snapshot();
    let web = Instance::start(&machine, &store, "web", &["8080:80"]);
    let gateway = web.lease.gateway;
    let _server = machine.host.serve("host", gateway, 5000);

    assert_eq!(
        machine.host.call(web.address(), 80).expect("host to instance"),
        format!("web sees {gateway}")
    );
    let answer = web.namespace.call(gateway, 5000).expect("instance to host");
    assert_eq!(answer, format!("host sees {}", web.address()));
    assert_eq!(web.namespace.call(LOOPBACK, 80).expect("own loopback"), "web sees 127.0.0.1");

    assert_ne!(machine.snapshot(), before);
    web.remove(&machine);
    assert_eq!(machine.snapshot(), before);
    let record = fs::read_to_string(store.state().join("state.json")).expect("record");
    assert!(!record.contains("web"), "{record}");
}

#[test]
fn a_published_port_answers_on_every_way_to_the_host() {
    require_network!();
    let (machine, store) = (Machine::new(), Store::new());
    let ports = ["8080:80", "8053:80/udp"];
    // The sockets that hold the ports must see none of the traffic.
    let held = machine.host.run(|| network::hold_ports(&published(&ports))).expect("hold");
    let web = Instance::start(&machine, &store, "web", &ports);
    let other = Instance::start(&machine, &store, "other", &[]);
    let gateway = web.lease.gateway;
    let table = [
        ("the host's loopback", &machine.host, LOOPBACK, gateway),
        ("the host's own address", &machine.host, HOST, HOST),
        ("the neighbour", &machine.neighbour, HOST, NEIGHBOUR),
        ("another instance by the gateway", &other.namespace, gateway, gateway),
        ("another instance by the host's address", &other.namespace, HOST, gateway),
        ("the instance itself by the gateway", &web.namespace, gateway, gateway),
        ("the instance itself by the host's address", &web.namespace, HOST, gateway),
    ];
    for (way, from, address, seen) in table {
        let expected = format!("web sees {seen}");
        assert_eq!(
            from.call(address, 8080).unwrap_or_else(|error| panic!("{way}: {error}")),
            expected,
            "{way}"
        );
        assert_eq!(
            from.call_udp(address, 8053).unwrap_or_else(|error| panic!("{way}: {error}")),
            expected,
            "{way}"
        );
    }
    let error = machine.host.run(|| network::hold_ports(&published(&ports))).expect_err("held").to_string();
    assert!(error.contains("address already in use"), "{error}");
    drop(held);

    web.remove(&machine);
    assert!(machine.host.call(LOOPBACK, 8080).is_err());
    assert!(machine.neighbour.call(HOST, 8080).is_err());
    other.remove(&machine);
}

/// The kernel remembers where a flow of datagrams goes for as long as it does not pause.
#[test]
fn a_sender_that_never_pauses_reaches_the_instance_that_comes() {
    require_network!();
    let (machine, store) = (Machine::new(), Store::new());
    let ports = ["8053:80/udp"];
    let held = machine.host.run(|| network::hold_ports(&published(&ports))).expect("hold");
    let other = Instance::start(&machine, &store, "other", &[]);
    let sender = machine.neighbour.udp_socket(HOST, 8053);
    assert!(ask(&sender).is_err(), "the host's own socket does not answer");
    let first = Instance::start(&machine, &store, "first", &ports);
    assert!(ask(&sender).expect("first").starts_with("first"));
    first.remove(&machine);
    assert!(ask(&sender).is_err(), "nobody is there");
    let second = Instance::start(&machine, &store, "second", &ports);
    assert!(ask(&sender).expect("second").starts_with("second"));
    second.remove(&machine);
    other.remove(&machine);
    drop(held);
}

#[test]
fn a_port_published_on_one_address_answers_there_only() {
    require_network!();
    let (machine, store) = (Machine::new(), Store::new());
    let web = Instance::start(&machine, &store, "web", &["127.0.0.1:8080:80", "198.51.100.1:8081:80"]);
    assert!(machine.host.call(LOOPBACK, 8080).is_ok());
    assert!(machine.host.call(HOST, 8080).is_err());
    assert!(machine.neighbour.call(HOST, 8080).is_err());
    assert!(machine.neighbour.call(HOST, 8081).is_ok());
    assert!(machine.host.call(HOST, 8081).is_ok());
    assert!(machine.host.call(LOOPBACK, 8081).is_err());

    // A neighbour that sends frames to the host's loopback address must not get through either.
    machine
        .neighbour
        .shell("sysctl -qw net.ipv4.conf.all.route_localnet=1; ip route add 127.0.0.0/8 via 198.51.100.1");
    assert!(machine.neighbour.call(LOOPBACK, 8080).is_err());
    web.remove(&machine);
}

#[test]
fn instances_reach_each_other_and_the_world() {
    require_network!();
    let (machine, store) = (Machine::new(), Store::new());
    let one = Instance::start(&machine, &store, "one", &[]);
    let two = Instance::start(&machine, &store, "two", &[]);
    let _world = machine.neighbour.serve("world", NEIGHBOUR, 443);

    assert_eq!(
        one.namespace.call(two.address(), 80).expect("one to two"),
        format!("two sees {}", one.address())
    );
    assert_eq!(
        two.namespace.call(one.address(), 80).expect("two to one"),
        format!("one sees {}", two.address())
    );
    assert_eq!(one.namespace.call(NEIGHBOUR, 443).expect("tcp"), format!("world sees {HOST}"));
    assert_eq!(one.namespace.call_udp(NEIGHBOUR, 443).expect("udp"), format!("world sees {HOST}"));
    one.remove(&machine);
    assert_eq!(two.namespace.call(NEIGHBOUR, 443).expect("after one went"), format!("world sees {HOST}"));
    two.remove(&machine);
}

#[test]
fn other_machines_reach_published_ports_only() {
    require_network!();
    let (machine, store) = (Machine::new(), Store::new());
    let web = Instance::start(&machine, &store, "web", &["8080:80"]);
    machine.neighbour.shell(&format!("ip route add {}/32 via {HOST}", web.address()));
    assert!(machine.neighbour.call(web.address(), 80).is_err());
    assert!(machine.neighbour.call(HOST, 8080).is_ok());
    web.remove(&machine);
}

/// CVE-2020-8558: with route_localnet, a neighbour could reach services that listen on the loopback.
#[test]
fn an_instance_does_not_reach_the_hosts_loopback() {
    require_network!();
    let (machine, store) = (Machine::new(), Store::new());
    let web = Instance::start(&machine, &store, "web", &["127.0.0.1:8080:80"]);
    let _database = machine.host.serve("database", LOOPBACK, 5432);
    web.namespace.shell(&format!(
        "sysctl -qw net.ipv4.conf.all.route_localnet=1
         ip address del 127.0.0.1/8 dev lo
         ip route add 127.0.0.0/8 via {}",
        web.lease.gateway
    ));
    assert!(web.namespace.call(LOOPBACK, 5432).is_err());
    assert!(web.namespace.call_udp(LOOPBACK, 5432).is_err());
    web.remove(&machine);
}

/// CVE-2020-13401: an instance that advertises itself as an IPv6 router is believed by nobody.
#[test]
fn nobody_on_the_bridge_accepts_router_advertisements() {
    require_network!();
    let (machine, store) = (Machine::new(), Store::new());
    common::require!(Path::new("/proc/sys/net/ipv6").exists(), "needs IPv6");
    let web = Instance::start(&machine, &store, "web", &[]);
    assert_eq!(web.namespace.shell("cat /proc/sys/net/ipv6/conf/eth0/accept_ra"), "0\n");
    let bridge = &web.lease.bridge;
    assert_eq!(machine.host.shell(&format!("cat /proc/sys/net/ipv6/conf/{bridge}/accept_ra")), "0\n");
    assert_eq!(machine.host.shell(&format!("ip -6 address show dev {bridge}")), "");
    web.remove(&machine);
}

#[test]
fn attach_and_detach_may_be_repeated() {
    require_network!();
    let (machine, store) = (Machine::new(), Store::new());
    let before = machine.snapshot();
    let web = Instance::start(&machine, &store, "web", &["8080:80"]);
    let after = machine.snapshot();
    attach(&machine, &web.lease, &web.namespace, &["8080:80"]).expect("attach again");
    assert_eq!(machine.snapshot(), after, "nothing was made anew");
    assert!(machine.host.call(LOOPBACK, 8080).is_ok());
    web.detach(&machine);
    web.detach(&machine);
    assert_eq!(machine.snapshot(), before);
    attach(&machine, &web.lease, &web.namespace, &["8081:80"]).expect("attach with another port");
    assert!(machine.host.call(LOOPBACK, 8080).is_err());
    assert!(machine.host.call(LOOPBACK, 8081).is_ok());
    web.remove(&machine);
    assert_eq!(machine.snapshot(), before);
}

#[test]
fn a_restarted_instance_is_found_at_once_by_its_neighbours() {
    require_network!();
    let (machine, store) = (Machine::new(), Store::new());
    let other = Instance::start(&machine, &store, "other", &[]);
    let web = Instance::start(&machine, &store, "web", &[]);
    let address = web.address();
    assert!(other.namespace.call(address, 80).is_ok() && machine.host.call(address, 80).is_ok());
    web.detach(&machine);
    let again = Instance::start(&machine, &store, "web", &[]);
    assert_eq!(again.address(), address);
    assert!(other.namespace.call(address, 80).is_ok() && machine.host.call(address, 80).is_ok());
    again.remove(&machine);
    other.remove(&machine);
}

#[test]
fn rules_of_one_instance_survive_the_other() {
    require_network!();
    let (machine, store) = (Machine::new(), Store::new());
    let one = Instance::start(&machine, &store, "one", &["8081:80"]);
    let two = Instance::start(&machine, &store, "two", &["8082:80"]);
    assert!(machine.host.call(LOOPBACK, 8081).expect("one").starts_with("one"));
    two.remove(&machine);
    assert!(machine.host.call(LOOPBACK, 8081).expect("one").starts_with("one"));
    assert!(machine.host.call(LOOPBACK, 8082).is_err());
    one.remove(&machine);
}

#[test]
fn an_instance_that_died_without_detach_holds_nothing_up() {
    require_network!();
    let (machine, store) = (Machine::new(), Store::new());
    let before = machine.snapshot();
    let dead = Instance::start(&machine, &store, "dead", &["8080:80"]);
    let (state, veth) = (dead.lease.state.clone(), dead.lease.veth.clone());
    drop(dead);
    common::eventually("the kernel removes the pair with its namespace", || !machine.links().contains(&veth));

    let heir = Instance::start(&machine, &store, "heir", &["8080:80"]);
    assert!(machine.host.call(LOOPBACK, 8080).expect("the heir's port").starts_with("heir"));
    heir.remove(&machine);
    machine.host.run(|| network::release(&state, "dead")).expect("release");
    assert_eq!(machine.snapshot(), before);
}

#[test]
fn release_removes_what_the_last_instance_left_when_it_died() {
    require_network!();
    let (machine, store) = (Machine::new(), Store::new());
    let before = machine.snapshot();
    let dead = Instance::start(&machine, &store, "dead", &["8080:80"]);
    let (state, veth) = (dead.lease.state.clone(), dead.lease.veth.clone());
    drop(dead);
    common::eventually("the kernel removes the pair with its namespace", || !machine.links().contains(&veth));
    machine.host.run(|| network::release(&state, "dead")).expect("release");
    assert_eq!(machine.snapshot(), before);
}

#[test]
fn a_failed_attach_leaves_nothing() {
    require_network!();
    let (machine, store) = (Machine::new(), Store::new());
    let before = machine.snapshot();
    let namespace = Namespace::new();
    namespace.shell("ip link add eth0 type bridge");
    let lease = machine.host.run(|| network::lease(&store.state(), "web")).expect("lease");
    let error = attach(&machine, &lease, &namespace, &["8080:80"]).expect_err("eth0 is taken").to_string();
    assert!(error.contains("veth") && error.contains("File exists"), "{error}");
    assert_eq!(machine.snapshot(), before);
    assert_eq!(namespace.shell("ip -o link").lines().count(), 2, "lo and its own eth0");
}

#[test]
fn without_nft_the_error_says_what_to_install_and_nothing_is_left() {
    require_network!();
    let (machine, store) = (Machine::new(), Store::new());
    let before = machine.snapshot();
    let lease = machine.host.run(|| network::lease(&store.state(), "web")).expect("lease");
    let error = machine.host.run(|| {
        use nix::mount::{MsFlags, mount};
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).expect("mount namespace");
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
            .expect("private");
        mount(Some("none"), "/usr/sbin", Some("tmpfs"), MsFlags::empty(), None::<&str>)
            .expect("hide /usr/sbin");
        network::attach(&lease, &[]).expect_err("no nft").to_string()
    });
    assert_eq!(
        error,
        "program nft is not installed; install the package nftables, or use --network host or none"
    );
    assert_eq!(machine.snapshot(), before);
}

#[test]
fn two_stores_share_a_host_and_the_last_one_sets_forwarding_back() {
    require_network!();
    for first_goes_first in [true, false] {
        let machine = Machine::new();
        let (first_store, second_store) = (Store::new(), Store::new());
        let before = machine.snapshot();
        let first = Instance::start(&machine, &first_store, "web", &["8081:80"]);
        let second = Instance::start(&machine, &second_store, "web", &["8082:80"]);
        assert_ne!(first.address(), second.address());
        assert_ne!(first.lease.bridge, second.lease.bridge);
        let (goes, stays, port) =
            if first_goes_first { (first, second, 8082) } else { (second, first, 8081) };
        goes.remove(&machine);
        assert_eq!(machine.host.shell("cat /proc/sys/net/ipv4/ip_forward"), "1\n");
        assert!(machine.neighbour.call(HOST, port).is_ok());
        stays.remove(&machine);
        assert_eq!(machine.snapshot(), before);
    }
}

#[test]
fn forwarding_that_was_on_stays_on() {
    require_network!();
    let (machine, store) = (Machine::new(), Store::new());
    machine.host.shell("sysctl -qw net.ipv4.ip_forward=1");
    Instance::start(&machine, &store, "web", &[]).remove(&machine);
    assert_eq!(machine.host.shell("cat /proc/sys/net/ipv4/ip_forward"), "1\n");
}

#[test]
fn a_subnet_the_host_routes_elsewhere_is_not_used() {
    require_network!();
    let (machine, store) = (Machine::new(), Store::new());
    machine.host.shell("ip route add 10.0.0.0/8 via 198.51.100.2");
    let lease = || machine.host.run(|| network::lease(&store.state(), "web")).expect("lease");
    let address = lease().address;
    assert_eq!(address.octets()[0], 172);

    // A network that comes up later takes the subnet: told at attach, and another is chosen at the next start.
    machine.host.shell("ip route add 172.16.0.0/12 via 198.51.100.2");
    let namespace = Namespace::new();
    let stale = Lease { address, ..Instance::start(&Machine::new(), &store, "x", &[]).lease };
    let stale = Lease { instance: "web".to_owned(), ..stale };
    let error = attach(&machine, &stale, &namespace, &[]).expect_err("taken").to_string();
    assert!(error.contains("start the instance again"), "{error}");
    let lease = lease();
    assert_eq!(lease.address.octets()[0], 192);
    attach(&machine, &lease, &namespace, &[]).expect("attach");
    machine.host.run(|| network::detach(&lease)).expect("detach");
}

#[test]
fn instances_started_at_once_do_not_disturb_each_other() {
    require_network!();
    let machine = Machine::new();
    let stores = [Store::new(), Store::new()];
    let before = machine.snapshot();
    std::thread::scope(|scope| {
        for number in 0..8u16 {
            let (machine, store) = (&machine, &stores[usize::from(number) % 2]);
            scope.spawn(move || {
                for _ in 0..3 {
                    let port = format!("{}:80", 9000 + number);
                    let name = format!("i{number}");
                    let one = Instance::start(machine, store, &name, &[&port]);
                    let answer = machine.host.call(LOOPBACK, 9000 + number).expect("published port");
                    assert!(answer.starts_with(&name), "{answer}");
                    one.remove(machine);
                }
            });
        }
    });
    assert_eq!(machine.snapshot(), before);
}

/// Environment of the process that [`a_kill_at_any_time_is_put_right`] kills.
const VICTIM: &str = "WHARF_NETWORK_VICTIM";

/// No test of its own: attaches and detaches until it is killed.
#[test]
#[ignore = "the process that a_kill_at_any_time_is_put_right kills"]
fn victim() {
    let Ok(arguments) = std::env::var(VICTIM) else { return };
    let (state, namespace) = arguments.split_once(' ').expect("state and namespace");
    let namespace = Namespace::open(namespace);
    let ports = published(&["8080:80"]);
    loop {
        let lease = network::lease(Path::new(state), "web").expect("lease");
        network::attach(&lease, &ports).expect("attach").join(namespace.fd()).expect("join");
        network::detach(&lease).expect("detach");
        network::release(Path::new(state), "web").expect("release");
    }
}

#[test]
fn a_kill_at_any_time_is_put_right() {
    require_network!();
    let (machine, store) = (Machine::new(), Store::new());
    let before = machine.snapshot();
    let namespace = Namespace::new();
    let arguments = format!("{} {}", store.state().display(), namespace.path());
    for attempt in 0..30u32 {
        let mut victim = machine.host.run(|| {
            let mut command = Command::new(std::env::current_exe().expect("this test"));
            command.args(["--exact", "victim", "--ignored"]).env(VICTIM, &arguments);
            command.stdout(std::process::Stdio::null()).spawn().expect("victim")
        });
        std::thread::sleep(Duration::from_millis(40) + Duration::from_micros(1700 * u64::from(attempt)));
        victim.kill().expect("kill");
        victim.wait().expect("wait");
        // With and without an instance that comes after it.
        if attempt % 2 == 0 {
            let next = Instance::start(&machine, &store, "next", &["8080:80"]);
            assert!(
                machine.host.call(LOOPBACK, 8080).expect("next").starts_with("next"),
                "attempt {attempt}"
            );
            next.detach(&machine);
        }
        let lease = machine.host.run(|| network::lease(&store.state(), "web")).expect("lease");
        machine.host.run(|| network::detach(&lease)).expect("detach");
        assert_eq!(machine.snapshot(), before, "attempt {attempt}");
    }
}
