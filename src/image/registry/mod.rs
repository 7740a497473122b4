//! The registry client: OCI distribution-spec 1.1, pull and push, without a daemon and without async.
//!
//! [`pull`] asks a registry's endpoints in the order of its hosts.toml for the manifest, fetches missing
//! blobs three at a time into the store's ingest area, and makes the image of them under the store's lock.
//! [`push`] is the other way round. Everything a server sends is taken for hostile: bytes are counted and
//! digested while they stream, documents and waiting have limits, and what is secret goes to the one origin
//! that it is for.
//!
//! | file | subject |
//! |---|---|
//! | `hosts` | certs.d/HOST/hosts.toml: mirrors, authorities, plain HTTP |
//! | `transport` | agents with the trust of their origin |
//! | `client` | one request: authorised, redirected, tried again |
//! | `challenge`, `auth`, `credentials`, `helper` | who we are, and whom we tell |
//! | `manifest`, `signatures`, `download`, `pull` | from a registry into the store |
//! | `upload`, `push` | from the store into a registry |

mod answer;
mod auth;
mod challenge;
mod client;
mod credentials;
mod download;
mod error;
mod helper;
mod hosts;
mod login;
mod manifest;
mod pull;
mod push;
mod retry;
mod signatures;
mod transport;
mod upload;
mod url;

pub use credentials::{Credential, CredentialFiles};
pub use error::Error;
pub use login::login;
pub use pull::{Pulled, pull};
pub use push::{Pushed, push};

use super::parallel::Abandon;
use client::Client;
use error::harmless;
use retry::Policy;
use std::path::PathBuf;
use std::time::Duration;
use transport::Transport;

/// How registries are talked to.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where hosts.toml files are.
    pub certs_dir: PathBuf,
    /// How long a connection may bring nothing.
    pub timeout: Duration,
    /// Tries after the first one.
    pub retries: u32,
    /// Blobs at once.
    pub parallel: usize,
    /// Whether layers are unpacked while they arrive, or by the first instance.
    pub unpack: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            certs_dir: PathBuf::from("/etc/wharf/certs.d"),
            timeout: Duration::from_secs(30),
            retries: 5,
            parallel: 3,
            unpack: true,
        }
    }
}

/// Clients of those endpoints of a registry that can do one of `wanted`, in the order of trying.
fn clients<'a>(
    registry: &str,
    repository: &str,
    wanted: &[hosts::Capability],
    options: &Options,
    transport: &'a Transport,
    abandon: &'a Abandon,
) -> Result<Vec<Client<'a>>, Error> {
    let files = CredentialFiles::from_environment();
    let mut endpoints = hosts::endpoints(&options.certs_dir, registry)?;
    endpoints.retain(|endpoint| wanted.iter().any(|capability| endpoint.can(*capability)));
    let count = endpoints.len();
    let mut clients = Vec::with_capacity(count);
    for (index, endpoint) in endpoints.into_iter().enumerate() {
        // A mirror that fails has another one behind it.
        let policy = Policy::new(if index + 1 < count { options.retries.min(1) } else { options.retries });
        // A mirror has credentials of its own, and never those of the registry that it stands for.
        let login = match &endpoint.namespace {
            Some(_) => endpoint.login_name(),
            None => registry.to_owned(),
        };
        let credential = files.find(&login, repository)?;
        clients.push(Client::new(endpoint, login, transport, credential, policy, abandon)?);
    }
    Ok(clients)
}

fn no_endpoint(action: &str) -> Error {
    Error::Connection {
        action: action.to_owned(),
        url: "the registry".to_owned(),
        reason: "hosts.toml gives no host this capability; see docs/registries.md".to_owned(),
        passing: false,
    }
}
