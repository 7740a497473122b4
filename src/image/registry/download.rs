//! Blobs from a registry: verified while they come, resumed where they broke off, never longer than promised.
use super::Error;
use super::answer::body_error;
use super::auth::Scope;
use super::client::{Answer, Call, Client, Failed, Payload};
use super::hosts::Capability;
use super::url::Url;
use crate::image::progress::{BlobState, Event, Progress};
use crate::image::store::ingest::{Claim, Ingest, Partial};
use crate::image::unpack::Arrival;
use crate::image::{Digest, Error as ImageError, Store};
use std::fs::File;
use std::io::Read as _;
use std::sync::Arc;
use std::time::{Duration, Instant};
use ureq::http::Method;

const BUFFER: usize = 128 << 10;
/// Failures are forgiven when so much has come since the last one.
const PROGRESS: u64 = 1 << 20;
/// A server that sends less than this is as good as silent.
const BYTES_PER_SECOND: u64 = 1 << 10;

/// A blob, as its descriptor promises it.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) digest: Digest,
    pub(super) size: u64,
    /// Where else it is said to be: image-spec descriptor.md `urls`.
    pub(super) urls: Vec<String>,
}

/// Fetches blobs of one repository.
#[derive(Debug)]
pub(super) struct Downloads<'a> {
    pub(super) clients: &'a [Client<'a>],
    pub(super) repository: &'a str,
    pub(super) scope: &'a Scope,
    pub(super) store: &'a Store,
    pub(super) ingest: &'a Ingest,
}

impl Downloads<'_> {
    /// Brings a blob into the ingest area: from the first endpoint that has it and keeps what it promises. Its
    /// arrival is told; one that has come by other ways is returned.
    pub(super) fn fetch(
        &self,
        wanted: &Wanted,
        arrival: &Arc<Arrival>,
        progress: &dyn Progress,
    ) -> Result<Option<File>, Error> {
        let tell = |state: BlobState<'_>| {
            progress.event(&Event::Blob { digest: &wanted.digest, size: wanted.size, state });
        };
        let mut partial = match self.claim(wanted, &tell)? {
            Some(partial) => partial,
            None => {
                tell(BlobState::Done);
                return self.open(wanted).map(Some);
            }
        };
        partial.announce(arrival)?;
        if partial.length() > wanted.size {
            partial.restart()?;
        }
        let sources = self.sources(wanted);
        let mut sources = sources.iter().peekable();
        while let Some((client, url)) = sources.next() {
            let blob = Blob { client, url, scope: self.scope, wanted };
            match blob.fetch(&mut partial, &tell) {
                Ok(()) => {
                    tell(BlobState::Done);
                    return Ok(None);
                }
                Err(error) if sources.peek().is_none() || error.is_ours() => return Err(error),
                Err(error) => progress.event(&Event::Warning(&error.to_string())),
            }
        }
        Err(super::no_endpoint("download from"))
    }

    /// A blob that is complete, here or in the store already.
    fn open(&self, wanted: &Wanted) -> Result<File, Error> {
        match File::open(self.ingest.complete(&wanted.digest)) {
            Ok(file) => Ok(file),
            Err(_) => Ok(self.store.blob(&wanted.digest)?),
        }
    }

    fn claim(&self, wanted: &Wanted, tell: &dyn Fn(BlobState<'_>)) -> Result<Option<Partial>, Error> {
        let claim = match self.ingest.claim(&wanted.digest, false)? {
            Claim::Busy => {
                tell(BlobState::Waiting);
                self.ingest.claim(&wanted.digest, true)?
            }
            claim => claim,
        };
        match claim {
            // Whoever had fetched it may have made an image of it since we looked.
            Claim::Partial(_) if self.store.holds(&wanted.digest, wanted.size) => Ok(None),
            Claim::Partial(partial) => Ok(Some(partial)),
            Claim::Complete => self.check_size(wanted).map(|()| None),
            Claim::Busy => Err(Error::Abandoned),
        }
    }

    /// Another image may have promised another size for the same digest; one of them lied.
    fn check_size(&self, wanted: &Wanted) -> Result<(), Error> {
        match std::fs::metadata(self.ingest.complete(&wanted.digest)) {
            Ok(data) if data.len() != wanted.size => {
                let reason = format!("has {} bytes, but {} were promised", data.len(), wanted.size);
                Err(ImageError::invalid(format!("blob {}", wanted.digest), reason).into())
            }
            // One that has just become part of an image is looked at with the image.
            _ => Ok(()),
        }
    }

    /// The endpoints, and after them the foreign URLs of layers that registries need not have. Foreign
    /// servers see no credential: they are another origin (CVE-2020-15157).
    fn sources(&self, wanted: &Wanted) -> Vec<(&Client<'_>, Url)> {
        let rest = format!("blobs/{}", wanted.digest);
        let able = self.clients.iter().filter(|client| client.endpoint.can(Capability::Pull));
        let mut sources: Vec<_> = able.map(|client| (client, client.url(self.repository, &rest))).collect();
        if let Some((last, _)) = sources.last() {
            let last = *last;
            // One that is no URL is no source.
            let foreign = wanted.urls.iter().take(4).filter_map(|url| Url::parse(url).ok());
            sources.extend(foreign.map(|url| (last, url)));
        }
        sources
    }
}

