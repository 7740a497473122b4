//! What can go wrong between this host and a registry.
use crate::image::parallel::Failure;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why an image could not be pulled or pushed, or a login failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The image or the store is at fault.
    #[error(transparent)]
    Image(#[from] crate::image::Error),
    /// A registry name that is none.
    #[error(
        "registry {name:?} {reason}; write a host name, perhaps with a port, such as registry.example:5000"
    )]
    Registry {
        /// As given.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// hosts.toml cannot be used.
    #[error("{}: {reason}; see docs/registries.md", path.display())]
    Hosts {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
    /// A certificate or key cannot be used.
    #[error("certificates in {}: {reason}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file with credentials, or the helper it names, cannot be used.
    #[error("credentials: {what}: {reason}")]
    Credentials {
        /// The file or helper.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file could not be used.
    #[error("{action} {}: {source}", path.display())]
    File {
        /// What was attempted.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// No answer, or one that breaks off.
    #[error("{action} {url}: {reason}")]
    Connection {
        /// What was attempted.
        action: String,
        /// Where.
        url: String,
        /// Why it failed, and what to do.
        reason: String,
        /// Whether it may succeed later.
        passing: bool,
    },
    /// An answer that says no.
    #[error("{action} {url}: the server answers {status}{detail}{hint}")]
    Status {
        /// What was attempted.
        action: String,
        /// Where.
        url: String,
        /// The HTTP status.
        status: u16,
        /// What the server says about it, with a colon before it.
        detail: String,
        /// What to do, with a semicolon before it.
        hint: String,
    },
    /// The server wants us to come back much later.
    #[error("{action} {url}: the server asks to wait {} s before the next try; try again then", wait.as_secs())]
    Busy {
        /// What was attempted.
        action: String,
        /// Where.
        url: String,
        /// For how long.
        wait: Duration,
    },
    /// An answer that the specification does not allow, or that is not what was promised.
    #[error("{action} {url}: {reason}")]
    Content {
        /// What was attempted.
        action: String,
        /// Where.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// A redirect or upload location that must not be followed.
    #[error("{action} {url}: {reason}; refused")]
    Location {
        /// What was attempted.
        action: String,
        /// Where.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// Another part of the same work failed.
    #[error("given up, because another part failed")]
    Abandoned,
}

impl Failure for Error {
    const ABANDONED: Self = Self::Abandoned;

    fn is_abandoned(&self) -> bool {
        matches!(self, Self::Abandoned | Self::Image(crate::image::Error::Abandoned))
    }
}

impl Error {
    pub(super) fn file(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::File { action, path: path.to_owned(), source }
    }

    /// Whether another server, or the same one later, may do better.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Connection { passing, .. } => *passing,
            Self::Status { status, .. } => super::retry::is_passing(*status),
            _ => false,
        }
    }

    /// Whether the server says that it has no such thing.
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Self::Status { status: 404 | 410, .. })
    }

    /// Whether this machine is at fault, so that no other server can help.
    pub(super) fn is_ours(&self) -> bool {
        match self {
            Self::Image(error) => matches!(error, crate::image::Error::File { .. }),
            Self::File { .. } | Self::Abandoned => true,
            _ => false,
        }
    }
}

/// Words of a server, fit for one line of a terminal.
pub(super) fn harmless(text: &str) -> String {
    // Marks that turn the direction of writing would let a line show something else than it says.
    let steers = |c: char| {
        c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c) || ('\u{2066}'..='\u{2069}').contains(&c)
    };
    let printable: String = text.chars().map(|c| if steers(c) { ' ' } else { c }).take(300).collect();
    printable.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_cannot_steer_the_terminal() {
        assert_eq!(harmless("a\u{1b}[2Jb\n\tc"), "a [2Jb c");
        assert_eq!(harmless(&"x".repeat(1000)).len(), 300);
    }
}
