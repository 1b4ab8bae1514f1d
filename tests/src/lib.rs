//! The harness of the end-to-end tests: real processes, real databases, a real Docker engine.
//!
//! Everything is owned by guards that stop and remove it; what a process printed is shown when a test fails.

pub mod chaos;
pub mod client;
pub mod database;
pub mod process;
pub mod receiver;
pub mod relay;
pub mod sink;
pub mod wait;

pub use client::Client;
pub use database::TestDatabase;
pub use process::{Agent, Server, ServerOptions, pocketci};
pub use receiver::Receiver;
pub use relay::{Relay, Twist};
pub use sink::Sink;
pub use wait::until;

/// The agent protocol as the previous version spoke it; see `tests/proto/v1/agent.proto`.
#[allow(missing_docs, clippy::all, clippy::pedantic)] // generated code
pub mod previous {
    tonic::include_proto!("pocketci.agent.v1");
}

/// A variable that `make test` sets; a test that needs it fails with the way out.
pub fn required(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: run `make test`, which starts what the tests need")
    })
}
