//! Endpoints, listeners of events, and the verbs about receiving points.

use super::rows::{Columns, json, key, micros, now};
use super::{SqliteStore, dedup, messages};
use crate::model::dedup::DedupKey;
use crate::model::endpoint::{Endpoint, EndpointUuid, Target};
use crate::model::fanout::{Listener, MessageTarget};
use crate::model::receipt::{Answer, Receipt};
use crate::model::run::{Outcome, Trigger};
use crate::model::{EndpointId, JobId, PipelineId, ReceiptId, RunId};
use crate::store::codec;
use crate::store::hooks::MAX_UNWRITTEN_ANSWERS;
use crate::store::{EndpointPut, HookStore, MessageStored, Result, TargetOutcome};
use async_trait::async_trait;
use pocketci_proto::api::Listen;
use rusqlite::{Connection, OptionalExtension as _, Params, params};
use std::sync::atomic::Ordering;
use std::time::Duration;

const ENDPOINT: &str = "e.id, e.name, e.version, e.pipeline_id, e.event_key, e.enabled, e.settings, \
     e.secrets, e.created_at, e.updated_at";

fn select(connection: &Connection, rest: &str, given: impl Params) -> Result<Vec<Endpoint>> {
    let sql = format!("SELECT {ENDPOINT} FROM endpoints e {rest}");
    let mut statement = connection.prepare_cached(&sql)?;
    let found = statement.query_map(given, |row| {
        let mut columns = Columns::of(row);
        Ok(Endpoint {
            id: columns.id(EndpointId)?,
            name: columns.take()?,
            version: columns.take()?,
            target: match (
                columns.id_opt(PipelineId)?,
                columns.take::<Option<String>>()?,
            ) {
                (Some(pipeline), _) => Target::Pipeline(pipeline),
                (None, event) => Target::Event(event.unwrap_or_default()),
            },
            enabled: columns.take()?,
            settings: columns.json()?,
            secrets: codec::secrets_from(&columns.take::<String>()?)
                .map_err(|_| columns.unknown())?,
            uuids: Vec::new(),
            created_at: columns.time()?,
            updated_at: columns.time()?,
        })
    })?;
    let mut found: Vec<Endpoint> = found.collect::<rusqlite::Result<_>>()?;
    for endpoint in &mut found {
        endpoint.uuids = uuids(connection, endpoint.id)?;
    }
    Ok(found)
}

