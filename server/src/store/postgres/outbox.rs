//! Events to tell, and a delivery of each for whoever subscribed to it, in the transaction of what happened.
//!
//! One statement: where nobody subscribed it finds an empty table and writes nothing. An event that only disabled
//! subscriptions want is kept without deliveries: a replay tells them what they missed.

use super::super::outbox::Told;
use super::Failable;
use crate::model::delivery::OutgoingFact;
use deadpool_postgres::GenericClient;
use time::OffsetDateTime;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

/// Facts as columns.
#[derive(Default)]
pub(super) struct Outbox {
    id: Vec<Uuid>,
    name: Vec<&'static str>,
    pipeline_id: Vec<Option<Uuid>>,
    run_id: Vec<Option<Uuid>>,
    job_id: Vec<Option<Uuid>>,
    attempt: Vec<i32>,
    at: Vec<OffsetDateTime>,
    status: Vec<&'static str>,
    data: Vec<String>,
}

impl Outbox {
    /// An event that was told before is not told again. Gives the deliveries that are due now.
    pub(super) const SQL: &'static str = "WITH facts AS MATERIALIZED (
            SELECT *, coalesce(pipeline_id, '00000000-0000-0000-0000-000000000000') AS scope FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::uuid[], $5::uuid[], $6::int[],
                $7::timestamptz[], $8::text[], $9::text[]) WITH ORDINALITY
                AS f (id, name, pipeline_id, run_id, job_id, attempt, at, status, data, n)
        ), hearers AS MATERIALIZED (
            SELECT c.name, c.scope, s.id AS subscription_id, s.name AS receiver, s.disabled_reason IS NULL AS enabled
            FROM (SELECT DISTINCT name, scope FROM facts) c CROSS JOIN LATERAL (
                SELECT id, name, disabled_reason FROM subscriptions
                WHERE pipeline_id = c.scope AND c.name = ANY (events)
                UNION ALL
                SELECT id, name, disabled_reason FROM subscriptions
                WHERE pipeline_id IS NULL AND c.name = ANY (events)) s
        ), told AS (
            INSERT INTO outgoing_events (id, name, pipeline_id, run_id, job_id, attempt, at, status, data)
            SELECT id, name, pipeline_id, run_id, job_id, attempt, at, status, data FROM facts f
            WHERE EXISTS (SELECT 1 FROM hearers h WHERE h.name = f.name AND h.scope = f.scope) ORDER BY n
            ON CONFLICT (id) DO NOTHING RETURNING id
        )
        INSERT INTO deliveries (id, origin, subscription_id, receiver, event_id, event, webhook_id, pipeline_id, run_id,
            state, next_at, created_at)
        SELECT gen_random_uuid(), 'event', h.subscription_id, h.receiver, f.id, f.name, f.id::text, f.pipeline_id,
            f.run_id, 'pending', now, now
        FROM told t JOIN facts f ON f.id = t.id JOIN hearers h ON h.name = f.name AND h.scope = f.scope
        CROSS JOIN clock_timestamp() AS now WHERE h.enabled ORDER BY f.n";

    pub(super) fn is_empty(&self) -> bool {
        self.id.is_empty()
    }

    pub(super) fn params(&self) -> Vec<&(dyn ToSql + Sync)> {
        vec![
            &self.id,
            &self.name,
            &self.pipeline_id,
            &self.run_id,
            &self.job_id,
            &self.attempt,
            &self.at,
            &self.status,
            &self.data,
        ]
    }

    pub(super) fn add(&mut self, fact: &OutgoingFact) {
        self.tell(fact.into());
    }

    pub(super) fn tell(&mut self, told: Told) {
        self.id.push(told.id.0);
        self.name.push(told.name.as_str());
        self.pipeline_id.push(told.pipeline_id.map(|id| id.0));
        self.run_id.push(told.run_id.map(|id| id.0));
        self.job_id.push(told.job_id.map(|id| id.0));
        self.attempt.push(told.attempt);
        self.at.push(told.at);
        self.status.push(told.status);
        self.data.push(told.data.to_string());
    }

    /// Writes inside a transaction that is not the ledger's.
    pub(super) async fn write(&self, client: &impl GenericClient) -> Failable<u64> {
        if self.is_empty() {
            return Ok(0);
        }
        let statement = client.prepare_cached(Self::SQL).await?;
        Ok(client.execute(&statement, &self.params()).await?)
    }
}
