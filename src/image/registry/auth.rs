//! Answers to challenges: basic credentials, or tokens of the registry's token service as distribution's
//! token specification has them.
//!
//! Who asks may be hostile. A credential goes to the registry that it is stored for, and to the token
//! service which that registry names over a connection that nobody else reads; a token goes to the registry
//! that it was asked for.
use super::answer::{body_error, connection_error, read_small, status_error};
use super::challenge::Challenge;
use super::client::{Failed, retry_after_of};
use super::credentials::Credential;
use super::transport::{Failure, Transport};
use super::url::{Origin, Url, encoded};
use super::{Error, harmless};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use ureq::SendBody;
use ureq::http::{Request, StatusCode};

const ANSWER_LIMIT: u64 = 1 << 20;
/// distribution's token specification: a token is good for this long at least, whatever it says.
const LIFE: Duration = Duration::from_secs(60);

/// What a request is for, in the token specification's form: `repository:NAME:pull`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Scope(pub(super) Vec<String>);

impl Scope {
    /// A password is good for every request.
    fn whatever() -> Self {
        Self(vec!["*".to_owned()])
    }
}

/// The answers of one registry.
#[derive(Debug)]
pub(super) struct Auth {
    origin: Origin,
    credential: Option<Credential>,
    known: Mutex<HashMap<Scope, Known>>,
}

/// The value of an Authorization header.
#[derive(Clone)]
struct Known {
    value: String,
    until: Option<Instant>,
}

impl std::fmt::Debug for Known {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Known(…)")
    }
}

impl Auth {
    pub(super) fn new(origin: Origin, credential: Option<Credential>) -> Self {
        Self { origin, credential, known: Mutex::new(HashMap::new()) }
    }

    pub(super) fn has_credential(&self) -> bool {
        self.credential.is_some()
    }

    /// What is known to be right for such a request.
    pub(super) fn header(&self, scope: &Scope) -> Option<String> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let valid = |known: &&Known| known.until.is_none_or(|until| Instant::now() < until);
        let found = known.get(scope).filter(valid).or_else(|| known.get(&Scope::whatever()))?;
        Some(found.value.clone())
    }

    /// Answers a challenge; false when there is nothing to answer with.
    pub(super) fn answer(
        &self,
        transport: &Transport,
        challenge: &Challenge,
        scope: &Scope,
    ) -> Result<bool, Failed> {
        let (scope, known) = match challenge {
            Challenge::Basic => match &self.credential {
                Some(Credential::Password { user, password }) => {
                    (Scope::whatever(), Known { value: basic(user, password), until: None })
                }
                _ => return Ok(false),
            },
            Challenge::Bearer { realm, service, scope: asked } => {
                let realm = self.realm(realm)?;
                let known = self.token(transport, realm, service.as_deref(), asked.as_deref(), scope)?;
                (scope.clone(), known)
            }
        };
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(scope, known);
        Ok(true)
    }

    /// The token service, checked: whoever can change a plain answer of the registry could name one of his own.
    fn realm(&self, realm: &str) -> Result<Url, Error> {
        let refused = |reason: String| Error::Location {
            action: "log in at".to_owned(),
            url: harmless(realm),
            reason: format!("the token service that {} names {reason}", self.origin),
        };
        let url = Url::parse(realm).map_err(refused)?;
        if url.origin.https {
            return Ok(url);
        }
        if self.origin.https {
            return Err(refused("is plain HTTP, though the registry itself is not".to_owned()));
        }
        if url.origin.host != self.origin.host && self.credential.is_some() {
            let reason = "is on another host and plain HTTP, and would be sent a credential";
            return Err(refused(reason.to_owned()));
        }
        Ok(url)
    }

    fn token(
        &self,
        transport: &Transport,
        realm: Url,
        service: Option<&str>,
        asked: Option<&str>,
        scope: &Scope,
    ) -> Result<Known, Failed> {
        let mut scopes: Vec<&str> = scope.0.iter().map(String::as_str).collect();
        scopes.extend(asked.unwrap_or_default().split(' ').filter(|asked| !asked.is_empty()));
        scopes.sort_unstable();
        scopes.dedup();
        let asked_at = Instant::now();
        let (url, request) = match &self.credential {
            Some(Credential::IdentityToken(token)) => {
                let mut form =
                    format!("grant_type=refresh_token&client_id=wharf&refresh_token={}", encoded(token));
                if let Some(service) = service {
                    form.push_str(&format!("&service={}", encoded(service)));
                }
                form.push_str(&format!("&scope={}", encoded(&scopes.join(" "))));
                let request = Request::post(realm.to_string())
                    .header("content-type", "application/x-www-form-urlencoded")
                    .header("content-length", form.len())
                    .body(form);
                (realm, request)
            }
            credential => {
                let mut url = realm;
                if let Some(service) = service {
                    url = url.with_parameter("service", service);
                }
                for scope in scopes {
                    url = url.with_parameter("scope", scope);
                }
                let mut request = Request::get(url.to_string());
                if let Some(Credential::Password { user, password }) = credential {
                    url = url.with_parameter("account", user);
                    request = Request::get(url.to_string()).header("authorization", basic(user, password));
                }
                (url, request.body(String::new()))
            }
        };
        let content = |reason: String| Error::Content {
            action: "get a token from".to_owned(),
            url: url.shown(),
            reason,
        };
        let request = request.map_err(|error| content(error.to_string()))?;
        let answer = ask(transport, &url, request)?;
        let text = |key: &str| answer.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        let token = text("token").or_else(|| text("access_token"));
        let token = token.ok_or_else(|| content("the answer has no token".to_owned()))?;
        let value = format!("Bearer {token}");
        if value.parse::<ureq::http::HeaderValue>().is_err() {
            return Err(content("the token is no token".to_owned()).into());
        }
        let life = answer.get("expires_in").and_then(Value::as_u64).map_or(LIFE, Duration::from_secs);
        // A token that ends while the request is on its way is none.
        let life = life.clamp(LIFE, Duration::from_secs(86_400)).saturating_sub(Duration::from_secs(5));
        Ok(Known { value, until: Some(asked_at + life) })
    }
}

