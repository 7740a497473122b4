//! Credentials, read where Docker and Podman keep them: docs/registries.md has the order. Each belongs to
//! one registry and is given for no other.
use super::Error;
use super::helper::{self, Helper};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use std::fmt;
use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Docker's key for its own registry.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";
const FILE_LIMIT: u64 = 1 << 20;

/// What makes a registry believe who we are. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// User name and password.
    Password {
        /// User name.
        user: String,
        /// Password, or what a registry gives out in its place.
        password: String,
    },
    /// A refresh token of the registry's token service.
    IdentityToken(String),
}

impl fmt::Debug for Credential {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Credential(…)")
    }
}

/// Where credentials lie.
#[derive(Debug, Clone)]
pub struct CredentialFiles {
    /// The first that has one counts.
    read: Vec<PathBuf>,
    /// Where login writes.
    write: PathBuf,
}

impl CredentialFiles {
    /// By the environment: `REGISTRY_AUTH_FILE` alone when it is set; else Docker's config.json, where login
    /// writes, and then containers' auth.json.
    pub fn from_environment() -> Self {
        let variable =
            |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        if let Some(file) = variable("REGISTRY_AUTH_FILE") {
            return Self { read: vec![file.clone()], write: file };
        }
        let home = variable("HOME").unwrap_or_else(|| PathBuf::from("/root"));
        let docker = variable("DOCKER_CONFIG").unwrap_or_else(|| home.join(".docker")).join("config.json");
        let runtime = variable("XDG_RUNTIME_DIR").unwrap_or_else(|| {
            PathBuf::from(format!("/run/containers/{}", rustix::process::geteuid().as_raw()))
        });
        let containers = match variable("XDG_RUNTIME_DIR") {
            Some(_) => runtime.join("containers/auth.json"),
            None => runtime.join("auth.json"),
        };
        Self { read: vec![docker.clone(), containers], write: docker }
    }

