//! `-p [HOST_IP:]HOST_PORT:CONTAINER_PORT[/tcp|udp]`, as text and as data.
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

/// `-p [HOST_IP:]HOST_PORT:CONTAINER_PORT[/tcp|udp]`.
///
/// ```
/// use wharf::network::{Protocol, PublishedPort};
///
/// let port: PublishedPort = "127.0.0.1:8080:80".parse()?;
/// assert_eq!((port.host_port, port.container_port, port.protocol), (8080, 80, Protocol::Tcp));
/// assert_eq!(port.to_string(), "127.0.0.1:8080:80/tcp");
/// # Ok::<(), wharf::network::InvalidPublishedPort>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedPort {
    /// Address of the host to publish on; `None` is every IPv4 address.
    pub host_ip: Option<IpAddr>,
    /// Port of the host.
    pub host_port: u16,
    /// Port of the instance.
    pub container_port: u16,
    /// Transport protocol.
    pub protocol: Protocol,
}

/// Transport protocol of a published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// Why the text of `-p` is no published port.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid published port {text:?}: {why}")]
pub struct InvalidPublishedPort {
    /// The text as given.
    pub text: String,
    /// What is wrong with it, and what to write instead.
    pub why: PublishedPortFault,
}

/// What is wrong with the text of a published port.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishedPortFault {
    /// Too few or too many parts.
    #[error("write [HOST_IP:]HOST_PORT:CONTAINER_PORT[/tcp|udp], for example 8080:80")]
    Shape,
    /// No number from 1 to 65535.
    #[error("{which} port {text:?} is not a number from 1 to 65535")]
    Port {
        /// `host` or `container`.
        which: &'static str,
        /// The port as given.
        text: String,
    },
    /// `8000-8010:80-90`.
    #[error("port ranges are not supported; give one -p for each port")]
    Range,
    /// Neither tcp nor udp.
    #[error("protocol {0:?} is not supported; use tcp or udp")]
    Protocol(String),
    /// No address.
    #[error("{0:?} is not an IPv4 address of the host; names are not looked up")]
    Address(String),
    /// An IPv6 address.
    #[error("IPv6 addresses are not supported; use an IPv4 address of the host")]
    Ipv6,
}

impl FromStr for PublishedPort {
    type Err = InvalidPublishedPort;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).map_err(|why| InvalidPublishedPort { text: text.to_owned(), why })
    }
}

fn parse(text: &str) -> Result<PublishedPort, PublishedPortFault> {
    let (ports, protocol) = match text.split_once('/') {
        None => (text, Protocol::Tcp),
        Some((ports, "tcp")) => (ports, Protocol::Tcp),
        Some((ports, "udp")) => (ports, Protocol::Udp),
        Some((_, other)) => return Err(PublishedPortFault::Protocol(other.to_owned())),
    };
    if ports.starts_with('[') || ports.matches(':').count() > 2 {
        return Err(PublishedPortFault::Ipv6);
    }
    let mut parts = ports.rsplitn(3, ':');
    let (Some(container), Some(host), address) = (parts.next(), parts.next(), parts.next()) else {
        return Err(PublishedPortFault::Shape);
    };
    Ok(PublishedPort {
        host_ip: address.map(parse_address).transpose()?.flatten(),
        host_port: parse_port("host", host)?,
        container_port: parse_port("container", container)?,
        protocol,
    })
}

/// `0.0.0.0` means what no address means, and is kept as that, so that equal ports compare equal.
fn parse_address(text: &str) -> Result<Option<IpAddr>, PublishedPortFault> {
    let address: Ipv4Addr = text.parse().map_err(|_| PublishedPortFault::Address(text.to_owned()))?;
    Ok((!address.is_unspecified()).then_some(IpAddr::V4(address)))
}

fn parse_port(which: &'static str, text: &str) -> Result<u16, PublishedPortFault> {
    let is_range = text
        .split_once('-')
        .is_some_and(|(first, last)| first.parse::<u16>().is_ok() && last.parse::<u16>().is_ok());
    if is_range {
        return Err(PublishedPortFault::Range);
    }
    // `u16::from_str` takes a leading plus sign.
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(port) if digits && port != 0 => Ok(port),
        _ => Err(PublishedPortFault::Port { which, text: text.to_owned() }),
    }
}

