//! A store's nftables table: masquerade, published ports, and what route_localnet must not open.
//!
//! The table is a function of the leases whose links exist. Each change writes all of it in one
//! transaction (nft(8)), so that the kernel has the old rules or the new ones, never a mixture, and a
//! crash leaves nothing that the next change does not put right. Connections live on in conntrack.
//!
//! The table's comment is the digest of its text, so that one that is as it should be is left alone: whatever removes
//! something of nftables waits for a grace period of RCU when it is done, some 10 to 20 ms. For the same reason nothing is
//! removed where there is no table.
use super::record::Lock;
use super::subnet::Subnet;
use super::{Error, Protocol, PublishedPort, naming, netfilter};
use crate::sys::command::memory_file;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};

/// A supervisor's PATH need not have the administrator's directories.
const PROGRAMS: [&str; 3] = ["nft", "/usr/sbin/nft", "/sbin/nft"];

/// One published port and the instance that answers it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Published<'a> {
    pub(super) port: &'a PublishedPort,
    pub(super) instance: Ipv4Addr,
}

/// What a table's text is made from.
#[derive(Debug)]
pub(super) struct Firewall<'a> {
    pub(super) table: &'a str,
    pub(super) bridge: &'a str,
    pub(super) subnet: Subnet,
    /// No two of the same host address, port and protocol.
    pub(super) published: Vec<Published<'a>>,
}

/// A table on its way into the kernel.
#[derive(Debug)]
#[must_use = "the rules are there when it is waited for"]
pub(super) struct Change {
    table: String,
    /// None where the table is as it should be.
    nft: Option<Nft>,
}

/// nft at work. It reads from a file and writes to one.
#[derive(Debug)]
struct Nft {
    process: Child,
    messages: File,
}

impl Firewall<'_> {
    /// Begins to put the table in place of the one that is there, if that is another, while this lock keeps others from it.
    pub(super) fn begin(&self, lock: &Lock) -> Result<Change, Error> {
        let table = self.table;
        let rules = self.rules()?;
        let comment = naming::digest(&[rules.as_bytes()]);
        let there = netfilter::userdata(table).map_err(refused("look for", table))?;
        let (before, make) = match there {
            Some(userdata) if userdata.windows(comment.len()).any(|part| part == comment.as_bytes()) => {
                return Ok(Change { table: table.to_owned(), nft: None });
            }
            Some(_) => (removal(table), "add"),
            // Fails where one has been made meanwhile, by somebody who does not know of the lock.
            None => (String::new(), "create"),
        };
        let script = format!(
            "{before}{make} table ip {table} {{ comment \"{comment}\"; }}\ntable ip {table} {{\n{rules}}}\n"
        );
        Ok(Change { table: table.to_owned(), nft: Some(begin(&script, lock)?) })
    }

    fn rules(&self) -> Result<String, Error> {
        let Self { bridge, subnet, .. } = self;
        Ok(format!(
            "{maps}  chain prerouting {{
    type nat hook prerouting priority -100; policy accept;
    ip daddr != 127.0.0.0/8 fib daddr type local jump published
  }}
  chain output {{
    type nat hook output priority -100; policy accept;
    fib daddr type local jump published
  }}
  chain published {{
    dnat ip to ip daddr . tcp dport map @tcp_address
    dnat ip to tcp dport map @tcp_any
    dnat ip to ip daddr . udp dport map @udp_address
    dnat ip to udp dport map @udp_any
  }}
  chain postrouting {{
    type nat hook postrouting priority 100; policy accept;
    ip saddr {subnet} oifname != \"{bridge}\" masquerade
    ip saddr {subnet} oifname \"{bridge}\" ct status dnat masquerade
    ip saddr 127.0.0.0/8 oifname \"{bridge}\" masquerade
  }}
  chain loopback {{
    type filter hook prerouting priority -300; policy accept;
    iifname \"{bridge}\" ip daddr 127.0.0.0/8 drop
    iifname \"{bridge}\" ip saddr 127.0.0.0/8 drop
  }}
  chain forward {{
    type filter hook forward priority 0; policy accept;
    iifname != \"{bridge}\" oifname \"{bridge}\" ct state established,related accept
    iifname != \"{bridge}\" oifname \"{bridge}\" ct status dnat accept
    iifname != \"{bridge}\" oifname \"{bridge}\" drop
  }}
",
            maps = self.maps()?,
        ))
    }

    /// Published ports as maps: one lookup for a packet, however many ports there are.
    fn maps(&self) -> Result<String, Error> {
        let mut text = String::new();
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let (mut address, mut any) = (Vec::new(), Vec::new());
            for Published { port, instance } in
                self.published.iter().filter(|one| one.port.protocol == protocol)
            {
                let target = format!("{instance} . {}", port.container_port);
                match port.host_ipv4()? {
                    Some(host) => address.push(format!("{host} . {} : {target}", port.host_port)),
                    None => any.push(format!("{} : {target}", port.host_port)),
                }
            }
            push_map(&mut text, &format!("{protocol}_address"), "ipv4_addr . inet_service", &address);
            push_map(&mut text, &format!("{protocol}_any"), "inet_service", &any);
        }
        Ok(text)
    }
}

