//! Where systemd listens: the system's, and a user's own.
use super::Error;
use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::{Path, PathBuf};

/// Which systemd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manager {
    System,
    User,
}

/// Early in boot, and in small systems, there is no bus yet; root can ask systemd itself, and so can a user
/// its own.
const SYSTEM: [(&str, bool); 2] = [("/run/dbus/system_bus_socket", true), ("/run/systemd/private", false)];

/// A place to connect to, and whether a bus is between it and systemd.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    address: Address,
    through_bus: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Address {
    Path(PathBuf),
    Abstract(String),
}

/// Connects to the first place where somebody listens.
pub(super) fn connect(manager: Manager) -> Result<(UnixStream, bool), Error> {
    let places = match manager {
        Manager::System => SYSTEM.map(|(path, bus)| place(path, bus)).to_vec(),
        Manager::User => places_of_user(|name| std::env::var_os(name)),
    };
    let mut first = None;
    for place in places {
        match place.address.connect() {
            Ok(stream) => return Ok((stream, place.through_bus)),
            Err(source) => {
                let path = place.address.to_string();
                first.get_or_insert(Error::Connect { path, source });
            }
        }
    }
    Err(first.unwrap_or(Error::NoSession))
}

fn place(path: impl Into<PathBuf>, through_bus: bool) -> Place {
    Place { address: Address::Path(path.into()), through_bus }
}

/// `systemd.directives(7)`: the session's bus by its variable, or at its usual place, or past it.
fn places_of_user(variable: impl Fn(&str) -> Option<OsString>) -> Vec<Place> {
    let bus = variable("DBUS_SESSION_BUS_ADDRESS").unwrap_or_default();
    let addresses = addresses(&bus.to_string_lossy());
    let mut places: Vec<Place> =
        addresses.into_iter().map(|address| Place { address, through_bus: true }).collect();
    if let Some(directory) = variable("XDG_RUNTIME_DIR").filter(|path| !path.is_empty()) {
        let directory = Path::new(&directory);
        places.push(place(directory.join("bus"), true));
        places.push(place(directory.join("systemd/private"), false));
    }
    places
}

/// D-Bus "Server Addresses": `unix:path=/run/user/1000/bus,guid=…;unix:abstract=…`, with `%xx` for what is
/// not plain. Other transports than Unix sockets are passed over.
fn addresses(list: &str) -> Vec<Address> {
    let one = |address: &str| {
        let keys = address.strip_prefix("unix:")?;
        keys.split(',').find_map(|pair| match pair.split_once('=')? {
            ("path", path) => Some(Address::Path(unescape(path)?.into())),
            ("abstract", name) => Some(Address::Abstract(unescape(name)?)),
            _ => None,
        })
    };
    list.split(';').filter_map(one).collect()
}

fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        match (first, after) {
            (b'%', [high, low, after @ ..]) => {
                bytes.extend(hex::decode([*high, *low]).ok()?);
                rest = after;
            }
            _ => bytes.push(*first),
        }
    }
    String::from_utf8(bytes).ok()
}

impl Address {
    fn connect(&self) -> io::Result<UnixStream> {
        match self {
            Self::Path(path) => UnixStream::connect(path),
            Self::Abstract(name) => UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?),
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Path(path) => write!(out, "{}", path.display()),
            Self::Abstract(name) => write!(out, "@{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_users_systemd_is_looked_for_on_its_bus_and_past_it() {
        let places = |variables: &[(&str, &str)]| {
            let value =
                |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into());
            places_of_user(value)
        };
        let own = [place("/run/user/7/bus", true), place("/run/user/7/systemd/private", false)];
        assert_eq!(places(&[("XDG_RUNTIME_DIR", "/run/user/7")]), own);
        let named = places(&[
            ("DBUS_SESSION_BUS_ADDRESS", "tcp:host=x;unix:guid=1,path=/a%20b;unix:abstract=/tmp/c,guid=2"),
            ("XDG_RUNTIME_DIR", ""),
        ]);
        let second = Place { address: Address::Abstract("/tmp/c".to_owned()), through_bus: true };
        assert_eq!(named, [place("/a b", true), second]);
        assert_eq!(places(&[]), []);
    }
}