fn uuids(connection: &Connection, id: EndpointId) -> Result<Vec<EndpointUuid>> {
    let sql = "SELECT hash, prefix, not_after FROM endpoint_uuids WHERE endpoint_id = ?1 ORDER BY position";
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement.query_map([id.0.as_bytes()], |row| {
        let mut columns = Columns::of(row);
        Ok(EndpointUuid {
            hash: columns.take()?,
            prefix: columns.take()?,
            not_after: columns.time_opt()?,
        })
    })?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

fn put(connection: &Connection, endpoint: &Endpoint) -> Result<EndpointPut> {
    let (pipeline, event) = match &endpoint.target {
        Target::Pipeline(id) => (Some(id.0), None),
        Target::Event(event) => (None, Some(event)),
    };
    if let Some(pipeline) = pipeline {
        let mut statement = connection.prepare_cached("SELECT 1 FROM pipelines WHERE id = ?1")?;
        if !statement.exists([pipeline.as_bytes()])? {
            return Ok(EndpointPut::NoPipeline);
        }
    }
    let current = "SELECT version FROM endpoints WHERE id = ?1 OR name = ?2";
    let current: Option<i64> = connection
        .prepare_cached(current)?
        .query_row(params![endpoint.id.0.as_bytes(), endpoint.name], |row| {
            row.get(0)
        })
        .optional()?;
    if current.unwrap_or(0) != endpoint.version - 1 {
        return Ok(EndpointPut::Stale);
    }
    let sql = "INSERT INTO endpoints (id, name, version, pipeline_id, event_key, enabled, settings, secrets, \
         created_at, updated_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) \
         ON CONFLICT (id) DO UPDATE SET name = ?2, version = ?3, pipeline_id = ?4, event_key = ?5, \
         enabled = ?6, settings = ?7, secrets = ?8, updated_at = ?10";
    connection.prepare_cached(sql)?.execute(params![
        endpoint.id.0.as_bytes(),
        endpoint.name,
        endpoint.version,
        key(pipeline),
        event,
        endpoint.enabled,
        json(&endpoint.settings)?,
        codec::secrets(&endpoint.secrets),
        micros(endpoint.created_at),
        micros(endpoint.updated_at),
    ])?;
    connection
        .prepare_cached("DELETE FROM endpoint_uuids WHERE endpoint_id = ?1")?
        .execute([endpoint.id.0.as_bytes()])?;
    let sql = "INSERT INTO endpoint_uuids (hash, endpoint_id, position, prefix, not_after) \
         VALUES (?1, ?2, ?3, ?4, ?5)";
    for (position, uuid) in (0..).zip(&endpoint.uuids) {
        let position: i64 = position;
        connection.prepare_cached(sql)?.execute(params![
            uuid.hash,
            endpoint.id.0.as_bytes(),
            position,
            uuid.prefix,
            uuid.not_after.map(micros),
        ])?;
    }
    Ok(EndpointPut::Done)
}

/// Writes who listens to what, in the transaction that sets the pipeline.
pub(super) fn put_listeners(
    connection: &Connection,
    pipeline_id: PipelineId,
    listens: &[Listen],
) -> Result<()> {
    connection
        .prepare_cached("DELETE FROM listeners WHERE pipeline_id = ?1")?
        .execute([pipeline_id.0.as_bytes()])?;
    let sql = "INSERT INTO listeners (event_key, pipeline_id, filters) VALUES (?1, ?2, ?3)";
    for (event, filters) in codec::filters_by_event(listens) {
        connection.prepare_cached(sql)?.execute(params![
            event,
            pipeline_id.0.as_bytes(),
            json(&filters)?
        ])?;
    }
    Ok(())
}

fn listeners(connection: &Connection, event_key: &str, limit: i64) -> Result<Vec<Listener>> {
    let sql = "SELECT pipeline_id, filters FROM listeners WHERE event_key = ?1 \
         ORDER BY pipeline_id LIMIT ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement.query_map(params![event_key, limit], |row| {
        let mut columns = Columns::of(row);
        Ok(Listener {
            pipeline_id: columns.id(PipelineId)?,
            filters: columns.json()?,
        })
    })?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

fn outcome(connection: &Connection, run_id: RunId) -> Result<Option<Outcome>> {
    let sql = "SELECT outcome FROM runs WHERE id = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let found: Option<Option<String>> = statement
        .query_row([run_id.0.as_bytes()], |row| row.get(0))
        .optional()?;
    Ok(found.flatten().and_then(|word| Outcome::parse(&word)))
}

fn answered(connection: &Connection, id: ReceiptId, answer: &Answer) -> Result<()> {
    let sql =
        "UPDATE receipts SET reply_status = ?2, reply_summary = ?3, duration_us = ?4 WHERE id = ?1";
    connection.prepare_cached(sql)?.execute(params![
        id.0.as_bytes(),
        answer.status,
        answer.summary,
        codec::micros_of(answer.duration),
    ])?;
    Ok(())
}

#[async_trait]
impl HookStore for SqliteStore {
    async fn put_endpoint(&self, endpoint: Endpoint) -> Result<EndpointPut> {
        self.writer
            .call(move |connection, _| put(connection, &endpoint))
            .await
    }

    async fn endpoint(&self, id: EndpointId) -> Result<Option<Endpoint>> {
        let find = move |connection: &Connection| {
            Ok(select(connection, "WHERE e.id = ?1", [id.0.as_bytes()])?.pop())
        };
        self.readers.read(find).await
    }

    async fn endpoint_by_name(&self, name: &str) -> Result<Option<Endpoint>> {
        let name = name.to_owned();
        self.readers
            .read(move |connection| Ok(select(connection, "WHERE e.name = ?1", [name])?.pop()))
            .await
    }

