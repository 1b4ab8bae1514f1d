//! What a server is told at start.

use super::StartError;
use crate::http::Cidr;
use crate::model::vault::SecretKey;
use crate::runs::RunSettings;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// What a server is told at start.
pub struct Config {
    /// Where HTTP is answered; port 0 picks a free one.
    pub http: SocketAddr,
    /// Where agents connect; port 0 picks a free one.
    pub grpc: SocketAddr,
    /// Where everything is kept.
    pub storage: StorageUrl,
    /// How long a webhook's caller waits for `http.respond`.
    pub webhook_timeout: Duration,
    /// Times and limits of runs.
    pub runs: RunSettings,
    /// Clients of the API must present it.
    pub auth_token: Option<String>,
    /// Encrypts secrets at rest.
    pub secret_key: SecretKey,
    /// Earlier keys, for what was encrypted with them.
    pub old_secret_keys: Vec<SecretKey>,
    /// Agent tokens that are valid from the start.
    pub agent_tokens: Vec<String>,
    /// Whether an in-process agent will connect.
    pub local_agent: bool,
    /// TLS on both listeners.
    pub tls: Option<TlsFiles>,
    /// Webhook requests at once; more get 503.
    pub max_webhooks: usize,
    /// Bytes of webhook bodies in memory at once; more get 503.
    pub max_body_bytes_in_flight: usize,
    /// Largest webhook body; larger gets 413.
    pub max_body_bytes: usize,
    /// Bytes of webhook bodies in temporary files at once; more get 503.
    pub max_spilled_bytes: u64,
    /// Proxies that are believed about who called (`X-Forwarded-For`).
    pub trusted_proxies: Vec<Cidr>,
    /// Whether terminals in steps may be opened.
    pub intercept: bool,
}

/// Where everything is kept: `sqlite://FILE` or `postgres://…`. Display hides the password.
#[derive(Clone, PartialEq, Eq)]
pub enum StorageUrl {
    /// A file of this process alone.
    Sqlite(PathBuf),
    /// A PostgreSQL database, for any number of servers.
    Postgres(String),
}

impl FromStr for StorageUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text
            .strip_prefix("sqlite://")
            .or_else(|| text.strip_prefix("sqlite:"))
        {
            if path.is_empty() {
                return Err("a file name is expected after sqlite://".into());
            }
            return Ok(Self::Sqlite(path.into()));
        }
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return Ok(Self::Postgres(text.to_owned()));
        }
        Err("expected sqlite://FILE or postgres://USER@HOST/DATABASE".into())
    }
}

impl fmt::Display for StorageUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite://{}", path.display()),
            Self::Postgres(url) => match url::Url::parse(url) {
                Ok(mut url) => {
                    if url.password().is_some() {
                        // Cannot fail for a URL that has a password.
                        let _ = url.set_password(Some("***"));
                    }
                    url.set_query(None);
                    url.fmt(f)
                }
                Err(_) => f.write_str("postgres://…"),
            },
        }
    }
}

impl fmt::Debug for StorageUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A certificate chain and its key, both PEM.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The chain, own certificate first.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

impl TlsFiles {
    /// Reads both and checks that they belong together.
    pub(super) fn load(&self) -> Result<Arc<rustls::ServerConfig>, StartError> {
        let chain = CertificateDer::pem_file_iter(&self.certificate)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| StartError::Tls(format!("{}: {error}", self.certificate.display())))?;
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|error| StartError::Tls(format!("{}: {error}", self.key.display())))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| StartError::Tls(error.to_string()))?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|error| StartError::Tls(error.to_string()))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storage_url_never_shows_its_password() {
        let url: StorageUrl = "postgres://me:hunter2@db/ci?sslpassword=x".parse().unwrap();
        assert_eq!(url.to_string(), "postgres://me:***@db/ci");
        assert!(!format!("{url:?}").contains("hunter2"));
    }

    #[test]
    fn a_storage_url_is_a_file_or_a_postgres_database() {
        assert_eq!(
            "sqlite://a/b.db".parse(),
            Ok(StorageUrl::Sqlite("a/b.db".into()))
        );
        assert!("sqlite://".parse::<StorageUrl>().is_err());
        assert!("mysql://x".parse::<StorageUrl>().is_err());
    }
}
