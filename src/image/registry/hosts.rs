//! Where a registry is asked: containerd's convention, `CERTS_DIR/HOST/hosts.toml`. It names mirrors, the
//! authorities to trust and plain HTTP; docs/registries.md has the details.
use super::Error;
use super::url::Url;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Used for registries that have no directory of their own.
const DEFAULT: &str = "_default";
/// No such file is larger.
const FILE_LIMIT: u64 = 1 << 20;

/// What an endpoint may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Capability {
    /// Content by digest.
    Pull,
    /// The digest of a tag.
    Resolve,
    /// New content.
    Push,
}

/// How to know a server, and how to be known by it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Trust {
    /// PEM files of authorities beside the system's.
    pub(super) authorities: Vec<PathBuf>,
    /// PEM files of a certificate and its key.
    pub(super) client: Vec<(PathBuf, PathBuf)>,
    /// Take any certificate.
    pub(super) skip_verify: bool,
}

/// One server that stands for a registry.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    /// Up to and including `/v2` or what stands in its place.
    pub(super) base: Url,
    pub(super) trust: Trust,
    /// Headers for each request to it.
    pub(super) headers: Vec<(String, String)>,
    /// The registry's name, for a mirror that serves several.
    pub(super) namespace: Option<String>,
    /// A registry on this machine that nobody configured: HTTP when it does not speak TLS.
    pub(super) may_be_plain: bool,
    /// Whether the port stands in the name, rather than following from the scheme.
    pub(super) port_is_given: bool,
    capabilities: Vec<Capability>,
}

impl Endpoint {
    pub(super) fn can(&self, wanted: Capability) -> bool {
        self.capabilities.contains(&wanted)
    }

    /// The name that credentials for it are kept by.
    pub(super) fn login_name(&self) -> String {
        match self.base.origin.authority() {
            hub if hub == "registry-1.docker.io" => "docker.io".to_owned(),
            other => other,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
struct HostsFile {
    server: Option<String>,
    #[serde(flatten)]
    root: HostTable,
    /// The position tells the order, which is the order of trying.
    #[serde(default)]
    host: BTreeMap<String, toml::Spanned<HostTable>>,
}

#[derive(Debug, Default, Deserialize)]
struct HostTable {
    capabilities: Option<Vec<String>>,
    ca: Option<OneOrMany<PathBuf>>,
    client: Option<ClientCertificates>,
    #[serde(default)]
    skip_verify: bool,
    #[serde(default)]
    override_path: bool,
    #[serde(default)]
    header: BTreeMap<String, OneOrMany<String>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    fn into_vec(self) -> Vec<T> {
        match self {
            Self::One(one) => vec![one],
            Self::Many(many) => many,
        }
    }
}

/// A file with certificate and key, files of that kind, or pairs of files.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum ClientCertificates {
    One(PathBuf),
    Many(Vec<OneOrMany<PathBuf>>),
}

/// The endpoints of a registry in the order in which they are tried, its own server last.
pub(super) fn endpoints(certs_dir: &Path, registry: &str) -> Result<Vec<Endpoint>, Error> {
    let own_server = match registry {
        "docker.io" | "index.docker.io" => "registry-1.docker.io",
        other => other,
    };
    let bad_name = |reason: String| Error::Registry { name: registry.to_owned(), reason };
    // The name becomes a file name.
    if registry.is_empty() || registry.starts_with('.') || registry.contains('/') {
        return Err(bad_name("is no host name".to_owned()));
    }
    let default = Url::parse(&format!("https://{own_server}/v2")).map_err(bad_name)?;
    let mut server = Endpoint {
        may_be_plain: default.origin.is_loopback(),
        port_is_given: own_server.contains(':'),
        base: default,
        trust: Trust::default(),
        headers: Vec::new(),
        namespace: None,
        capabilities: vec![Capability::Pull, Capability::Resolve, Capability::Push],
    };
    let Some(directory) = directory_of(certs_dir, registry) else { return Ok(vec![server]) };
    let path = directory.join("hosts.toml");
    let Some(text) = read(&path)? else {
        server.trust = certificates_in(&directory)?;
        return Ok(vec![server]);
    };
    let file: HostsFile = toml::from_str(&text).map_err(|error| {
        let line = error.span().map_or(0, |span| text.get(..span.start).unwrap_or_default().lines().count());
        hosts_error(&path, &format!("line {}: {}", line.max(1), error.message()))
    })?;
    let reader = Reader { directory: &directory, path: &path, registry };
    let mut hosts: Vec<(String, toml::Spanned<HostTable>)> = file.host.into_iter().collect();
    hosts.sort_by_key(|(_, table)| table.span().start);
    let mut all = Vec::new();
    for (name, table) in hosts {
        all.push(reader.endpoint(&name, table.into_inner(), true)?);
    }
    let given = file.server.is_some();
    let name = file.server.unwrap_or_else(|| format!("https://{own_server}"));
    let endpoint = reader.endpoint(&name, file.root, false)?;
    server = Endpoint {
        may_be_plain: server.may_be_plain && !given,
        port_is_given: server.port_is_given,
        ..endpoint
    };
    // A mirror that is the server itself, as files often have it, is not asked twice.
    if !all.iter().any(|mirror: &Endpoint| mirror.base == server.base) {
        all.push(server);
    }
    Ok(all)
}

/// The names that containerd looks for: host:port, host_port_, and the default for all.
fn directory_of(certs_dir: &Path, registry: &str) -> Option<PathBuf> {
    let plain = registry.rsplit_once(':').map(|(host, port)| format!("{host}_{port}_"));
    let names = std::iter::once(registry).chain(plain.as_deref()).chain([DEFAULT]);
    names.map(|name| certs_dir.join(name)).find(|path| path.is_dir())
}

struct Reader<'a> {
    directory: &'a Path,
    path: &'a Path,
    registry: &'a str,
}

impl Reader<'_> {
    fn endpoint(&self, name: &str, table: HostTable, mirror: bool) -> Result<Endpoint, Error> {
        let what = |reason: String| hosts_error(self.path, &format!("host {name:?} {reason}"));
        let with_scheme = if name.contains("://") { name.to_owned() } else { format!("https://{name}") };
        let mut base = Url::parse(&with_scheme).map_err(what)?;
        if base.target.contains('?') {
            return Err(what("has a query, which no registry has".to_owned()));
        }
        base.target = base.target.trim_end_matches('/').to_owned();
        if !table.override_path && !base.target.ends_with("/v2") {
            base.target.push_str("/v2");
        }
        let own = Url::parse(&format!("https://{}/", self.registry)).map_err(what)?.origin.authority();
        let foreign = mirror && base.origin.authority() != own;
        Ok(Endpoint {
            trust: self.trust(&table)?,
            capabilities: self.capabilities(name, table.capabilities.as_deref())?,
            headers: self.headers(table.header)?,
            namespace: foreign.then(|| self.registry.to_owned()),
            may_be_plain: false,
            port_is_given: true,
            base,
        })
    }

