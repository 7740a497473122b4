//! The name of a container.
use super::Error;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A container's id, which is also the name of its state directory: one or more of
/// `A-Z a-z 0-9 _ + - .`, neither `.` nor `..`, and at most 255 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerId(String);

/// `NAME_MAX`: the id names a directory.
const LONGEST: usize = 255;

/// How much an error shows of a text that is no id, in characters.
const SHOWN: usize = 64;

impl ContainerId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ContainerId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let shown = match text.char_indices().nth(SHOWN) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None => text.to_owned(),
        };
        let refuse = |reason| Err(Error::InvalidId { id: shown, reason });
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_+-.".contains(&byte);
        match text {
            "" => refuse("it is empty"),
            "." | ".." => refuse("it would name a directory above"),
            _ if text.len() > LONGEST => refuse("it is longer than 255 bytes"),
            _ if !text.bytes().all(allowed) => refuse("only letters, digits and _ + - . are allowed"),
            _ => Ok(Self(text.to_owned())),
        }
    }
}

impl TryFrom<String> for ContainerId {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<ContainerId> for String {
    fn from(id: ContainerId) -> Self {
        id.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_runc_accepts_are_accepted() {
        for id in ["a", "web-1", "A_b+c.d", "...", "-x", &"x".repeat(255)] {
            assert_eq!(id.parse::<ContainerId>().expect(id).as_str(), id);
        }
    }

    #[test]
    fn ids_that_could_leave_the_state_root_are_refused() {
        for id in ["", ".", "..", "a/b", "../x", "a b", "ü", "a\0b", "a\n", &"x".repeat(256)] {
            assert!(id.parse::<ContainerId>().is_err(), "{id:?}");
        }
    }
}
