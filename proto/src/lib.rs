//! Every type that crosses a process border: the agent protocol, ids and the JSON API.
//!
//! Nothing here acts; there is no I/O in this crate. The one algorithm is how output is packed, which both sides must agree on.

pub mod api;
pub mod ids;
pub mod log;

/// Generated from `proto/agent.proto`; the comments there are the contract.
#[allow(missing_docs, clippy::all, clippy::pedantic)] // generated code
pub mod agent {
    tonic::include_proto!("pocketci.agent.v1");
}

/// Oldest and newest protocol this build speaks (`Hello.protocol_min..=protocol_max`).
pub const PROTOCOL_MIN: u32 = 1;
/// See [`PROTOCOL_MIN`]. What 2 and 3 added is in docs/PROTOCOL.md.
pub const PROTOCOL_MAX: u32 = 3;

/// The label of agents that run jobs of YAML pipelines (protocol 3 and later); the server gives it to them, and asks for
/// it in the name of such jobs.
pub const YAML_LABEL: (&str, &str) = ("pocketci.yaml", "true");

/// Largest page of a streamed body, revision or reply, in bytes.
pub const PAGE_BYTES: usize = 256 * 1024;
/// Largest webhook or reply body that travels inside a Session message, in bytes.
pub const INLINE_BODY_BYTES: usize = 256 * 1024;
/// Largest input or output of a one-off task, as a tar, in bytes: a repository with its history, not a disk image.
pub const MAX_ARCHIVE_BYTES: u64 = 1 << 30;
/// Largest log chunk, in bytes.
pub const LOG_CHUNK_BYTES: usize = 64 * 1024;
/// Most bytes of a terminal's input, or output, that are on their way: more are sent when the other side has taken some.
pub const TERMINAL_WINDOW_BYTES: usize = 256 * 1024;
/// Largest piece of either, in bytes.
pub const TERMINAL_PIECE_BYTES: usize = 32 * 1024;
