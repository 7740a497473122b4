//! A connection to systemd over a bus, or past it over systemd's own socket.
use super::Error;
use super::sockets::{Manager, connect};
use super::wire::{self, FIXED_HEADER, Kind, Message, Method, Value};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// As long as systemd's own default for a call.
const DEADLINE: Duration = Duration::from_secs(25);

const HELLO: Method = bus("Hello");
const ADD_MATCH: Method = bus("AddMatch");
const SUBSCRIBE: Method = manager("Subscribe");
/// Signals that matter: `JobRemoved(u id, o job, s unit, s result)`.
const JOBS: &str = "type='signal',sender='org.freedesktop.systemd1',interface='org.freedesktop.systemd1.Manager',member='JobRemoved'";

const fn bus(member: &'static str) -> Method {
    Method {
        destination: "org.freedesktop.DBus",
        path: "/org/freedesktop/DBus",
        interface: "org.freedesktop.DBus",
        member,
    }
}

/// A method of systemd's manager object, `org.freedesktop.systemd1(5)`.
pub(super) const fn manager(member: &'static str) -> Method {
    Method {
        destination: "org.freedesktop.systemd1",
        path: "/org/freedesktop/systemd1",
        interface: "org.freedesktop.systemd1.Manager",
        member,
    }
}

/// `org.freedesktop.DBus.Properties.Get` of that object.
pub(super) const GET_PROPERTY: Method = Method {
    destination: "org.freedesktop.systemd1",
    path: "/org/freedesktop/systemd1",
    interface: "org.freedesktop.DBus.Properties",
    member: "Get",
};

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
struct JobEnd {
    job: String,
    result: String,
}

/// A conversation with systemd, which has to come to its end by one deadline.
#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    serial: u32,
    until: Instant,
    /// A job may end before the answer that names it has been read.
    ended: Vec<JobEnd>,
}

impl Connection {
    /// Connects and asks to be told of jobs that end.
    pub(super) fn open(manager: Manager) -> Result<Self, Error> {
        let (stream, through_bus) = connect(manager)?;
        // In a user namespace our uid is another than the peer sees, who knows it from the kernel anyway.
        let uid = (manager == Manager::System).then(|| rustix::process::geteuid().as_raw());
        Self::over(stream, through_bus, uid)
    }

    fn over(stream: UnixStream, through_bus: bool, uid: Option<u32>) -> Result<Self, Error> {
        let until = Instant::now() + DEADLINE;
        let mut connection = Self { stream, serial: 0, until, ended: Vec::new() };
        connection.authenticate(uid)?;
        if through_bus {
            connection.call(HELLO, &[])?;
            connection.call(ADD_MATCH, &[Value::text(JOBS)])?;
            connection.call(SUBSCRIBE, &[])?;
        }
        Ok(connection)
    }

    /// Calls a method and waits for its answer; the strings that the answer begins with.
    pub(super) fn call(&mut self, method: Method, arguments: &[Value]) -> Result<Vec<String>, Error> {
        self.serial += 1;
        let serial = self.serial;
        self.send(&wire::call(method, serial, arguments), method.member)?;
        loop {
            let message = self.receive(method.member)?;
            let answers = message.reply_to == Some(serial);
            match message.kind {
                Kind::Return if answers => return Ok(message.texts()),
                Kind::Error if answers => {
                    let text = message.texts().into_iter().next().unwrap_or_default();
                    return Err(Error::Refused { method: method.member, name: message.error, text });
                }
                _ => self.note(&message),
            }
        }
    }

    /// Calls a method that begins a job, and waits until the job is done.
    pub(super) fn job(&mut self, method: Method, unit: &str, arguments: &[Value]) -> Result<(), Error> {
        let answer = self.call(method, arguments)?;
        let job = answer.into_iter().next().unwrap_or_default();
        loop {
            if let Some(ended) = self.ended.iter().find(|ended| ended.job == job) {
                let result = ended.result.clone();
                // systemd.job: a stop that finds nothing to do is "done" as well.
                return if result == "done" {
                    Ok(())
                } else {
                    Err(Error::Job { unit: unit.to_owned(), result })
                };
            }
            let message = self.receive(method.member)?;
            self.note(&message);
        }
    }

    fn note(&mut self, message: &Message) {
        if message.kind == Kind::Signal
            && message.member == "JobRemoved"
            && let [job, _, result] = message.texts().as_slice()
        {
            self.ended.push(JobEnd { job: job.clone(), result: result.clone() });
        }
    }

