//! Starting and stopping a server: storage, background ticks, the two listeners.

mod config;
mod grpc_listener;

pub use crate::http::{Cidr, InvalidCidr};
pub use crate::model::vault::SecretKey;
pub use config::{Config, StorageUrl, TlsFiles};

use crate::background::Background;
use crate::deliveries::Deliveries;
use crate::grpc::Link;
use crate::http::{self, HttpSettings};
use crate::model::agent::{random_token, token_hash};
use crate::model::vault::Vault;
use crate::runs::{KeyError, Runs};
use crate::store::postgres::PostgresStore;
use crate::store::sqlite::SqliteStore;
use crate::store::{Store, StoreError};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long requests under way may take to end when the server stops.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// Why a server could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The storage.
    #[error("cannot open {storage}")]
    Storage {
        /// Without its password.
        storage: String,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// A listener.
    #[error(
        "cannot listen on {address} for {what}; is another server running? choose another port"
    )]
    Listen {
        /// Where.
        address: SocketAddr,
        /// `HTTP` or `agents`.
        what: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The secret keys do not fit the storage.
    #[error("cannot use the secret key")]
    Key(#[from] KeyError),
    /// A certificate or key.
    #[error("cannot use the TLS files: {0}")]
    Tls(String),
}

/// What an in-process agent needs to connect.
pub struct LocalAgent {
    /// Plain gRPC on loopback.
    pub address: SocketAddr,
    /// Valid for this process only.
    pub token: String,
}

/// A running server.
pub struct Server {
    /// Where HTTP is answered.
    pub http: SocketAddr,
    /// Where agents connect.
    pub grpc: SocketAddr,
    /// For the in-process agent, if one was asked for.
    pub local_agent: Option<LocalAgent>,
    runs: Runs,
    shutdown: CancellationToken,
    background: Background,
    listeners: JoinSet<()>,
}

/// Starts a server; it answers when this returns.
pub async fn start(config: Config) -> Result<Server, StartError> {
    let store = open_store(&config.storage).await?;
    let storage_error = |source| StartError::Storage {
        storage: config.storage.to_string(),
        source,
    };
    for token in &config.agent_tokens {
        store
            .create_token("configured", token_hash(token))
            .await
            .map_err(storage_error)?;
    }
    let vault = Vault::new(&config.secret_key, &config.old_secret_keys);
    let runs = Runs::new(store.clone(), config.runs.clone(), vault);
    runs.check_keys().await?;
    let vault = Vault::new(&config.secret_key, &config.old_secret_keys);
    let deliveries = Deliveries::new(store.clone(), config.deliveries.clone(), vault);
    let shutdown = CancellationToken::new();
    let link = Link::new(runs.clone(), config.webhook_timeout, shutdown.clone());
    let tls = config.tls.as_ref().map(TlsFiles::load).transpose()?;

    let mut listeners = JoinSet::new();
    let (grpc, grpc_listener) = bind(config.grpc, "agents").await?;
    listeners.spawn(grpc_listener::serve(
        grpc_listener,
        tls.clone(),
        link.clone(),
        shutdown.clone(),
    ));
    let local_agent = if config.local_agent {
        let token = random_token();
        store
            .create_token(LOCAL_TOKEN_NAME, token_hash(&token))
            .await
            .map_err(storage_error)?;
        let (address, listener) = bind((Ipv4Addr::LOCALHOST, 0).into(), "the local agent").await?;
        listeners.spawn(grpc_listener::serve(listener, None, link, shutdown.clone()));
        Some(LocalAgent { address, token })
    } else {
        None
    };
    let (http, http_listener) = bind(config.http, "HTTP").await?;
    let settings = HttpSettings {
        auth_token: config.auth_token.clone(),
        webhook_timeout: config.webhook_timeout,
        max_webhooks: config.max_webhooks,
        max_body_bytes_in_flight: config.max_body_bytes_in_flight,
        max_body_bytes: config.max_body_bytes,
        trusted_proxies: config.trusted_proxies.clone(),
        max_spilled_bytes: config.max_spilled_bytes,
        intercept: config.intercept,
        delivery_guard: config.deliveries.guard(),
    };
    let app = http::app(runs.clone(), settings);
    listeners.spawn(http::serve(http_listener, tls, app, shutdown.clone()));
    Ok(Server {
        http,
        grpc,
        local_agent,
        background: Background::start(&runs, deliveries, &shutdown),
        runs,
        shutdown,
        listeners,
    })
}

impl Server {
    /// The runs of this server, for embedding and tests.
    pub fn runs(&self) -> &Runs {
        &self.runs
    }

    /// Stops: agents are sent away, requests under way end, the store is flushed.
    pub async fn stop(mut self) {
        self.shutdown.cancel();
        let listeners = async {
            while let Some(ended) = self.listeners.join_next().await {
                if let Err(error) = ended {
                    tracing::error!(%error, "a listener panicked");
                }
            }
        };
        if tokio::time::timeout(STOP_WITHIN, listeners).await.is_err() {
            tracing::warn!("some requests did not end in time");
        }
        self.background.stopped().await;
        self.runs.store().close().await;
    }
}

/// Marks the credential of in-process agents.
const LOCAL_TOKEN_NAME: &str = "in-process agent";

async fn open_store(storage: &StorageUrl) -> Result<Arc<dyn Store>, StartError> {
    let opened: Result<Arc<dyn Store>, StoreError> = match storage {
        StorageUrl::Sqlite(path) => {
            // Opening reads and may migrate: no work for the threads that serve.
            let path = path.clone();
            match tokio::task::spawn_blocking(move || SqliteStore::open(&path)).await {
                Ok(opened) => opened.map(|store| store as _),
                Err(panic) => Err(StoreError::Internal(panic.into())),
            }
        }
        StorageUrl::Postgres(url) => PostgresStore::connect(url, Default::default())
            .await
            .map(|store| store as _),
    };
    opened.map_err(|source| StartError::Storage {
        storage: storage.to_string(),
        source,
    })
}

async fn bind(
    address: SocketAddr,
    what: &'static str,
) -> Result<(SocketAddr, TcpListener), StartError> {
    let failed = |source| StartError::Listen {
        address,
        what,
        source,
    };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((bound, listener))
}
