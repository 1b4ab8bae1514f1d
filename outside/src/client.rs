//! Clients: connections that are kept, one pool for each way of trusting a receiver.

use crate::guard::{Guard, ResolveError};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use ring::digest;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// How long a connection may take to open, TLS included.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// How long an idle connection is kept; below what most servers keep theirs for.
const IDLE_FOR: Duration = Duration::from_secs(30);
/// Idle connections kept to one host.
const IDLE_PER_HOST: usize = 8;
/// Ways of trusting that are kept with their connections; when there are more, all are forgotten.
const MAX_CLIENTS: usize = 64;
/// Header lines of a response; more are refused. Their bytes are bounded by the client (about 400 KiB).
const MAX_RESPONSE_HEADERS: usize = 100;

/// How a receiver's certificate is judged.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Trust {
    /// By the system's authorities.
    #[default]
    System,
    /// By these alone, in PEM.
    Only(String),
    /// Not at all: anybody may answer.
    Anyone,
}

impl Trust {
    /// Checks that certificates can be read.
    ///
    /// # Errors
    /// There is none, or one is damaged; for people.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Self::System | Self::Anyone => Ok(()),
            Self::Only(pem) => roots_of(pem).map(drop),
        }
    }

    /// Names it in the cache.
    fn key(&self) -> Vec<u8> {
        match self {
            Self::System => b"system".to_vec(),
            Self::Anyone => b"anyone".to_vec(),
            Self::Only(pem) => digest::digest(&digest::SHA256, pem.as_bytes())
                .as_ref()
                .to_vec(),
        }
    }
}

/// Clients for whatever the guard lets through; clones share their connections.
#[derive(Clone)]
pub struct Clients {
    inner: Arc<Inner>,
}

struct Inner {
    guard: Guard,
    user_agent: String,
    /// By way of trusting, and whether the operator named the host (then its addresses are not looked at).
    clients: Mutex<HashMap<(Vec<u8>, bool), Client>>,
}

impl Clients {
    /// Nothing is connected or read before the first use.
    pub fn new(guard: Guard, user_agent: &str) -> Self {
        Self {
            inner: Arc::new(Inner {
                guard,
                user_agent: user_agent.to_owned(),
                clients: Mutex::default(),
            }),
        }
    }

    /// Where may be gone.
    pub fn guard(&self) -> &Guard {
        &self.inner.guard
    }

    /// A client for this URL, if it may be reached.
    ///
    /// # Errors
    /// See [`Guard::check_url`]; or TLS cannot be prepared.
    pub fn client(&self, url: &Url, trust: &Trust) -> Result<Client, String> {
        let named = self.inner.guard.check_url(url)?;
        self.for_trust(trust, named)
    }

    /// The same for where a webhook goes.
    ///
    /// # Errors
    /// See [`Guard::check_webhook`]; or TLS cannot be prepared.
    pub fn webhook_client(&self, url: &Url, trust: &Trust) -> Result<Client, String> {
        let named = self.inner.guard.check_webhook(url)?;
        self.for_trust(trust, named)
    }

    fn for_trust(&self, trust: &Trust, named: bool) -> Result<Client, String> {
        let mut clients = self
            .inner
            .clients
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let key = (trust.key(), named);
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        let guard = (!named).then(|| self.inner.guard.clone());
        let client = build(&self.inner.user_agent, trust, guard)?;
        if clients.len() >= MAX_CLIENTS {
            clients.clear();
        }
        clients.insert(key, client.clone());
        Ok(client)
    }
}

fn build(user_agent: &str, trust: &Trust, guard: Option<Guard>) -> Result<Client, String> {
    let builder = Client::builder()
        .tls_backend_preconfigured(tls(trust)?)
        .user_agent(user_agent)
        .connect_timeout(CONNECT_WITHIN)
        .pool_idle_timeout(IDLE_FOR)
        .pool_max_idle_per_host(IDLE_PER_HOST)
        .http1_max_headers(MAX_RESPONSE_HEADERS)
        // The environment is the operator's, not the pipeline's.
        .no_proxy()
        // Each hop is checked by the caller.
        .redirect(Policy::none());
    let builder = match guard {
        Some(guard) => builder.dns_resolver(Arc::new(GuardedNames(guard))),
        None => builder,
    };
    builder
        .build()
        .map_err(|error| format!("cannot prepare an HTTP client: {error}"))
}

fn tls(trust: &Trust) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let mut config = match trust {
        Trust::System => builder.with_root_certificates(system_roots()),
        Trust::Only(pem) => builder.with_root_certificates(roots_of(pem)?),
        Trust::Anyone => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider))),
    }
    .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Read once: it is a folder of files.
fn system_roots() -> RootCertStore {
    static ROOTS: OnceLock<RootCertStore> = OnceLock::new();
    ROOTS
        .get_or_init(|| {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            roots
        })
        .clone()
}

fn roots_of(pem: &str) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate =
            certificate.map_err(|error| format!("the certificates are no PEM: {error}"))?;
        roots
            .add(certificate)
            .map_err(|error| format!("a certificate cannot be used as an authority: {error}"))?;
    }
    if roots.is_empty() {
        return Err("there is no certificate in the PEM text".to_owned());
    }
    Ok(roots)
}

/// Accepts every certificate; the connection is still encrypted, with whoever answers.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Resolves names to the addresses that may be reached.
struct GuardedNames(Guard);

impl Resolve for GuardedNames {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.0.clone();
        Box::pin(async move {
            let allowed = guard.resolve(name.as_str(), 0).await.map_err(Refused)?;
            let addresses: Addrs = Box::new(allowed.into_iter());
            Ok(addresses)
        })
    }
}

/// What the guard said, to be found again below the client's own errors.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refused(pub(crate) ResolveError);

/// What went wrong, down to the cause, without the URL (it may hold secrets).
pub fn told(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = String::new();
    let mut cause: Option<&dyn std::error::Error> = Some(&error);
    while let Some(source) = cause {
        let said = source.to_string();
        if !text.contains(&said) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&said);
        }
        cause = source.source();
    }
    text
}
