//! URLs and their origins. An origin is what a credential belongs to: scheme, host and port, all three.
use std::fmt;
use ureq::http::Uri;

/// Scheme, host and port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Origin {
    pub(super) https: bool,
    /// In lower case, IPv6 addresses in brackets.
    pub(super) host: String,
    pub(super) port: u16,
}

impl Origin {
    /// `host:port`, the port left out where the scheme implies it: what certs.d and credentials are named by.
    pub(super) fn authority(&self) -> String {
        match (self.https, self.port) {
            (true, 443) | (false, 80) => self.host.clone(),
            (_, port) => format!("{}:{port}", self.host),
        }
    }

    /// Whether the host is this machine by its very name: localhost, 127.0.0.0/8 or ::1.
    pub(super) fn is_loopback(&self) -> bool {
        let bare = self.host.trim_start_matches('[').trim_end_matches(']');
        bare == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}://{}", if self.https { "https" } else { "http" }, self.authority())
    }
}

/// An absolute http or https URL without user name, password and fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Url {
    pub(super) origin: Origin,
    /// Path and query, beginning with a slash.
    pub(super) target: String,
}

impl Url {
    /// Reads an absolute URL; the error is a clause without its subject.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let text = text.split('#').next().unwrap_or_default();
        let uri: Uri = text.parse().map_err(|error| format!("is no URL: {error}"))?;
        let https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err("is no http or https URL".to_owned()),
        };
        let authority = uri.authority().ok_or("has no host")?;
        if authority.as_str().contains('@') {
            return Err("has a user name in it, which is refused".to_owned());
        }
        let host = authority.host().to_ascii_lowercase();
        if host.is_empty() {
            return Err("has no host".to_owned());
        }
        let port = match authority.as_str().rsplit_once(':') {
            Some((_, digits)) if !digits.ends_with(']') => {
                digits.parse().map_err(|_| "has no valid port".to_owned())?
            }
            _ if https => 443,
            _ => 80,
        };
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        let slash = if target.starts_with('/') { "" } else { "/" };
        Ok(Self { origin: Origin { https, host, port }, target: format!("{slash}{target}") })
    }

    /// What a Location header means to whoever asked this URL: RFC 3986 5.2, without dot segments, which
    /// stay the server's to resolve.
    pub(super) fn join(&self, location: &str) -> Result<Self, String> {
        let scheme = if self.origin.https { "https" } else { "http" };
        let base = format!("{scheme}://{}:{}", self.origin.host, self.origin.port);
        let path = self.target.split('?').next().unwrap_or("/");
        let absolute = if location.contains("://") && !location.starts_with(['/', '?']) {
            location.to_owned()
        } else if location.starts_with("//") {
            format!("{scheme}:{location}")
        } else if location.starts_with('/') {
            format!("{base}{location}")
        } else if location.starts_with('?') {
            format!("{base}{path}{location}")
        } else {
            let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
            format!("{base}{directory}/{location}")
        };
        Self::parse(&absolute)
    }

    /// The same with one more parameter in its query.
    pub(super) fn with_parameter(mut self, key: &str, value: &str) -> Self {
        self.target.push(if self.target.contains('?') { '&' } else { '?' });
        self.target.push_str(key);
        self.target.push('=');
        self.target.push_str(&encoded(value));
        self
    }

    /// Without its query, which may hold a signature: for messages.
    pub(super) fn shown(&self) -> String {
        format!("{}{}", self.origin, self.target.split('?').next().unwrap_or_default())
    }
}

impl fmt::Display for Url {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}{}", self.origin, self.target)
    }
}

/// Percent-encoding of everything that is not unreserved, RFC 3986 2.3.
pub(super) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn locations_are_resolved_against_the_url_that_was_asked() {
        let base = Url::parse("http://a.example:5000/v2/x/blobs/uploads/?a=b").unwrap();
        for (location, expected) in [
            ("/v2/y?z=1", "http://a.example:5000/v2/y?z=1"),
            ("https://B.example/z", "https://b.example/z"),
            ("https://b.example:443", "https://b.example/"),
            ("//b.example:81/z", "http://b.example:81/z"),
            ("?c=d", "http://a.example:5000/v2/x/blobs/uploads/?c=d"),
            ("id?u=http://x", "http://a.example:5000/v2/x/blobs/uploads/id?u=http://x"),
        ] {
            let joined = base.join(location);
            // A query may hold a URL of its own.
            if location.starts_with("id") {
                assert!(joined.is_err() || joined.unwrap().origin == base.origin);
            } else {
                assert_eq!(joined.unwrap().to_string(), expected, "{location}");
            }
        }
    }

    #[test]
    fn what_could_mislead_is_refused() {
        for bad in ["http://user:pw@a/", "ftp://a/", "http:///x", "/x", "http://a:99999/", "http://a b/"] {
            assert!(Url::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let origin = |text: &str| Url::parse(text).unwrap().origin;
        assert_eq!(origin("https://A/x"), origin("https://a:443/y"));
        assert_ne!(origin("https://a/"), origin("http://a/"));
        assert_ne!(origin("https://a/"), origin("https://a:444/"));
        assert_ne!(origin("https://a/"), origin("https://a./"));
        assert!(origin("http://127.8.0.1:5000/").is_loopback() && origin("http://[::1]:5/").is_loopback());
        assert!(!origin("http://localhost.example/").is_loopback());
        assert!(!origin("http://127.0.0.1.example/").is_loopback());
    }

    proptest! {
        #[test]
        fn reading_and_joining_never_panic(text in "\\PC{0,60}") {
            let _ = Url::parse(&text);
            let _ = Url::parse("http://a/b").unwrap().join(&text);
        }

        #[test]
        fn a_parameter_never_leaves_the_query(value in "\\PC{0,40}") {
            let url = Url::parse("http://a/b").unwrap().with_parameter("k", &value);
            prop_assert!(Url::parse(&url.to_string()).unwrap().origin == url.origin);
            prop_assert!(url.target.matches(['&', '#', ' ']).count() == 0);
        }
    }
}
