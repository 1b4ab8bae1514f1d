//! What everything that a job creates is marked with, so that it is found again and belongs to nobody else.

use super::{Attempt, Workshop};
use crate::config::AgentConfig;
use std::collections::BTreeMap;

/// The label that tells an agent from another server's of the same name.
pub(crate) const SERVER_LABEL: &str = "pocketci.server";

/// What tells the agent in what it creates.
pub(crate) fn agent_labels(config: &AgentConfig) -> BTreeMap<String, String> {
    let labels = [
        ("pocketci.agent", config.name.clone()),
        (SERVER_LABEL, config.identity()),
    ];
    labels
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// What everything that a job creates is marked with.
pub(crate) fn labels(workshop: &Workshop, attempt: &Attempt) -> BTreeMap<String, String> {
    let id = |bytes: &[u8]| {
        uuid::Uuid::from_slice(bytes)
            .map(|id| id.to_string())
            .unwrap_or_default()
    };
    let reference = &attempt.reference;
    let labels = [
        ("pocketci.run", id(&reference.run_id)),
        ("pocketci.job", id(&reference.job_id)),
        ("pocketci.attempt", reference.attempt.to_string()),
    ];
    labels
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .chain(agent_labels(&workshop.config))
        .collect()
}
