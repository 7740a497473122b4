//! Waiting for something to become true, with a limit.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// A time limit stretched by `WHARF_PATIENCE`, a factor for slow machines such as the one of scripts/vm.
pub(crate) fn patience(limit: Duration) -> Duration {
    let factor = std::env::var("WHARF_PATIENCE").ok().and_then(|factor| factor.parse().ok());
    limit * factor.unwrap_or(1)
}

/// By what factor a test of very many rounds is to make fewer, `WHARF_SPARSE`, for the slow machine of
/// scripts/vm. A test that does so says it aloud.
pub(crate) fn sparseness() -> usize {
    let factor =
        std::env::var("WHARF_SPARSE").ok().and_then(|factor| factor.parse().ok()).unwrap_or(1).max(1);
    if factor > 1 {
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        // Past libtest's capture.
        writeln!(std::io::stderr(), "SPARSE: {test}: one round in {factor}").expect("stderr takes the line");
    }
    factor
}

/// Polls until the condition holds; fails the test after 20 seconds.
#[track_caller]
pub(crate) fn eventually(what: &str, condition: impl FnMut() -> bool) {
    eventually_within(Duration::from_secs(20), what, condition);
}

/// Polls until the condition holds; fails the test after the limit.
#[track_caller]
pub(crate) fn eventually_within(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let (start, limit) = (Instant::now(), patience(limit));
    while !condition() {
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// One HTTP/1.0 GET with a limit of 5 seconds: status code and body.
pub(crate) fn http_get(address: SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    http_get_within(Duration::from_secs(5), address, path)
}

/// One HTTP/1.0 GET: status code and body.
pub(crate) fn http_get_within(
    limit: Duration,
    address: SocketAddr,
    path: &str,
) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or(std::io::ErrorKind::UnexpectedEof)?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok((status.ok_or(std::io::ErrorKind::InvalidData)?, body.to_owned()))
}