    /// "Authentication Protocol": the kernel tells the peer who we are, and the text may repeat it.
    fn authenticate(&mut self, uid: Option<u32>) -> Result<(), Error> {
        let uid = uid.map(|uid| format!(" {}", hex::encode(uid.to_string()))).unwrap_or_default();
        self.send(format!("\0AUTH EXTERNAL{uid}\r\n").as_bytes(), "AUTH")?;
        let mut answer = self.read_line()?;
        if answer.starts_with(b"DATA") {
            self.send(b"DATA\r\n", "AUTH")?;
            answer = self.read_line()?;
        }
        if !answer.starts_with(b"OK ") {
            let text = String::from_utf8_lossy(&answer).trim().to_owned();
            return Err(Error::Refused { method: "AUTH", name: "EXTERNAL".to_owned(), text });
        }
        self.send(b"BEGIN\r\n", "AUTH")
    }

    /// The peer says nothing beyond its answer before it is spoken to again.
    fn read_line(&mut self) -> Result<Vec<u8>, Error> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") && line.len() < 1024 {
            let mut part = [0; 128];
            let count = self.read(&mut part, "AUTH")?;
            line.extend(part.iter().take(count));
        }
        Ok(line)
    }

    fn send(&mut self, bytes: &[u8], method: &'static str) -> Result<(), Error> {
        let left = self.left(method)?;
        let sent = self.stream.set_write_timeout(Some(left)).and_then(|()| self.stream.write_all(bytes));
        sent.map_err(|source| failed(source, method))
    }

    fn receive(&mut self, method: &'static str) -> Result<Message, Error> {
        let mut fixed = [0; FIXED_HEADER];
        self.fill(&mut fixed, method)?;
        let length = wire::message_length(&fixed).ok_or(Error::Garbled { method })?;
        let mut bytes = fixed.to_vec();
        bytes.resize(length, 0);
        let rest = bytes.get_mut(FIXED_HEADER..).ok_or(Error::Garbled { method })?;
        self.fill(rest, method)?;
        wire::parse(&bytes).ok_or(Error::Garbled { method })
    }

    fn fill(&mut self, bytes: &mut [u8], method: &'static str) -> Result<(), Error> {
        let mut filled = 0;
        while filled < bytes.len() {
            filled += self.read(bytes.get_mut(filled..).unwrap_or_default(), method)?;
        }
        Ok(())
    }

    /// At least one byte.
    fn read(&mut self, bytes: &mut [u8], method: &'static str) -> Result<usize, Error> {
        loop {
            let left = self.left(method)?;
            let read = self.stream.set_read_timeout(Some(left)).and_then(|()| self.stream.read(bytes));
            match read {
                Ok(0) => return Err(failed(ErrorKind::UnexpectedEof.into(), method)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                done => return done.map_err(|error| failed(error, method)),
            }
        }
    }

    fn left(&self, method: &'static str) -> Result<Duration, Error> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(Error::Late { method, seconds: DEADLINE.as_secs() }) } else { Ok(left) }
    }
}

fn failed(source: std::io::Error, method: &'static str) -> Error {
    match source.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Error::Late { method, seconds: DEADLINE.as_secs() },
        _ => Error::Talk { method, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead as _, BufReader};

    /// An answer to the call of this serial: a variant that holds a string, `(5)` REPLY_SERIAL and `(8)`
    /// SIGNATURE in its header.
    fn variant_answer(serial: u8, text: &str) -> Vec<u8> {
        let mut body = vec![1, b's', 0, 0];
        body.extend((text.len() as u32).to_le_bytes());
        body.extend(text.as_bytes());
        body.push(0);
        let fields = [5, 1, b'u', 0, serial, 0, 0, 0, 8, 1, b'g', 0, 1, b'v', 0];
        let mut message = vec![b'l', 2, 0, 1];
        message.extend((body.len() as u32).to_le_bytes());
        message.extend([1, 0, 0, 0]);
        message.extend((fields.len() as u32).to_le_bytes());
        message.extend(fields);
        message.push(0);
        message.extend(body);
        message
    }

    #[test]
    fn who_calls_is_left_to_the_kernel_to_tell_and_a_property_is_read() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let server = std::thread::spawn(move || {
            let mut reader = BufReader::new(theirs.try_clone().unwrap());
            let mut writer = theirs;
            let mut line = String::new();
            let mut said = Vec::new();
            for answer in ["DATA\r\n", "OK 0123\r\n", ""] {
                line.clear();
                reader.read_line(&mut line).unwrap();
                said.push(line.trim_end().to_owned());
                writer.write_all(answer.as_bytes()).unwrap();
            }
            let mut call = [0; FIXED_HEADER];
            reader.read_exact(&mut call).unwrap();
            writer.write_all(&variant_answer(call[8], "/user.slice/x")).unwrap();
            said
        });
        let mut connection = Connection::over(ours, false, None).unwrap();
        assert_eq!(connection.call(GET_PROPERTY, &[]).unwrap(), ["/user.slice/x"]);
        assert_eq!(server.join().unwrap(), ["\0AUTH EXTERNAL", "DATA", "BEGIN"]);
    }
}