fn push_map(text: &mut String, name: &str, key: &str, elements: &[String]) {
    // Writing to a String does not fail.
    let _ = writeln!(text, "  map {name} {{\n    type {key} : ipv4_addr . inet_service");
    if !elements.is_empty() {
        let _ = writeln!(text, "    elements = {{ {} }}", elements.join(", "));
    }
    text.push_str("  }\n");
}

/// Removes the table. One that is gone is no error.
pub(super) fn remove(table: &str) -> Result<(), Error> {
    netfilter::remove(table).map_err(refused("remove", table))
}

fn refused(action: &'static str, table: &str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Table { action, table: table.to_owned(), source }
}

/// `delete table` alone fails when there is none, and `destroy` needs Linux 6.3.
fn removal(table: &str) -> String {
    format!("add table ip {table}\ndelete table ip {table}\n")
}

impl Change {
    /// Waits until the table is in the kernel.
    pub(super) fn wait(mut self) -> Result<(), Error> {
        let Some(Nft { mut process, mut messages }) = self.nft.take() else { return Ok(()) };
        let status = process.wait().map_err(|source| Error::RunNft { source })?;
        if status.success() {
            return Ok(());
        }
        let mut text = Vec::new();
        messages
            .rewind()
            .and_then(|()| messages.read_to_end(&mut text))
            .map_err(|source| Error::RunNft { source })?;
        let message = String::from_utf8_lossy(&text);
        let message = message.lines().next().unwrap_or("no message").trim().to_owned();
        Err(Error::Rules { table: self.table.clone(), status, message })
    }
}

impl Drop for Change {
    /// Nothing of it happens after whatever undoes it.
    fn drop(&mut self) {
        if let Some(mut nft) = self.nft.take() {
            let _ = nft.process.wait();
        }
    }
}

/// Gives `script` to nft as one transaction. It is not ended with this process and must not be late: it holds the lock, too.
fn begin(script: &str, lock: &Lock) -> Result<Nft, Error> {
    let failed = |source| Error::RunNft { source };
    let mut rules = memory_file("nft").map_err(failed)?;
    rules.write_all(script.as_bytes()).and_then(|()| rules.rewind()).map_err(failed)?;
    let messages = memory_file("nft").map_err(failed)?;
    for program in PROGRAMS {
        let mut command = Command::new(program);
        command.args(["-f", "-"]).env("LC_ALL", "C").stdout(Stdio::null());
        command.stdin(rules.try_clone().map_err(failed)?).stderr(messages.try_clone().map_err(failed)?);
        lock.share_with(&mut command).map_err(failed)?;
        match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(failed(source)),
            Ok(process) => return Ok(Nft { process, messages }),
        }
    }
    Err(Error::NftMissing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(ports: &[PublishedPort]) -> String {
        let instance = Ipv4Addr::new(10, 208, 0, 2);
        let firewall = Firewall {
            table: "wharf_0",
            bridge: "wharf0",
            subnet: Subnet::new(instance, 20),
            published: ports.iter().map(|port| Published { port, instance }).collect(),
        };
        firewall.rules().expect("text")
    }

    fn ports(texts: &[&str]) -> Vec<PublishedPort> {
        texts.iter().map(|text| text.parse().expect("port")).collect()
    }

    #[test]
    fn each_port_is_in_the_map_of_its_protocol_and_address() {
        let text = text(&ports(&["8080:80", "127.0.0.1:9090:90", "53:5353/udp", "8443:443"]));
        let map =
            |name: &str| text.split(&format!("map {name} {{")).nth(1).and_then(|rest| rest.split('}').next());
        assert!(map("tcp_any").expect("map").contains("{ 8080 : 10.208.0.2 . 80, 8443 : 10.208.0.2 . 443 "));
        assert!(map("tcp_address").expect("map").contains("{ 127.0.0.1 . 9090 : 10.208.0.2 . 90 "));
        assert!(map("udp_any").expect("map").contains("{ 53 : 10.208.0.2 . 5353 "));
        assert!(!map("udp_address").expect("map").contains("elements"));
    }

    #[test]
    fn only_the_subnet_is_masqueraded() {
        let text = text(&[]);
        assert!(text.contains("ip saddr 10.208.0.0/20 oifname != \"wharf0\" masquerade"), "{text}");
    }

    /// CVE-2020-8558: route_localnet on the bridge must not open the host's loopback to instances.
    #[test]
    fn instances_cannot_send_to_the_hosts_loopback() {
        assert!(text(&[]).contains("iifname \"wharf0\" ip daddr 127.0.0.0/8 drop"));
    }

    #[test]
    fn a_change_replaces_the_table_in_one_script() {
        assert_eq!(removal("wharf_0"), "add table ip wharf_0\ndelete table ip wharf_0\n");
    }
}
