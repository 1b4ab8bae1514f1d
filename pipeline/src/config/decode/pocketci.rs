//! PocketCI's own keys around steps: triggers, gates, assertions.

use super::Decoder;
use super::fields::{Fields, Manner, list};
use crate::config::model::{Assert, EventListen, GateConfig, Schedule, Triggers, WebhookTrigger};
use crate::config::tree::{Kind, Node};

/// Reads `assert: {execution: [...]}`.
pub fn assert(decoder: &mut Decoder, node: &Node, path: &str) -> Option<Assert> {
    let mut fields = Fields::open(decoder, node, path, Manner::Loose)?;
    let assert = Assert {
        execution: fields.texts(decoder, "execution"),
    };
    fields.refuse_unknown(decoder);
    Some(assert)
}

/// Reads what the pipeline listens to: `on: {event, filter}`, one or a list, and PIPEFORCE's
/// `pipeline: [{event.listen: {key, filter}}]`.
pub fn listens(decoder: &mut Decoder, fields: &mut Fields<'_>) -> Vec<EventListen> {
    let mut all = Vec::new();
    // YAML 1.1, which Concourse reads, takes an unquoted `on` for the word true.
    if let Some(node) = fields.some("on").or_else(|| fields.some("true")) {
        let one = std::slice::from_ref(node);
        let items = match &node.kind {
            Kind::List(items) => items.as_slice(),
            _ => one,
        };
        for (index, item) in items.iter().enumerate() {
            all.extend(listen(decoder, item, &format!("on[{index}]"), "event"));
        }
    }
    let Some(node) = fields.some("pipeline") else {
        return all;
    };
    for (index, item) in list(decoder, node, "pipeline").iter().enumerate() {
        let path = format!("pipeline[{index}]");
        let Some(mut command) = Fields::open(decoder, item, path.clone(), Manner::Loose) else {
            continue;
        };
        if let Some(node) = command.some("event.listen") {
            let path = command.path_of("event.listen");
            all.extend(listen(decoder, node, &path, "key"));
        } else {
            decoder.fault(
                &path,
                item.at,
                "only event.listen is possible here; what is done stands in jobs",
            );
            continue;
        }
        command.refuse_unknown(decoder);
    }
    all
}

fn listen(decoder: &mut Decoder, node: &Node, path: &str, key: &str) -> Option<EventListen> {
    let mut fields = Fields::open(decoder, node, path, Manner::Loose)?;
    let listen = EventListen {
        event: fields.text(decoder, key),
        filter: Some(fields.text(decoder, "filter")).filter(|filter| !filter.is_empty()),
    };
    fields.refuse_unknown(decoder);
    if listen.event.is_empty() {
        decoder.fault(path, node.at, format!("{key} must name the event"));
        return None;
    }
    Some(listen)
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
