//! HTTP and mail on behalf of pipelines, to where the operator allows it.
//!
//! Connections and the guard over them are those of the crate `outside`; each redirect is checked anew.

pub mod fetch;
pub mod guard;
pub mod notify;
pub mod webhook;

use crate::js::host::Failure;
use guard::{Guard, fetch_guard};
use pocketci_outside::client::{Clients, Trust, told};
use reqwest::{Client, Url};
use std::sync::Arc;
use std::time::Duration;

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
            guard: fetch_guard(Vec::new()),
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
    clients: Clients,
}

impl Outside {
    /// Nothing is connected or read before the first use.
    pub fn new(config: OutsideConfig) -> Self {
        let clients = Clients::new(config.guard.clone(), USER_AGENT);
        Self {
            inner: Arc::new(Inner { config, clients }),
        }
    }

    /// The limits.
    pub(crate) fn config(&self) -> &OutsideConfig {
        &self.inner.config
    }

    /// For whole exchanges.
    pub(crate) fn clients(&self) -> &Clients {
        &self.inner.clients
    }

    /// A client for this URL, if it may be reached.
    fn client(&self, url: &Url) -> Result<Client, Failure> {
        let client = self.inner.clients.client(url, &Trust::System);
        client.map_err(Failure::from)
    }
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