    async fn endpoint_by_uuid(&self, hash: [u8; 32]) -> Result<Option<Endpoint>> {
        let rest = "JOIN endpoint_uuids u ON u.endpoint_id = e.id \
             WHERE u.hash = ?1 AND (u.not_after IS NULL OR u.not_after > ?2)";
        self.readers
            .read(move |connection| {
                Ok(select(connection, rest, params![hash, micros(now())])?.pop())
            })
            .await
    }

    async fn endpoints(&self, after: Option<&str>, limit: i64) -> Result<Vec<Endpoint>> {
        let after = after.unwrap_or_default().to_owned();
        let rest = "WHERE e.name > ?1 ORDER BY e.name LIMIT ?2";
        self.readers
            .read(move |connection| select(connection, rest, params![after, limit.max(0)]))
            .await
    }

    async fn delete_endpoint(&self, id: EndpointId) -> Result<bool> {
        let delete = move |connection: &Connection| {
            let gone = connection
                .prepare_cached("DELETE FROM endpoints WHERE id = ?1")?
                .execute([id.0.as_bytes()])?;
            Ok(gone > 0)
        };
        self.writer
            .call(move |connection, _| delete(connection))
            .await
    }

    async fn listeners(&self, event_key: &str, limit: i64) -> Result<Vec<Listener>> {
        let event_key = event_key.to_owned();
        self.readers
            .read(move |connection| listeners(connection, &event_key, limit))
            .await
    }

    async fn store_message(
        &self,
        receipt: Receipt,
        targets: Vec<MessageTarget>,
        key: Option<DedupKey>,
        patience: Duration,
    ) -> Result<MessageStored> {
        self.writer
            .call(move |connection, _| {
                messages::store(connection, receipt, targets, key.as_ref(), patience)
            })
            .await
    }

    async fn message_targets(&self, receipt_id: ReceiptId) -> Result<Vec<MessageTarget>> {
        self.readers
            .read(move |connection| messages::of(connection, receipt_id))
            .await
    }

    async fn due_targets(&self, limit: i64, patience: Duration) -> Result<Vec<MessageTarget>> {
        self.writer
            .call(move |connection, _| messages::due(connection, limit, patience))
            .await
    }

    async fn settle_target(&self, outcome: TargetOutcome) -> Result<()> {
        self.writer
            .call(move |connection, _| messages::settle(connection, &outcome))
            .await
    }

    async fn outcome(&self, run_id: RunId) -> Result<Option<Outcome>> {
        self.readers
            .read(move |connection| outcome(connection, run_id))
            .await
    }

    async fn trigger(&self, run_id: RunId) -> Result<Option<Trigger>> {
        let find = move |connection: &Connection| {
            let mut statement =
                connection.prepare_cached("SELECT trigger FROM runs WHERE id = ?1")?;
            let found = statement.query_row([run_id.0.as_bytes()], |row| {
                Columns::of(row).json::<Trigger>()
            });
            Ok(found.optional()?)
        };
        self.readers.read(find).await
    }

    async fn any_anonymous(&self, jobs: &[JobId]) -> Result<bool> {
        let jobs = jobs.to_vec();
        let find = move |connection: &Connection| {
            let mut statement = connection.prepare_cached(
                "SELECT r.trigger FROM runs r WHERE r.id = (SELECT run_id FROM jobs WHERE id = ?1)",
            )?;
            for job in jobs {
                let found = statement
                    .query_row([job.0.as_bytes()], |row| Columns::of(row).json::<Trigger>())
                    .optional()?;
                if found.is_some_and(|trigger| trigger.anonymous) {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        self.readers.read(find).await
    }

    fn answered(&self, receipt_id: ReceiptId, answer: Answer) {
        if self.unwritten.fetch_add(1, Ordering::Relaxed) >= MAX_UNWRITTEN_ANSWERS {
            self.unwritten.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let unwritten = self.unwritten.clone();
        // A command counts though nobody waits for it.
        drop(self.writer.call(move |connection, _| {
            unwritten.fetch_sub(1, Ordering::Relaxed);
            answered(connection, receipt_id, &answer)
        }));
    }

    async fn forget_keys(&self, kept: Duration, limit: i64) -> Result<u64> {
        self.writer
            .call(move |connection, _| dedup::forget(connection, kept, limit))
            .await
    }
}
