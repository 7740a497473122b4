//! A machine made of network namespaces: a host with an uplink, a neighbour on it, and instances.
//!
//! Each test has a host of its own, so that what it compares before and after is its own doing, and the
//! real host's links, rules and settings are never touched.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// The host's address on its uplink.
pub(crate) const HOST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// The neighbour's.
pub(crate) const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);

/// How long a connection may take; what must not connect is waited for that long.
const PATIENCE: Duration = Duration::from_millis(1500);

/// A network namespace; gone with this value and the sockets and threads in it.
#[derive(Debug)]
pub(crate) struct Namespace(OwnedFd);

impl Namespace {
    pub(crate) fn new() -> Self {
        let made = std::thread::spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("unshare");
            File::open("/proc/thread-self/ns/net").expect("own namespace")
        });
        Self(made.join().expect("namespace").into())
    }
    /// Opens one by its path, for a child process.
    pub(crate) fn open(path: &str) -> Self {
        Self(File::open(path).expect("namespace").into())
    }
    /// A path by which other processes open it.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
    /// Does something inside, on a thread of its own.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| {
                nix::sched::setns(&self.0, nix::sched::CloneFlags::CLONE_NEWNET).expect("setns");
                work()
            });
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
    /// Runs shell commands inside; returns what they printed.
    #[track_caller]
    pub(crate) fn shell(&self, script: &str) -> String {
        let output = self.run(|| Command::new("sh").args(["-ec", script]).output().expect("sh"));
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script}: {stderr}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }
    /// What a server says to a TCP connection from here.
    pub(crate) fn call(&self, address: Ipv4Addr, port: u16) -> io::Result<String> {
        self.run(|| {
            let mut stream = TcpStream::connect_timeout(&SocketAddr::from((address, port)), PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        })
    }
    /// What a server says to a datagram from here.
    pub(crate) fn call_udp(&self, address: Ipv4Addr, port: u16) -> io::Result<String> {
        ask(&self.udp_socket(address, port))
    }
    /// A socket of here, connected, so that only answers from the called address count.
    pub(crate) fn udp_socket(&self, address: Ipv4Addr, port: u16) -> UdpSocket {
        self.run(|| {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("bind");
            socket.connect((address, port)).expect("route");
            socket
        })
    }
    /// Serves TCP and UDP on a port; says `NAME sees ADDRESS` to each caller.
    pub(crate) fn serve(&self, name: &str, address: Ipv4Addr, port: u16) -> Server {
        let (tcp, udp) = self.run(|| {
            let address = SocketAddrV4::new(address, port);
            (TcpListener::bind(address).expect("tcp"), UdpSocket::bind(address).expect("udp"))
        });
        tcp.set_nonblocking(true).expect("nonblocking");
        udp.set_nonblocking(true).expect("nonblocking");
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, name) = (Arc::clone(&stop), name.to_owned());
        let worker = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                if let Ok((mut stream, peer)) = tcp.accept() {
                    let _ = write!(stream, "{name} sees {}", peer.ip());
                }
                if let Ok((_, peer)) = udp.recv_from(&mut [0; 100]) {
                    let _ = udp.send_to(format!("{name} sees {}", peer.ip()).as_bytes(), peer);
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        Server { stop, worker: Some(worker) }
    }
}

/// What a server says to a datagram.
pub(crate) fn ask(socket: &UdpSocket) -> io::Result<String> {
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send(b"hello")?;
    let mut buffer = [0; 100];
    let length = socket.recv(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// Answers until it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    stop: Arc<AtomicBool>,
    worker: Option<JoinHandle<()>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(worker) = self.worker.take() {
            let _ = worker.join();
        }
    }
}

/// A host and its neighbour.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) host: Namespace,
    pub(crate) neighbour: Namespace,
}

impl Machine {
    pub(crate) fn new() -> Self {
        let (host, neighbour) = (Namespace::new(), Namespace::new());
        host.shell(&format!(
            "ip link set lo up
             ip link add uplink type veth peer name eth0 netns {}
             sysctl -qw net.ipv6.conf.uplink.disable_ipv6=1
             ip address add {HOST}/24 dev uplink
             ip link set uplink up",
            neighbour.path()
        ));
        neighbour.shell(&format!("ip address add {NEIGHBOUR}/24 dev eth0; ip link set eth0 up"));
        // The kernel tells its routes of the carrier when it gets to it.
        while host.shell("ip route show table all").contains("linkdown") {
            std::thread::sleep(Duration::from_millis(10));
        }
        Self { host, neighbour }
    }
    /// Names of the host's links. /sys/class/net would show those of the machine the tests run on.
    pub(crate) fn links(&self) -> String {
        self.host.shell("ip -o link | cut -d : -f 2")
    }
    /// Links, routes, rules and forwarding of the host.
    pub(crate) fn snapshot(&self) -> String {
        self.host.shell(
            "ip -o link | cut -d : -f 2
             ls /proc/sys/net/ipv4/conf
             ip route show table all
             nft list ruleset
             cat /proc/sys/net/ipv4/ip_forward",
        )
    }
}
