//! Events and deliveries.

mod claim;
mod list;
mod replays;
mod sends;
mod tries;

pub(super) use tries::{TryResult, TryWrite, start};

use super::super::wake::Wake;
use super::super::{
    ClaimedDeliveries, DeliveryClaim, DeliveryStore, NewTry, Queued, Recorded, Result,
    SEND_ENDS_WITHIN, SEND_UNENDED, SendTry, StoreError, TryRecord, codec,
};
use super::{Failable, PostgresStore, millis, rows, sql_error};
use crate::model::delivery::{
    Delivery, DeliveryFilter, DeliveryState, DeliveryTry, Origin, OutgoingEvent, Replay,
    ReplayFilter, TryEnd, TryRequest, TryState,
};
use crate::model::subscription::EventName;
use crate::model::{DeliveryId, EventId, JobId, PipelineId, ReplayId, RunId, SubscriptionId};
use async_trait::async_trait;
use bytes::Bytes;
use std::time::Duration;
use tokio_postgres::Row;
use uuid::Uuid;

fn event(row: &Row) -> Failable<OutgoingEvent> {
    let name: &str = row.try_get("name")?;
    Ok(OutgoingEvent {
        id: EventId(row.try_get("id")?),
        seq: row.try_get("seq")?,
        name: codec::word("outgoing_events.name", name, EventName::parse(name))?,
        pipeline_id: row.try_get::<_, Option<_>>("pipeline_id")?.map(PipelineId),
        run_id: row.try_get::<_, Option<_>>("run_id")?.map(RunId),
        job_id: row.try_get::<_, Option<_>>("job_id")?.map(JobId),
        attempt: row.try_get("attempt")?,
        at: row.try_get("at")?,
        status: row.try_get("status")?,
        data: codec::from_json("outgoing_events.data", row.try_get("data")?)?,
        payload: row.try_get("payload")?,
    })
}

fn delivery(row: &Row) -> Failable<Delivery> {
    let origin: &str = row.try_get("origin")?;
    let state: &str = row.try_get("state")?;
    let event: Option<&str> = row.try_get("event")?;
    let event = event.map(|name| codec::word("deliveries.event", name, EventName::parse(name)));
    Ok(Delivery {
        id: DeliveryId(row.try_get("id")?),
        seq: row.try_get("seq")?,
        origin: codec::word("deliveries.origin", origin, Origin::parse(origin))?,
        subscription_id: row
            .try_get::<_, Option<_>>("subscription_id")?
            .map(SubscriptionId),
        receiver: row.try_get("receiver")?,
        event_id: row.try_get::<_, Option<_>>("event_id")?.map(EventId),
        event: event.transpose()?,
        webhook_id: row.try_get("webhook_id")?,
        pipeline_id: row.try_get::<_, Option<_>>("pipeline_id")?.map(PipelineId),
        run_id: row.try_get::<_, Option<_>>("run_id")?.map(RunId),
        state: codec::word("deliveries.state", state, DeliveryState::parse(state))?,
        reason: row.try_get("reason")?,
        tries: row.try_get("tries")?,
        next_at: row.try_get("next_at")?,
        resend_of: row.try_get::<_, Option<_>>("resend_of")?.map(DeliveryId),
        replay_id: row.try_get::<_, Option<_>>("replay_id")?.map(ReplayId),
        created_at: row.try_get("created_at")?,
        finished_at: row.try_get("finished_at")?,
    })
}