/// A blob at one place.
struct Blob<'a> {
    client: &'a Client<'a>,
    url: &'a Url,
    scope: &'a Scope,
    wanted: &'a Wanted,
}

impl Blob<'_> {
    fn fetch(&self, partial: &mut Partial, tell: &dyn Fn(BlobState<'_>)) -> Result<(), Error> {
        let mut failures = 0;
        // The most that was ever there: sending the same bytes again and again is no progress.
        let mut best = partial.length();
        let mut inherited = partial.length() > 0;
        loop {
            if partial.length() == self.wanted.size {
                match partial.finish(&self.wanted.digest)? {
                    Ok(()) => return Ok(()),
                    // What another time or another server left may be the wrong part.
                    Err(_) if inherited => inherited = false,
                    Err(found) => return Err(self.content(&format!("the content has digest {found}"))),
                }
                continue;
            }
            tell(BlobState::At(partial.length()));
            let Err(failed) = self.stream(partial, tell) else { continue };
            if partial.length() >= best + PROGRESS {
                failures = 0;
            }
            best = best.max(partial.length());
            failures += 1;
            if matches!(failed.error, Error::Status { status: 416, .. }) && partial.length() > 0 {
                partial.restart()?;
                inherited = false;
                if failures <= self.client.retries() {
                    continue;
                }
            }
            if failed.error.is_passing() {
                tell(BlobState::Retrying(&failed.error.to_string()));
            }
            self.client.wait(failures, failed)?;
        }
    }

    /// Adds what one response brings.
    fn stream(&self, partial: &mut Partial, tell: &dyn Fn(BlobState<'_>)) -> Result<(), Failed> {
        let offset = partial.length();
        let mut headers = Vec::new();
        if offset > 0 {
            headers.push(("range", format!("bytes={offset}-")));
        }
        let answer = self.client.once(&Call {
            method: Method::GET,
            url: self.url.clone(),
            headers,
            payload: Payload::None,
            scope: self.scope,
            action: self.action(),
        })?;
        self.check_range(&answer, partial)?;
        let left = self.wanted.size - partial.length();
        if let Some(length) = answer.content_length().filter(|length| *length != left) {
            return Err(self
                .content(&format!("{length} bytes are announced where {left} were promised"))
                .into());
        }
        let mut pace = Pace::new(self.client.patience());
        let mut body = answer.body.into_reader();
        let mut buffer = vec![0; BUFFER];
        while partial.length() <= self.wanted.size {
            self.client.check_abandoned()?;
            let length =
                body.read(&mut buffer).map_err(|error| body_error(&self.action(), &answer.url, &error))?;
            if length == 0 {
                break;
            }
            if partial.length() + length as u64 > self.wanted.size {
                partial.restart().map_err(Error::from)?;
                return Err(self
                    .content(&format!("more than the {} bytes come that were promised", self.wanted.size))
                    .into());
            }
            partial.write(&buffer[..length]).map_err(Error::from)?;
            tell(BlobState::At(partial.length()));
            if pace.is_too_slow(length) {
                return Err(
                    body_error(&self.action(), &answer.url, &std::io::ErrorKind::TimedOut.into()).into()
                );
            }
        }
        if partial.length() < self.wanted.size {
            let text = format!("it ends after {} of {} bytes", partial.length(), self.wanted.size);
            return Err(body_error(&self.action(), &answer.url, &std::io::Error::other(text)).into());
        }
        Ok(())
    }

    /// A server may ignore Range and send all; it may not send another part.
    fn check_range(&self, answer: &Answer, partial: &mut Partial) -> Result<(), Failed> {
        if answer.status == 200 {
            if partial.length() > 0 {
                partial.restart().map_err(Error::from)?;
            }
            return Ok(());
        }
        let expected = format!("bytes {}-{}/", partial.length(), self.wanted.size - 1);
        match answer.header("content-range") {
            Some(range) if answer.status == 206 && range.starts_with(&expected) => Ok(()),
            range => {
                let range = super::harmless(range.unwrap_or("nothing"));
                let reason =
                    format!("status {} with range {range} where {expected} was asked", answer.status);
                Err(self.content(&reason).into())
            }
        }
    }

    fn action(&self) -> String {
        format!("download {} from", self.wanted.digest.short())
    }

    fn content(&self, reason: &str) -> Error {
        Error::Content { action: self.action(), url: self.url.shown(), reason: format!("{reason}; refused") }
    }
}

/// Notices a server that keeps a connection open with a drip.
struct Pace {
    window: Duration,
    since: Instant,
    bytes: u64,
}

impl Pace {
    fn new(window: Duration) -> Self {
        Self { window, since: Instant::now(), bytes: 0 }
    }

    fn is_too_slow(&mut self, length: usize) -> bool {
        self.bytes += length as u64;
        let passed = self.since.elapsed();
        if passed < self.window {
            return false;
        }
        let slow = (self.bytes as f64) < BYTES_PER_SECOND as f64 * passed.as_secs_f64();
        (self.since, self.bytes) = (Instant::now(), 0);
        slow
    }
}
