//! A server that answers as a test wants, and notes what it was asked.
use crate::images::{INDEX, MANIFEST, Made, sha256};
use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A request, as it came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// How many came for the same method and target before.
    pub(crate) before: usize,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
    /// Whether the method is this and the path ends so.
    pub(crate) fn is(&self, method: &str, end: &str) -> bool {
        self.method == method && self.target.split('?').next().is_some_and(|path| path.ends_with(end))
    }
}

/// What is answered.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Close the connection after so many bytes of the body.
    pub(crate) broken_after: Option<usize>,
    /// Send the body in pieces of this many bytes, and wait between them.
    pub(crate) drip: Option<(usize, Duration)>,
    /// Send the body again and again, and announce no length.
    pub(crate) endless: bool,
    /// Announce no length.
    pub(crate) unmeasured: bool,
}

impl Reply {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, body: body.into(), ..Self::default() }
    }
    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
    pub(crate) fn redirect(location: &str) -> Self {
        Self::new(307, "").header("Location", location)
    }
}

/// A server on a loopback address. It ends with this value.
pub(crate) struct StandIn {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    most: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

type Handler = Arc<dyn Fn(&Seen) -> Reply + Send + Sync>;

impl StandIn {
    /// On 127.0.0.1.
    pub(crate) fn start(handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_at("127.0.0.1", handler)
    }
    /// On another address of 127.0.0.0/8, which is another host.
    pub(crate) fn start_at(host: &str, handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_at_port(host, 0, handler)
    }
    /// On this port; 0 is a free one.
    pub(crate) fn start_at_port(
        host: &str,
        port: u16,
        handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((host, port)).expect("a free port");
        let address = listener.local_addr().expect("address");
        listener.set_nonblocking(true).expect("non-blocking");
        let (seen, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let most = Arc::new(AtomicUsize::new(0));
        let shared = Shared {
            seen: seen.clone(),
            stop: stop.clone(),
            handler: Arc::new(handler),
            now: Arc::new(AtomicUsize::new(0)),
            most: most.clone(),
        };
        let thread = std::thread::spawn(move || shared.accept(&listener));
        Self { address, seen, most, stop, thread: Some(thread) }
    }
    /// `HOST:PORT`.
    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }
    /// All requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("lock").clone()
    }
    /// Requests of this method whose path ends so.
    pub(crate) fn seen_of(&self, method: &str, end: &str) -> Vec<Seen> {
        self.seen().into_iter().filter(|seen| seen.is(method, end)).collect()
    }
    /// The most requests that were answered at one time.
    pub(crate) fn most_at_once(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A request that is being answered.
struct Counted<'a>(&'a AtomicUsize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[derive(Clone)]
struct Shared {
    seen: Arc<Mutex<Vec<Seen>>>,
    stop: Arc<AtomicBool>,
    handler: Handler,
    now: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Shared {
    fn accept(&self, listener: &TcpListener) {
        let mut threads = Vec::new();
        while !self.stop.load(Ordering::SeqCst) {
            match listener.accept() {
                Ok((stream, _)) => {
                    let shared = self.clone();
                    threads.push(std::thread::spawn(move || drop(shared.serve(&stream))));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(3)),
            }
        }
        for thread in threads {
            let _ = thread.join();
        }
    }

    /// One request a connection. An error is the client's going away.
    fn serve(&self, stream: &TcpStream) -> std::io::Result<()> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut reader = BufReader::new(stream);
        // A TLS handshake begins with 0x16: this server speaks HTTP alone.
        if reader.fill_buf()?.first().is_none_or(|first| *first == 0x16) {
            return Ok(());
        }
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let mut words = line.split(' ').map(str::to_owned);
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let Some((key, value)) = line.trim_end().split_once(':') else { break };
            headers.push((key.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let length = headers.iter().find(|(key, _)| key == "content-length");
        let length = length.and_then(|(_, value)| value.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let seen = {
            let mut all = self.seen.lock().expect("lock");
            let same = |seen: &&Seen| seen.method == method && seen.target == target;
            let before = all.iter().filter(same).count();
            let seen = Seen { method, target, headers, body, before };
            all.push(seen.clone());
            seen
        };
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        self.answer(stream, &seen, Counted(&self.now))
    }

    fn answer(&self, mut stream: &TcpStream, seen: &Seen, counted: Counted<'_>) -> std::io::Result<()> {
        let mut counted = Some(counted);
        let reply = (self.handler)(seen);
        let mut head = format!("HTTP/1.1 {} Whatever\r\nConnection: close\r\n", reply.status);
        for (name, value) in &reply.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !reply.endless && !reply.unmeasured {
            head.push_str(&format!("Content-Length: {}\r\n", reply.body.len()));
        }
        stream.write_all(format!("{head}\r\n").as_bytes())?;
        if seen.method == "HEAD" {
            return Ok(());
        }
        let body = &reply.body[..reply.broken_after.unwrap_or(usize::MAX).min(reply.body.len())];
        let begun = Instant::now();
        loop {
            let (size, wait) = reply.drip.unwrap_or((64 << 10, Duration::ZERO));
            let mut pieces = body.chunks(size).peekable();
            while let Some(piece) = pieces.next() {
                if self.stop.load(Ordering::SeqCst) {
                    return Ok(());
                }
                let last = pieces.peek().is_none() && !reply.endless;
                if last {
                    // With it the client may be done, and ask for the next.
                    counted = None;
                }
                stream.write_all(piece)?;
                if !last {
                    std::thread::sleep(wait);
                }
            }
            if !reply.endless || begun.elapsed() > Duration::from_secs(60) {
                drop(counted);
                return Ok(());
            }
        }
    }
}

/// What a good registry answers to reading requests, for tests to change in one place.
#[derive(Debug, Clone, Default)]
pub(crate) struct Content {
    blobs: HashMap<String, Vec<u8>>,
    /// By tag and by digest.
    manifests: HashMap<String, Vec<u8>>,
}

impl Content {
    pub(crate) fn of(image: &Made) -> Self {
        let mut content = Self::default();
        content.add(image, "1");
        content
    }
    pub(crate) fn add(&mut self, image: &Made, tag: &str) {
        self.blobs.extend(image.blobs.iter().cloned());
        self.add_document(&image.manifest, tag);
    }
    pub(crate) fn add_document(&mut self, document: &[u8], tag: &str) {
        self.manifests.insert(tag.to_owned(), document.to_vec());
        self.manifests.insert(sha256(document), document.to_vec());
    }
    pub(crate) fn answer(&self, seen: &Seen) -> Reply {
        let path = seen.target.split('?').next().unwrap_or_default();
        let name = path.rsplit('/').next().unwrap_or_default();
        if path == "/v2/" {
            return Reply::new(200, "{}");
        }
        let found = if path.contains("/manifests/") { &self.manifests } else { &self.blobs };
        match found.get(name) {
            None => Reply::new(404, r#"{"errors":[{"code":"NAME_UNKNOWN","message":"not here"}]}"#),
            Some(bytes) if path.contains("/manifests/") => {
                let is_index = serde_json::from_slice::<serde_json::Value>(bytes)
                    .is_ok_and(|value| value.get("manifests").is_some() && value.get("layers").is_none());
                Reply::new(200, bytes.clone()).header("Content-Type", if is_index { INDEX } else { MANIFEST })
            }
            Some(bytes) => ranged(seen, bytes),
        }
    }
}

/// All of it, or what Range asks for.
pub(crate) fn ranged(seen: &Seen, bytes: &[u8]) -> Reply {
    let range = seen.header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
    match range.and_then(|start| start.parse::<usize>().ok()) {
        None => Reply::new(200, bytes),
        Some(start) if start >= bytes.len() => Reply::new(416, ""),
        Some(start) => {
            let range = format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len());
            Reply::new(206, &bytes[start..]).header("Content-Range", range)
        }
    }
}