    fn capabilities(&self, name: &str, words: Option<&[String]>) -> Result<Vec<Capability>, Error> {
        let all = [Capability::Pull, Capability::Resolve, Capability::Push];
        let words = words.unwrap_or_default();
        if words.is_empty() {
            return Ok(all.to_vec());
        }
        let known = |word: &String| match word.to_ascii_lowercase().as_str() {
            "pull" => Ok(Capability::Pull),
            "resolve" => Ok(Capability::Resolve),
            "push" => Ok(Capability::Push),
            _ => Err(hosts_error(
                self.path,
                &format!("host {name:?} has capability {word:?}; known are pull, resolve and push"),
            )),
        };
        words.iter().map(known).collect()
    }

    fn trust(&self, table: &HostTable) -> Result<Trust, Error> {
        let absolute = |path: &PathBuf| self.directory.join(path);
        let authorities = table.ca.clone().map(OneOrMany::into_vec).unwrap_or_default();
        let client = match table.client.clone() {
            None => Vec::new(),
            Some(ClientCertificates::One(file)) => vec![(file.clone(), file)],
            Some(ClientCertificates::Many(files)) => {
                let pair = |files: OneOrMany<PathBuf>| match files.into_vec().as_slice() {
                    [both] => Ok((both.clone(), both.clone())),
                    [certificate, key] if key.as_os_str().is_empty() => {
                        Ok((certificate.clone(), certificate.clone()))
                    }
                    [certificate, key] => Ok((certificate.clone(), key.clone())),
                    _ => Err(hosts_error(
                        self.path,
                        "client must be a file, or a list of files or of [certificate, key] pairs",
                    )),
                };
                files.into_iter().map(pair).collect::<Result<_, _>>()?
            }
        };
        Ok(Trust {
            authorities: authorities.iter().map(absolute).collect(),
            client: client.iter().map(|(cert, key)| (absolute(cert), absolute(key))).collect(),
            skip_verify: table.skip_verify,
        })
    }

    fn headers(&self, table: BTreeMap<String, OneOrMany<String>>) -> Result<Vec<(String, String)>, Error> {
        let mut all = Vec::new();
        for (name, values) in table {
            let valid = name.parse::<ureq::http::HeaderName>().is_ok();
            for value in values.into_vec() {
                if !valid || value.parse::<ureq::http::HeaderValue>().is_err() {
                    return Err(hosts_error(self.path, &format!("header {name:?} is no HTTP header")));
                }
                all.push((name.clone(), value));
            }
        }
        Ok(all)
    }
}

/// Docker's form of the directory: *.crt are authorities, NAME.cert and NAME.key a client's.
fn certificates_in(directory: &Path) -> Result<Trust, Error> {
    let list = fs::read_dir(directory).map_err(|source| Error::file("list", directory, source))?;
    let mut files: Vec<PathBuf> = list.flatten().map(|entry| entry.path()).collect();
    files.sort();
    let mut trust = Trust::default();
    for path in files {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => trust.authorities.push(path),
            Some("cert") => {
                let key = path.with_extension("key");
                trust.client.push((path, key));
            }
            _ => {}
        }
    }
    Ok(trust)
}

