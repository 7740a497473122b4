//! One netlink socket (netlink(7)): a request answered by an acknowledgement, or by a dump.
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader,
    NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use netlink_sys::{Socket, SocketAddr};
use std::io;
use std::marker::PhantomData;

/// The kernel makes dumps of at most 32 KiB a message (netlink_dump in af_netlink.c).
const RECEIVE_BYTES: usize = 64 * 1024;
/// How often a dump is asked for again when the tables changed while it was made.
const DUMP_ATTEMPTS: u32 = 10;

/// A socket that speaks messages `M` for the network namespace it was opened in, wherever its user goes
/// later.
#[derive(Debug)]
pub(crate) struct Netlink<M> {
    socket: Socket,
    sequence: u32,
    messages: PhantomData<M>,
}

/// What a reply held, once the kernel has said it is complete.
struct Reply<M> {
    messages: Vec<M>,
    /// The tables changed while they were read.
    interrupted: bool,
}

impl<M> Netlink<M>
where
    M: NetlinkSerializable + NetlinkDeserializable + Clone + Into<NetlinkPayload<M>>,
{
    /// Opens the socket in the calling thread's network namespace. `protocol` is `NETLINK_ROUTE` and its like.
    pub(crate) fn open(protocol: isize) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0, messages: PhantomData })
    }

    /// Sends a change and waits until the kernel has made it. `flags` are `NLM_F_CREATE` and its like.
    pub(crate) fn change(&mut self, message: M, flags: u16) -> io::Result<()> {
        self.send(message, NLM_F_REQUEST | NLM_F_ACK | flags)?;
        self.receive().map(drop)
    }

    /// Sends changes that the kernel makes together, or not at all, and waits for its word about the one that asks for
    /// it with `NLM_F_ACK`, or for an error of any: they share one sequence number.
    pub(crate) fn change_together(&mut self, messages: impl IntoIterator<Item = (M, u16)>) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let packets =
            messages.into_iter().map(|(message, flags)| self.packet(message, NLM_F_REQUEST | flags));
        let bytes = packets.collect::<Vec<_>>().concat();
        self.socket.send(&bytes, 0)?;
        self.receive().map(drop)
    }

    /// Asks about one object.
    pub(crate) fn get(&mut self, request: M) -> io::Result<Option<M>> {
        self.send(request, NLM_F_REQUEST | NLM_F_ACK)?;
        Ok(self.receive()?.messages.pop())
    }

    /// Reads a whole table.
    pub(crate) fn dump(&mut self, request: &M) -> io::Result<Vec<M>> {
        for _ in 0..DUMP_ATTEMPTS {
            self.send(request.clone(), NLM_F_REQUEST | NLM_F_DUMP)?;
            let reply = self.receive()?;
            if !reply.interrupted {
                return Ok(reply.messages);
            }
        }
        Err(io::Error::other("the tables of the kernel changed each time they were read"))
    }

    fn send(&mut self, message: M, flags: u16) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        self.socket.send(&self.packet(message, flags), 0).map(drop)
    }

    fn packet(&self, message: M, flags: u16) -> Vec<u8> {
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        header.sequence_number = self.sequence;
        let mut packet = NetlinkMessage::new(header, message.into());
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        bytes
    }

    fn receive(&self) -> io::Result<Reply<M>> {
        let mut reply = Reply { messages: Vec::new(), interrupted: false };
        let mut buffer = vec![0; RECEIVE_BYTES];
        loop {
            let received = match self.socket.recv(&mut buffer.as_mut_slice(), libc::MSG_TRUNC) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                received => received?,
            };
            let datagram = buffer.get(..received).ok_or_else(|| malformed("a message over 64 KiB"))?;
            if self.read_datagram(datagram, &mut reply)? {
                return Ok(reply);
            }
        }
    }

    /// Reads the messages of one datagram; true when the last one completed the reply.
    fn read_datagram(&self, mut datagram: &[u8], reply: &mut Reply<M>) -> io::Result<bool> {
        while let Some(length) = datagram.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes) as usize) {
            let bytes = datagram.get(..length).filter(|bytes| bytes.len() >= 16);
            let bytes = bytes.ok_or_else(|| malformed("a message cut short"))?;
            datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
            // A kind of link or route that the crate cannot read is none of ours.
            let Ok(message) = NetlinkMessage::<M>::deserialize(bytes) else { continue };
            if message.header.sequence_number != self.sequence {
                continue;
            }
            reply.interrupted |= message.header.flags & NLM_F_DUMP_INTR != 0;
            match message.payload {
                NetlinkPayload::Error(error) if error.code.is_none() => return Ok(true),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                NetlinkPayload::Done(_) => return Ok(true),
                NetlinkPayload::InnerMessage(message) => reply.messages.push(message),
                NetlinkPayload::Overrun(_) => return Err(io::Error::from_raw_os_error(libc::ENOBUFS)),
                _ => {}
            }
        }
        Ok(false)
    }
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the kernel sent {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_route::RouteNetlinkMessage;
    use netlink_packet_route::link::{LinkAttribute, LinkMessage};
    use netlink_sys::protocols::NETLINK_ROUTE;

    #[test]
    fn a_dump_of_links_has_the_loopback() {
        let mut netlink = Netlink::open(NETLINK_ROUTE).expect("open");
        let links = netlink.dump(&RouteNetlinkMessage::GetLink(LinkMessage::default())).expect("dump");
        let has_loopback = links.iter().any(|message| {
            matches!(message, RouteNetlinkMessage::NewLink(link)
                if link.attributes.contains(&LinkAttribute::IfName("lo".to_owned())))
        });
        assert!(has_loopback);
    }

    #[test]
    fn a_refused_change_is_the_kernels_error_and_the_socket_goes_on() {
        let mut netlink = Netlink::open(NETLINK_ROUTE).expect("open");
        let mut link = LinkMessage::default();
        link.header.index = i32::MAX as u32;
        for _ in 0..2 {
            let error =
                netlink.change(RouteNetlinkMessage::DelLink(link.clone()), 0).expect_err("no such link");
            assert!(matches!(error.raw_os_error(), Some(libc::ENODEV | libc::EPERM)), "{error}");
        }
    }
}
