//! Handing out jobs, leases.

use super::super::{AttemptStore, ClaimRequest, Claimed, PREFER_OTHER_AGENT, Result, codec};
use super::rows::{self, all, execute, first, id, micros};
use super::{Failable, SqliteStore, now, receipts};
use crate::model::receipt::Receipt;
use crate::model::transition::{Applied, Change};
use crate::model::{AgentId, JobId, RunId, SessionId};
use async_trait::async_trait;
use futures_util::future::BoxFuture;
use rusqlite::{Connection, Row};
use std::time::Duration;

#[async_trait]
impl AttemptStore for SqliteStore {
    async fn claim(&self, request: ClaimRequest) -> Result<Vec<Claimed>> {
        // The writer is busy enough without being asked for work that is not there.
        let any = |connection: &Connection| {
            first(
                connection,
                "SELECT 1 FROM jobs WHERE state = 'queued' LIMIT 1",
                [],
                |_| Ok(()),
            )
        };
        if self.read(any).await?.is_none() {
            return Ok(Vec::new());
        }
        self.writer
            .write(move |connection| claim_now(connection, &request), |_| ())
            .await
    }

    fn submit(&self, run_id: RunId, change: Change) -> BoxFuture<'static, Result<Applied>> {
        self.submit_change(run_id, change)
    }

    async fn renew(
        &self,
        session: SessionId,
        held: Vec<(JobId, i32)>,
        lease: Duration,
    ) -> Result<Vec<(JobId, i32)>> {
        let renew = move |connection: &Connection| {
            let until = micros(now() + lease);
            let mut renewed = Vec::with_capacity(held.len());
            for (job, attempt) in held {
                let rows = execute(
                    connection,
                    "UPDATE jobs SET lease_until = ? WHERE id = ? AND attempt = ? AND session_id = ?",
                    (until, id(job), attempt, id(session)),
                )?;
                if rows == 1 {
                    renewed.push((job, attempt));
                }
            }
            Ok(renewed)
        };
        self.writer.write(renew, |_| ()).await
    }

    async fn expired(&self, limit: i64) -> Result<Vec<(RunId, JobId)>> {
        self.read(move |connection| {
            all(
                connection,
                "SELECT run_id, id FROM jobs WHERE lease_until IS NOT NULL AND lease_until < ?
                 ORDER BY lease_until LIMIT ?",
                (micros(now()), limit),
                |row| Ok((id_at(row, 0)?, id_at(row, 1)?)),
            )
        })
        .await
    }

    async fn cancelled(&self, session: SessionId) -> Result<Vec<(RunId, JobId, i32)>> {
        self.read(move |connection| {
            all(
                connection,
                "SELECT j.run_id, j.id, j.attempt FROM jobs j JOIN runs r ON r.id = j.run_id
                 WHERE j.lease_until IS NOT NULL AND j.session_id = ? AND r.cancel_actor IS NOT NULL",
                [id(session)],
                |row| Ok((id_at(row, 0)?, id_at(row, 1)?, row.get(2)?)),
            )
        })
        .await
    }

    async fn held_receipt(
        &self,
        job: JobId,
        attempt: i32,
        agent: AgentId,
    ) -> Result<Option<Receipt>> {
        self.read(move |connection| {
            first(
                connection,
                "SELECT c.* FROM jobs j JOIN runs r ON r.id = j.run_id JOIN receipts c ON c.id = r.receipt_id
                 WHERE j.id = ? AND j.attempt = ? AND j.agent_id = ? AND j.lease_until IS NOT NULL",
                (id(job), attempt, id(agent)),
                rows::receipt,
            )
        })
        .await
    }

    async fn queued_jobs(&self) -> Result<i64> {
        self.read(|connection| {
            let sql = "SELECT count(*) FROM jobs WHERE state = 'queued'";
            let count = first(connection, sql, [], |row| Ok(row.get(0)?))?;
            Ok(count.unwrap_or(0))
        })
        .await
    }
}

fn id_at<T: From<rows::Id>>(row: &Row<'_>, column: usize) -> Failable<T> {
    Ok(T::from(row.get::<_, rows::Id>(column)?))
}

fn claim_now(connection: &Connection, request: &ClaimRequest) -> Failable<Vec<Claimed>> {
    let now = now();
    let found = all(
        connection,
        "UPDATE jobs SET state = 'assigned', attempt = attempt + 1, agent_id = ?1, session_id = ?2, lease_until = ?3
         WHERE id IN (
            SELECT j.id FROM jobs j WHERE j.state = 'queued'
            AND NOT EXISTS (
                SELECT 1 FROM json_each(j.labels) wanted
                WHERE wanted.value IS NOT json_extract(?4, '$.\"' || replace(wanted.key, '\"', '\\\"') || '\"'))
            AND (j.driver IS NULL OR instr(?5, ',' || j.driver || ',') > 0)
            AND (j.lost = 0 OR j.agent_id IS NOT ?1 OR j.queued_at < ?6)
            ORDER BY j.queued_at, j.id LIMIT ?7)
         RETURNING *",
        (
            id(request.agent_id),
            id(request.session_id),
            micros(now + request.accept_within),
            codec::labels(&request.labels),
            format!(",{},", codec::drivers(&request.drivers)),
            micros(now - PREFER_OTHER_AGENT),
            request.max,
        ),
        rows::job,
    )?;
    let mut claimed = Vec::with_capacity(found.len());
    for job in found {
        let sql = "SELECT r.*, p.name AS pipeline_name FROM runs r JOIN pipelines p ON p.id = r.pipeline_id
                   WHERE r.id = ?";
        let run = first(connection, sql, [id(job.run_id)], |row| {
            Ok((rows::run(row)?, row.get::<_, String>("pipeline_name")?))
        })?;
        // A job without its run cannot be: foreign key. Without its pipeline neither: deleted together.
        let Some((run, pipeline_name)) = run else {
            continue;
        };
        let receipt = match run.receipt_id {
            Some(receipt) => receipts::load(connection, receipt)?,
            None => None,
        };
        claimed.push(Claimed {
            run,
            job,
            pipeline_name,
            receipt,
        });
    }
    claimed.sort_by_key(|claimed| (claimed.job.queued_at, claimed.job.id));
    Ok(claimed)
}
