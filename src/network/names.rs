//! Name files of an instance: `/etc/hosts` and `/etc/resolv.conf`.
use super::{Error, Mode};
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

const HOST_RESOLV_CONF: &str = "/etc/resolv.conf";
/// Where systemd-resolved lists the servers behind its loopback stub (systemd-resolved.service(8)).
const RESOLVED_UPSTREAM: &str = "/run/systemd/resolve/resolv.conf";

/// Text of `/etc/hosts` for an instance (hosts(5)). Without an address of its own the instance's name
/// is a name of the loopback.
///
/// Names that no hosts file can carry (empty, with white space or `#`) are left out, so that no name
/// adds a line of its own; [`super::ExtraHost`] refuses them where they are typed.
pub fn hosts_file(hostname: &str, address: Option<Ipv4Addr>, extra: &[(String, IpAddr)]) -> String {
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
         ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n",
    );
    let own = (hostname, IpAddr::V4(address.unwrap_or(Ipv4Addr::LOCALHOST)));
    let extra = extra.iter().map(|(name, address)| (name.as_str(), *address));
    let already_there = |name: &str| name == "localhost" && address.is_none();
    for (name, address) in std::iter::once(own).chain(extra) {
        if fits_hosts_file(name) && !already_there(name) {
            // Writing to a String does not fail.
            let _ = writeln!(text, "{address}\t{name}");
        }
    }
    text
}

fn fits_hosts_file(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '#')
}

/// Text of `/etc/resolv.conf` for an instance, from the host's; a loopback resolver is of no use in
/// another network namespace and is left out.
///
/// [`Mode::Host`] shares the host's loopback and gets the file as it is. [`Mode::Bridge`] keeps the
/// servers an IPv4-only instance can reach; when the host names only a loopback stub, the servers
/// systemd-resolved records behind it are taken. [`Mode::None`] reaches no server and gets none.
///
/// # Errors
/// When the host's file cannot be read for another reason than being missing.
pub fn resolv_conf(mode: Mode) -> Result<String, Error> {
    let host = read_or_empty(Path::new(HOST_RESOLV_CONF))?;
    match mode {
        Mode::Host => Ok(host),
        Mode::None => Ok(keep_reachable(&host, |_| false)),
        Mode::Bridge => {
            let text = keep_reachable(&host, reachable_from_bridge);
            if names_a_server(&text) {
                return Ok(text);
            }
            let upstream =
                keep_reachable(&read_or_empty(Path::new(RESOLVED_UPSTREAM))?, reachable_from_bridge);
            Ok(if names_a_server(&upstream) { upstream } else { text })
        }
    }
}

/// The IPv4 servers the host asks, which a subnet of ours must not cover.
pub(super) fn host_nameservers() -> Result<Vec<Ipv4Addr>, Error> {
    let host = read_or_empty(Path::new(HOST_RESOLV_CONF))? + &read_or_empty(Path::new(RESOLVED_UPSTREAM))?;
    Ok(host.lines().filter_map(nameserver).filter_map(|server| server.parse().ok()).collect())
}

fn read_or_empty(path: &Path) -> Result<String, Error> {
    match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(source) => Err(Error::ReadFile { path: path.to_owned(), source }),
    }
}

fn reachable_from_bridge(server: &str) -> bool {
    server.parse::<Ipv4Addr>().is_ok_and(|address| !address.is_loopback() && !address.is_unspecified())
}

/// Drops comments, which speak of the host, and the servers that `reachable` refuses.
fn keep_reachable(text: &str, reachable: impl Fn(&str) -> bool) -> String {
    text.lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty() && !line.starts_with(['#', ';']))
        .filter(|line| nameserver(line).is_none_or(&reachable))
        .flat_map(|line| [line, "\n"])
        .collect()
}

fn names_a_server(text: &str) -> bool {
    text.lines().any(|line| nameserver(line).is_some())
}

/// The server of a `nameserver` line (resolv.conf(5): the keyword starts the line).
fn nameserver(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("nameserver")?;
    rest.starts_with([' ', '\t']).then(|| rest.split_whitespace().next()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_file_names_the_instance_and_the_extra_hosts() {
        let extra = [("db".to_owned(), IpAddr::from([10, 1, 2, 3]))];
        let text = hosts_file("web", Some(Ipv4Addr::new(10, 208, 0, 2)), &extra);
        assert!(text.starts_with("127.0.0.1\tlocalhost\n::1\tlocalhost"), "{text}");
        assert!(text.ends_with("10.208.0.2\tweb\n10.1.2.3\tdb\n"), "{text}");
    }

    #[test]
    fn an_instance_without_an_address_finds_its_name_on_the_loopback() {
        assert!(hosts_file("web", None, &[]).ends_with("127.0.0.1\tweb\n"));
        assert_eq!(hosts_file("localhost", None, &[]).matches("127.0.0.1").count(), 1);
    }

    #[test]
    fn no_name_adds_a_line() {
        let extra = [("a\n6.6.6.6 bank".to_owned(), IpAddr::from([1, 1, 1, 1]))];
        let text = hosts_file("b c", Some(Ipv4Addr::new(10, 0, 0, 2)), &extra);
        assert!(!text.contains("6.6.6.6") && !text.contains("10.0.0.2"), "{text}");
    }

    #[test]
    fn loopback_and_ipv6_servers_are_left_out_and_options_are_kept() {
        let host = "# comment\nnameserver 127.0.0.53\nnameserver\t9.9.9.9\nnameserver ::1\n\
                    nameserver 2620:fe::fe\nsearch example.org\noptions ndots:2\n";
        assert_eq!(
            keep_reachable(host, reachable_from_bridge),
            "nameserver\t9.9.9.9\nsearch example.org\noptions ndots:2\n"
        );
    }

    #[test]
    fn only_a_loopback_server_leaves_none() {
        let text = keep_reachable("nameserver 127.0.0.53\noptions edns0\n", reachable_from_bridge);
        assert!(!names_a_server(&text));
        assert_eq!(text, "options edns0\n");
    }

    #[test]
    fn a_longer_keyword_is_no_nameserver() {
        assert_eq!(nameserver("nameservers 1.1.1.1"), None);
        assert_eq!(nameserver("nameserver"), None);
        assert_eq!(nameserver("nameserver 1.1.1.1 # quad one"), Some("1.1.1.1"));
    }
}
