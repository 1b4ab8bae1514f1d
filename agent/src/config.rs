//! What an agent is told at start.

use crate::js::Limits;
use crate::log::SpoolConfig;
use crate::outside::OutsideConfig;
use pocketci_proto::api::Driver;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Bytes of the hash in [`AgentConfig::identity`].
const IDENTITY_BYTES: usize = 8;

/// A bearer token; never shown.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// As given by the operator.
    pub fn new(token: impl Into<String>) -> Self {
        Self(token.into())
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl AgentConfig {
    /// Tells this agent from those of the same name at other servers, which may share its machine and its engine.
    pub(crate) fn identity(&self) -> String {
        let hash = Sha256::digest(format!("{}\n{}", self.name, self.server_url).as_bytes());
        hex::encode(&hash[..IDENTITY_BYTES])
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// What an agent is told at start.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// `http://` or `https://`, the server's port for agents.
    pub server_url: String,
    /// Its credential.
    pub token: Token,
    /// Unique among connected agents.
    pub name: String,
    /// What pipelines may ask for.
    pub labels: BTreeMap<String, String>,
    /// Jobs at once, 1..=1024.
    pub slots: u32,
    /// What pipelines use that name no driver.
    pub default_driver: Driver,
    /// PEM certificates to trust for `https://`; the well-known ones if absent.
    pub tls_ca: Option<PathBuf>,
    /// Whether pipelines may run privileged containers.
    pub allow_privileged: bool,
    /// Limits of one job's JavaScript.
    pub limits: Limits,
    /// Where pipelines may reach.
    pub outside: OutsideConfig,
    /// Where output waits that the memory cannot hold.
    pub spool: SpoolConfig,
    /// How long held jobs may go on after the first request to stop.
    pub drain_timeout: Duration,
    /// How long what failed steps of YAML pipelines left is kept; zero: not at all, and nobody may look into a step.
    pub keep_failed: Duration,
    /// Where it remembers what it holds, for its next process; `None` remembers nothing.
    pub state_dir: Option<PathBuf>,
}