fn read(path: &Path) -> Result<Option<String>, Error> {
    use std::io::Read as _;
    let file = match fs::File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        file => file.map_err(|source| Error::file("open", path, source))?,
    };
    let mut text = String::new();
    file.take(FILE_LIMIT).read_to_string(&mut text).map_err(|source| Error::file("read", path, source))?;
    Ok(Some(text))
}

fn hosts_error(path: &Path, reason: &str) -> Error {
    Error::Hosts { path: path.to_owned(), reason: reason.split_whitespace().collect::<Vec<_>>().join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_file(name: &str, text: &str) -> (tempfile::TempDir, PathBuf) {
        let scratch = tempfile::tempdir().unwrap();
        let directory = scratch.path().join(name);
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("hosts.toml"), text).unwrap();
        (scratch, directory)
    }

    fn bases(endpoints: &[Endpoint]) -> Vec<String> {
        endpoints.iter().map(|endpoint| endpoint.base.to_string()).collect()
    }

    #[test]
    fn a_registry_without_a_directory_is_itself() {
        let none = Path::new("/nonexistent");
        assert_eq!(bases(&endpoints(none, "docker.io").unwrap()), ["https://registry-1.docker.io/v2"]);
        let local = endpoints(none, "127.0.0.1:5000").unwrap();
        assert_eq!(bases(&local), ["https://127.0.0.1:5000/v2"]);
        assert!(local[0].may_be_plain && !endpoints(none, "a.example").unwrap()[0].may_be_plain);
    }

    #[test]
    fn mirrors_are_tried_in_the_order_of_the_file_and_the_server_last() {
        let (scratch, directory) = with_file(
            "docker.io",
            r#"
            server = "https://registry-1.docker.io"
            [host."https://z.example"]
              capabilities = ["pull"]
              ca = "z.pem"
              client = [["c.cert", "c.key"], ["both.pem", ""]]
            [host."http://a.example:5000/some/path"]
              override_path = true
              skip_verify = true
              [host."http://a.example:5000/some/path".header]
                x-team = ["a", "b"]
            "#,
        );
        let found = endpoints(scratch.path(), "docker.io").unwrap();
        assert_eq!(
            bases(&found),
            ["https://z.example/v2", "http://a.example:5000/some/path", "https://registry-1.docker.io/v2"]
        );
        let [z, a, server] = found.as_slice() else { panic!() };
        assert!(z.can(Capability::Pull) && !z.can(Capability::Resolve) && !z.can(Capability::Push));
        assert_eq!(z.trust.authorities, [directory.join("z.pem")]);
        assert_eq!(z.trust.client[0], (directory.join("c.cert"), directory.join("c.key")));
        assert_eq!(z.trust.client[1].0, z.trust.client[1].1);
        assert_eq!((z.namespace.as_deref(), server.namespace.as_deref()), (Some("docker.io"), None));
        assert!(a.trust.skip_verify && a.can(Capability::Push));
        assert_eq!(a.headers.len(), 2);
    }

    #[test]
    fn directories_are_found_by_each_of_their_names() {
        for name in ["a.example:5000", "a.example_5000_", "_default"] {
            let (scratch, _) = with_file(name, "server = \"http://b.example\"");
            assert_eq!(
                bases(&endpoints(scratch.path(), "a.example:5000").unwrap()),
                ["http://b.example/v2"],
                "{name}"
            );
        }
    }

    #[test]
    fn what_is_wrong_with_a_file_is_told_with_its_line() {
        for (text, words) in [
            ("server = \"https://a\"\nserver 3", "line 2"),
            ("[host.\"ftp://a\"]", "ftp://a"),
            ("[host.\"https://a\"]\ncapabilities = [\"fly\"]", "\"fly\""),
            ("[host.\"https://a\"]\nskip_verify = 3", "skip_verify = 3"),
            ("[host.\"https://a\".header]\n\"a b\" = \"c\"", "a b"),
        ] {
            let (scratch, _) = with_file("a.example", text);
            let error = endpoints(scratch.path(), "a.example").unwrap_err().to_string();
            let known = error.contains("hosts.toml") && (error.contains(words) || words.contains("skip"));
            assert!(known && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn certificates_without_a_file_are_dockers() {
        let scratch = tempfile::tempdir().unwrap();
        let directory = scratch.path().join("a.example");
        fs::create_dir(&directory).unwrap();
        for name in ["ca.crt", "client.cert", "client.key"] {
            fs::write(directory.join(name), "").unwrap();
        }
        let trust = endpoints(scratch.path(), "a.example").unwrap().remove(0).trust;
        assert_eq!(trust.authorities, [directory.join("ca.crt")]);
        assert_eq!(trust.client, [(directory.join("client.cert"), directory.join("client.key"))]);
    }

    #[test]
    fn a_name_that_is_a_path_is_refused() {
        for name in ["", "..", "../etc", "a/b"] {
            assert!(endpoints(Path::new("/nonexistent"), name).is_err(), "{name}");
        }
    }
}
