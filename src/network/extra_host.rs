//! `--add-host NAME:ADDRESS`.
use std::net::IpAddr;
use std::str::FromStr;

/// A line for an instance's `/etc/hosts`, as `NAME:ADDRESS`.
///
/// ```
/// use wharf::network::ExtraHost;
///
/// let host: ExtraHost = "db.internal:10.1.2.3".parse()?;
/// assert_eq!((host.name.as_str(), host.address), ("db.internal", [10, 1, 2, 3].into()));
/// # Ok::<(), wharf::network::InvalidExtraHost>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtraHost {
    /// Letters, digits, dots, hyphens and underscores.
    pub name: String,
    /// IPv4 or IPv6.
    pub address: IpAddr,
}

/// Why the text of `--add-host` is no host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidExtraHost {
    /// No colon.
    #[error("invalid host {0:?}: write NAME:ADDRESS, for example db:10.1.2.3")]
    Shape(String),
    /// A name that no hosts file can carry.
    #[error("invalid host {0:?}: the name may have letters, digits, dots, hyphens and underscores")]
    Name(String),
    /// No address.
    #[error("invalid host {text:?}: {address:?} is not an IP address; names are not looked up")]
    Address {
        /// The text as given.
        text: String,
        /// What should be an address.
        address: String,
    },
}

impl FromStr for ExtraHost {
    type Err = InvalidExtraHost;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, address) = text.split_once(':').ok_or_else(|| InvalidExtraHost::Shape(text.to_owned()))?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        if name.is_empty() || !name.bytes().all(plain) {
            return Err(InvalidExtraHost::Name(text.to_owned()));
        }
        // An IPv6 address may stand in brackets.
        let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
        let address = bare
            .parse()
            .map_err(|_| InvalidExtraHost::Address { text: text.to_owned(), address: address.to_owned() })?;
        Ok(Self { name: name.to_owned(), address })
    }
}

impl From<ExtraHost> for (String, IpAddr) {
    fn from(host: ExtraHost) -> Self {
        (host.name, host.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted_and_refused_forms() {
        let table = [
            ("db:10.1.2.3", "db 10.1.2.3"),
            ("db:fd00::1", "db fd00::1"),
            ("db:[fd00::1]", "db fd00::1"),
            ("db", "invalid host \"db\": write NAME:ADDRESS, for example db:10.1.2.3"),
            (
                ":10.1.2.3",
                "invalid host \":10.1.2.3\": the name may have letters, digits, dots, hyphens and underscores",
            ),
            (
                "a b:10.1.2.3",
                "invalid host \"a b:10.1.2.3\": the name may have letters, digits, dots, hyphens and underscores",
            ),
            ("db:host", "invalid host \"db:host\": \"host\" is not an IP address; names are not looked up"),
            ("db:", "invalid host \"db:\": \"\" is not an IP address; names are not looked up"),
        ];
        for (text, expected) in table {
            let found = match text.parse::<ExtraHost>() {
                Ok(host) => format!("{} {}", host.name, host.address),
                Err(error) => error.to_string(),
            };
            assert_eq!(found, expected);
        }
    }
}
