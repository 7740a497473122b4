//! The file: strict, so that nothing in it goes unheard. Unknown fields, types and transports, fields given
//! twice and empty lists are errors that name their place.
use super::super::{Digest, Error};
use super::identity::Identity;
use super::signature::Key;
use super::{Policy, Requirement};
use base64::Engine as _;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, de};
use std::collections::BTreeMap;
use std::fmt;
use std::io::Read as _;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

/// No policy or key is larger.
const SIZE_LIMIT: u64 = 4 << 20;

/// containers-transports(5), and `tarball` of containers-policy.json(5).
const TRANSPORTS: &[&str] = &[
    "atomic",
    "containers-storage",
    "dir",
    "docker",
    "docker-archive",
    "docker-daemon",
    "oci",
    "oci-archive",
    "ostree",
    "sif",
    "tarball",
];
/// Those whose scopes are paths.
const BY_PATH: &[&str] = &["dir", "docker-archive", "oci", "oci-archive"];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    default: Vec<Stated>,
    #[serde(default)]
    transports: Unique<Unique<Vec<Stated>>>,
}

/// A requirement as written.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
enum Stated {
    #[serde(rename = "insecureAcceptAnything")]
    Accept {},
    #[serde(rename = "reject")]
    Reject {},
    #[serde(rename = "sigstoreSigned")]
    Sigstore(Box<Sigstore>),
    /// OpenPGP, which wharf has no library for.
    #[serde(rename = "signedBy")]
    OpenPgp(de::IgnoredAny),
    /// wharf's own.
    #[serde(rename = "wharf.pinnedDigest")]
    Pinned { digests: Vec<String> },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Sigstore {
    key_path: Option<PathBuf>,
    key_paths: Option<Vec<PathBuf>>,
    key_data: Option<String>,
    key_datas: Option<Vec<String>>,
    #[serde(default)]
    signed_identity: Option<Identity>,
    fulcio: Option<de::IgnoredAny>,
    pki: Option<de::IgnoredAny>,
    rekor_public_key_path: Option<de::IgnoredAny>,
    rekor_public_key_paths: Option<de::IgnoredAny>,
    rekor_public_key_data: Option<de::IgnoredAny>,
    rekor_public_key_datas: Option<de::IgnoredAny>,
}

pub(super) fn read(path: &Path) -> Result<Policy, Error> {
    let what = path.display().to_string();
    let bytes = contents(path).map_err(Error::file("read the policy", path))?;
    let malformed = |place: String, reason: String| Error::Policy { file: what.clone(), place, reason };
    let mut json = serde_json::Deserializer::from_slice(&bytes);
    let document: Document = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let place = error.path().to_string();
        malformed(
            if place == "." { "the document".to_owned() } else { place },
            error.into_inner().to_string(),
        )
    })?;
    json.end().map_err(|error| malformed("the document".to_owned(), error.to_string()))?;
    let default =
        requirements("default", document.default).map_err(|(place, reason)| malformed(place, reason))?;
    let mut transports = BTreeMap::new();
    for (transport, stated) in document.transports.0 {
        let at = format!("transports.{transport}");
        if !TRANSPORTS.contains(&transport.as_str()) {
            return Err(malformed(at, format!("is none of the transports {}", TRANSPORTS.join(", "))));
        }
        let mut scopes = BTreeMap::new();
        for (scope, stated) in stated.0 {
            let at = format!("{at}[{scope:?}]");
            if let Some(reason) = wrong_scope(&transport, &scope) {
                return Err(malformed(at, reason));
            }
            let read = requirements(&at, stated).map_err(|(place, reason)| malformed(place, reason))?;
            scopes.insert(scope, read);
        }
        transports.insert(transport, scopes);
    }
    Ok(Policy { what, default, transports })
}

/// Why a scope could never be met.
fn wrong_scope(transport: &str, scope: &str) -> Option<String> {
    if scope.is_empty() || !BY_PATH.contains(&transport) {
        return None;
    }
    let clean = scope.starts_with('/') && !scope.ends_with('/') && !scope.contains("//");
    let plain = clean && !scope.split('/').any(|part| part == "." || part == "..");
    if !plain {
        return Some("is not an absolute path without a slash at its end, `.` and `..`".to_owned());
    }
    // PATH:IMAGE would be taken for a path that is never met.
    scope
        .contains(':')
        .then(|| "has a colon; images of an archive cannot be told apart, name its path".to_owned())
}

