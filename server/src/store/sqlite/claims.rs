//! Jobs in agents' hands: claiming, leases, what is to be cancelled.

use super::error::Defect;
use super::rows::{Columns, micros, now};
use super::{SqliteStore, ledger, queue, receipts, runs};
use crate::model::receipt::Receipt;
use crate::model::run::{Job, JobState, Lease};
use crate::model::transition::{Applied, Change};
use crate::model::{AgentId, JobId, PipelineId, RunId, SessionId};
use crate::store::{AttemptStore, ClaimRequest, Claimed, Result};
use async_trait::async_trait;
use futures_util::future::BoxFuture;
use rusqlite::{Connection, OptionalExtension as _, params};
use std::time::Duration;
use time::OffsetDateTime;

/// How many jobs are in agents' hands.
fn running(connection: &Connection) -> Result<i64> {
    let sql = "SELECT count(*) FROM jobs WHERE lease_until IS NOT NULL";
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement.query_row([], |row| row.get(0))?)
}

fn claim(connection: &Connection, request: &ClaimRequest) -> Result<Vec<Claimed>> {
    let max = match request.max_running {
        Some(limit) => request.max.min(limit - running(connection)?),
        None => request.max,
    };
    let now = now();
    queue::best(connection, request, usize::try_from(max).unwrap_or(0), now)?
        .into_iter()
        .map(|job| hand_out(connection, job, request, now))
        .collect()
}

fn hand_out(
    connection: &Connection,
    mut job: Job,
    request: &ClaimRequest,
    now: OffsetDateTime,
) -> Result<Claimed> {
    job.state = JobState::Assigned;
    job.attempt += 1;
    job.agent_id = Some(request.agent_id);
    job.lease = Some(Lease {
        agent_id: request.agent_id,
        session_id: request.session_id,
        until: now + request.accept_within,
    });
    ledger::save_job(connection, &job)?;
    let run = ledger::load_run(connection, job.run_id)?.ok_or(Defect::NoRun)?;
    let sql = "SELECT name, settings FROM pipelines WHERE id = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let (pipeline_name, settings) = statement.query_row([run.pipeline_id.0.as_bytes()], |row| {
        let mut columns = Columns::of(row);
        Ok((columns.take()?, columns.json()?))
    })?;
    let receipt = match run.receipt_id {
        Some(id) => receipts::by_id(connection, id)?,
        None => None,
    };
    Ok(Claimed {
        run,
        job,
        pipeline_name,
        settings,
        receipt,
        build: None,
    })
}

fn renew(
    connection: &Connection,
    session_id: SessionId,
    held: Vec<(JobId, i32)>,
    lease: Duration,
) -> Result<Vec<(JobId, i32)>> {
    let sql = "UPDATE jobs SET lease_until = ?1 \
         WHERE id = ?2 AND attempt = ?3 AND session_id = ?4 AND lease_until IS NOT NULL";
    let mut statement = connection.prepare_cached(sql)?;
    let until = micros(now() + lease);
    let mut renewed = vec![];
    for (job_id, attempt) in held {
        let given = params![until, job_id.0.as_bytes(), attempt, session_id.0.as_bytes()];
        if statement.execute(given)? > 0 {
            renewed.push((job_id, attempt));
        }
    }
    Ok(renewed)
}

fn expired(connection: &Connection, limit: i64) -> Result<Vec<(RunId, JobId)>> {
    let sql =
        "SELECT run_id, id FROM jobs WHERE lease_until < ?1 ORDER BY lease_until, id LIMIT ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement.query_map(params![micros(now()), limit.max(0)], |row| {
        let mut columns = Columns::of(row);
        Ok((columns.id(RunId)?, columns.id(JobId)?))
    })?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

fn cancelled(connection: &Connection, session_id: SessionId) -> Result<Vec<(RunId, JobId, i32)>> {
    let sql = "SELECT j.run_id, j.id, j.attempt FROM jobs j JOIN runs r ON r.id = j.run_id \
         WHERE j.session_id = ?1 AND r.cancel_actor IS NOT NULL";
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement.query_map([session_id.0.as_bytes()], |row| {
        let mut columns = Columns::of(row);
        Ok((columns.id(RunId)?, columns.id(JobId)?, columns.take()?))
    })?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

#[async_trait]
impl AttemptStore for SqliteStore {
    async fn claim(&self, request: ClaimRequest) -> Result<Vec<Claimed>> {
        self.writer
            .call(move |connection, _| claim(connection, &request))
            .await
    }

    fn submit(&self, run_id: RunId, change: Change) -> BoxFuture<'static, Result<Applied>> {
        let answer = self
            .writer
            .call(move |connection, hints| ledger::submit(connection, run_id, change, hints));
        Box::pin(answer)
    }

    async fn renew(
        &self,
        session_id: SessionId,
        held: Vec<(JobId, i32)>,
        lease: Duration,
    ) -> Result<Vec<(JobId, i32)>> {
        if held.is_empty() {
            return Ok(held);
        }
        self.writer
            .call(move |connection, _| renew(connection, session_id, held, lease))
            .await
    }

    async fn expired(&self, limit: i64) -> Result<Vec<(RunId, JobId)>> {
        self.readers
            .read(move |connection| expired(connection, limit))
            .await
    }

    async fn cancelled(&self, session_id: SessionId) -> Result<Vec<(RunId, JobId, i32)>> {
        self.readers
            .read(move |connection| cancelled(connection, session_id))
            .await
    }

    async fn held_receipt(
        &self,
        job_id: JobId,
        attempt: i32,
        agent_id: AgentId,
    ) -> Result<Option<Receipt>> {
        self.readers
            .read(move |connection| receipts::held(connection, job_id, attempt, agent_id))
            .await
    }

    async fn held_run(
        &self,
        job_id: JobId,
        attempt: i32,
        session_id: SessionId,
    ) -> Result<Option<(RunId, PipelineId)>> {
        self.readers
            .read(move |connection| {
                let sql = "SELECT r.id, r.pipeline_id FROM jobs j JOIN runs r ON r.id = j.run_id \
                     WHERE j.id = ?1 AND j.attempt = ?2 AND j.session_id = ?3 AND j.lease_until IS NOT NULL";
                let given = params![job_id.0.as_bytes(), attempt, session_id.0.as_bytes()];
                let found = connection.prepare_cached(sql)?.query_row(given, |row| {
                    let mut columns = Columns::of(row);
                    Ok((columns.id(RunId)?, columns.id(PipelineId)?))
                });
                Ok(found.optional()?)
            })
            .await
    }

    async fn queued_jobs(&self) -> Result<i64> {
        self.readers.read(runs::queued_jobs).await
    }
}
