//! Rows to model.

use super::super::{LogEnd, codec};
use super::Failable;
use crate::model::body::BodyId;
use crate::model::concurrency::Member;
use crate::model::endpoint::{Endpoint, EndpointUuid, Target};
use crate::model::fanout::{Listener, MessageTarget, TargetState};
use crate::model::pipeline::{ContentType, Labels, Pipeline, Revision, WebhookSecret};
use crate::model::receipt::{BodyPlace, Receipt, Verdict};
use crate::model::run::{
    BuildNumber, CancelReason, Cancelled, End, Event, EventBody, Hold, Job, JobState, Lease,
    LogPiece, LogStream, Outcome, QueueTerms, Reply, ReplyBy, Run, RunState, Trigger, TriggerKind,
};
use crate::model::{
    AgentId, EndpointId, JobId, PipelineId, ReceiptId, RevisionId, RunId, SessionId,
};
use bytes::Bytes;
use pocketci_proto::api::{Driver, PipelineSettings};
use std::time::Duration;
use time::OffsetDateTime;
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, Json};
use uuid::Uuid;

fn get<'a, T: FromSql<'a>>(row: &'a Row, column: &str) -> Failable<T> {
    Ok(row.try_get(column)?)
}

fn get_word<T>(row: &Row, column: &'static str, parse: impl Fn(&str) -> Option<T>) -> Failable<T> {
    let text: &str = get(row, column)?;
    Ok(codec::word(column, text, parse(text))?)
}

fn driver(row: &Row) -> Failable<Option<Driver>> {
    match get::<Option<&str>>(row, "driver")? {
        Some(text) => Ok(Some(codec::word("driver", text, Driver::parse(text))?)),
        None => Ok(None),
    }
}

fn labels(row: &Row) -> Failable<Labels> {
    get::<Json<Labels>>(row, "labels").map(|json| json.0)
}

/// A pipeline's settings, from the column that has them.
pub(super) fn settings(row: &Row, column: &str) -> Failable<PipelineSettings> {
    Ok(codec::from_json(
        "pipelines.settings",
        get::<&str>(row, column)?,
    )?)
}

/// A pipeline with its newest revision's number and kind, and its secrets.
pub(super) const PIPELINE: &str = "SELECT p.*, r.number, r.content_type,
    ARRAY(SELECT s.secret FROM webhook_secrets s WHERE s.pipeline_id = p.id ORDER BY s.position) AS secrets
    FROM pipelines p JOIN revisions r ON r.id = p.revision_id";

pub(super) fn pipeline(row: &Row) -> Failable<Pipeline> {
    let secrets: Vec<Vec<u8>> = get(row, "secrets")?;
    Ok(Pipeline {
        id: PipelineId(get(row, "id")?),
        name: get(row, "name")?,
        version: get(row, "version")?,
        revision_id: RevisionId(get(row, "revision_id")?),
        revision: get(row, "number")?,
        content_type: get_word(row, "content_type", ContentType::parse)?,
        driver: driver(row)?,
        labels: labels(row)?,
        webhook_secrets: secrets.into_iter().filter_map(WebhookSecret::new).collect(),
        settings: settings(row, "settings")?,
        paused: get(row, "paused")?,
        paused_by: get(row, "paused_by")?,
        created_at: get(row, "created_at")?,
        updated_at: get(row, "updated_at")?,
    })
}

pub(super) fn revision(row: &Row) -> Failable<Revision> {
    Ok(Revision {
        id: RevisionId(get(row, "id")?),
        pipeline_id: PipelineId(get(row, "pipeline_id")?),
        number: get(row, "number")?,
        content_type: get_word(row, "content_type", ContentType::parse)?,
        file_name: get(row, "file_name")?,
        source: get(row, "source")?,
        javascript: get(row, "javascript")?,
        source_map: get(row, "source_map")?,
        modules: codec::from_json("revisions.modules", get::<&str>(row, "modules")?)?,
    })
}

fn end(row: &Row) -> Failable<Option<End>> {
    let Some(outcome) = get::<Option<&str>>(row, "outcome")? else {
        return Ok(None);
    };
    Ok(Some(End {
        outcome: codec::word("outcome", outcome, Outcome::parse(outcome))?,
        reason: get(row, "reason")?,
        actor: get(row, "actor")?,
        message: get(row, "message")?,
    }))
}

fn id_opt<T>(row: &Row, column: &str, wrap: impl Fn(Uuid) -> T) -> Failable<Option<T>> {
    Ok(get::<Option<Uuid>>(row, column)?.map(wrap))
}

/// A whole run.
pub(super) fn run(row: &Row) -> Failable<Run> {
    let mut run = run_to_change(row)?;
    run.trigger = codec::from_json("trigger_data", get::<&str>(row, "trigger_data")?)?;
    Ok(run)
}

/// What [`run_to_change`] reads.
pub(super) const RUN_TO_CHANGE: &str =
    "id, pipeline_id, revision_id, state, outcome, reason, message, trigger_kind,
    receipt_id, wants_reply, replied, event_seq, cancel_actor, created_at, started_at, finished_at, actor,
    cancel_reason, group_key";

