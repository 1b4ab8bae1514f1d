//! The agent: holds the link to a server, executes jobs, streams back replies and logs.
//!
//! Reading order: `link` (the two streams), `attempt` (one job from Assign to Finished), `log` (chunks on their
//! way up, without secrets), `js` (the engine), `container` (where steps run), `resource` (check, get and put), `shelf` (what can be looked into), `outside` (HTTP and mail), `webhook_body` (the request's
//! bytes, and the files in them), `local` (a job without a server). Nothing here knows the server's insides.

pub mod attempt;
pub mod config;
pub mod container;
pub mod js;
pub mod link;
pub mod local;
pub mod log;
pub mod outside;
pub mod plan;
pub mod resource;
pub mod shelf;
mod state;
pub mod webhook_body;

pub use config::{AgentConfig, Token};
pub use link::{AgentError, Shutdown, run};
