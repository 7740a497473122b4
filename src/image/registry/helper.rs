//! Docker's credential helpers: programs named `docker-credential-NAME` that keep secrets elsewhere.
use super::credentials::Credential;
use super::{Error, harmless};
use serde_json::{Value, json};
use std::fmt;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A helper may ask its user something; longer than this, nobody is there.
const PATIENCE: Duration = Duration::from_secs(60);
const ANSWER_LIMIT: u64 = 64 << 10;

/// One helper.
#[derive(Debug)]
pub(super) struct Helper {
    program: String,
}

impl Helper {
    /// By the name that config.json gives. It must not lead to another program.
    pub(super) fn new(name: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let program = format!("docker-credential-{name}");
        (name.len() <= 64 && name.bytes().all(plain)).then_some(Self { program })
    }

    /// What it keeps for a server.
    pub(super) fn get(&self, server: &str) -> Result<Option<Credential>, Error> {
        let Some(answer) = self.call("get", server.as_bytes())? else { return Ok(None) };
        let answer: Value = serde_json::from_slice(&answer)
            .map_err(|_| self.error("get", "does not answer with JSON".to_owned()))?;
        let text = |key: &str| answer.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (user, secret) = (text("Username"), text("Secret"));
        Ok(match user.as_str() {
            _ if secret.is_empty() => None,
            "<token>" => Some(Credential::IdentityToken(secret)),
            _ => Some(Credential::Password { user, password: secret }),
        })
    }

    /// Gives it one to keep.
    pub(super) fn store(&self, server: &str, user: &str, password: &str) -> Result<(), Error> {
        let entry = json!({ "ServerURL": server, "Username": user, "Secret": password }).to_string();
        self.call("store", entry.as_bytes()).map(drop)
    }

    /// Makes it forget one; false when it had none.
    pub(super) fn erase(&self, server: &str) -> Result<bool, Error> {
        // Helpers do not agree on whether erasing nothing is an error.
        if self.get(server)?.is_none() {
            return Ok(false);
        }
        self.call("erase", server.as_bytes()).map(|_| true)
    }

    /// `None` when it says that it has nothing.
    fn call(&self, verb: &str, input: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let failed = |error: std::io::Error| self.error(verb, error.to_string());
        let mut child = Command::new(&self.program)
            .arg(verb)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| {
                self.error(verb, format!("cannot be executed: {error}; install it, or change config.json"))
            })?;
        if let Some(mut pipe) = child.stdin.take() {
            // A helper that ends without reading is judged by its status.
            let _ = pipe.write_all(input).and_then(|()| pipe.write_all(b"\n"));
        }
        let (out, err) = (reader(child.stdout.take()), reader(child.stderr.take()));
        let status = wait(&mut child).map_err(failed)?;
        let Some(status) = status else {
            return Err(self.error(verb, format!("does not end within {} s", PATIENCE.as_secs())));
        };
        let (out, err) = (out.join().unwrap_or_default(), err.join().unwrap_or_default());
        if status.success() {
            return Ok(Some(out));
        }
        let words = format!("{} {}", String::from_utf8_lossy(&out), String::from_utf8_lossy(&err));
        if words.contains("credentials not found") {
            return Ok(None);
        }
        Err(self.error(verb, format!("fails ({status}): {}", harmless(&words))))
    }

    fn error(&self, verb: &str, reason: String) -> Error {
        Error::Credentials { what: format!("{} {verb}", self.program), reason }
    }
}

impl fmt::Display for Helper {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.program)
    }
}

pub(super) fn bad_name(path: &Path, name: &str) -> Error {
    let reason = format!("{:?} is no name of a credential helper: letters, digits and -_.", harmless(name));
    Error::Credentials { what: path.display().to_string(), reason }
}

/// Reads beside us, so that a helper that writes much does not wait for us while we wait for it.
fn reader<R: std::io::Read + Send + 'static>(stream: Option<R>) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(stream) = stream {
            // What was read before an error is still an answer.
            let _ = stream.take(ANSWER_LIMIT).read_to_end(&mut bytes);
        }
        bytes
    })
}

/// `None` when it had to be killed.
fn wait(child: &mut Child) -> std::io::Result<Option<std::process::ExitStatus>> {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if begun.elapsed() > PATIENCE {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
