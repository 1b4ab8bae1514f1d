//! Jobs and the hooks that jobs and steps share.

use super::fields::{Fields, Manner};
use super::{Decoder, pocketci, step};
use crate::config::model::{BuildLogRetention, Hooks, Job, Step};
use crate::config::tree::Node;

/// Reads a job.
pub fn job(decoder: &mut Decoder, mut fields: Fields<'_>) -> Job {
    let plan_path = format!("{}.plan", fields.path);
    let plan = fields
        .some("plan")
        .map(|node| step::steps(decoder, node, &format!("{plan_path}.do")))
        .unwrap_or_default();
    let job = Job {
        name: fields.text(decoder, "name"),
        old_name: fields.text(decoder, "old_name"),
        public: fields.flag(decoder, "public"),
        disable_manual_trigger: fields.flag(decoder, "disable_manual_trigger"),
        disable_reruns: fields.flag(decoder, "disable_reruns"),
        serial: fields.flag(decoder, "serial"),
        interruptible: fields.flag(decoder, "interruptible"),
        serial_groups: fields.texts(decoder, "serial_groups"),
        max_in_flight: max_in_flight(decoder, &mut fields),
        build_logs_to_retain: fields.whole(decoder, "build_logs_to_retain"),
        build_log_retention: retention(decoder, &mut fields),
        tags: fields.texts(decoder, "tags"),
        webhook_trigger: fields.optional_text(decoder, "webhook_trigger"),
        triggers: pocketci::triggers(decoder, &mut fields),
        gate: pocketci::gate(decoder, &mut fields),
        depends_on: fields.texts(decoder, "depends_on"),
        timeout: fields.duration(decoder, "timeout"),
        assert: fields
            .some("assert")
            .and_then(|node| pocketci::assert(decoder, node, &fields.path_of("assert"))),
        plan,
        hooks: job_hooks(decoder, &mut fields, &plan_path),
    };
    fields.refuse_unknown(decoder);
    job
}

/// In Concourse an `int`: a negative one is as good as none.
fn max_in_flight(decoder: &mut Decoder, fields: &mut Fields<'_>) -> Option<u32> {
    let limit = fields.whole(decoder, "max_in_flight")?;
    Some(u32::try_from(limit.max(0)).unwrap_or(u32::MAX))
}

fn retention(decoder: &mut Decoder, fields: &mut Fields<'_>) -> Option<BuildLogRetention> {
    let node = fields.some("build_log_retention")?;
    let path = fields.path_of("build_log_retention");
    let mut fields = Fields::open(decoder, node, path, Manner::Loose)?;
    let retention = BuildLogRetention {
        builds: fields.whole(decoder, "builds").unwrap_or(0),
        minimum_succeeded_builds: fields
            .whole(decoder, "minimum_succeeded_builds")
            .unwrap_or(0),
        days: fields.whole(decoder, "days").unwrap_or(0),
    };
    fields.refuse_unknown(decoder);
    Some(retention)
}

/// A job's hooks: null is none, as the field is a pointer in Concourse.
fn job_hooks(decoder: &mut Decoder, fields: &mut Fields<'_>, path: &str) -> Hooks {
    let mut read = |key: &str| {
        let node = fields.some(key)?;
        hook(decoder, node, &format!("{path}.{key}"))
    };
    Hooks {
        on_success: read("on_success"),
        on_failure: read("on_failure"),
        on_error: read("on_error"),
        on_abort: read("on_abort"),
        ensure: read("ensure"),
    }
}

/// One step; never a list.
pub fn hook(decoder: &mut Decoder, node: &Node, path: &str) -> Option<Box<Step>> {
    step::step(decoder, node, path).map(Box::new)
}