    /// What is stored for a registry, `docker.io` or `host[:port]`. `repository` serves containers' keys for
    /// a part of a registry.
    ///
    /// # Errors
    /// When a file or helper that is there cannot be used.
    pub fn find(&self, registry: &str, repository: &str) -> Result<Option<Credential>, Error> {
        for path in &self.read {
            let Some(file) = read(path)? else { continue };
            if let Some(helper) = helper_for(&file, registry, path)?
                && let Some(found) = helper.get(&key_of(registry))?
            {
                return Ok(Some(found));
            }
            if let Some(found) = stored(&file, registry, repository, path)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Keeps a credential for a registry; tells where.
    ///
    /// # Errors
    /// When the file or helper cannot be used.
    pub fn store(&self, registry: &str, user: &str, password: &str) -> Result<String, Error> {
        let mut file = read(&self.write)?.unwrap_or_default();
        let key = key_of(registry);
        let (entry, place) = match helper_for(&file, registry, &self.write)? {
            Some(helper) => {
                helper.store(&key, user, password)?;
                (json!({}), helper.to_string())
            }
            None => {
                let auth = STANDARD.encode(format!("{user}:{password}"));
                (json!({ "auth": auth }), self.write.display().to_string())
            }
        };
        let auths = file.entry("auths").or_insert_with(|| json!({}));
        let shape = || shape_error(&self.write, "auths is no object");
        let auths = auths.as_object_mut().ok_or_else(shape)?;
        auths.retain(|name, _| host_of(name) != Some(canonical(registry)));
        auths.insert(key, entry);
        write(&self.write, &file)?;
        Ok(place)
    }

    /// Forgets a registry's credential everywhere; false when there was none.
    ///
    /// # Errors
    /// When a file or helper cannot be used.
    pub fn erase(&self, registry: &str) -> Result<bool, Error> {
        let mut found = false;
        for path in &self.read {
            let Some(mut file) = read(path)? else { continue };
            if let Some(helper) = helper_for(&file, registry, path)? {
                found |= helper.erase(&key_of(registry))?;
            }
            let Some(auths) = file.get_mut("auths").and_then(Value::as_object_mut) else { continue };
            let before = auths.len();
            auths.retain(|name, _| host_of(name) != Some(canonical(registry)));
            if auths.len() < before {
                found = true;
                write(path, &file)?;
            }
        }
        Ok(found)
    }
}

/// One name for a registry that has several.
fn canonical(registry: &str) -> &str {
    match registry {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        other => other,
    }
}

fn key_of(registry: &str) -> String {
    match canonical(registry) {
        "docker.io" => DOCKER_HUB.to_owned(),
        other => other.to_owned(),
    }
}

/// The registry that a key of `auths` is for as a whole; Docker's old keys are URLs.
fn host_of(key: &str) -> Option<&str> {
    let without_scheme = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    let host = match (without_scheme, key.split_once('/')) {
        (Some(rest), _) => rest.split('/').next().unwrap_or(rest),
        (None, None) => key,
        (None, Some((host, "" | "v1" | "v1/" | "v2" | "v2/"))) => host,
        // containers-auth.json(5): a key for a part of a registry.
        (None, Some(_)) => return None,
    };
    Some(canonical(host))
}

fn stored(
    file: &Map<String, Value>,
    registry: &str,
    repository: &str,
    path: &Path,
) -> Result<Option<Credential>, Error> {
    let Some(auths) = file.get("auths").filter(|auths| !auths.is_null()) else { return Ok(None) };
    let auths = auths.as_object().ok_or_else(|| shape_error(path, "auths is no object"))?;
    let mut narrow = format!("{}/{repository}", canonical(registry));
    while narrow.contains('/') {
        if let Some(entry) = auths.get(&narrow)
            && host_of(&narrow).is_none()
            && let Some(found) = credential(entry, &narrow, path)?
        {
            return Ok(Some(found));
        }
        narrow.truncate(narrow.rfind('/').unwrap_or(0));
    }
    for (key, entry) in auths {
        if host_of(key) == Some(canonical(registry))
            && let Some(found) = credential(entry, key, path)?
        {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// The messages name the place and never the content.
fn credential(entry: &Value, key: &str, path: &Path) -> Result<Option<Credential>, Error> {
    let text = |name: &str| entry.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    if let Some(token) = text("identitytoken") {
        return Ok(Some(Credential::IdentityToken(token.to_owned())));
    }
    if let (Some(user), Some(password)) = (text("username"), text("password")) {
        return Ok(Some(Credential::Password { user: user.to_owned(), password: password.to_owned() }));
    }
    let Some(auth) = text("auth") else { return Ok(None) };
    let decoded = STANDARD.decode(auth.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let pair = decoded.as_deref().and_then(|text| text.split_once(':'));
    let (user, password) =
        pair.ok_or_else(|| shape_error(path, &format!("auth of {key:?} is not base64 of USER:PASSWORD")))?;
    // Docker wrote zero bytes after the password once.
    let password = password.trim_end_matches('\0').to_owned();
    Ok(Some(Credential::Password { user: user.to_owned(), password }))
}

fn helper_for(file: &Map<String, Value>, registry: &str, path: &Path) -> Result<Option<Helper>, Error> {
    let helpers = file.get("credHelpers").and_then(Value::as_object);
    let own = helpers.and_then(|helpers| {
        helpers.iter().find(|(key, _)| host_of(key) == Some(canonical(registry))).map(|(_, name)| name)
    });
    let name = own.or_else(|| file.get("credsStore")).and_then(Value::as_str).filter(|name| !name.is_empty());
    let named = |name: &str| Helper::new(name).ok_or_else(|| helper::bad_name(path, name));
    name.map(named).transpose()
}

fn read(path: &Path) -> Result<Option<Map<String, Value>>, Error> {
    let file = match fs::File::open(path) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        file => file.map_err(|source| Error::file("open", path, source))?,
    };
    let mut bytes = Vec::new();
    file.take(FILE_LIMIT + 1).read_to_end(&mut bytes).map_err(|source| Error::file("read", path, source))?;
    if bytes.len() as u64 > FILE_LIMIT {
        return Err(shape_error(path, &format!("is larger than {FILE_LIMIT} bytes")));
    }
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Some(Map::new()));
    }
    // Syntax errors name a line and never what stands in it.
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(map)) => Ok(Some(map)),
        Ok(_) => Err(shape_error(path, "is no JSON object")),
        Err(error) => Err(shape_error(path, &format!("is no valid JSON: {error}"))),
    }
}

fn shape_error(path: &Path, reason: &str) -> Error {
    Error::Credentials { what: path.display().to_string(), reason: reason.to_owned() }
}

/// Replaces the file as a whole, readable by its owner alone. A link stays one.
fn write(path: &Path, file: &Map<String, Value>) -> Result<(), Error> {
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let failed = |source| Error::file("write", path, source);
    if let Some(parent) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(failed)?;
    }
    let mut suffix = [0; 8];
    getrandom::fill(&mut suffix).map_err(|error| failed(std::io::Error::other(error.to_string())))?;
    let temporary = path.with_extension(format!("new-{}", hex::encode(suffix)));
    let text = serde_json::to_vec_pretty(file).map_err(|error| failed(error.into()))?;
    let mut options = fs::OpenOptions::new();
    let written = options.write(true).create_new(true).mode(0o600).open(&temporary).and_then(|mut file| {
        file.write_all(&text)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    });
    if written.is_err() {
        // The first error says what went wrong.
        let _ = fs::remove_file(&temporary);
    }
    written.map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(text: &str) -> (tempfile::TempDir, CredentialFiles) {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("config.json");
        fs::write(&path, text).unwrap();
        (scratch, CredentialFiles { read: vec![path.clone()], write: path })
    }

