//! Ids of the things both sides talk about: UUIDs with a type.
//!
//! Version 7, so that ids sort by creation time and inserts stay local in the indexes.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

/// The text or bytes were not an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidId;

impl fmt::Display for InvalidId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an id (a UUID is expected)")
    }
}

impl std::error::Error for InvalidId {}

macro_rules! id {
    ($(#[$doc:meta] $name:ident)*) => {$(
        #[$doc]
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new id; later ids sort after earlier ones.
            #[allow(clippy::new_without_default)] // a default that differs each time would surprise
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }

            /// The 16 bytes that travel in the agent protocol.
            pub fn to_vec(self) -> Vec<u8> {
                self.0.as_bytes().to_vec()
            }

            /// Reads what [`Self::to_vec`] wrote; anything but 16 bytes is refused.
            pub fn from_wire(bytes: &[u8]) -> Result<Self, InvalidId> {
                Uuid::from_slice(bytes).map(Self).map_err(|_| InvalidId)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Uuid::parse_str(text).map(Self).map_err(|_| InvalidId)
            }
        }
    )*};
}

id! {
    /// A stored program with its settings.
    PipelineId
    /// One version of a pipeline's program; its content never changes.
    RevisionId
    /// One execution of a pipeline.
    RunId
    /// The unit of a run that an agent is given.
    JobId
    /// A build machine's agent, by name.
    AgentId
    /// One connection of an agent.
    SessionId
    /// One start of an agent process.
    BootId
    /// One stored webhook request.
    ReceiptId
    /// A credential of agents.
    TokenId
    /// One approval that a run waits for.
    GateId
    /// A webhook endpoint; its URL holds another, secret id.
    EndpointId
}
