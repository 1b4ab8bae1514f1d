//! PocketCI's own keys around steps: triggers, gates, assertions.

use super::Decoder;
use super::fields::{Fields, Manner};
use crate::config::model::{Assert, GateConfig, Schedule, Triggers, WebhookTrigger};
use crate::config::tree::Node;

/// Reads `assert: {execution: [...]}`.
pub fn assert(decoder: &mut Decoder, node: &Node, path: &str) -> Option<Assert> {
    let mut fields = Fields::open(decoder, node, path, Manner::Loose)?;
    let assert = Assert {
        execution: fields.texts(decoder, "execution"),
    };
    fields.refuse_unknown(decoder);
    Some(assert)
}

/// Reads `triggers`.
pub fn triggers(decoder: &mut Decoder, job: &mut Fields<'_>) -> Option<Triggers> {
    let node = job.some("triggers")?;
    let path = job.path_of("triggers");
    let mut fields = Fields::open(decoder, node, path, Manner::Loose)?;
    let triggers = Triggers {
        webhook: webhook(decoder, &mut fields),
        schedule: schedule(decoder, &mut fields),
        passed: fields.texts(decoder, "passed"),
    };
    fields.refuse_unknown(decoder);
    Some(triggers)
}

/// `webhook:` without anything means every delivery.
fn webhook(decoder: &mut Decoder, triggers: &mut Fields<'_>) -> Option<WebhookTrigger> {
    let node = triggers.take("webhook")?;
    let path = triggers.path_of("webhook");
    let mut fields = Fields::open(decoder, node, path, Manner::Loose)?;
    let webhook = WebhookTrigger {
        filter: fields.text(decoder, "filter"),
        dedup_key: fields.text(decoder, "dedup_key"),
        params: fields.text_map(decoder, "params").unwrap_or_default(),
    };
    fields.refuse_unknown(decoder);
    Some(webhook)
}

fn schedule(decoder: &mut Decoder, triggers: &mut Fields<'_>) -> Option<Schedule> {
    let node = triggers.some("schedule")?;
    let path = triggers.path_of("schedule");
    let mut fields = Fields::open(decoder, node, path, Manner::Loose)?;
    let schedule = Schedule {
        cron: fields.text(decoder, "cron"),
        every: fields.text(decoder, "every"),
    };
    fields.refuse_unknown(decoder);
    Some(schedule)
}

/// Reads a job's `gate`.
pub fn gate(decoder: &mut Decoder, job: &mut Fields<'_>) -> Option<GateConfig> {
    let node = job.some("gate")?;
    let path = job.path_of("gate");
    let mut fields = Fields::open(decoder, node, path, Manner::Loose)?;
    let gate = GateConfig {
        message: fields.text(decoder, "message"),
        timeout: fields.duration(decoder, "timeout"),
    };
    fields.refuse_unknown(decoder);
    Some(gate)
}
