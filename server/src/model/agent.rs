//! Agents and their credentials.

use super::pipeline::Labels;
use super::{AgentId, BootId, SessionId, TokenId};
use pocketci_proto::api::Driver;
use rand::RngExt;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

/// What an agent says of itself when it connects.
#[derive(Debug, Clone)]
pub struct Registration {
    /// Unique among connected agents.
    pub name: String,
    /// This process start.
    pub boot_id: BootId,
    /// It goes on with attempts of an earlier process, so that one is dead, however lately it was heard of.
    pub succeeds: bool,
    /// This connection.
    pub session_id: SessionId,
    /// With which credential.
    pub token_id: TokenId,
    /// Jobs at once.
    pub slots: i32,
    /// Its labels.
    pub labels: Labels,
    /// Drivers it offers.
    pub drivers: Vec<Driver>,
    /// Its version.
    pub version: String,
}

/// An agent as stored.
#[derive(Debug, Clone)]
pub struct Agent {
    /// Its id, stable over reconnects.
    pub id: AgentId,
    /// Unique.
    pub name: String,
    /// The current or last connection.
    pub session_id: SessionId,
    /// Whether that connection is believed to be open.
    pub connected: bool,
    /// Jobs at once.
    pub slots: i32,
    /// Its labels.
    pub labels: Labels,
    /// Drivers it offers.
    pub drivers: Vec<Driver>,
    /// Its version.
    pub version: String,
    /// When a server last heard of it.
    pub seen_at: OffsetDateTime,
}

/// A credential; only the SHA-256 of the token is stored.
#[derive(Debug, Clone)]
pub struct AgentToken {
    /// Its id.
    pub id: TokenId,
    /// For people.
    pub name: String,
    /// Created.
    pub created_at: OffsetDateTime,
}

/// What is stored of an agent token: a token has 256 random bits, so a plain SHA-256 is enough.
pub fn token_hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// A new token: 256 random bits with a prefix by which scanners of leaked secrets know it.
pub fn random_token() -> String {
    let mut bytes = [0u8; 32];
    rand::rng().fill(&mut bytes);
    format!("pat_{}", hex::encode(bytes))
}
