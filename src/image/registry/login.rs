//! Whether a registry knows a credential.
use super::Abandon;
use super::auth::Scope;
use super::client::{Call, Client, Payload};
use super::hosts::{Capability, endpoints};
use super::retry::Policy;
use super::transport::Transport;
use super::{Credential, Error, Options, no_endpoint};
use ureq::http::Method;

/// Shows a credential to the registry itself, not to its mirrors.
///
/// # Errors
/// When it is not accepted, or the registry does not answer.
pub fn login(registry: &str, credential: Credential, options: &Options) -> Result<(), Error> {
    let (transport, abandon) = (Transport::new(&options.certs_dir, options.timeout), Abandon::default());
    let endpoints = endpoints(&options.certs_dir, registry)?;
    let able = |capability| move |endpoint: &super::hosts::Endpoint| endpoint.can(capability);
    let own = endpoints.into_iter().rfind(able(Capability::Pull)).ok_or_else(|| no_endpoint("log in at"))?;
    let policy = Policy::new(options.retries);
    let client = Client::new(own, registry.to_owned(), &transport, Some(credential), policy, &abandon)?;
    client.call(&Call {
        method: Method::GET,
        url: client.root_url(),
        headers: Vec::new(),
        payload: Payload::None,
        scope: &Scope(Vec::new()),
        action: "log in at".to_owned(),
    })?;
    Ok(())
}
