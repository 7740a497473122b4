//! Connections: one ureq agent for each origin, with the trust that is configured for that origin alone.
use super::Error;
use super::hosts::{Trust, endpoints};
use super::url::{Origin, Url};
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use ureq::http::{Request, Response};
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};
use ureq::{Agent, Body, SendBody};

/// A registry may take long over a blob before it says that it has it.
const UPLOAD_PATIENCE: Duration = Duration::from_secs(600);

/// The agents of one command.
#[derive(Debug)]
pub(super) struct Transport {
    certs_dir: PathBuf,
    /// How long a connection may bring nothing.
    patience: Duration,
    provider: Arc<CryptoProvider>,
    system_roots: OnceLock<Vec<Certificate<'static>>>,
    agents: Mutex<HashMap<Origin, Agent>>,
}

impl Transport {
    pub(super) fn new(certs_dir: &Path, patience: Duration) -> Self {
        Self {
            certs_dir: certs_dir.to_owned(),
            patience,
            provider: Arc::new(rustls::crypto::ring::default_provider()),
            system_roots: OnceLock::new(),
            agents: Mutex::new(HashMap::new()),
        }
    }

    /// The longest that a connection may bring nothing.
    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    /// Takes the trust of a configured endpoint for its origin.
    pub(super) fn configure(&self, origin: &Origin, trust: &Trust) -> Result<(), Error> {
        let agent = self.agent(origin, trust)?;
        self.agents.lock().unwrap_or_else(PoisonError::into_inner).insert(origin.clone(), agent);
        Ok(())
    }

    /// Sends one request and follows nothing. `upload` gives the server more time to answer.
    pub(super) fn send(
        &self,
        url: &Url,
        request: Request<SendBody<'_>>,
        upload: bool,
    ) -> Result<Response<Body>, Failure> {
        let agent = self.agent_for(&url.origin).map_err(Failure::Own)?;
        let answered = match upload {
            true => {
                let request = agent.configure_request(request).timeout_per_read(Some(UPLOAD_PATIENCE));
                agent.run(request.timeout_recv_response(Some(UPLOAD_PATIENCE)).build())
            }
            false => agent.run(request),
        };
        answered.map_err(Failure::Http)
    }

    /// Whether a server on this machine speaks TLS, or plain HTTP as registries there mostly do.
    pub(super) fn speaks_tls(&self, base: &Url) -> Result<bool, Error> {
        let mut url = base.clone();
        url.target.push('/');
        let request = Request::get(url.to_string()).body(SendBody::none());
        let request = request.map_err(|error| Error::Connection {
            action: "connect to".to_owned(),
            url: url.shown(),
            reason: error.to_string(),
            passing: false,
        })?;
        match self.send(&url, request, false) {
            Err(Failure::Own(error)) => Err(error),
            Err(Failure::Http(error)) => Ok(!is_no_tls(&error)),
            Ok(_) => Ok(true),
        }
    }

    /// An origin that no endpoint names, such as where a redirect leads, has the trust of its own directory.
    fn agent_for(&self, origin: &Origin) -> Result<Agent, Error> {
        if let Some(agent) = self.agents.lock().unwrap_or_else(PoisonError::into_inner).get(origin) {
            return Ok(agent.clone());
        }
        let configured = endpoints(&self.certs_dir, &origin.authority())?;
        let own = configured.into_iter().find(|endpoint| endpoint.base.origin == *origin);
        self.configure(origin, &own.map(|endpoint| endpoint.trust).unwrap_or_default())?;
        self.agent_for(origin)
    }

    fn agent(&self, origin: &Origin, trust: &Trust) -> Result<Agent, Error> {
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("wharf/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .max_response_header_size(64 << 10)
            .input_buffer_size(128 << 10)
            .output_buffer_size(128 << 10)
            .timeout_resolve(Some(self.patience))
            .timeout_connect(Some(self.patience))
            .timeout_send_request(Some(self.patience))
            .timeout_recv_response(Some(self.patience * 2))
            .timeout_per_read(Some(self.patience))
            .timeout_per_write(Some(self.patience));
        if origin.is_loopback() {
            // HTTP_PROXY and its kin are for what is beyond this machine.
            config = config.proxy(None);
        }
        if origin.https {
            config = config.tls_config(self.tls(trust)?);
        }
        Ok(config.build().new_agent())
    }

    fn tls(&self, trust: &Trust) -> Result<TlsConfig, Error> {
        let mut roots = self.system_roots.get_or_init(system_roots).clone();
        for path in &trust.authorities {
            roots.extend(certificates(path)?);
        }
        let client = trust.client.first().map(|(cert, key)| self.client(cert, key)).transpose()?;
        Ok(TlsConfig::builder()
            .unversioned_rustls_crypto_provider(self.provider.clone())
            .root_certs(RootCerts::from(roots))
            .client_cert(client)
            .disable_verification(trust.skip_verify)
            .build())
    }

    /// ureq takes for granted that certificate and key belong together, so that is looked at here.
    fn client(&self, certificate: &Path, key: &Path) -> Result<ClientCert, Error> {
        let bad = |reason: String| Error::Certificate { path: key.to_owned(), reason };
        let chain = certificates(certificate)?;
        let key_der = PrivateKeyDer::from_pem_file(key)
            .map_err(|error| bad(format!("no private key can be read: {error}")))?;
        let ders = chain.iter().map(|each| CertificateDer::from(each.der().to_vec())).collect();
        rustls::ClientConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| bad(error.to_string()))?
            .with_root_certificates(RootCertStore::empty())
            .with_client_auth_cert(ders, key_der)
            .map_err(|error| bad(format!("cannot be used with {}: {error}", certificate.display())))?;
        let pem = std::fs::read(key).map_err(|source| Error::file("read", key, source))?;
        let key = PrivateKey::from_pem(&pem).map_err(|error| bad(error.to_string()))?;
        Ok(ClientCert::new_with_certs(&chain, key))
    }
}

/// Why there is no response.
#[derive(Debug)]
pub(super) enum Failure {
    Http(ureq::Error),
    Own(Error),
}

/// The authorities of the system, as its administrator keeps them, or as SSL_CERT_FILE and SSL_CERT_DIR say.
fn system_roots() -> Vec<Certificate<'static>> {
    // A file that cannot be read is missed where it is needed: that error names the certificate.
    let found = rustls_native_certs::load_native_certs();
    found.certs.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect()
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, Error> {
    let bad = |reason: String| Error::Certificate { path: path.to_owned(), reason };
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let ders = read.map_err(|error| bad(format!("cannot be read: {error}")))?;
    if ders.is_empty() {
        return Err(bad("no PEM certificate is in it".to_owned()));
    }
    Ok(ders.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect())
}

/// The rustls error within.
pub(super) fn tls_error(error: &ureq::Error) -> Option<&rustls::Error> {
    match error {
        ureq::Error::Rustls(error) => Some(error),
        ureq::Error::Io(error) => error.get_ref()?.downcast_ref(),
        _ => None,
    }
}

/// What a server that knows no TLS does to a client that begins with it: answers in HTTP, or hangs up.
fn is_no_tls(error: &ureq::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    if let Some(error) = tls_error(error) {
        return matches!(error, rustls::Error::InvalidMessage(_));
    }
    let kinds = [UnexpectedEof, ConnectionReset, ConnectionAborted, BrokenPipe];
    matches!(error, ureq::Error::Io(error) if kinds.contains(&error.kind()))
}
