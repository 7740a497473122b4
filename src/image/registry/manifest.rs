//! Manifests and indexes from a registry.
use super::answer::{body_error, read_small};
use super::auth::Scope;
use super::client::{Call, Client, Payload};
use super::hosts::Capability;
use super::{Error, harmless, no_endpoint};
use crate::image::Digest;
use crate::image::manifest::{Document, media_type_of};
use crate::image::progress::{Event, Progress};
use ureq::http::Method;

/// distribution-spec, "Pushing Manifests": registries may refuse more than 4 MiB, and so do we.
pub(super) const LIMIT: u64 = 4 << 20;

const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// A document that was received and verified.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) bytes: Vec<u8>,
    pub(super) digest: Digest,
    pub(super) media_type: String,
    pub(super) document: Document,
}

/// Which document.
#[derive(Debug, Clone, Copy)]
pub(super) enum Which<'a> {
    Tag(&'a str),
    /// With the size that a descriptor promises.
    Digest(&'a Digest, Option<u64>),
}

/// Fetches from the first endpoint that has it.
pub(super) fn fetch(
    clients: &[Client<'_>],
    repository: &str,
    scope: &Scope,
    which: Which<'_>,
    progress: &dyn Progress,
) -> Result<Received, Error> {
    let wanted = match which {
        Which::Tag(_) => Capability::Resolve,
        Which::Digest(..) => Capability::Pull,
    };
    let mut able = clients.iter().filter(|client| client.endpoint.can(wanted)).peekable();
    while let Some(client) = able.next() {
        match fetch_from(client, repository, scope, which) {
            Err(error) if able.peek().is_some() && !error.is_ours() => {
                progress.event(&Event::Warning(&error.to_string()));
            }
            done => return done,
        }
    }
    Err(no_endpoint("get a manifest from"))
}

fn fetch_from(
    client: &Client<'_>,
    repository: &str,
    scope: &Scope,
    which: Which<'_>,
) -> Result<Received, Error> {
    let name = match which {
        Which::Tag(tag) => tag.to_owned(),
        Which::Digest(digest, _) => digest.to_string(),
    };
    let url = client.url(repository, &format!("manifests/{name}"));
    let action = "get";
    let answer = client.call(&Call {
        method: Method::GET,
        url: url.clone(),
        headers: vec![("accept", ACCEPT.to_owned())],
        payload: Payload::None,
        scope,
        action: action.to_owned(),
    })?;
    let content = |reason: String| Error::Content { action: action.to_owned(), url: url.shown(), reason };
    let stated = answer
        .header("content-type")
        .map(|text| text.split(';').next().unwrap_or_default().trim().to_owned());
    let header_digest = answer.header("docker-content-digest").map(str::to_owned);
    let limit = match which {
        Which::Digest(_, Some(size)) => size.min(LIMIT),
        _ => LIMIT,
    };
    let too_long =
        || content(format!("the manifest is longer than the {limit} bytes that it may have; refused"));
    if answer.content_length().is_some_and(|length| length > limit) {
        return Err(too_long());
    }
    let read = read_small(answer.body, limit, client.patience() * 2);
    let bytes = read.map_err(|error| body_error(action, &url, &error))?;
    if bytes.len() as u64 > limit {
        return Err(too_long());
    }
    let digest = Digest::of(&bytes);
    match which {
        Which::Digest(expected, size) => {
            if *expected != digest {
                return Err(content(format!("the content has digest {digest}; refused")));
            }
            if let Some(size) = size.filter(|size| *size != bytes.len() as u64) {
                return Err(content(format!(
                    "{} bytes come where {size} were promised; refused",
                    bytes.len()
                )));
            }
        }
        Which::Tag(_) => {
            // Digests of other algorithms are not ours to compare.
            let promised = header_digest.filter(|text| text.starts_with("sha256:"));
            if let Some(promised) = promised.filter(|promised| *promised != digest.to_string()) {
                let promised = harmless(&promised);
                return Err(content(format!(
                    "the content has digest {digest}, but {promised} was promised; refused"
                )));
            }
        }
    }
    if stated.as_deref().is_some_and(|kind| kind.contains("distribution.manifest.v1+")) {
        return Err(content("it is an image of Docker's old schema 1, which has no digests to verify; push it again with a current tool".to_owned()));
    }
    let document = Document::parse(&bytes, &format!("manifest {}", url.shown()))?;
    let media_type = media_type_of(&bytes, &document);
    // Readers that go by the header and readers that go by the content must see one thing (CVE-2021-41190).
    if let Some(stated) = stated.filter(|kind| ACCEPT.contains(kind.as_str()) && !kind.is_empty())
        && !same_kind(&stated, &media_type)
    {
        return Err(content(format!(
            "the server calls it {stated}, but it is {media_type}; refused (CVE-2021-41190)"
        )));
    }
    Ok(Received { bytes, digest, media_type, document })
}

fn same_kind(one: &str, other: &str) -> bool {
    let is_index = |kind: &str| kind.contains("index") || kind.contains("manifest.list");
    is_index(one) == is_index(other)
}
