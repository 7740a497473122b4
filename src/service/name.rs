//! What an instance is called.
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// `HOST_NAME_MAX`: the name is the instance's default host name, and part of a cgroup's name.
const LONGEST: usize = 64;

/// An instance's name, unique below one root: a letter or digit, then letters, digits and `_ . -`, at
/// most 64 in all.
///
/// ```
/// use wharf::service::InstanceName;
/// assert!("web-1".parse::<InstanceName>().is_ok());
/// assert!("../etc".parse::<InstanceName>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InstanceName(String);

/// A text that is no instance name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid instance name {text:?}: {rule}")]
pub struct InvalidName {
    text: String,
    rule: &'static str,
}

impl InstanceName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A name for an instance the user gave none: the image's own name and a random end.
    pub fn for_image(reference: &str, random: &str) -> Self {
        let last = reference.rsplit('/').next().unwrap_or_default();
        let stem: String = last
            .split([':', '@'])
            .next()
            .unwrap_or_default()
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || *c == '-')
            .skip_while(|c| *c == '-')
            .take(LONGEST - 1 - random.len())
            .collect();
        let stem = if stem.is_empty() { "instance" } else { &stem };
        Self(format!("{stem}-{random}"))
    }
}

impl FromStr for InstanceName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let refuse = |rule| Err(InvalidName { text: text.to_owned(), rule });
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        match text.as_bytes() {
            [] => refuse("it is empty"),
            [first, ..] if !first.is_ascii_alphanumeric() => refuse("it must begin with a letter or digit"),
            bytes if bytes.len() > LONGEST => refuse("it is longer than 64 characters"),
            bytes if !bytes.iter().copied().all(allowed) => {
                refuse("only letters, digits and _ . - are allowed")
            }
            _ => Ok(Self(text.to_owned())),
        }
    }
}

impl TryFrom<String> for InstanceName {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<InstanceName> for String {
    fn from(name: InstanceName) -> Self {
        name.0
    }
}

impl fmt::Display for InstanceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_the_directory_are_refused() {
        for text in ["", ".", "..", "a/b", ".hidden", "-f", "a b", "a\nb", "é", &"x".repeat(65)] {
            assert!(text.parse::<InstanceName>().is_err(), "{text:?}");
        }
        for text in ["web", "web-1", "A_b.c", "9", &"x".repeat(64)] {
            assert!(text.parse::<InstanceName>().is_ok(), "{text:?}");
        }
    }

    #[test]
    fn a_name_made_for_an_image_is_a_name() {
        for (image, name) in [
            ("web", "web-1a2b3c"),
            ("registry.example:5000/team/web:1.2", "web-1a2b3c"),
            ("sha256:00ff", "sha256-1a2b3c"),
            ("_", "instance-1a2b3c"),
        ] {
            let made = InstanceName::for_image(image, "1a2b3c");
            assert_eq!(made.as_str(), name);
            assert_eq!(made.as_str().parse::<InstanceName>().unwrap(), made);
        }
        let long = InstanceName::for_image(&"x".repeat(200), "1a2b3c");
        assert_eq!(long.as_str().len(), 64);
    }
}