    fn password(user: &str, password: &str) -> Option<Credential> {
        Some(Credential::Password { user: user.to_owned(), password: password.to_owned() })
    }

    #[test]
    fn a_credential_belongs_to_its_own_registry_alone() {
        // a:b, c:d:e and f:g
        let (_scratch, files) = files(
            r#"{"auths": {"a.example": {"auth": "YTpi"}, "https://a.example:5000/v2/": {"auth": "YzpkOmU="},
            "https://index.docker.io/v1/": {"username": "u", "password": "p"}, "a.example/team": {"auth": "Zjpn"},
            "t.example": {"auth": "YTpi", "identitytoken": "T"}, "empty.example": {}},
            "HttpHeaders": {"X": "y"}, "detachKeys": "ctrl-q"}"#,
        );
        let find = |registry: &str, repository: &str| files.find(registry, repository).unwrap();
        assert_eq!(find("a.example", "x"), password("a", "b"));
        assert_eq!(find("a.example", "team/x"), password("f", "g"));
        assert_eq!(find("a.example", "teammate/x"), password("a", "b"));
        assert_eq!(find("a.example:5000", "x"), password("c", "d:e"));
        assert_eq!(find("docker.io", "library/x"), password("u", "p"));
        assert_eq!(find("t.example", "x"), Some(Credential::IdentityToken("T".to_owned())));
        for other in ["a.example:443", "b.a.example", "a.example.evil", "example", "empty.example"] {
            assert_eq!(find(other, "x"), None, "{other}");
        }
    }

    #[test]
    fn bad_files_are_told_without_their_secrets() {
        for (text, words) in [
            ("{\"auths\": {\"a.example\": {\"auth\": \"SECRET", "line 1"),
            ("[\"SECRET\"]", "no JSON object"),
            (r#"{"auths": "SECRET"}"#, "auths is no object"),
            (r#"{"auths": {"a.example": {"auth": "SECRET!"}}}"#, "auth of \"a.example\""),
            (r#"{"credsStore": "../SECRET"}"#, "credential helper"),
        ] {
            let (_scratch, files) = files(text);
            let error = files.find("a.example", "x").unwrap_err().to_string();
            assert!(error.contains(words) && error.contains("config.json"), "{error}");
            assert!(!error.contains("SECRET") || text.contains("../"), "{error}");
        }
        let (_scratch, empty) = files("\n");
        assert_eq!(empty.find("a.example", "x").unwrap(), None);
    }

    #[test]
    fn storing_keeps_what_else_is_in_the_file_and_erasing_forgets() {
        use std::os::unix::fs::PermissionsExt as _;
        let (_scratch, files) = files(r#"{"auths": {"https://a.example/v1/": {"auth": "x"}}, "other": [1]}"#);
        files.store("a.example", "u", "p:q").unwrap();
        assert_eq!(files.find("a.example", "x").unwrap(), password("u", "p:q"));
        let text: Value = serde_json::from_slice(&fs::read(&files.write).unwrap()).unwrap();
        assert_eq!(text["other"], json!([1]));
        assert_eq!(text["auths"].as_object().unwrap().len(), 1);
        assert_eq!(fs::metadata(&files.write).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(files.erase("a.example").unwrap());
        assert!(!files.erase("a.example").unwrap());
        assert_eq!(files.find("a.example", "x").unwrap(), None);
    }

    #[test]
    fn a_credential_is_not_printed() {
        assert_eq!(format!("{:?}", password("u", "SECRET").unwrap()), "Credential(…)");
    }
}
