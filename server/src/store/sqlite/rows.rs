//! Rows to model and back.

use super::super::codec;
use super::{Failable, Failure};
use crate::model::pipeline::{ContentType, Pipeline, Revision, WebhookSecret};
use crate::model::receipt::{Receipt, Verdict};
use crate::model::run::{
    End, Event, EventBody, Job, JobState, Lease, LogPiece, LogStream, Outcome, Reply, ReplyBy, Run,
    RunState,
};
use crate::model::{AgentId, JobId, PipelineId, ReceiptId, RevisionId, RunId, SessionId, TokenId};
use bytes::Bytes;
use pocketci_proto::api::Driver;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, Row};
use time::OffsetDateTime;
use uuid::Uuid;

/// An id as 16 bytes.
pub(super) struct Id(pub Uuid);

impl FromSql for Id {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        Uuid::from_slice(value.as_blob()?)
            .map(Self)
            .map_err(|error| FromSqlError::Other(error.into()))
    }
}

impl ToSql for Id {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::from(self.0.as_bytes().as_slice()))
    }
}

macro_rules! ids {
    ($($name:ident),*) => {$(
        impl From<$name> for Id {
            fn from(id: $name) -> Self { Self(id.0) }
        }
        impl From<Id> for $name {
            fn from(id: Id) -> Self { Self(id.0) }
        }
    )*};
}

ids!(
    AgentId, JobId, PipelineId, ReceiptId, RevisionId, RunId, SessionId, TokenId
);

/// For a parameter list.
pub(super) fn id(id: impl Into<Id>) -> Id {
    id.into()
}

pub(super) fn micros(at: OffsetDateTime) -> i64 {
    i64::try_from(at.unix_timestamp_nanos() / 1000).unwrap_or(i64::MAX)
}

pub(super) fn time(micros: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1000)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn get<T: FromSql>(row: &Row<'_>, column: &str) -> Failable<T> {
    row.get(column).map_err(Failure::Sql)
}

fn get_id<T: From<Id>>(row: &Row<'_>, column: &str) -> Failable<T> {
    get::<Id>(row, column).map(T::from)
}

fn get_id_opt<T: From<Id>>(row: &Row<'_>, column: &str) -> Failable<Option<T>> {
    Ok(get::<Option<Id>>(row, column)?.map(T::from))
}

fn get_time(row: &Row<'_>, column: &str) -> Failable<OffsetDateTime> {
    get::<i64>(row, column).map(time)
}

fn get_time_opt(row: &Row<'_>, column: &str) -> Failable<Option<OffsetDateTime>> {
    Ok(get::<Option<i64>>(row, column)?.map(time))
}

fn get_word<T>(
    row: &Row<'_>,
    column: &'static str,
    parse: impl Fn(&str) -> Option<T>,
) -> Failable<T> {
    let text: String = get(row, column)?;
    Ok(codec::word(column, &text, parse(&text))?)
}

fn driver(row: &Row<'_>) -> Failable<Option<Driver>> {
    match get::<Option<String>>(row, "driver")? {
        Some(text) => Ok(Some(codec::word("driver", &text, Driver::parse(&text))?)),
        None => Ok(None),
    }
}

fn labels(row: &Row<'_>) -> Failable<crate::model::pipeline::Labels> {
    Ok(codec::from_json("labels", &get::<String>(row, "labels")?)?)
}

/// Collects all rows of a query.
pub(super) fn all<T>(
    connection: &Connection,
    sql: &str,
    params: impl rusqlite::Params,
    read: impl Fn(&Row<'_>) -> Failable<T>,
) -> Failable<Vec<T>> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read(row)?);
    }
    Ok(found)
}

/// The first row of a query, if any.
pub(super) fn first<T>(
    connection: &Connection,
    sql: &str,
    params: impl rusqlite::Params,
    read: impl Fn(&Row<'_>) -> Failable<T>,
) -> Failable<Option<T>> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    rows.next()?.map(read).transpose()
}

/// Executes a cached statement.
pub(super) fn execute(
    connection: &Connection,
    sql: &str,
    params: impl rusqlite::Params,
) -> Failable<usize> {
    Ok(connection.prepare_cached(sql)?.execute(params)?)
}

/// Joined with the newest revision as `number`, `content_type`; secrets are read apart.
pub(super) const PIPELINE: &str = "SELECT p.*, r.number, r.content_type FROM pipelines p JOIN revisions r ON r.id = p.revision_id";

pub(super) fn pipeline(connection: &Connection, row: &Row<'_>) -> Failable<Pipeline> {
    let id: PipelineId = get_id(row, "id")?;
    let secrets = all(
        connection,
        "SELECT secret FROM webhook_secrets WHERE pipeline_id = ? ORDER BY position",
        [Id::from(id)],
        |row| get::<Vec<u8>>(row, "secret"),
    )?;
    Ok(Pipeline {
        id,
        name: get(row, "name")?,
        version: get(row, "version")?,
        revision_id: get_id(row, "revision_id")?,
        revision: get(row, "number")?,
        content_type: get_word(row, "content_type", ContentType::parse)?,
        driver: driver(row)?,
        labels: labels(row)?,
        webhook_secrets: secrets.into_iter().filter_map(WebhookSecret::new).collect(),
        paused: get(row, "paused")?,
        created_at: get_time(row, "created_at")?,
        updated_at: get_time(row, "updated_at")?,
    })
}