fn micros(micros: i64) -> Duration {
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

fn a_try(row: &Row) -> Failable<DeliveryTry> {
    let state: &str = row.try_get("state")?;
    let state = codec::word("delivery_tries.state", state, TryState::parse(state))?;
    let status: Option<i32> = row.try_get("status")?;
    let first_byte: Option<i64> = row.try_get("first_byte_us")?;
    let end = TryEnd {
        state,
        status: status.and_then(|status| u16::try_from(status).ok()),
        headers: codec::from_json(
            "delivery_tries.response_headers",
            row.try_get("response_headers")?,
        )?,
        body: Bytes::from(row.try_get::<_, Vec<u8>>("response_body")?),
        error: row.try_get("error")?,
        duration: micros(row.try_get("duration_us")?),
        first_byte: first_byte.map(micros),
        peer: row.try_get("peer")?,
    };
    Ok(DeliveryTry {
        number: row.try_get("number")?,
        began_at: row.try_get("began_at")?,
        sender: row.try_get("sender")?,
        request: TryRequest {
            url: row.try_get("url")?,
            method: row.try_get("method")?,
            headers: codec::from_json("delivery_tries.headers", row.try_get("headers")?)?,
            body_bytes: row.try_get("body_bytes")?,
            body_sha256: row.try_get("body_sha256")?,
        },
        end: (state != TryState::Unknown).then_some(end),
    })
}

/// Deletes at most `$1` deliveries of subscriptions that are gone, found by stepping through an index.
const OF_NOBODY: &str = "WITH RECURSIVE known AS (
        (SELECT subscription_id AS id FROM deliveries WHERE subscription_id IS NOT NULL ORDER BY subscription_id LIMIT 1)
        UNION ALL
        SELECT next.id FROM known k CROSS JOIN LATERAL (SELECT subscription_id AS id FROM deliveries
            WHERE subscription_id > k.id ORDER BY subscription_id LIMIT 1) next
    ), dead AS MATERIALIZED (
        SELECT id FROM known k WHERE NOT EXISTS (SELECT 1 FROM subscriptions s WHERE s.id = k.id)
    ), old AS MATERIALIZED (
        SELECT d.id FROM dead k CROSS JOIN LATERAL (
            SELECT id FROM deliveries WHERE subscription_id = k.id LIMIT $1) d LIMIT $1
    ) DELETE FROM deliveries d USING old WHERE d.id = old.id";
/// The same of what pipelines that are gone sent. What subscribers of everything were told about them stays.
const SENT_BY_NOBODY: &str = "WITH RECURSIVE known AS (
        (SELECT pipeline_id AS id FROM deliveries WHERE subscription_id IS NULL AND pipeline_id IS NOT NULL
            ORDER BY pipeline_id LIMIT 1)
        UNION ALL
        SELECT next.id FROM known k CROSS JOIN LATERAL (SELECT pipeline_id AS id FROM deliveries
            WHERE subscription_id IS NULL AND pipeline_id > k.id ORDER BY pipeline_id LIMIT 1) next
    ), dead AS MATERIALIZED (
        SELECT id FROM known k WHERE NOT EXISTS (SELECT 1 FROM pipelines p WHERE p.id = k.id)
    ), old AS MATERIALIZED (
        SELECT d.id FROM dead k CROSS JOIN LATERAL (
            SELECT id FROM deliveries WHERE subscription_id IS NULL AND pipeline_id = k.id LIMIT $1) d LIMIT $1
    ) DELETE FROM deliveries d USING old WHERE d.id = old.id";

/// Which of two: an enabled subscription's deliveries were queued, or there is one, or none.
const QUEUED: &str = "SELECT disabled_reason IS NOT NULL FROM subscriptions WHERE id = $1";

impl PostgresStore {
    async fn queued(&self, id: Option<Uuid>, subscription: Option<Uuid>) -> Result<Queued> {
        if let Some(id) = id {
            self.wake_deliveries();
            return Ok(Queued::As(DeliveryId(id)));
        }
        let client = self.client().await?;
        let found = client
            .query_opt(QUEUED, &[&subscription])
            .await
            .map_err(sql_error)?;
        let disabled = found.map(|row| row.try_get(0)).transpose();
        Ok(match disabled.map_err(sql_error)? {
            Some(true) => Queued::Disabled,
            Some(false) | None => Queued::Unknown,
        })
    }

    async fn try_write(&self, write: TryWrite) -> Result<TryResult> {
        let submitted = self.with_queues(|queues| queues.tries.submit(write));
        match submitted {
            Some(answer) => answer.await,
            None => Err(StoreError::Unavailable("the store was closed".into())),
        }
    }
}

#[async_trait]
impl DeliveryStore for PostgresStore {
    async fn claim_deliveries(&self, claim: DeliveryClaim) -> Result<ClaimedDeliveries> {
        let mut client = self.client().await?;
        Ok(claim::claim(&mut client, &claim).await?)
    }

    async fn keep_payload(&self, id: EventId, payload: String) -> Result<Option<String>> {
        let client = self.client().await?;
        let sql = "UPDATE outgoing_events SET payload = $2 WHERE id = $1 AND payload IS NULL";
        let statement = client.prepare_cached(sql).await.map_err(sql_error)?;
        let kept = client.execute(&statement, &[&id.0, &payload]).await;
        if kept.map_err(sql_error)? > 0 {
            return Ok(Some(payload));
        }
        let sql = "SELECT payload FROM outgoing_events WHERE id = $1";
        let row = client.query_opt(sql, &[&id.0]).await.map_err(sql_error)?;
        row.map(|row| row.try_get(0).map_err(sql_error)).transpose()
    }

