//! Signatures of an image, where cosign keeps them: in the image's repository, a manifest under the tag
//! `sha256-HEX.sig`, whose layers are what was signed and whose notes are the signatures.
use super::Error;
use super::answer::{body_error, read_small};
use super::auth::Scope;
use super::client::{Call, Client, Payload};
use super::hosts::Capability;
use crate::image::policy::Signature;
use crate::image::progress::{Event, Progress};
use crate::image::{Digest, Error as ImageError};
use serde::Deserialize;
use ureq::http::Method;

const MEDIA_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const NOTE: &str = "dev.cosignproject.cosign/signature";
const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json";
const MANIFEST_LIMIT: u64 = 1 << 20;
/// What is signed has some two hundred bytes.
const PAYLOAD_LIMIT: u64 = 64 << 10;
/// Whoever may push can add signatures without end.
const COUNT_LIMIT: usize = 50;

/// What is read of a manifest of signatures; its other fields decide nothing.
#[derive(Debug, Deserialize)]
struct Manifest {
    layers: Vec<Layer>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    media_type: String,
    digest: String,
    #[serde(default)]
    annotations: std::collections::HashMap<String, String>,
}

/// Fetches all signatures of an image; nothing about them has been verified.
///
/// # Errors
/// When the registry fails. That there are none is no error.
pub(super) fn fetch(
    clients: &[Client<'_>],
    repository: &str,
    scope: &Scope,
    image: &Digest,
    progress: &dyn Progress,
) -> Result<Vec<Signature>, Error> {
    let able = |client: &&Client<'_>| client.endpoint.can(Capability::Resolve);
    let mut able = clients.iter().filter(able).peekable();
    while let Some(client) = able.next() {
        match fetch_from(client, repository, scope, image) {
            // A mirror may lack what the registry behind it has.
            Ok(found) if found.is_empty() && able.peek().is_some() => {}
            Err(error) if able.peek().is_some() && !error.is_ours() => {
                progress.event(&Event::Warning(&error.to_string()));
            }
            done => return done,
        }
    }
    Ok(Vec::new())
}

fn fetch_from(
    client: &Client<'_>,
    repository: &str,
    scope: &Scope,
    image: &Digest,
) -> Result<Vec<Signature>, Error> {
    let get = |path: &str, limit: u64| small(client, repository, scope, path, limit);
    let tag = format!("manifests/sha256-{}.sig", image.hex());
    let bytes = match get(&tag, MANIFEST_LIMIT) {
        Err(error) if error.is_not_found() => return Ok(Vec::new()),
        bytes => bytes?,
    };
    let what = format!("the signatures of {image}");
    let manifest: Manifest = serde_json::from_slice(&bytes)
        .map_err(|error| ImageError::invalid(&what, format!("are malformed: {error}")))?;
    let signed = |layer: &&Layer| layer.media_type == MEDIA_TYPE;
    let mut signatures = Vec::new();
    for layer in manifest.layers.iter().filter(signed).take(COUNT_LIMIT) {
        let Some(signature) = layer.annotations.get(NOTE) else { continue };
        let digest: Digest = layer.digest.parse()?;
        let payload = get(&format!("blobs/{digest}"), PAYLOAD_LIMIT)?;
        let found = Digest::of(&payload);
        if found != digest {
            let (expected, found) = (digest.to_string(), found.to_string());
            return Err(ImageError::Mismatch { what, expected, found }.into());
        }
        signatures.push(Signature::new(&payload, signature));
    }
    Ok(signatures)
}

/// A small thing of a repository, whole.
fn small(
    client: &Client<'_>,
    repository: &str,
    scope: &Scope,
    path: &str,
    limit: u64,
) -> Result<Vec<u8>, Error> {
    let url = client.url(repository, path);
    let action = "get a signature from";
    let answer = client.call(&Call {
        method: Method::GET,
        url: url.clone(),
        headers: vec![("accept", format!("{ACCEPT}, */*"))],
        payload: Payload::None,
        scope,
        action: action.to_owned(),
    })?;
    let read = read_small(answer.body, limit, client.patience() * 2);
    let bytes = read.map_err(|error| body_error(action, &url, &error))?;
    if bytes.len() as u64 > limit {
        let reason = format!("more than {limit} bytes come; refused");
        return Err(Error::Content { action: action.to_owned(), url: url.shown(), reason });
    }
    Ok(bytes)
}