/// A run without the trigger's details, which the state machine does not look at and nobody writes again.
pub(super) fn run_to_change(row: &Row) -> Failable<Run> {
    let kind = get_word(row, "trigger_kind", TriggerKind::parse)?;
    Ok(Run {
        id: RunId(get(row, "id")?),
        pipeline_id: PipelineId(get(row, "pipeline_id")?),
        revision_id: RevisionId(get(row, "revision_id")?),
        state: get_word(row, "state", RunState::parse)?,
        end: end(row)?,
        trigger: Trigger::new(kind),
        receipt_id: id_opt(row, "receipt_id", ReceiptId)?,
        wants_reply: get(row, "wants_reply")?,
        replied: get(row, "replied")?,
        event_seq: get(row, "event_seq")?,
        cancel: cancelled(row)?,
        group: get(row, "group_key")?,
        created_at: get(row, "created_at")?,
        started_at: get(row, "started_at")?,
        finished_at: get(row, "finished_at")?,
    })
}

/// A run that is not over, as its concurrency group sees it.
pub(super) fn member(row: &Row) -> Failable<Member> {
    Ok(Member {
        run_id: RunId(get(row, "id")?),
        admitted: get(row, "admitted")?,
        cancelled: get(row, "cancelled")?,
    })
}

fn cancelled(row: &Row) -> Failable<Option<Cancelled>> {
    let Some(actor) = get::<Option<String>>(row, "cancel_actor")? else {
        return Ok(None);
    };
    Ok(Some(Cancelled {
        actor,
        reason: get_word(row, "cancel_reason", CancelReason::parse)?,
    }))
}

fn terms(row: &Row) -> Failable<QueueTerms> {
    let millis: Option<i64> = get(row, "queue_timeout_ms")?;
    Ok(QueueTerms {
        priority: get(row, "priority")?,
        timeout: millis.map(|millis| Duration::from_millis(millis.unsigned_abs())),
        attempts: get(row, "attempts")?,
    })
}

fn hold(row: &Row) -> Failable<Option<Hold>> {
    match get::<Option<&str>>(row, "hold")? {
        Some(text) => Ok(Some(codec::word("hold", text, Hold::parse(text))?)),
        None => Ok(None),
    }
}

fn build(row: &Row) -> Failable<Option<BuildNumber>> {
    let Some(number) = get(row, "number")? else {
        return Ok(None);
    };
    Ok(Some(BuildNumber {
        number,
        rerun: get(row, "rerun")?,
        rerun_of: id_opt(row, "rerun_of", JobId)?,
    }))
}

pub(super) fn job(row: &Row) -> Failable<Job> {
    let agent_id = id_opt(row, "agent_id", AgentId)?;
    let session_id = id_opt(row, "session_id", SessionId)?;
    let until = get::<Option<time::OffsetDateTime>>(row, "lease_until")?;
    let lease = match (agent_id, session_id, until) {
        (Some(agent_id), Some(session_id), Some(until)) => Some(Lease {
            agent_id,
            session_id,
            until,
        }),
        _ => None,
    };
    Ok(Job {
        id: JobId(get(row, "id")?),
        run_id: RunId(get(row, "run_id")?),
        name: get(row, "name")?,
        build: build(row)?,
        state: get_word(row, "state", JobState::parse)?,
        end: end(row)?,
        attempt: get(row, "attempt")?,
        lost: get(row, "lost")?,
        lease,
        agent_id,
        labels: labels(row)?,
        driver: driver(row)?,
        terms: terms(row)?,
        hold: hold(row)?,
        queue_until: get(row, "queue_until")?,
        report_seq: get(row, "report_seq")?,
        log_seq: get(row, "log_seq")?,
        queued_at: get(row, "queued_at")?,
        started_at: get(row, "started_at")?,
        finished_at: get(row, "finished_at")?,
    })
}

pub(super) fn reply(row: &Row) -> Failable<(RunId, Reply)> {
    let reply = Reply {
        by: get_word(row, "by", ReplyBy::parse)?,
        status: u16::try_from(get::<i32>(row, "status")?).unwrap_or(500),
        headers: codec::from_json("replies.headers", get::<&str>(row, "headers")?)?,
        body: Bytes::from(get::<Vec<u8>>(row, "body")?),
    };
    Ok((RunId(get(row, "run_id")?), reply))
}

pub(super) fn event(row: &Row) -> Failable<Event> {
    let body = match get::<Option<&str>>(row, "data")? {
        Some(data) => EventBody::Fact(codec::fact_from(data)?),
        None => EventBody::Log(LogPiece {
            step: get(row, "step")?,
            stream: get_word(row, "stream", LogStream::parse)?,
            offset: get(row, "byte_offset")?,
            data: codec::log_data(
                get(row, "encoding")?,
                get(row, "size")?,
                Bytes::from(get::<Vec<u8>>(row, "bytes")?),
            )?,
        }),
    };
    Ok(Event {
        seq: get(row, "seq")?,
        at: get(row, "at")?,
        job_id: id_opt(row, "job_id", JobId)?,
        attempt: get(row, "attempt")?,
        body,
    })
}