    async fn begin_try(&self, new: NewTry) -> Result<Option<i32>> {
        Ok(self.try_write(TryWrite::Begin(new)).await?.number())
    }

    async fn record_try(&self, record: TryRecord) -> Result<Recorded> {
        Ok(self.try_write(TryWrite::Record(record)).await?.recorded())
    }

    async fn expire_deliveries(&self, limit: i64) -> Result<i64> {
        let client = self.client().await?;
        let sql = "WITH gone AS (
                SELECT id FROM deliveries WHERE state = 'sending' AND lease_until IS NOT NULL
                AND lease_until < clock_timestamp() ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED
            )
            UPDATE deliveries d SET state = 'pending', next_at = clock_timestamp(), sender = NULL, lease_until = NULL
            FROM gone WHERE d.id = gone.id";
        let expired = client.execute(sql, &[&limit]).await.map_err(sql_error)?;
        let sql = "WITH old AS (
                SELECT id FROM deliveries WHERE state = 'sending' AND origin = 'send'
                AND created_at < clock_timestamp() - $1::bigint * interval '1 millisecond' ORDER BY id LIMIT $2
                FOR UPDATE SKIP LOCKED
            )
            UPDATE deliveries d SET state = 'failed', reason = $3, finished_at = clock_timestamp()
            FROM old WHERE d.id = old.id";
        client
            .execute(sql, &[&millis(SEND_ENDS_WITHIN), &limit, &SEND_UNENDED])
            .await
            .map_err(sql_error)?;
        if expired > 0 {
            self.wake_deliveries();
        }
        Ok(i64::try_from(expired).unwrap_or(i64::MAX))
    }

    async fn ping_subscription(
        &self,
        id: SubscriptionId,
        by: &str,
        sample: Option<EventName>,
    ) -> Result<Queued> {
        let client = self.client().await?;
        let sql = "WITH target AS (
                SELECT id, name, pipeline_id FROM subscriptions WHERE id = $1 AND disabled_reason IS NULL
            ), told AS (
                INSERT INTO outgoing_events (id, name, pipeline_id, attempt, at, status, data)
                SELECT $2, 'ping', pipeline_id, 0, clock_timestamp(), '', $3 FROM target RETURNING id
            )
            INSERT INTO deliveries (id, origin, subscription_id, receiver, event_id, event, webhook_id, pipeline_id,
                state, next_at, created_at)
            SELECT gen_random_uuid(), 'ping', s.id, s.name, told.id, 'ping', told.id::text, s.pipeline_id, 'pending',
                now, now
            FROM target s CROSS JOIN told CROSS JOIN clock_timestamp() AS now RETURNING id";
        let data = OutgoingEvent::ping_data(by, sample).to_string();
        let row = client
            .query_opt(sql, &[&id.0, &EventId::new().0, &data])
            .await
            .map_err(sql_error)?;
        let made = row.map(|row| row.try_get(0)).transpose();
        drop(client);
        self.queued(made.map_err(sql_error)?, Some(id.0)).await
    }

    async fn resend(&self, id: DeliveryId) -> Result<Queued> {
        let client = self.client().await?;
        let sql = "INSERT INTO deliveries (id, origin, subscription_id, receiver, event_id, event, webhook_id,
                pipeline_id, run_id, state, next_at, resend_of, created_at)
            SELECT gen_random_uuid(), 'resend', d.subscription_id, d.receiver, d.event_id, d.event, d.webhook_id,
                d.pipeline_id, d.run_id, 'pending', now, d.id, now
            FROM deliveries d JOIN subscriptions s ON s.id = d.subscription_id
            JOIN outgoing_events e ON e.id = d.event_id CROSS JOIN clock_timestamp() AS now
            WHERE d.id = $1 AND s.disabled_reason IS NULL RETURNING id";
        let row = client.query_opt(sql, &[&id.0]).await.map_err(sql_error)?;
        let made = row.map(|row| row.try_get(0)).transpose();
        let sql = "SELECT subscription_id FROM deliveries WHERE id = $1";
        let of = client.query_opt(sql, &[&id.0]).await.map_err(sql_error)?;
        let of = of.and_then(|row| row.try_get::<_, Option<Uuid>>(0).ok().flatten());
        drop(client);
        self.queued(made.map_err(sql_error)?, of).await
    }

    async fn count_replay(&self, filter: &ReplayFilter) -> Result<i64> {
        let client = self.client().await?;
        Ok(replays::count(&client, filter).await?)
    }

    async fn begin_replay(&self, id: ReplayId, filter: ReplayFilter) -> Result<Option<Replay>> {
        let client = self.client().await?;
        let begun = replays::begin(&client, id, &filter).await?;
        self.wakes.publish(Wake::Replays);
        Ok(begun)
    }

    async fn advance_replays(&self) -> Result<bool> {
        let mut client = self.client().await?;
        let advanced = replays::advance(&mut client).await?;
        if advanced {
            self.wake_deliveries();
        }
        Ok(advanced)
    }

    async fn replay(&self, id: ReplayId) -> Result<Option<Replay>> {
        let client = self.client().await?;
        Ok(replays::load(&client, id).await?)
    }

    async fn replays(&self, id: SubscriptionId, limit: i64) -> Result<Vec<Replay>> {
        let client = self.client().await?;
        let sql = "SELECT * FROM replays WHERE subscription_id = $1 ORDER BY created_at DESC, id DESC LIMIT $2";
        let found = client
            .query(sql, &[&id.0, &limit])
            .await
            .map_err(sql_error)?;
        Ok(rows::all(&found, replays::replay)?)
    }

    async fn outgoing_event(&self, id: EventId) -> Result<Option<OutgoingEvent>> {
        let client = self.client().await?;
        let sql = "SELECT * FROM outgoing_events WHERE id = $1";
        let row = client.query_opt(sql, &[&id.0]).await.map_err(sql_error)?;
        Ok(row.as_ref().map(event).transpose()?)
    }

    async fn delivery(&self, id: DeliveryId) -> Result<Option<(Delivery, Vec<DeliveryTry>)>> {
        let client = self.client().await?;
        let sql = "SELECT * FROM deliveries WHERE id = $1";
        let row = client.query_opt(sql, &[&id.0]).await.map_err(sql_error)?;
        let Some(row) = row else { return Ok(None) };
        let sql = "SELECT * FROM delivery_tries WHERE delivery_id = $1 ORDER BY number";
        let tries = client.query(sql, &[&id.0]).await.map_err(sql_error)?;
        Ok(Some((delivery(&row)?, rows::all(&tries, a_try)?)))
    }

    async fn deliveries(&self, filter: DeliveryFilter) -> Result<Vec<Delivery>> {
        let client = self.client().await?;
        Ok(list::list(&client, &filter).await?)
    }

    async fn record_send(&self, noted: SendTry) -> Result<bool> {
        let mut client = self.client().await?;
        Ok(sends::record_send(&mut client, &noted).await?)
    }

    async fn forget_deliveries(&self, older: Duration, limit: i64) -> Result<i64> {
        let client = self.client().await?;
        let older = millis(older);
        let mut forgotten = 0;
        for sql in [OF_NOBODY, SENT_BY_NOBODY] {
            forgotten += client.execute(sql, &[&limit]).await.map_err(sql_error)?;
        }
        for sql in [
            "WITH old AS (
                SELECT id FROM deliveries WHERE created_at < clock_timestamp() - $1::bigint * interval '1 millisecond'
                AND (state <> 'sending' OR lease_until IS NULL) ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED
            ) DELETE FROM deliveries d USING old WHERE d.id = old.id",
            "WITH old AS (
                SELECT id FROM outgoing_events e WHERE at < clock_timestamp() - $1::bigint * interval '1 millisecond'
                AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.event_id = e.id) ORDER BY at, seq LIMIT $2
            ) DELETE FROM outgoing_events e USING old WHERE e.id = old.id",
        ] {
            let gone = client.execute(sql, &[&older, &limit]).await;
            forgotten += gone.map_err(sql_error)?;
        }
        let sql = "WITH old AS (
                SELECT id FROM replays WHERE done
                AND created_at < clock_timestamp() - $1::bigint * interval '1 millisecond' LIMIT $2
            ) DELETE FROM replays r USING old WHERE r.id = old.id";
        client
            .execute(sql, &[&older, &limit])
            .await
            .map_err(sql_error)?;
        Ok(i64::try_from(forgotten).unwrap_or(i64::MAX))
    }

    async fn waiting_deliveries(&self) -> Result<i64> {
        let client = self.client().await?;
        let sql = "SELECT (SELECT count(*) FROM deliveries WHERE state = 'pending')
            + (SELECT count(*) FROM deliveries WHERE state = 'sending' AND lease_until IS NOT NULL)";
        let row = client.query_one(sql, &[]).await.map_err(sql_error)?;
        row.try_get(0).map_err(sql_error)
    }
}