pub(super) fn revision(row: &Row<'_>) -> Failable<Revision> {
    Ok(Revision {
        id: get_id(row, "id")?,
        pipeline_id: get_id(row, "pipeline_id")?,
        number: get(row, "number")?,
        content_type: get_word(row, "content_type", ContentType::parse)?,
        file_name: get(row, "file_name")?,
        source: get(row, "source")?,
        javascript: get(row, "javascript")?,
        source_map: get(row, "source_map")?,
    })
}

fn end(row: &Row<'_>) -> Failable<Option<End>> {
    let Some(outcome) = get::<Option<String>>(row, "outcome")? else {
        return Ok(None);
    };
    Ok(Some(End {
        outcome: codec::word("outcome", &outcome, Outcome::parse(&outcome))?,
        reason: get(row, "reason")?,
        message: get(row, "message")?,
    }))
}

pub(super) fn run(row: &Row<'_>) -> Failable<Run> {
    Ok(Run {
        id: get_id(row, "id")?,
        pipeline_id: get_id(row, "pipeline_id")?,
        revision_id: get_id(row, "revision_id")?,
        state: get_word(row, "state", RunState::parse)?,
        end: end(row)?,
        trigger: codec::from_json("trigger_data", &get::<String>(row, "trigger_data")?)?,
        receipt_id: get_id_opt(row, "receipt_id")?,
        wants_reply: get(row, "wants_reply")?,
        replied: get(row, "replied")?,
        event_seq: get(row, "event_seq")?,
        cancel_actor: get(row, "cancel_actor")?,
        created_at: get_time(row, "created_at")?,
        started_at: get_time_opt(row, "started_at")?,
        finished_at: get_time_opt(row, "finished_at")?,
    })
}

pub(super) fn job(row: &Row<'_>) -> Failable<Job> {
    let agent_id: Option<AgentId> = get_id_opt(row, "agent_id")?;
    let session_id: Option<SessionId> = get_id_opt(row, "session_id")?;
    let until = get_time_opt(row, "lease_until")?;
    let lease = match (agent_id, session_id, until) {
        (Some(agent_id), Some(session_id), Some(until)) => Some(Lease {
            agent_id,
            session_id,
            until,
        }),
        _ => None,
    };
    Ok(Job {
        id: get_id(row, "id")?,
        run_id: get_id(row, "run_id")?,
        name: get(row, "name")?,
        state: get_word(row, "state", JobState::parse)?,
        end: end(row)?,
        attempt: get(row, "attempt")?,
        lost: get(row, "lost")?,
        lease,
        agent_id,
        labels: labels(row)?,
        driver: driver(row)?,
        report_seq: get(row, "report_seq")?,
        log_seq: get(row, "log_seq")?,
        queued_at: get_time(row, "queued_at")?,
        started_at: get_time_opt(row, "started_at")?,
        finished_at: get_time_opt(row, "finished_at")?,
    })
}

pub(super) fn reply(row: &Row<'_>) -> Failable<(RunId, Reply)> {
    let reply = Reply {
        by: get_word(row, "by", ReplyBy::parse)?,
        status: get(row, "status")?,
        headers: codec::from_json("replies.headers", &get::<String>(row, "headers")?)?,
        body: Bytes::from(get::<Vec<u8>>(row, "body")?),
    };
    Ok((get_id(row, "run_id")?, reply))
}

pub(super) fn event(row: &Row<'_>) -> Failable<Event> {
    let body = match get::<Option<String>>(row, "data")? {
        Some(data) => EventBody::Fact(codec::fact_from(&data)?),
        None => EventBody::Log(LogPiece {
            step: get(row, "step")?,
            stream: get_word(row, "stream", LogStream::parse)?,
            offset: get(row, "byte_offset")?,
            bytes: Bytes::from(get::<Vec<u8>>(row, "bytes")?),
        }),
    };
    Ok(Event {
        seq: get(row, "seq")?,
        at: get_time(row, "at")?,
        job_id: get_id_opt(row, "job_id")?,
        attempt: get(row, "attempt")?,
        body,
    })
}

pub(super) fn receipt(row: &Row<'_>) -> Failable<Receipt> {
    Ok(Receipt {
        id: get_id(row, "id")?,
        pipeline_id: get_id(row, "pipeline_id")?,
        method: get(row, "method")?,
        url: get(row, "url")?,
        headers: codec::request_headers_from(&get::<String>(row, "headers")?)?,
        body: Bytes::from(get::<Vec<u8>>(row, "body")?),
        body_bytes: get(row, "body_bytes")?,
        body_sha256: get(row, "body_sha256")?,
        remote_addr: get(row, "remote_addr")?,
        provider: get(row, "provider")?,
        event_type: get(row, "event_type")?,
        verdict: get_word(row, "verdict", Verdict::parse)?,
        reason: get(row, "reason")?,
        received_at: get_time(row, "received_at")?,
        run_id: get_id_opt(row, "run_id")?,
    })
}