fn requirements(at: &str, stated: Vec<Stated>) -> Result<Vec<Requirement>, (String, String)> {
    if stated.is_empty() {
        return Err((at.to_owned(), "is empty; say insecureAcceptAnything or reject".to_owned()));
    }
    let read = |(index, stated): (usize, Stated)| {
        let at = format!("{at}[{index}]");
        match stated {
            Stated::Accept {} => Ok(Requirement::Accept),
            Stated::Reject {} => Ok(Requirement::Reject),
            Stated::OpenPgp(_) => Ok(Requirement::Unsupported("an OpenPGP signature (signedBy)".to_owned())),
            Stated::Pinned { digests } => {
                pinned(&digests).map_err(|reason| (format!("{at}.digests"), reason))
            }
            Stated::Sigstore(stated) => signed(*stated).map_err(|reason| (at, reason)),
        }
    };
    stated.into_iter().enumerate().map(read).collect()
}

fn pinned(digests: &[String]) -> Result<Requirement, String> {
    if digests.is_empty() {
        return Err("is empty; to refuse everything say reject".to_owned());
    }
    let parsed: Result<Vec<Digest>, Error> = digests.iter().map(|digest| digest.parse()).collect();
    parsed.map(Requirement::Pinned).map_err(|error| error.to_string())
}

fn signed(stated: Sigstore) -> Result<Requirement, String> {
    let rekor = [
        &stated.rekor_public_key_path,
        &stated.rekor_public_key_paths,
        &stated.rekor_public_key_data,
        &stated.rekor_public_key_datas,
    ];
    let unsupported = match () {
        () if stated.fulcio.is_some() => Some("a certificate of Fulcio (sigstoreSigned, fulcio)"),
        () if stated.pki.is_some() => Some("a certificate of your own authority (sigstoreSigned, pki)"),
        () if rekor.iter().any(|key| key.is_some()) => {
            Some("an entry in Rekor's log (sigstoreSigned, rekorPublicKey…)")
        }
        () => None,
    };
    if let Some(what) = unsupported {
        return Ok(Requirement::Unsupported(what.to_owned()));
    }
    let identity = stated.signed_identity.unwrap_or_default();
    identity.check().map_err(|reason| format!("signedIdentity: {reason}"))?;
    let keys = match (stated.key_path, stated.key_paths, stated.key_data, stated.key_datas) {
        (Some(path), None, None, None) => vec![key_of_file(&path)?],
        (None, Some(paths), None, None) => {
            paths.iter().map(|path| key_of_file(path)).collect::<Result<_, _>>()?
        }
        (None, None, Some(data), None) => vec![key_of_data("keyData", &data)?],
        (None, None, None, Some(all)) => {
            all.iter().map(|data| key_of_data("keyDatas", data)).collect::<Result<_, _>>()?
        }
        _ => return Err("must have exactly one of keyPath, keyPaths, keyData and keyDatas".to_owned()),
    };
    if keys.is_empty() {
        return Err("names no key".to_owned());
    }
    Ok(Requirement::Signed { keys, identity })
}

fn key_of_file(path: &Path) -> Result<Key, String> {
    let words = |reason: String| format!("key {}: {reason}", path.display());
    if !path.is_absolute() {
        return Err(words("is not an absolute path".to_owned()));
    }
    let pem = contents(path).map_err(|error| words(error.to_string()))?;
    Key::of_pem(&pem).map_err(words)
}

fn key_of_data(field: &str, data: &str) -> Result<Key, String> {
    let pem = base64::engine::general_purpose::STANDARD.decode(data);
    let pem = pem.map_err(|_| format!("{field} is not base64"))?;
    Key::of_pem(&pem).map_err(|reason| format!("{field} {reason}"))
}

fn contents(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(SIZE_LIMIT + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > SIZE_LIMIT {
        true => Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, "is larger than 4 MiB")),
        false => Ok(bytes),
    }
}

/// A map in which no key stands twice: the last of two would win unseen.
#[derive(Debug)]
struct Unique<T>(BTreeMap<String, T>);

impl<T> Default for Unique<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Unique<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
            type Value = Unique<T>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = BTreeMap::new();
                while let Some((key, value)) = map.next_entry::<String, T>()? {
                    if entries.insert(key.clone(), value).is_some() {
                        return Err(de::Error::custom(format!("{key:?} stands here twice")));
                    }
                }
                Ok(Unique(entries))
            }
        }
        deserializer.deserialize_map(Entries(PhantomData))
    }
}