pub(super) fn receipt(row: &Row) -> Failable<Receipt> {
    let sha: &[u8] = get(row, "body_sha256")?;
    Ok(Receipt {
        id: ReceiptId(get(row, "id")?),
        pipeline_id: id_opt(row, "pipeline_id", PipelineId)?,
        endpoint_id: id_opt(row, "endpoint_id", EndpointId)?,
        event_key: get(row, "event_key")?,
        method: get(row, "method")?,
        url: get(row, "url")?,
        headers: codec::request_headers_from(get::<&str>(row, "headers")?)?,
        body: Bytes::from(get::<Vec<u8>>(row, "body")?),
        body_place: {
            let pages: Option<Uuid> = get(row, "body_id")?;
            get_word(row, "body_place", |word| {
                BodyPlace::parse(word, pages.map(BodyId))
            })?
        },
        body_bytes: get(row, "body_bytes")?,
        body_sha256: sha.try_into().unwrap_or_default(),
        files: codec::from_json("receipts.files", get::<&str>(row, "files")?)?,
        form: codec::from_json("receipts.form", get::<&str>(row, "form")?)?,
        remote_addr: get(row, "remote_addr")?,
        provider: get(row, "provider")?,
        event_type: get(row, "event_type")?,
        delivery_id: get(row, "delivery_id")?,
        attempt: get(row, "attempt")?,
        verified: get(row, "verified")?,
        secret_id: get(row, "secret_id")?,
        verdict: get_word(row, "verdict", Verdict::parse)?,
        reason: get(row, "reason")?,
        received_at: get(row, "received_at")?,
        run_id: id_opt(row, "run_id", RunId)?,
        redelivery_of: id_opt(row, "redelivery_of", ReceiptId)?,
        replay_of: id_opt(row, "replay_of", ReceiptId)?,
        answer: codec::answer(
            get(row, "reply_status")?,
            get(row, "reply_summary")?,
            get(row, "duration_us")?,
        ),
    })
}

pub(super) fn message_target(row: &Row) -> Failable<MessageTarget> {
    Ok(MessageTarget {
        receipt_id: ReceiptId(get(row, "receipt_id")?),
        pipeline_id: PipelineId(get(row, "pipeline_id")?),
        run_id: RunId(get(row, "run_id")?),
        state: get_word(row, "state", TargetState::parse)?,
        reason: get(row, "reason")?,
        tries: get(row, "tries")?,
    })
}

pub(super) fn listener(row: &Row) -> Failable<Listener> {
    Ok(Listener {
        pipeline_id: PipelineId(get(row, "pipeline_id")?),
        filters: codec::from_json("listeners.filters", get::<&str>(row, "filters")?)?,
    })
}

pub(super) fn endpoint(row: &Row) -> Failable<Endpoint> {
    let hashes: Vec<&[u8]> = get(row, "hashes")?;
    let prefixes: Vec<String> = get(row, "prefixes")?;
    let ends: Vec<Option<OffsetDateTime>> = get(row, "ends")?;
    let uuids = hashes.into_iter().zip(prefixes).zip(ends);
    Ok(Endpoint {
        id: EndpointId(get(row, "id")?),
        name: get(row, "name")?,
        version: get(row, "version")?,
        target: match id_opt(row, "pipeline_id", PipelineId)? {
            Some(pipeline) => Target::Pipeline(pipeline),
            None => Target::Event(get(row, "event_key")?),
        },
        enabled: get(row, "enabled")?,
        settings: codec::from_json("endpoints.settings", get::<&str>(row, "settings")?)?,
        secrets: codec::secrets_from(get(row, "secrets")?)?,
        uuids: uuids
            .map(|((hash, prefix), not_after)| EndpointUuid {
                hash: hash.try_into().unwrap_or_default(),
                prefix,
                not_after,
            })
            .collect(),
        created_at: get(row, "created_at")?,
        updated_at: get(row, "updated_at")?,
    })
}

/// What [`log_end`] reads: where each stream of an attempt ends, of `$1` run, `$2` job, `$3` attempt.
pub(super) const LOG_ENDS: &str =
    "SELECT step, stream, max(byte_offset + coalesce(size, octet_length(bytes)))::bigint AS stored_end
     FROM run_events WHERE run_id = $1 AND job_id = $2 AND attempt = $3 AND data IS NULL GROUP BY step, stream";

pub(super) fn log_end(row: &Row) -> Failable<LogEnd> {
    Ok(LogEnd {
        step: get(row, "step")?,
        stream: get_word(row, "stream", LogStream::parse)?,
        end: get(row, "stored_end")?,
    })
}

/// Reads every row.
pub(super) fn all<T>(rows: &[Row], read: impl Fn(&Row) -> Failable<T>) -> Failable<Vec<T>> {
    rows.iter().map(read).collect()
}
