//! The agent: holds the link to a server, executes jobs, streams back replies and logs.
//!
//! Reading order: `link` (the two streams), `attempt` (one job from Assign to Finished), `log` (chunks on their
//! way up), `js` (the engine), `container` (where steps run). Nothing here knows the server's insides.

pub mod attempt;
pub mod config;
pub mod container;
pub mod js;
pub mod link;
pub mod log;

pub use config::{AgentConfig, Token};
pub use link::{AgentError, Shutdown, run};
