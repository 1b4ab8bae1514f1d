//! Approvals.

use super::super::outbox::Told;
use super::super::{GateFilter, GateStore, Result, codec};
use super::outbox::Outbox;
use super::{Failable, PostgresStore, sql_error};
use crate::model::derived::event_id;
use crate::model::gate::{Decision, Gate, GateStatus, NewGate};
use crate::model::subscription::EventName;
use crate::model::{GateId, PipelineId, RunId};
use async_trait::async_trait;
use deadpool_postgres::Transaction;
use tokio_postgres::Row;

fn gate(row: &Row) -> Failable<Gate> {
    let status: &str = row.try_get("status")?;
    Ok(Gate {
        id: GateId(row.try_get("id")?),
        run_id: RunId(row.try_get("run_id")?),
        name: row.try_get("name")?,
        message: row.try_get("message")?,
        status: codec::word("gates.status", status, GateStatus::parse(status))?,
        actor: row.try_get("actor")?,
        comment: row.try_get("comment")?,
        opened_at: row.try_get("opened_at")?,
        expires_at: row.try_get("expires_at")?,
        decided_at: row.try_get("decided_at")?,
    })
}

/// Leaves the waiting gate for subscribers.
async fn tell(transaction: &Transaction<'_>, new: &NewGate, gate: &Gate) -> Failable<u64> {
    let sql = "SELECT pipeline_id FROM runs WHERE id = $1";
    let Some(run) = transaction.query_opt(sql, &[&gate.run_id.0]).await? else {
        return Ok(0);
    };
    let mut outbox = Outbox::default();
    outbox.tell(Told {
        id: event_id(EventName::GateWaiting.as_str(), gate.id.0, 0),
        name: EventName::GateWaiting,
        pipeline_id: Some(PipelineId(run.try_get(0)?)),
        run_id: Some(gate.run_id),
        job_id: Some(new.job_id),
        attempt: 0,
        at: gate.opened_at,
        status: "",
        data: codec::gate_data(gate),
    });
    outbox.write(transaction).await
}

#[async_trait]
impl GateStore for PostgresStore {
    async fn open_gate(&self, new: NewGate) -> Result<Gate> {
        let mut client = self.client().await?;
        let transaction = client.transaction().await.map_err(sql_error)?;
        let sql = "INSERT INTO gates (id, run_id, job_id, call, name, message, status, actor, comment, opened_at, expires_at)
            SELECT $1, $2, $3, $4, $5, $6, 'pending', '', '', t, t + make_interval(secs => $7)
            FROM clock_timestamp() AS t ON CONFLICT (job_id, call) DO NOTHING";
        let opened = transaction
            .execute(
                sql,
                &[
                    &new.id.0,
                    &new.run_id.0,
                    &new.job_id.0,
                    &new.call,
                    &new.name,
                    &new.message,
                    &new.timeout.as_secs_f64(),
                ],
            )
            .await
            .map_err(sql_error)?;
        let sql = "SELECT * FROM gates WHERE job_id = $1 AND call = $2";
        let row = transaction
            .query_one(sql, &[&new.job_id.0, &new.call])
            .await
            .map_err(sql_error)?;
        let gate = gate(&row)?;
        let mut due = 0;
        if opened > 0 {
            due = tell(&transaction, &new, &gate).await?;
        }
        transaction.commit().await.map_err(sql_error)?;
        if due > 0 {
            self.wake_deliveries();
        }
        Ok(gate)
    }

    async fn gate(&self, id: GateId) -> Result<Option<Gate>> {
        let client = self.client().await?;
        let sql = "SELECT * FROM gates WHERE id = $1";
        let row = client.query_opt(sql, &[&id.0]).await.map_err(sql_error)?;
        Ok(row.as_ref().map(gate).transpose()?)
    }

    async fn gates(&self, filter: GateFilter, limit: i64) -> Result<Vec<(Gate, String)>> {
        let client = self.client().await?;
        let sql = "SELECT g.*, p.name AS pipeline FROM gates g
            JOIN runs r ON r.id = g.run_id JOIN pipelines p ON p.id = r.pipeline_id
            WHERE ($1::uuid IS NULL OR g.run_id = $1)
            AND (NOT $2 OR (g.status = 'pending' AND g.expires_at > clock_timestamp() AND r.outcome IS NULL))
            ORDER BY g.opened_at, g.id LIMIT $3";
        let run_id = filter.run_id.map(|id| id.0);
        let rows = client
            .query(sql, &[&run_id, &filter.open, &limit])
            .await
            .map_err(sql_error)?;
        let pair =
            |row: &Row| -> Failable<(Gate, String)> { Ok((gate(row)?, row.try_get("pipeline")?)) };
        Ok(rows.iter().map(pair).collect::<Failable<_>>()?)
    }

    async fn decide_gate(&self, id: GateId, decision: Decision) -> Result<Option<(Gate, bool)>> {
        let client = self.client().await?;
        let sql = "UPDATE gates SET status = $2, actor = $3, comment = $4, decided_at = clock_timestamp()
            WHERE id = $1 AND status = 'pending' AND (expires_at <= clock_timestamp()) = ($2 = 'timed_out')
            AND EXISTS (SELECT 1 FROM runs r WHERE r.id = run_id AND r.outcome IS NULL)";
        let changed = client
            .execute(
                sql,
                &[
                    &id.0,
                    &decision.status.as_str(),
                    &decision.actor,
                    &decision.comment,
                ],
            )
            .await
            .map_err(sql_error)?;
        drop(client);
        Ok(self.gate(id).await?.map(|gate| (gate, changed > 0)))
    }
}
