//! Connections to PostgreSQL: the pool, and one more for listening.

use super::super::{Result, StoreError};
use deadpool::managed::QueueMode;
use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use rustls::RootCertStore;
use std::str::FromStr;
use std::time::Duration;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

/// How long opening a connection, or waiting for a free one, may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// How long a server that acknowledges nothing is believed in.
const TCP_SILENCE: Duration = Duration::from_secs(5);
/// Between probes of a silent connection, and how many go unanswered before it is given up.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(2);
/// See [`KEEPALIVE_EVERY`].
const KEEPALIVES: u32 = 3;
/// Longest statement; far above any of ours, below a caller's patience.
const STATEMENT_WITHIN_MS: u32 = 15_000;

/// What the database does about a server of ours that is stopped, cut off or without power in the middle of a
/// transaction: others wait for its locks no longer than this. Our transactions never pause for so long.
const WHEN_WE_DIE: &str = "-c idle_in_transaction_session_timeout=5000 -c tcp_keepalives_idle=5 \
    -c tcp_keepalives_interval=2 -c tcp_keepalives_count=3 -c tcp_user_timeout=10000";

/// Every hot statement is a set of point look-ups by primary key, planned once: planning it anew each time costs more
/// than running it, and a table that was not analysed yet (a new installation) would be read whole.
const PLANNER: &str = "-c plan_cache_mode=force_generic_plan -c enable_seqscan=off -c enable_hashjoin=off \
    -c enable_mergejoin=off -c jit=off";

/// How to use the database.
#[derive(Debug, Clone)]
pub struct Options {
    /// Connections in the pool; one more listens.
    pub pool_size: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { pool_size: 16 }
    }
}

/// Reads the URL. `sslmode=require` means TLS with a verified certificate; anything else is plain.
pub(super) fn config(url: &str) -> Result<Config> {
    let mut config = Config::from_str(url).map_err(|error| StoreError::Internal(error.into()))?;
    config
        .connect_timeout(CONNECT_WITHIN)
        .tcp_user_timeout(TCP_SILENCE)
        .keepalives_idle(TCP_SILENCE)
        .keepalives_interval(KEEPALIVE_EVERY)
        .keepalives_retries(KEEPALIVES)
        .application_name("pocketci");
    let options = format!(
        "{} -c statement_timeout={STATEMENT_WITHIN_MS} {WHEN_WE_DIE} {PLANNER}",
        config.get_options().unwrap_or_default()
    );
    config.options(options);
    if config.get_ssl_mode() == SslMode::Prefer {
        config.ssl_mode(SslMode::Disable);
    }
    Ok(config)
}

pub(super) fn pool(config: &Config, options: &Options) -> Result<Pool> {
    let manager_config = ManagerConfig {
        recycling_method: RecyclingMethod::Fast,
    };
    let manager = match tls(config)? {
        Some(tls) => Manager::from_config(config.clone(), tls, manager_config),
        None => Manager::from_config(config.clone(), NoTls, manager_config),
    };
    Pool::builder(manager)
        .max_size(options.pool_size)
        // The connection used last has its statements prepared and its caches warm.
        .queue_mode(QueueMode::Lifo)
        .wait_timeout(Some(CONNECT_WITHIN))
        .create_timeout(Some(CONNECT_WITHIN))
        .recycle_timeout(Some(CONNECT_WITHIN))
        .runtime(Runtime::Tokio1)
        .build()
        .map_err(|error| StoreError::Internal(error.into()))
}

/// The connector, if the URL asks for TLS.
pub(super) fn tls(config: &Config) -> Result<Option<MakeRustlsConnect>> {
    if config.get_ssl_mode() == SslMode::Disable {
        return Ok(None);
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| StoreError::Internal(error.into()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Some(MakeRustlsConnect::new(client)))
}
