//! Blobs into a registry: distribution-spec, "Pushing blobs".
use super::auth::Scope;
use super::client::{Answer, Call, Client, Payload};
use super::url::Url;
use super::{Error, harmless};
use crate::image::Digest;
use crate::image::progress::BlobState;
use std::fs::File;
use ureq::http::Method;

/// Chunks for a registry that wants them; more than any asks for.
const CHUNK: u64 = 16 << 20;
/// A registry that wants larger chunks wants no chunks.
const CHUNK_LIMIT: u64 = 1 << 30;

/// One blob on its way to one repository.
pub(super) struct Upload<'a> {
    pub(super) client: &'a Client<'a>,
    pub(super) repository: &'a str,
    pub(super) scope: &'a Scope,
    pub(super) digest: &'a Digest,
    pub(super) size: u64,
    pub(super) tell: &'a (dyn Fn(BlobState<'_>) + Sync),
}

impl Upload<'_> {
    /// Whether the repository has the blob.
    pub(super) fn is_there(&self) -> Result<bool, Error> {
        let url = self.client.url(self.repository, &format!("blobs/{}", self.digest));
        match self.call(Method::HEAD, url, Payload::None, Vec::new(), "look for") {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Sends the blob, or has the registry take it from the repository `from` of its own.
    pub(super) fn send(&self, file: &File, from: Option<&str>) -> Result<(), Error> {
        let mut from = from;
        let mut failures = 0;
        let mut chunked = false;
        loop {
            let failed = match self.try_once(file, from.take(), chunked) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            // Registries that take only one of both ways say so like this.
            let other_way = matches!(failed, Error::Status { status: 404 | 405 | 411 | 413 | 416 | 501, .. });
            if other_way && !chunked {
                chunked = true;
                continue;
            }
            failures += 1;
            if failed.is_passing() {
                (self.tell)(BlobState::Retrying(&failed.to_string()));
            }
            self.client.wait(failures, failed.into())?;
        }
    }

    fn try_once(&self, file: &File, from: Option<&str>, chunked: bool) -> Result<(), Error> {
        let mut url = self.client.url(self.repository, "blobs/uploads/");
        if let Some(from) = from {
            url = url.with_parameter("mount", &self.digest.to_string()).with_parameter("from", from);
        }
        let started = self.call(Method::POST, url, Payload::None, Vec::new(), "start the upload of")?;
        if started.status == 201 {
            let from = from.unwrap_or_default();
            (self.tell)(BlobState::Mounted(from));
            return Ok(());
        }
        let least = started.header("oci-chunk-min-length").and_then(|value| value.parse::<u64>().ok());
        let place = self.location(&started)?;
        if chunked || least.is_some() {
            let chunk = least.unwrap_or_default().clamp(CHUNK, CHUNK_LIMIT);
            self.send_chunks(file, place, chunk)
        } else {
            let payload = Payload::File {
                file,
                offset: 0,
                length: self.size,
                sent: &|at| (self.tell)(BlobState::At(at)),
            };
            self.close(place, payload)
        }
    }

    fn send_chunks(&self, file: &File, mut place: Url, chunk: u64) -> Result<(), Error> {
        let mut offset = 0;
        while offset < self.size {
            let length = chunk.min(self.size - offset);
            let sent = |at| (self.tell)(BlobState::At(at));
            let payload = Payload::File { file, offset, length, sent: &sent };
            let range = format!("{offset}-{}", offset + length - 1);
            let headers =
                vec![("content-type", "application/octet-stream".to_owned()), ("content-range", range)];
            let answer = self.call_once(Method::PATCH, place, payload, headers)?;
            place = self.location(&answer)?;
            offset += length;
        }
        self.close(place, Payload::None)
    }

    fn close(&self, place: Url, payload: Payload<'_>) -> Result<(), Error> {
        let place = place.with_parameter("digest", &self.digest.to_string());
        let headers = vec![("content-type", "application/octet-stream".to_owned())];
        self.call_once(Method::PUT, place, payload, headers).map(drop)
    }

    /// Where to go on, relative or absolute. On another host the client sends no credential.
    fn location(&self, answer: &Answer) -> Result<Url, Error> {
        let refused = |reason: String| Error::Location {
            action: self.action("upload"),
            url: answer.url.shown(),
            reason: format!("the upload location {reason}"),
        };
        let location = answer.header("location").ok_or_else(|| refused("is missing".to_owned()))?;
        answer.url.join(location).map_err(|reason| refused(harmless(&reason)))
    }

    fn call(
        &self,
        method: Method,
        url: Url,
        payload: Payload<'_>,
        headers: Vec<(&'static str, String)>,
        verb: &str,
    ) -> Result<Answer, Error> {
        let (scope, action) = (self.scope, self.action(verb));
        self.client.call(&Call { method, url, headers, payload, scope, action })
    }

    /// Content is not sent again to a place that may have some of it: the upload begins anew.
    fn call_once(
        &self,
        method: Method,
        url: Url,
        payload: Payload<'_>,
        headers: Vec<(&'static str, String)>,
    ) -> Result<Answer, Error> {
        let (scope, action) = (self.scope, self.action("upload"));
        let call = Call { method, url, headers, payload, scope, action };
        self.client.once(&call).map_err(|failed| failed.error)
    }

    fn action(&self, verb: &str) -> String {
        format!("{verb} {} at", self.digest.short())
    }
}
