//! The domain's nouns and the rules of how a run may change; no I/O.

pub mod agent;
pub mod pipeline;
pub mod receipt;
pub mod run;
pub mod transition;

pub use pocketci_proto::ids::{
    AgentId, BootId, JobId, PipelineId, ReceiptId, RevisionId, RunId, SessionId, TokenId,
};
