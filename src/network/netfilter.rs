//! Messages of netfilter's netlink (nfnetlink.c), and what is asked and removed of nftables by them (nf_tables_api.c).
use crate::sys::netlink::Netlink;
use netlink_packet_core::{
    DecodeError, DefaultNla, Emitable as _, NLM_F_ACK, NetlinkDeserializable, NetlinkHeader, NetlinkPayload,
    NetlinkSerializable, NlasIterator,
};
use netlink_sys::protocols::NETLINK_NETFILTER;
use std::cell::RefCell;
use std::io;

/// `NFNL_SUBSYS_NFTABLES`.
const NFTABLES: u16 = 10;
/// `NFNL_MSG_BATCH_BEGIN`, `NFNL_MSG_BATCH_END`.
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
/// `NFT_MSG_GETTABLE`, `NFT_MSG_DELTABLE`.
const GET_TABLE: u16 = NFTABLES << 8 | 1;
const DELETE_TABLE: u16 = NFTABLES << 8 | 2;
/// `NFTA_TABLE_NAME`, `NFTA_TABLE_USERDATA`.
const TABLE_NAME: u16 = 1;
const TABLE_USERDATA: u16 = 6;

/// `struct nfgenmsg`: family, version, resource identifier.
pub(super) type Header = [u8; 4];

/// Of a message about IPv4.
pub(super) const IPV4: Header = [libc::AF_INET as u8, 0, 0, 0];
/// Of a batch for nftables; the identifier is in network order.
const BATCH: Header = [libc::AF_UNSPEC as u8, 0, 0, NFTABLES as u8];

/// A message of a subsystem of netfilter: its type, and what follows.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) kind: u16,
    pub(super) header: Header,
    pub(super) attributes: Vec<u8>,
}

impl NetlinkSerializable for Message {
    fn message_type(&self) -> u16 {
        self.kind
    }
    fn buffer_len(&self) -> usize {
        self.header.len() + self.attributes.len()
    }
    fn serialize(&self, buffer: &mut [u8]) {
        let (header, attributes) = buffer.split_at_mut(self.header.len());
        header.copy_from_slice(&self.header);
        attributes.copy_from_slice(&self.attributes);
    }
}

impl NetlinkDeserializable for Message {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        let attributes = payload.get(IPV4.len()..).unwrap_or_default().to_vec();
        Ok(Self { kind: header.message_type, header: IPV4, attributes })
    }
}

impl From<Message> for NetlinkPayload<Message> {
    fn from(message: Message) -> Self {
        Self::InnerMessage(message)
    }
}

/// The value of the first attribute of a kind.
pub(super) fn find(attributes: &[u8], kind: u16) -> Option<Vec<u8>> {
    let found =
        NlasIterator::new(attributes).map_while(Result::ok).find(|attribute| attribute.kind() == kind)?;
    Some(found.value().to_vec())
}

/// What a table of IPv4 carries beside its rules, its comment among it; `None` when there is no such table.
pub(super) fn userdata(table: &str) -> io::Result<Option<Vec<u8>>> {
    with_socket(|netlink| match netlink.get(about(GET_TABLE, table)) {
        Err(error) if is_absent(&error) => Ok(None),
        found => Ok(found?.map(|message| find(&message.attributes, TABLE_USERDATA).unwrap_or_default())),
    })
}

/// Removes a table of IPv4 with all that is in it. One that is gone is no error.
pub(super) fn remove(table: &str) -> io::Result<()> {
    let batch = |kind| Message { kind, header: BATCH, attributes: Vec::new() };
    let messages = [(batch(BATCH_BEGIN), 0), (about(DELETE_TABLE, table), NLM_F_ACK), (batch(BATCH_END), 0)];
    with_socket(|netlink| match netlink.change_together(messages) {
        Err(error) if is_absent(&error) => Ok(()),
        done => done,
    })
}

fn about(kind: u16, table: &str) -> Message {
    let mut name = table.as_bytes().to_vec();
    name.push(0);
    let name = DefaultNla::new(TABLE_NAME, name);
    let mut attributes = vec![0; name.buffer_len()];
    name.emit(&mut attributes);
    Message { kind, header: IPV4, attributes }
}

/// A kernel without nftables has no tables.
fn is_absent(error: &io::Error) -> bool {
    let absent = [libc::ENOENT, libc::EINVAL, libc::EOPNOTSUPP, libc::EPROTONOSUPPORT];
    error.raw_os_error().is_some_and(|errno| absent.contains(&errno))
}

thread_local! {
    /// Stays open until the thread ends: closing a socket of netfilter's waits until what was removed is freed, a grace
    /// period of RCU (nft_rcv_nl_event), in which whoever waits for us would wait too.
    static SOCKET: RefCell<Option<Netlink<Message>>> = const { RefCell::new(None) };
}

/// Threads that ask about tables stay in the network namespace that they begin in.
fn with_socket<T>(work: impl FnOnce(&mut Netlink<Message>) -> io::Result<T>) -> io::Result<T> {
    SOCKET.with_borrow_mut(|kept| match kept {
        Some(netlink) => work(netlink),
        none => work(none.insert(Netlink::open(NETLINK_NETFILTER)?)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_attributes_are_none() {
        let whole = about(GET_TABLE, "wharf_0").attributes;
        assert_eq!(find(&whole, TABLE_NAME).as_deref(), Some(&b"wharf_0\0"[..]));
        for length in 0..whole.len() {
            assert_eq!(find(&whole[..length], TABLE_NAME), None);
        }
        assert_eq!(find(&[3, 0, 0, 0, 1, 2, 3], 1), None);
    }
}
