//! Answers of servers that are no good, in words.
use super::transport::tls_error;
use super::url::Url;
use super::{Error, harmless};
use serde_json::Value;
use std::io::{self, Read as _};
use std::time::{Duration, Instant};

/// Reads a small body whole: neither its length nor its time is up to the server. One byte more than `limit`
/// is returned where there is more.
pub(super) fn read_small(body: ureq::Body, limit: u64, patience: Duration) -> io::Result<Vec<u8>> {
    let begun = Instant::now();
    let mut reader = body.into_reader().take(limit + 1);
    let mut bytes = Vec::new();
    let mut buffer = [0; 8192];
    loop {
        let length = reader.read(&mut buffer)?;
        if length == 0 {
            return Ok(bytes);
        }
        bytes.extend_from_slice(&buffer[..length]);
        if begun.elapsed() > patience {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
}

/// A request that brought no answer.
pub(super) fn connection_error(action: &str, url: &Url, error: &ureq::Error) -> Error {
    let (reason, passing) = match (error, tls_error(error)) {
        (_, Some(rustls::Error::InvalidCertificate(reason))) => {
            let hint = "name its authority as ca in hosts.toml";
            (
                format!(
                    "the server's certificate is not trusted ({reason:?}); {hint}, see docs/registries.md"
                ),
                false,
            )
        }
        (_, Some(rustls::Error::InvalidMessage(_))) => {
            let hint = "if it is plain HTTP on purpose, say so in hosts.toml";
            (format!("the server does not speak TLS; {hint}, see docs/registries.md"), false)
        }
        (_, Some(error)) => (format!("TLS: {error}"), false),
        (ureq::Error::HostNotFound, _) => {
            ("no such host; check its name and this machine's DNS".to_owned(), true)
        }
        (ureq::Error::Timeout(_), _) => ("the server does not answer in time".to_owned(), true),
        (ureq::Error::Io(error), _) => (error.to_string(), true),
        (error, _) => (error.to_string(), false),
    };
    Error::Connection { action: action.to_owned(), url: url.shown(), reason: harmless(&reason), passing }
}

/// A body that breaks off.
pub(super) fn body_error(action: &str, url: &Url, error: &io::Error) -> Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>());
    let waited = error.kind() == io::ErrorKind::TimedOut || matches!(inner, Some(ureq::Error::Timeout(_)));
    let reason = match waited {
        true => "the server stopped sending, or sends too slowly to ever end".to_owned(),
        false => format!("the connection broke: {error}"),
    };
    Error::Connection {
        action: action.to_owned(),
        url: url.shown(),
        reason: harmless(&reason),
        passing: true,
    }
}

/// A status that says no, with what the server says about it: distribution-spec, "Error Codes".
pub(super) fn status_error(action: &str, url: &Url, status: u16, body: &[u8], hint: &str) -> Error {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(harmless);
    let first = body.get("errors").and_then(Value::as_array).and_then(|errors| errors.first());
    let words = match first {
        Some(error) => [text(error, "code"), text(error, "message")],
        None => [None, text(&body, "details").or_else(|| text(&body, "message"))],
    };
    let words: Vec<String> = words.into_iter().flatten().filter(|words| !words.is_empty()).collect();
    let words = if words.is_empty() { meaning(status).to_owned() } else { words.join(", ") };
    let detail = if words.is_empty() { String::new() } else { format!(" ({words})") };
    let hint = if hint.is_empty() { String::new() } else { format!("; {hint}") };
    Error::Status { action: action.to_owned(), url: url.shown(), status, detail, hint }
}

fn meaning(status: u16) -> &'static str {
    match status {
        401 => "not logged in",
        403 => "not allowed",
        404 => "not found",
        405 => "not supported there",
        429 => "too many requests",
        500..=599 => "out of order",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_registry_says_is_told_in_one_harmless_line() {
        let url = Url::parse("https://a.example/v2/x?signature=SECRET").unwrap();
        let words = |body: &str| status_error("get", &url, 403, body.as_bytes(), "do this").to_string();
        let body = r#"{"errors": [{"code": "DENIED", "message": "no\nway\u001b[1m"}]}"#;
        assert_eq!(
            words(body),
            "get https://a.example/v2/x: the server answers 403 (DENIED, no way [1m); do this"
        );
        for body in ["", "<html>", r#"{"errors": []}"#, r#"{"errors": 3}"#, "[]"] {
            assert_eq!(
                words(body),
                "get https://a.example/v2/x: the server answers 403 (not allowed); do this"
            );
        }
    }
}
