//! Flows of datagrams that the kernel remembers (ctnetlink, nf_conntrack_netlink.c).
//!
//! Address translation is decided once for a flow. A sender that never pauses for as long as the kernel
//! remembers would go on to be sent where the port led before: to a socket of ours that holds it, or
//! to an instance that is gone.
use super::Error;
use super::netfilter::{IPV4, Message, find};
use crate::sys::netlink::Netlink;
use netlink_packet_core::{DefaultNla, Emitable, NLA_F_NESTED};
use netlink_sys::protocols::NETLINK_NETFILTER;
use std::io;

/// `NFNL_SUBSYS_CTNETLINK << 8`, with `IPCTNL_MSG_CT_*` below.
const SUBSYSTEM: u16 = 1 << 8;
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;

/// Attributes: `CTA_TUPLE_ORIG`, in it `CTA_TUPLE_PROTO`, in it `CTA_PROTO_NUM` and `CTA_PROTO_DST_PORT`.
const ORIGINAL_TUPLE: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
const PROTOCOL_NUMBER: u16 = 1;
const PROTOCOL_DESTINATION_PORT: u16 = 3;

/// Makes the kernel forget the UDP flows to these ports, whatever address they were sent to. Their next
/// datagram is decided upon anew, so that one flow too many costs nothing but a look at the rules.
pub(super) fn forget_udp(ports: &[u16]) -> Result<(), Error> {
    match forget(ports) {
        // A kernel without ctnetlink: its flows end when they pause.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EPROTONOSUPPORT)) => Ok(()),
        done => done.map_err(|source| Error::Link {
            action: "make the kernel forget UDP flows to the published ports".to_owned(),
            source,
        }),
    }
}

fn forget(ports: &[u16]) -> io::Result<()> {
    let mut netlink = Netlink::open(NETLINK_NETFILTER)?;
    let flows = netlink.dump(&Message { kind: GET, header: IPV4, attributes: Vec::new() })?;
    for tuple in flows.iter().filter_map(|flow| find(&flow.attributes, ORIGINAL_TUPLE)) {
        if !udp_destination(&tuple).is_some_and(|port| ports.contains(&port)) {
            continue;
        }
        let original = DefaultNla::new(ORIGINAL_TUPLE | NLA_F_NESTED, tuple);
        let mut attributes = vec![0; original.buffer_len()];
        original.emit(&mut attributes);
        match netlink.change(Message { kind: DELETE, header: IPV4, attributes }, 0) {
            // It ended by itself meanwhile.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            done => done?,
        }
    }
    Ok(())
}

fn udp_destination(tuple: &[u8]) -> Option<u16> {
    let protocol = find(tuple, TUPLE_PROTOCOL)?;
    if find(&protocol, PROTOCOL_NUMBER)? != [libc::IPPROTO_UDP as u8] {
        return None;
    }
    let port = find(&protocol, PROTOCOL_DESTINATION_PORT)?;
    <[u8; 2]>::try_from(port).ok().map(u16::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let attribute = DefaultNla::new(kind, value.to_vec());
        let mut bytes = vec![0; attribute.buffer_len()];
        attribute.emit(&mut bytes);
        bytes
    }

    fn tuple(protocol: u8, port: u16) -> Vec<u8> {
        let number = attribute(PROTOCOL_NUMBER, &[protocol]);
        let source = attribute(2, &4000u16.to_be_bytes());
        let destination = attribute(PROTOCOL_DESTINATION_PORT, &port.to_be_bytes());
        let inner = [number, source, destination].concat();
        [attribute(1 | NLA_F_NESTED, &[0; 8]), attribute(TUPLE_PROTOCOL | NLA_F_NESTED, &inner)].concat()
    }

    #[test]
    fn only_udp_flows_have_a_udp_port() {
        assert_eq!(udp_destination(&tuple(17, 8053)), Some(8053));
        assert_eq!(udp_destination(&tuple(6, 8053)), None);
    }

    #[test]
    fn damaged_attributes_are_no_flow() {
        let whole = tuple(17, 8053);
        for length in 0..whole.len() {
            udp_destination(&whole[..length]);
        }
        assert_eq!(udp_destination(&[3, 0, 0, 0, 1, 2, 3]), None);
        assert_eq!(udp_destination(&[]), None);
    }
}
