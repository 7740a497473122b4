//! Host ports kept by sockets of ours while the firewall sends their traffic to an instance.
use super::{Error, Protocol, PublishedPort};
use rustix::net::sockopt::set_socket_reuseaddr;
use rustix::net::{Shutdown, shutdown};
use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;

/// Host ports held by bound sockets for as long as this value lives, so that a second instance, or any
/// other program, is told `address already in use` instead of losing its traffic.
///
/// The sockets never see that traffic: it is rewritten before the kernel looks for a socket. While no
/// instance is attached, TCP connections are refused. The sockets are closed on exec.
#[derive(Debug)]
pub struct HeldPorts {
    _sockets: Vec<OwnedFd>,
}

/// Binds every published port.
///
/// # Errors
/// Names the port that is in use, or that is published twice in `ports`.
pub fn hold_ports(ports: &[PublishedPort]) -> Result<HeldPorts, Error> {
    for (position, port) in ports.iter().enumerate() {
        if let Some(earlier) = ports[..position].iter().find(|earlier| earlier.overlaps(port)) {
            return Err(Error::PortTwice { first: earlier.clone(), second: port.clone() });
        }
    }
    let sockets = ports.iter().map(hold).collect::<Result<_, _>>()?;
    Ok(HeldPorts { _sockets: sockets })
}

fn hold(port: &PublishedPort) -> Result<OwnedFd, Error> {
    let address = (port.host_ipv4()?.unwrap_or(Ipv4Addr::UNSPECIFIED), port.host_port);
    let bound = match port.protocol {
        Protocol::Tcp => TcpListener::bind(address).and_then(stop_listening),
        Protocol::Udp => UdpSocket::bind(address).map(OwnedFd::from),
    };
    bound.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => Error::PortInUse { port: port.clone() },
        io::ErrorKind::AddrNotAvailable => Error::NotOurAddress { port: port.clone() },
        _ => Error::HoldPort { port: port.clone(), source },
    })
}

/// Keeps the port without accepting connections that nobody would serve.
///
/// SO_REUSEADDR is needed to bind beside old connections (tcp(7), TIME_WAIT), but lets another socket
/// bind beside one that does not listen. So the socket has it while it binds and loses it after it has
/// listened, which made the kernel forget that the port may be shared.
fn stop_listening(listener: TcpListener) -> io::Result<OwnedFd> {
    set_socket_reuseaddr(&listener, false)?;
    // On a socket that listens this is the way back to one that is bound only.
    shutdown(&listener, Shutdown::Read)?;
    Ok(listener.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketType};
    use std::net::{IpAddr, SocketAddrV4, TcpStream};

    fn loopback(host_port: u16, protocol: Protocol) -> PublishedPort {
        PublishedPort {
            host_ip: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            host_port,
            container_port: 80,
            protocol,
        }
    }

    /// A port that was free a moment ago.
    fn free_port() -> u16 {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
        socket.local_addr().expect("address").port()
    }

    #[test]
    fn a_second_holder_is_told_the_port_is_in_use() {
        let port = free_port();
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let ports = [loopback(port, protocol)];
            let held = hold_ports(&ports).expect("first holder");
            let error = hold_ports(&ports).expect_err("second holder").to_string();
            assert!(error.contains("address already in use"), "{error}");
            assert!(error.contains(&format!("127.0.0.1:{port}")), "{error}");
            drop(held);
            hold_ports(&ports).expect("holder after the first is gone");
        }
    }

    #[test]
    fn every_address_conflicts_with_a_server_on_one_address() {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
        let port = server.local_addr().expect("address").port();
        let any = PublishedPort { host_ip: None, ..loopback(port, Protocol::Tcp) };
        assert!(matches!(hold_ports(&[any]), Err(Error::PortInUse { .. })));
    }

    /// Binds with SO_REUSEADDR and does not listen, the most a socket can ask for.
    fn bind_beside(port: u16) -> rustix::io::Result<OwnedFd> {
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
        set_socket_reuseaddr(&socket, true)?;
        rustix::net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))?;
        Ok(socket)
    }

    #[test]
    fn nobody_takes_a_held_port() {
        let port = free_port();
        let held = hold_ports(&[loopback(port, Protocol::Tcp)]).expect("hold");
        let error = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect_err("a server");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert_eq!(bind_beside(port).expect_err("a socket that shares"), rustix::io::Errno::ADDRINUSE);
        drop(held);
        bind_beside(port).expect("free again");
    }

    #[test]
    fn a_held_port_refuses_connections_that_nobody_would_serve() {
        let port = free_port();
        let _held = hold_ports(&[loopback(port, Protocol::Tcp)]).expect("hold");
        let error = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect_err("nobody serves");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn old_connections_do_not_keep_a_port_from_being_held() {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
        let address = server.local_addr().expect("address");
        let client = TcpStream::connect(address).expect("connect");
        // The server closes first, so that TIME_WAIT is on its side.
        drop(server.accept().expect("accept"));
        drop((server, client));
        hold_ports(&[loopback(address.port(), Protocol::Tcp)]).expect("hold beside TIME_WAIT");
    }

    #[test]
    fn the_same_port_twice_in_one_request_is_named() {
        let port = loopback(8080, Protocol::Tcp);
        let any = PublishedPort { host_ip: None, ..port.clone() };
        let error = hold_ports(&[port, any]).expect_err("twice").to_string();
        assert_eq!(
            error,
            "127.0.0.1:8080:80/tcp and 8080:80/tcp publish the same port of the host; remove one"
        );
    }

    #[test]
    fn an_address_of_another_machine_is_refused() {
        let port =
            PublishedPort { host_ip: Some(IpAddr::from([198, 51, 100, 7])), ..loopback(8080, Protocol::Tcp) };
        let error = hold_ports(&[port]).expect_err("not ours").to_string();
        assert!(error.contains("198.51.100.7 is not an address of this host"), "{error}");
    }

    #[test]
    fn ipv6_is_refused() {
        let port = PublishedPort {
            host_ip: Some(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1u16])),
            ..loopback(8080, Protocol::Tcp)
        };
        assert!(matches!(hold_ports(&[port]), Err(Error::PublishedPort(_))));
    }
}
