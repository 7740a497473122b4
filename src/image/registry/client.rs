//! Requests to one endpoint of a registry: authorised, redirected and tried again as far as is safe.
use super::answer::{connection_error, read_small, status_error};
use super::auth::{Auth, Scope};
use super::challenge::Challenge;
use super::credentials::Credential;
use super::hosts::Endpoint;
use super::retry::{Next, Policy, retry_after};
use super::transport::{Failure, Transport};
use super::url::Url;
use super::{Abandon, Error};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant, SystemTime};
use ureq::http::{HeaderMap, Method, Request};
use ureq::{Body, SendBody};

/// More redirects than this are a circle.
const REDIRECTS_LIMIT: usize = 5;
/// What a server may say about an error.
const ERROR_LIMIT: u64 = 64 << 10;

/// One endpoint.
#[derive(Debug)]
pub(super) struct Client<'a> {
    pub(super) endpoint: Endpoint,
    /// What `wharf login` takes.
    login: String,
    transport: &'a Transport,
    auth: Auth,
    policy: Policy,
    abandon: &'a Abandon,
}

/// A request.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) payload: Payload<'a>,
    pub(super) scope: &'a Scope,
    /// For messages: a verb phrase that the URL follows.
    pub(super) action: String,
}

/// A body that can be sent again.
#[derive(Clone, Copy)]
pub(super) enum Payload<'a> {
    None,
    Bytes(&'a [u8]),
    /// A part of a file. `sent` is told the position in the file.
    File {
        file: &'a File,
        offset: u64,
        length: u64,
        sent: &'a dyn Fn(u64),
    },
}

impl std::fmt::Debug for Payload<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Payload({:?} bytes)", self.length())
    }
}

impl Payload<'_> {
    fn length(&self) -> Option<u64> {
        match self {
            Self::None => None,
            Self::Bytes(bytes) => Some(bytes.len() as u64),
            Self::File { length, .. } => Some(*length),
        }
    }
}

/// A response that says yes.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
    /// Where it came from in the end.
    pub(super) url: Url,
}

impl Answer {
    /// A header's text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The length that the server announces.
    pub(super) fn content_length(&self) -> Option<u64> {
        self.header("content-length")?.trim().parse().ok()
    }
}

/// A failure, and how long the server wants to be left alone.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) error: Error,
    pub(super) retry_after: Option<Duration>,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self { error, retry_after: None }
    }
}

impl<'a> Client<'a> {
    pub(super) fn new(
        mut endpoint: Endpoint,
        login: String,
        transport: &'a Transport,
        credential: Option<Credential>,
        policy: Policy,
        abandon: &'a Abandon,
    ) -> Result<Self, Error> {
        transport.configure(&endpoint.base.origin, &endpoint.trust)?;
        if endpoint.may_be_plain && !transport.speaks_tls(&endpoint.base)? {
            endpoint.base.origin.https = false;
            // The port was the name's, or that of the scheme.
            if endpoint.base.origin.port == 443 && !endpoint.port_is_given {
                endpoint.base.origin.port = 80;
            }
        }
        let auth = Auth::new(endpoint.base.origin.clone(), credential);
        Ok(Self { endpoint, login, transport, auth, policy, abandon })
    }

    pub(super) fn patience(&self) -> Duration {
        self.transport.patience()
    }

    /// Tries after the first one.
    pub(super) fn retries(&self) -> u32 {
        self.policy.retries
    }

    /// An error when the work has been given up.
    pub(super) fn check_abandoned(&self) -> Result<(), Error> {
        if self.abandon.is_set() { Err(Error::Abandoned) } else { Ok(()) }
    }

