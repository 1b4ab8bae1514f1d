//! The domain's nouns and the rules of how a run may change; no I/O.

pub mod agent;
pub mod archive;
pub mod assignment;
pub mod binding;
pub mod body;
pub mod concurrency;
pub mod custom_scheme;
pub mod dedup;
pub mod derived;
pub mod endpoint;
pub mod fanout;
pub mod gate;
pub mod journal;
pub mod one_off;
pub mod pipeline;
pub mod receipt;
pub mod retry;
pub mod run;
pub mod secret;
pub mod selection;
pub mod settings;
pub mod transition;
pub mod trigger;
pub mod vault;
pub mod version;
pub mod webhook;

pub use pocketci_proto::ids::{
    AgentId, BootId, EndpointId, GateId, JobId, PipelineId, ReceiptId, RevisionId, RunId,
    SessionId, TokenId,
};
