//! The supervisor's socket: commands connect, ask one thing each, and some wait for the answer.
use crate::service::client::socket_address;
use crate::service::control::{LONGEST_MESSAGE, Reply, Request};
use crate::service::roots::make_private;
use crate::service::{Error, Instance, LastExit};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with};
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};

/// Commands at once; a further one waits in the listen queue.
const MOST: usize = 64;

/// The listening socket and who is connected.
#[derive(Debug)]
pub(super) struct Connections {
    pub(super) listener: UnixListener,
    pub(super) open: Vec<Connection>,
}

/// One command.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: UnixStream,
    received: Vec<u8>,
    /// It has asked, and waits for the instance's end.
    pub(super) waits: bool,
    /// It has asked that the instance be paused while it is open.
    pub(super) pauses: bool,
    closed: bool,
}

impl Connections {
    /// Listens at the instance's place below the runtime directory. Only root may connect: the socket's
    /// mode is 0600 and its directory's 0700.
    pub(super) fn listen(instance: &Instance) -> Result<Self, Error> {
        let directory = instance.roots().control();
        make_private(&directory)?;
        let path = instance.control_socket();
        // Of a supervisor that was killed; this one holds the lock.
        let _ = std::fs::remove_file(&path);
        let failed = || Error::file("listen on", &path);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory: OwnedFd = rustix::fs::open(&directory, flags, Mode::empty()).map_err(failed())?;
        let address = socket_address(&directory, instance).map_err(failed())?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(failed())?;
        rustix::fs::fchmod(&socket, Mode::from_raw_mode(0o600)).map_err(failed())?;
        bind(&socket, &address).map_err(failed())?;
        listen(&socket, 16).map_err(failed())?;
        Ok(Self { listener: UnixListener::from(socket), open: Vec::new() })
    }

    /// Takes on those who have connected.
    pub(super) fn accept(&mut self) {
        while self.open.len() < MOST
            && let Ok((stream, _)) = self.listener.accept()
        {
            if stream.set_nonblocking(true).is_ok() {
                self.open.push(Connection {
                    stream,
                    received: Vec::new(),
                    waits: false,
                    pauses: false,
                    closed: false,
                });
            }
        }
    }

    /// Removes those that are closed; tells whether the last that wanted a pause was among them.
    pub(super) fn remove_closed(&mut self) -> bool {
        let paused = self.is_pause_wanted();
        self.open.retain(|connection| !connection.is_closed());
        paused && !self.is_pause_wanted()
    }

    /// Hangs up on those that want a pause, for it is over.
    pub(super) fn end_pauses(&mut self) {
        self.open.iter_mut().filter(|connection| connection.pauses).for_each(Connection::close);
    }

    fn is_pause_wanted(&self) -> bool {
        self.open.iter().any(|connection| connection.pauses)
    }

    pub(super) fn is_full(&self) -> bool {
        self.open.len() >= MOST
    }

    /// Tells everyone who waits, and hangs up on all.
    pub(super) fn tell_end(self, exit: Option<&LastExit>) {
        for mut connection in self.open {
            connection.reply(&Reply::Ended(exit.cloned()));
        }
    }
}

/// What was read from a connection.
#[derive(Debug)]
pub(super) enum Heard {
    /// A whole request.
    Request(Request),
    /// Not all of it yet.
    Part,
    /// It was closed, or speaks another language.
    Nothing,
}

impl Connection {
    /// Marks it for removal, so that the others keep their places until the round is over.
    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(super) fn read(&mut self) -> Heard {
        let mut buffer = [0; 1024];
        match self.stream.read(&mut buffer) {
            Ok(count) if count > 0 && !self.waits && !self.pauses => {
                self.received.extend_from_slice(&buffer[..count]);
            }
            Err(error) if error.raw_os_error() == Some(Errno::AGAIN.raw_os_error()) => return Heard::Part,
            _ => return Heard::Nothing,
        }
        let Some(end) = self.received.iter().position(|byte| *byte == b'\n') else {
            return if self.received.len() > LONGEST_MESSAGE { Heard::Nothing } else { Heard::Part };
        };
        serde_json::from_slice(&self.received[..end]).map_or(Heard::Nothing, Heard::Request)
    }

    /// An answer is shorter than an empty socket's buffer; who does not read it has gone.
    pub(super) fn reply(&mut self, reply: &Reply) {
        if let Ok(mut line) = serde_json::to_vec(reply) {
            line.push(b'\n');
            let _ = self.stream.write_all(&line);
        }
    }
}
