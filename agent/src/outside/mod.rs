//! HTTP and mail on behalf of pipelines, to where the operator allows it.
//!
//! Invariant: no byte is sent to an address that [`guard::Guard`] did not pass. Names are resolved here and the
//! connection goes to the address that was checked, so a name that changes between check and use gains nothing; each
//! redirect is checked anew.

pub mod fetch;
pub mod guard;
pub mod notify;
pub mod webhook;

use crate::js::host::Failure;
use guard::Guard;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// How long a connection may take to open.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// What we call ourselves.
const USER_AGENT: &str = concat!("PocketCI/", env!("CARGO_PKG_VERSION"));

/// What the operator allows.
#[derive(Debug, Clone)]
pub struct OutsideConfig {
    /// Which private addresses may be reached.
    pub guard: Guard,
    /// Longest exchange.
    pub timeout: Duration,
    /// Largest body of a response, in bytes.
    pub max_response_bytes: usize,
}

impl Default for OutsideConfig {
    fn default() -> Self {
        Self {
            guard: Guard::default(),
            timeout: Duration::from_secs(30),
            max_response_bytes: 10 << 20,
        }
    }
}

/// The way out; clones share their connections.
#[derive(Clone)]
pub struct Outside {
    inner: Arc<Inner>,
}

struct Inner {
    config: OutsideConfig,
    /// For names that must lead to allowed addresses.
    guarded: OnceLock<Result<Client, String>>,
    /// For hosts that the operator named with this port.
    named: OnceLock<Result<Client, String>>,
}

impl Outside {
    /// Nothing is connected or read before the first use.
    pub fn new(config: OutsideConfig) -> Self {
        Self {
            inner: Arc::new(Inner {
                config,
                guarded: OnceLock::new(),
                named: OnceLock::new(),
            }),
        }
    }

    /// The limits.
    pub(crate) fn config(&self) -> &OutsideConfig {
        &self.inner.config
    }

    /// A client for this URL, if it may be reached.
    fn client(&self, url: &Url) -> Result<Client, Failure> {
        let guard = &self.inner.config.guard;
        let cell = if guard.check_url(url)? {
            &self.inner.named
        } else {
            &self.inner.guarded
        };
        let named = std::ptr::eq(cell, &self.inner.named);
        let built = cell.get_or_init(|| build(if named { None } else { Some(guard.clone()) }));
        built.clone().map_err(Failure::from)
    }
}

fn build(guard: Option<Guard>) -> Result<Client, String> {
    let builder = Client::builder()
        .tls_backend_preconfigured(tls()?)
        .user_agent(USER_AGENT)
        .connect_timeout(CONNECT_WITHIN)
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

fn tls() -> Result<rustls::ClientConfig, String> {
    let mut roots = rustls::RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Resolves names to the addresses that may be reached.
struct GuardedNames(Guard);

impl Resolve for GuardedNames {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.0.clone();
        Box::pin(async move {
            let allowed = guard.resolve(name.as_str(), 0).await?;
            let addresses: Addrs = Box::new(allowed.into_iter());
            Ok(addresses)
        })
    }
}

/// What went wrong, down to the cause, without the URL (it may hold secrets).
pub(crate) fn told(error: reqwest::Error) -> String {
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

/// A body up to the limit.
pub(crate) async fn read_limited(
    mut response: reqwest::Response,
    limit: usize,
) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(told)? {
        if body.len() + piece.len() > limit {
            return Err(format!(
                "response body exceeds maximum size of {limit} bytes; the agent's operator may raise --fetch-max-response"
            ));
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}