impl fmt::Display for PublishedPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(address) = self.host_ip {
            write!(f, "{address}:")?;
        }
        write!(f, "{}:{}/{}", self.host_port, self.container_port, self.protocol)
    }
}

impl PublishedPort {
    /// The host's side as the firewall and the sockets need it: `None` is every address.
    ///
    /// # Errors
    /// [`PublishedPortFault::Ipv6`], for a value that did not come from text.
    pub(super) fn host_ipv4(&self) -> Result<Option<Ipv4Addr>, InvalidPublishedPort> {
        match self.host_ip {
            None => Ok(None),
            Some(IpAddr::V4(address)) => Ok((!address.is_unspecified()).then_some(address)),
            Some(IpAddr::V6(_)) => {
                Err(InvalidPublishedPort { text: self.to_string(), why: PublishedPortFault::Ipv6 })
            }
        }
    }

    /// Whether both want the same port of the same address, or one of them wants it on every address.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.protocol == other.protocol
            && self.host_port == other.host_port
            && (self.host_ip.is_none() || other.host_ip.is_none() || self.host_ip == other.host_ip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(
        host_ip: Option<[u8; 4]>,
        host_port: u16,
        container_port: u16,
        protocol: Protocol,
    ) -> PublishedPort {
        PublishedPort { host_ip: host_ip.map(IpAddr::from), host_port, container_port, protocol }
    }

    #[test]
    fn accepted_forms() {
        let table = [
            ("8080:80", port(None, 8080, 80, Protocol::Tcp)),
            ("8080:80/tcp", port(None, 8080, 80, Protocol::Tcp)),
            ("53:5353/udp", port(None, 53, 5353, Protocol::Udp)),
            ("127.0.0.1:1:65535", port(Some([127, 0, 0, 1]), 1, 65535, Protocol::Tcp)),
            ("0.0.0.0:8080:80", port(None, 8080, 80, Protocol::Tcp)),
        ];
        for (text, expected) in table {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn refused_forms_say_why() {
        let table = [
            ("", "write [HOST_IP:]HOST_PORT:CONTAINER_PORT"),
            ("80", "write [HOST_IP:]HOST_PORT:CONTAINER_PORT"),
            ("0:80", "host port \"0\" is not a number from 1 to 65535"),
            ("80:65536", "container port \"65536\" is not a number"),
            ("+80:80", "host port \"+80\" is not a number"),
            (":80", "host port \"\" is not a number"),
            ("80:", "container port \"\" is not a number"),
            ("80:80/sctp", "protocol \"sctp\" is not supported; use tcp or udp"),
            ("80:80/", "protocol \"\" is not supported"),
            ("8000-8010:80-90", "port ranges are not supported"),
            ("localhost:80:80", "\"localhost\" is not an IPv4 address of the host"),
            (":80:80", "\"\" is not an IPv4 address"),
            ("[::1]:80:80", "IPv6 addresses are not supported"),
            ("::1:80:80", "IPv6 addresses are not supported"),
        ];
        for (text, expected) in table {
            let error = text.parse::<PublishedPort>().expect_err(text).to_string();
            assert!(error.starts_with(&format!("invalid published port {text:?}: ")), "{error}");
            assert!(error.contains(expected), "{text:?} gave {error:?}");
        }
    }

    #[test]
    fn what_is_printed_parses_to_the_same() {
        for text in ["8080:80/tcp", "127.0.0.1:53:53/udp"] {
            assert_eq!(text.parse::<PublishedPort>().expect(text).to_string(), text);
        }
    }

    #[test]
    fn every_address_overlaps_each_address() {
        let any = port(None, 80, 80, Protocol::Tcp);
        let loopback = port(Some([127, 0, 0, 1]), 80, 8080, Protocol::Tcp);
        let other = port(Some([127, 0, 0, 2]), 80, 8080, Protocol::Tcp);
        assert!(any.overlaps(&loopback) && loopback.overlaps(&any) && any.overlaps(&any));
        assert!(!loopback.overlaps(&other));
        assert!(!any.overlaps(&port(None, 80, 80, Protocol::Udp)));
        assert!(!any.overlaps(&port(None, 81, 80, Protocol::Tcp)));
    }
}
