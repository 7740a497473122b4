//! The service of the `web` test image: a small HTTP server whose behaviour a test can ask for.
//!
//! | path | answer |
//! |---|---|
//! | `/` | `$GREETING from HOSTNAME, pid PID` |
//! | `/health` | `ok` |
//! | `/env` | the environment, sorted |
//! | `/alloc?mib=N` | allocates and touches N MiB, and keeps them |
//! | `/burn?ms=N` | computes for N ms |
//! | `/exit?code=N` | ends the service with status N |
//!
//! Listens on `$PORT` (8080), prints each request on standard output, and ends on SIGTERM with status 0.
//! Only std: `rustc` alone builds it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;
use std::time::{Duration, Instant};

const SIGTERM: i32 = 15;

unsafe extern "C" {
    fn signal(signal: i32, handler: extern "C" fn(i32)) -> usize;
    fn write(fd: i32, text: *const u8, length: usize) -> isize;
    fn _exit(status: i32) -> !;
}

/// As process 1 of a pid namespace, SIGTERM is ignored unless it has a handler.
extern "C" fn stop(_: i32) {
    let text = b"web: SIGTERM, stopping\n";
    // SAFETY: write(2) and _exit(2) are async-signal-safe, and `text` is valid for its length.
    unsafe {
        write(1, text.as_ptr(), text.len());
        _exit(0)
    }
}

static KEPT: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

fn main() {
    // SAFETY: `stop` calls only async-signal-safe functions.
    unsafe { signal(SIGTERM, stop) };
    let port: u16 = std::env::var("PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(8080);
    let listener = TcpListener::bind(("0.0.0.0", port)).unwrap_or_else(|error| {
        eprintln!("web: listen on port {port}: {error}");
        std::process::exit(1)
    });
    println!("web: listening on port {port}");
    for stream in listener.incoming().flatten() {
        std::thread::spawn(move || answer(stream));
    }
}

fn answer(stream: TcpStream) -> Option<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut request = String::new();
    reader.read_line(&mut request).ok()?;
    let mut header = String::new();
    while reader.read_line(&mut header).ok()? > 2 {
        header.clear();
    }
    let target = request.split(' ').nth(1)?.to_owned();
    println!("web: GET {target}");
    let (status, body) = respond(&target);
    let length = body.len();
    let mut stream = &stream;
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
    .ok()
}

fn respond(target: &str) -> (&'static str, String) {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let number = query.split_once('=').and_then(|(_, value)| value.parse::<usize>().ok()).unwrap_or(0);
    let body = match path {
        "/" => greeting(),
        "/health" => "ok\n".to_owned(),
        "/env" => environment(),
        "/alloc" => allocate(number),
        "/burn" => burn(Duration::from_millis(number as u64)),
        "/exit" => std::process::exit(i32::try_from(number).unwrap_or(1)),
        _ => return ("404 Not Found", "not found\n".to_owned()),
    };
    ("200 OK", body)
}

fn greeting() -> String {
    let greeting = std::env::var("GREETING").unwrap_or_else(|_| "hello".to_owned());
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{greeting} from {}, pid {}\n", hostname.trim(), std::process::id())
}

fn environment() -> String {
    let mut lines: Vec<String> = std::env::vars().map(|(key, value)| format!("{key}={value}\n")).collect();
    lines.sort();
    lines.concat()
}

fn allocate(mib: usize) -> String {
    let mut block = vec![0u8; mib << 20];
    for page in block.chunks_mut(4096) {
        page[0] = 1;
    }
    let mut kept = KEPT.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    kept.push(block);
    format!("{} MiB held\n", kept.iter().map(Vec::len).sum::<usize>() >> 20)
}

fn burn(time: Duration) -> String {
    let start = Instant::now();
    let mut turns = 0u64;
    while start.elapsed() < time {
        turns = std::hint::black_box(turns + 1);
    }
    format!("{turns} turns\n")
}
