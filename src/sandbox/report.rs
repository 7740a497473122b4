//! What the child tells its parent, and later `start`: one small datagram each.
//!
//! ```text
//! Placed                the tree stands and the root is still the host's: hooks may run (only with such hooks)
//! Ready                 everything is done but `start` (only with a start socket)
//! Listening(number)     the seccomp listener will be this descriptor of mine (only with SCMP_ACT_NOTIFY)
//! Executing             execve comes next; end of file after it means that it succeeded
//! Failed(step, errno)   the child ends now
//! ```
//! End of file without `Executing` or `Ready` means that the child was killed while being set up.
use crate::sys::descriptor;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::Timeout;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

/// Room for the kernel's or the step's own words.
const DETAIL: usize = 120;
const SIZE: usize = 8 + DETAIL;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Message {
    Placed,
    Ready,
    Listening(RawFd),
    Executing,
    Failed(Failure),
}

/// Why a step failed; made without allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) step: u16,
    pub(super) errno: i32,
    detail: [u8; DETAIL],
    detail_len: u8,
}

impl Failure {
    /// The detail is cut to the room there is.
    pub(super) fn new(step: usize, errno: Errno, detail: &[u8]) -> Self {
        let mut room = [0; DETAIL];
        let length = detail.len().min(DETAIL);
        room[..length].copy_from_slice(&detail[..length]);
        let step = u16::try_from(step).unwrap_or(u16::MAX);
        Self { step, errno: errno.raw_os_error(), detail: room, detail_len: length as u8 }
    }

    pub(super) fn detail(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.detail[..usize::from(self.detail_len)])
    }

    pub(super) fn io_error(&self) -> std::io::Error {
        std::io::Error::from_raw_os_error(self.errno)
    }
}

/// How long the parent, and later `start`, wait for the child's next word. It only makes system calls, so
/// one that says nothing hangs in the kernel, on a file system that does not answer, say.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

/// Has every wait on this end of the socket come to an end.
pub(super) fn limit_waits(socket: BorrowedFd<'_>, limit: Duration) -> Result<(), Errno> {
    rustix::net::sockopt::set_socket_timeout(socket, Timeout::Recv, Some(limit))
}

impl Message {
    pub(super) fn encode(&self) -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        match self {
            Self::Ready => bytes[0] = 1,
            Self::Executing => bytes[0] = 2,
            Self::Placed => bytes[0] = 4,
            Self::Listening(number) => {
                bytes[0] = 5;
                bytes[4..8].copy_from_slice(&number.to_ne_bytes());
            }
            Self::Failed(failure) => {
                bytes[0] = 3;
                bytes[1] = failure.detail_len;
                bytes[2..4].copy_from_slice(&failure.step.to_ne_bytes());
                bytes[4..8].copy_from_slice(&failure.errno.to_ne_bytes());
                bytes[8..].copy_from_slice(&failure.detail);
            }
        }
        bytes
    }

    fn decode(bytes: &[u8; SIZE]) -> Option<Self> {
        match bytes[0] {
            1 => Some(Self::Ready),
            2 => Some(Self::Executing),
            4 => Some(Self::Placed),
            5 => Some(Self::Listening(i32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]))),
            3 => {
                let mut detail = [0; DETAIL];
                detail.copy_from_slice(&bytes[8..]);
                Some(Self::Failed(Failure {
                    step: u16::from_ne_bytes([bytes[2], bytes[3]]),
                    errno: i32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
                    detail,
                    detail_len: bytes[1].min(DETAIL as u8),
                }))
            }
            _ => None,
        }
    }

    /// Sends the message as one datagram; safe between clone and execve.
    pub(super) fn send(&self, socket: BorrowedFd<'_>) -> Result<(), Errno> {
        rustix::net::send(socket, &self.encode(), rustix::net::SendFlags::NOSIGNAL).map(drop)
    }

    /// The next message; `None` at end of file.
    pub(super) fn receive(socket: BorrowedFd<'_>) -> Result<Option<Self>, Errno> {
        Ok(Self::receive_with(socket)?.map(|(message, _)| message))
    }

    /// As [`Message::receive`], of what has come already; `EAGAIN` when nothing has.
    pub(super) fn received(socket: BorrowedFd<'_>) -> Result<Option<Self>, Errno> {
        let waiting = PollFd::new(&socket, PollFlags::IN);
        match poll(&mut [waiting], Some(&Timespec::default()))? {
            0 => Err(Errno::AGAIN),
            _ => Self::receive(socket),
        }
    }

    /// The next message and the descriptor that came with it.
    pub(super) fn receive_with(socket: BorrowedFd<'_>) -> Result<Option<(Self, Option<OwnedFd>)>, Errno> {
        let mut bytes = [0; SIZE];
        loop {
            match descriptor::receive(socket, &mut bytes) {
                Ok((0, _)) => return Ok(None),
                Ok((_, sent)) => {
                    return Self::decode(&bytes).map(|message| Some((message, sent))).ok_or(Errno::BADMSG);
                }
                // The other end has ended with our word unread; what it said before comes after this, which the
                // kernel tells once.
                Err(Errno::INTR | Errno::CONNRESET) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd as _;

    fn sockets() -> (OwnedFd, OwnedFd) {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).expect("sockets")
    }

    #[test]
    fn a_message_survives_the_wire() {
        let failure = Failure::new(7, Errno::ACCESS, b"tmpfs: Bad value for 'size'");
        for message in [
            Message::Placed,
            Message::Ready,
            Message::Listening(9),
            Message::Executing,
            Message::Failed(failure),
        ] {
            assert_eq!(Message::decode(&message.encode()), Some(message));
        }
        assert_eq!(failure.detail(), "tmpfs: Bad value for 'size'");
    }

    #[test]
    fn the_last_word_of_one_that_never_heard_ours_is_read() {
        let (ours, theirs) = sockets();
        Message::Ready.send(ours.as_fd()).expect("sent");
        Message::Executing.send(theirs.as_fd()).expect("sent");
        drop(theirs);
        assert_eq!(Message::receive(ours.as_fd()), Ok(Some(Message::Executing)));
        assert_eq!(Message::receive(ours.as_fd()), Ok(None));
    }

    #[test]
    fn an_overlong_detail_is_cut() {
        assert_eq!(Failure::new(0, Errno::INVAL, &[b'x'; 500]).detail().len(), DETAIL);
    }

    #[test]
    fn a_wait_for_a_child_that_says_nothing_ends() {
        let (ours, _theirs) = sockets();
        limit_waits(ours.as_fd(), Duration::from_millis(20)).expect("limited");
        assert_eq!(Message::receive(ours.as_fd()), Err(Errno::AGAIN));
    }
}
