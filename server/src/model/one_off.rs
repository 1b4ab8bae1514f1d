//! A task without a pipeline's job: `pocketci execute`.

use super::pipeline::Labels;
use super::version::Version;
use pocketci_proto::api::Driver;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Largest configuration of a one-off task, in bytes of JSON: it is stored with its run, and sent in one message.
pub const MAX_CONFIG_BYTES: usize = 256 * 1024;

/// What a one-off run is to do. It is no build: it has no number, waits for no other job and counts for no limit of its
/// pipeline's jobs.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OneOff {
    /// The task's name, and its job's.
    pub name: String,
    /// The task's configuration as JSON. Its params may be secret.
    pub config: String,
    /// Names of the inputs that the user sent.
    #[serde(default)]
    pub uploads: Vec<String>,
    /// Names of the outputs to keep for the user.
    #[serde(default)]
    pub outputs: Vec<String>,
    /// Whether its container is privileged.
    #[serde(default)]
    pub privileged: bool,
    /// The other inputs: name, resource, version.
    #[serde(default)]
    pub inputs: Vec<(String, String, Version)>,
    /// Labels that an agent must have, beside the pipeline's.
    #[serde(default)]
    pub labels: Labels,
    /// Driver that the agent must offer; `None`: the pipeline's.
    #[serde(default)]
    pub driver: Option<Driver>,
    /// Longest time of one attempt.
    #[serde(default)]
    pub timeout_seconds: Option<u64>,
}

impl fmt::Debug for OneOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OneOff({})", self.name)
    }
}