    fn sleep(&self, time: Duration) -> Result<(), Error> {
        let until = Instant::now() + time;
        loop {
            self.check_abandoned()?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(Duration::from_millis(50)));
        }
    }

    /// The URL of something below `/v2/REPOSITORY/`.
    pub(super) fn url(&self, repository: &str, rest: &str) -> Url {
        let mut url = self.endpoint.base.clone();
        url.target = format!("{}/{repository}/{rest}", url.target);
        self.in_namespace(url)
    }

    /// The URL that tells whether this is a registry that lets us in.
    pub(super) fn root_url(&self) -> Url {
        let mut url = self.endpoint.base.clone();
        url.target.push('/');
        self.in_namespace(url)
    }

    /// containerd's convention for mirrors that serve several registries.
    fn in_namespace(&self, url: Url) -> Url {
        match &self.endpoint.namespace {
            Some(namespace) => url.with_parameter("ns", namespace),
            None => url,
        }
    }

    /// Sends a request until it is answered, or trying again is no use.
    pub(super) fn call(&self, call: &Call<'_>) -> Result<Answer, Error> {
        let mut failures = 0;
        loop {
            match self.once(call) {
                Ok(answer) => return Ok(answer),
                Err(failed) => {
                    failures += 1;
                    self.wait(failures, failed)?;
                }
            }
        }
    }

    /// Waits before another try, or returns the error when there is to be none.
    pub(super) fn wait(&self, failures: u32, failed: Failed) -> Result<(), Error> {
        self.check_abandoned()?;
        if !failed.error.is_passing() {
            return Err(failed.error);
        }
        match self.policy.next(failures, random(), failed.retry_after) {
            Next::Wait(time) => self.sleep(time),
            Next::GiveUp => Err(failed.error),
            Next::TooLong(wait) => Err(match failed.error {
                Error::Status { action, url, .. } => Error::Busy { action, url, wait },
                error => error,
            }),
        }
    }

    /// Sends a request once, but for the second time that a challenge demands.
    pub(super) fn once(&self, call: &Call<'_>) -> Result<Answer, Failed> {
        self.check_abandoned()?;
        let (answer, own) = self.follow(call)?;
        if answer.status != 401 || !own {
            return self.judge(call, answer, own);
        }
        let values = answer.headers.get_all("www-authenticate").iter();
        let challenge = Challenge::best(values.filter_map(|value| value.to_str().ok()));
        let answered = match challenge {
            Some(challenge) => {
                let answered = self.auth.answer(self.transport, &challenge, call.scope);
                answered.map_err(|Failed { error, retry_after }| Failed {
                    error: self.with_login_hint(error, call.scope),
                    retry_after,
                })?
            }
            None => false,
        };
        if !answered {
            return self.judge(call, answer, own);
        }
        drop(answer);
        let (answer, own) = self.follow(call)?;
        self.judge(call, answer, own)
    }

    /// Follows redirects of reading requests. What is ours alone, the authorisation above all, goes to the
    /// endpoint's origin and nowhere else, not even when a foreign server leads back to it.
    fn follow(&self, call: &Call<'_>) -> Result<(Answer, bool), Failed> {
        let mut url = call.url.clone();
        let mut own = true;
        for _ in 0..=REDIRECTS_LIMIT {
            own = own && url.origin == self.endpoint.base.origin;
            if self.endpoint.base.origin.https && !url.origin.https {
                return Err(location_error(call, &url, "leads from TLS to plain HTTP").into());
            }
            let answer = self.send(call, &url, own)?;
            let redirected = matches!(answer.status, 301 | 302 | 303 | 307 | 308);
            let reads = call.method == Method::GET || call.method == Method::HEAD;
            if !redirected || !reads {
                return Ok((answer, own));
            }
            let location = answer.header("location").unwrap_or_default();
            url = url
                .join(location)
                .map_err(|reason| location_error(call, &url, &format!("redirects to what {reason}")))?;
        }
        Err(location_error(call, &url, "redirects without end").into())
    }

    fn send(&self, call: &Call<'_>, url: &Url, own: bool) -> Result<Answer, Failed> {
        let mut request = Request::builder().method(call.method.clone()).uri(url.to_string());
        for (name, value) in &call.headers {
            request = request.header(*name, value);
        }
        if own {
            for (name, value) in &self.endpoint.headers {
                request = request.header(name, value);
            }
            if let Some(value) = self.auth.header(call.scope) {
                request = request.header("authorization", value);
            }
        }
        let writes =
            call.method == Method::POST || call.method == Method::PUT || call.method == Method::PATCH;
        if writes {
            request = request.header("content-length", call.payload.length().unwrap_or(0));
        }
        let unfit = |error: ureq::http::Error| location_error(call, url, &error.to_string());
        let sent = if writes {
            let mut reader: Box<dyn Read + '_> = match call.payload {
                Payload::None => Box::new(io::empty()),
                Payload::Bytes(bytes) => Box::new(bytes),
                Payload::File { file, offset, length, sent } => {
                    Box::new(Part { file, at: offset, end: offset + length, sent })
                }
            };
            let request = request.body(SendBody::from_reader(&mut *reader)).map_err(unfit)?;
            self.transport.send(url, request, true)
        } else {
            self.transport.send(url, request.body(SendBody::none()).map_err(unfit)?, false)
        };
        let response = sent.map_err(|failure| match failure {
            Failure::Own(error) => error,
            Failure::Http(error) => connection_error(&call.action, url, &error),
        })?;
        let status = response.status().as_u16();
        let (parts, body) = response.into_parts();
        Ok(Answer { status, headers: parts.headers, body, url: url.clone() })
    }

    fn judge(&self, call: &Call<'_>, answer: Answer, own: bool) -> Result<Answer, Failed> {
        if (200..300).contains(&answer.status) {
            return Ok(answer);
        }
        let retry_after = retry_after_of(&answer.headers);
        let Answer { status, body, url, .. } = answer;
        // What an error page says is for the message alone.
        let bytes = read_small(body, ERROR_LIMIT, self.patience()).unwrap_or_default();
        // What another server says is not ours to mend.
        let hint = if own { self.hint(status, call.scope) } else { String::new() };
        let error = status_error(&call.action, &url, status, &bytes, &hint);
        Err(Failed { error, retry_after })
    }

    fn hint(&self, status: u16, scope: &Scope) -> String {
        let host = &self.login;
        match status {
            401 | 403 if scope.0.is_empty() => "user name or password is wrong".to_owned(),
            401 if self.auth.has_credential() => {
                format!("the stored credential is not accepted; log in again: wharf login {host}")
            }
            401 => format!("it may be private, or not exist; log in: wharf login {host}"),
            403 if self.auth.has_credential() => "the account that is logged in may not do this".to_owned(),
            403 => format!("log in: wharf login {host}"),
            404 => "check name and tag".to_owned(),
            _ => String::new(),
        }
    }

    fn with_login_hint(&self, error: Error, scope: &Scope) -> Error {
        match error {
            Error::Status { action, url, status, detail, .. } if matches!(status, 400 | 401 | 403) => {
                let hint = format!("; {}", self.hint(401, scope));
                Error::Status { action, url, status, detail, hint }
            }
            error => error,
        }
    }
}

fn location_error(call: &Call<'_>, url: &Url, reason: &str) -> Error {
    Error::Location { action: call.action.clone(), url: url.shown(), reason: super::harmless(reason) }
}

/// How long the server wants to be left alone.
pub(super) fn retry_after_of(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get("retry-after")?.to_str().ok()?;
    retry_after(value, SystemTime::now())
}

/// In 0..1.
fn random() -> f64 {
    let mut bytes = [0; 4];
    // Without random numbers all wait for the middle of the span.
    match getrandom::fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_ne_bytes(bytes)) / f64::from(u32::MAX),
        Err(_) => 0.5,
    }
}

/// Reads a part of a file without moving its offset, which several parts share.
struct Part<'a> {
    file: &'a File,
    at: u64,
    end: u64,
    sent: &'a dyn Fn(u64),
}

impl Read for Part<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = usize::try_from(self.end - self.at).unwrap_or(usize::MAX).min(buffer.len());
        let length = self.file.read_at(&mut buffer[..room], self.at)?;
        if length == 0 && room > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += length as u64;
        (self.sent)(self.at);
        Ok(length)
    }
}