fn ask(transport: &Transport, url: &Url, request: Request<String>) -> Result<Value, Failed> {
    let action = "get a token from";
    let (parts, form) = request.into_parts();
    let mut form = form.as_bytes();
    let response = if form.is_empty() {
        transport.send(url, Request::from_parts(parts, SendBody::none()), false)
    } else {
        transport.send(url, Request::from_parts(parts, SendBody::from_reader(&mut form)), false)
    };
    let response = response.map_err(|failure| match failure {
        Failure::Own(error) => error,
        Failure::Http(error) => connection_error(action, url, &error),
    })?;
    let status = response.status();
    let retry_after = retry_after_of(response.headers());
    let bytes = read_small(response.into_body(), ANSWER_LIMIT, transport.patience() * 2)
        .map_err(|error| body_error(action, url, &error))?;
    if status != StatusCode::OK {
        return Err(Failed { error: status_error(action, url, status.as_u16(), &bytes, ""), retry_after });
    }
    serde_json::from_slice(&bytes).map_err(|_| {
        let reason = "the answer is no JSON".to_owned();
        Error::Content { action: action.to_owned(), url: url.shown(), reason }.into()
    })
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn realm(registry: &str, realm: &str, credential: bool) -> Result<Url, Error> {
        let credential = credential.then(|| Credential::IdentityToken("x".to_owned()));
        Auth::new(Url::parse(registry).unwrap().origin, credential).realm(realm)
    }

    #[test]
    fn a_token_service_must_be_one_that_nobody_else_reads() {
        let (plain, tls) = ("http://a.example:5000/", "https://a.example/");
        assert!(realm(tls, "https://auth.example/token", true).is_ok());
        assert!(realm(plain, "https://auth.example/token", true).is_ok());
        assert!(realm(plain, "http://a.example:5001/token", true).is_ok());
        assert!(realm(plain, "http://auth.example/token", true).is_err());
        assert!(realm(plain, "http://auth.example/token", false).is_ok());
        assert!(realm(tls, "http://a.example/token", true).is_err());
        assert!(realm(tls, "http://a.example/token", false).is_err());
        assert!(realm(tls, "file:///etc/passwd", false).is_err());
        assert!(realm(tls, "https://user:pw@a.example/", false).is_err());
    }
}
