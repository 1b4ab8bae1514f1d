//! Agents and their tokens, as the API speaks of them.

use crate::ids::{AgentId, TokenId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use time::OffsetDateTime;
use utoipa::ToSchema;

/// An agent as the servers know it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Agent {
    /// Its id.
    pub id: AgentId,
    /// Unique name.
    pub name: String,
    /// `connected` or `offline`.
    pub status: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Jobs at once.
    pub slots: i32,
    /// Drivers it offers.
    pub drivers: Vec<String>,
    /// Its version.
    pub version: String,
    /// When a server last heard of it.
    #[serde(with = "time::serde::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub seen_at: OffsetDateTime,
}

/// `POST /api/agent-tokens`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateAgentToken {
    /// For people, to tell tokens apart.
    pub name: String,
}

/// The token is shown this once; only its hash is stored.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct AgentToken {
    /// Its id.
    pub id: TokenId,
    /// For people.
    pub name: String,
    /// The credential itself.
    pub token: String,
}
