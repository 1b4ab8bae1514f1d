//! Bodies of outgoing events: CircleCI's field by field, and our own in the same manner. An entity a file; all pure but
//! [`load`].
//!
//! A body is one JSON object: `id`, `type`, `happened_at`, `webhook{id,name}`, then the entities. Everything but
//! `webhook` is the same for all receivers, so the entities are built once, kept with the event as text, and joined with
//! the rest by [`body`]: every try, and whoever sends it, sends the same bytes. Keys stand in the order of CircleCI's
//! samples. Receivers must take all of it as open maps: keys may be added.

mod events;
pub mod facts;
mod gate;
mod instant;
mod job;
mod load;
pub mod pipeline;
mod project;
mod sample;
mod status;
mod trigger_parameters;
pub mod vcs;
mod workflow;

pub use events::{
    By, Disabled, GateWaiting, JobCompleted, Ping, RunStarted, SubscriptionDisabled,
    WorkflowCompleted,
};
pub use gate::Gate;
pub use instant::iso_ms;
pub use job::Job;
pub use load::build;
pub use pipeline::{Actor, Pipeline, Trigger};
pub use project::{Organization, Project};
pub use sample::sample;
pub use status::Status;
pub use trigger_parameters::{MAX_PASSED_BODY_BYTES, TriggerParameters};
pub use workflow::{Workflow, run_url, workflow_id};

use serde::Serialize;
use time::OffsetDateTime;
use uuid::Uuid;

/// What a body begins with.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// The event's id, the same over all tries and receivers.
    pub id: Uuid,
    /// What happened: `workflow-completed`…
    pub kind: &'a str,
    /// When.
    pub happened_at: OffsetDateTime,
    /// The subscription's id.
    pub webhook_id: Uuid,
    /// The subscription's name.
    pub webhook_name: &'a str,
}

#[derive(Serialize)]
struct Opening<'a> {
    id: Uuid,
    #[serde(rename = "type")]
    kind: &'a str,
    happened_at: String,
    webhook: Webhook<'a>,
}

#[derive(Serialize)]
struct Webhook<'a> {
    id: Uuid,
    name: &'a str,
}

/// The bytes to send: `head`, then the members of `entities` (the text of a JSON object, see [`build`]).
pub fn body(head: &Head<'_>, entities: &str) -> String {
    let mut text = text(&Opening {
        id: head.id,
        kind: head.kind,
        happened_at: iso_ms(head.happened_at),
        webhook: Webhook {
            id: head.webhook_id,
            name: head.webhook_name,
        },
    });
    let members = entities.trim().trim_start_matches('{');
    if members.starts_with('}') || members.is_empty() {
        return text;
    }
    text.pop();
    text.push(',');
    text.push_str(members);
    text
}

/// Entities as text.
fn text<T: Serialize>(entities: &T) -> String {
    // Only structs of texts, numbers and UUIDs are given to this: they always serialize.
    serde_json::to_string(entities).unwrap_or_else(|_| "{}".to_owned())
}

#[cfg(test)]
mod tests;
