//! Subscriptions.

use super::super::outbox::Told;
use super::super::{
    FAILED_WITHIN, Result, SubscriptionFilter, SubscriptionPut, SubscriptionStore, codec,
    wake::Wake,
};
use super::outbox::Outbox;
use super::{Failable, PostgresStore, millis, rows, sql_error};
use crate::model::derived::event_id;
use crate::model::subscription::{
    Disabled, DisabledReason, EventName, Health, MAX_SUBSCRIPTIONS, Subscription, SubscriptionTerms,
};
use crate::model::{PipelineId, SubscriptionId};
use async_trait::async_trait;
use deadpool_postgres::{GenericClient, Transaction};
use std::time::Duration;
use tokio_postgres::Row;

/// Any number that nobody else uses for an advisory lock in this database: names and their number are decided one
/// after the other.
const NAMES: i64 = 0x706f_636b_7375_6273;

pub(super) fn subscription(row: &Row) -> Failable<Subscription> {
    let reason: Option<&str> = row.try_get("disabled_reason")?;
    let disabled = match (reason, row.try_get("disabled_since")?) {
        (Some(reason), Some(since)) => Some(Disabled {
            reason: codec::word("disabled_reason", reason, DisabledReason::parse(reason))?,
            since,
        }),
        _ => None,
    };
    Ok(Subscription {
        id: SubscriptionId(row.try_get("id")?),
        version: row.try_get("version")?,
        terms: SubscriptionTerms {
            name: row.try_get("name")?,
            url: row.try_get("url")?,
            events: codec::event_names::<&str>(&row.try_get::<_, Vec<&str>>("events")?)?,
            pipeline_id: row.try_get::<_, Option<_>>("pipeline_id")?.map(PipelineId),
            secrets: codec::from_json("subscriptions.secrets", row.try_get("secrets")?)?,
            verify_tls: row.try_get("verify_tls")?,
            ca_pem: row.try_get("ca_pem")?,
            headers: codec::from_json("subscriptions.headers", row.try_get("headers")?)?,
            filter: row.try_get("filter")?,
            concurrency: row.try_get("concurrency")?,
            rate_per_second: row.try_get("rate_per_second")?,
            schedule: codec::schedule_from(row.try_get("schedule")?)?,
            ordered: row.try_get("ordered")?,
        },
        disabled,
        health: Health {
            failures: row.try_get("failures")?,
            failing_since: row.try_get("failing_since")?,
            succeeded_at: row.try_get("succeeded_at")?,
            paused_until: row.try_get("paused_until")?,
        },
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}

async fn load(client: &impl GenericClient, id: SubscriptionId) -> Failable<Option<Subscription>> {
    let sql = "SELECT * FROM subscriptions WHERE id = $1";
    let row = client.query_opt(sql, &[&id.0]).await?;
    row.as_ref().map(subscription).transpose()
}

/// Locked until the transaction ends.
async fn lock(client: &Transaction<'_>, id: SubscriptionId) -> Failable<Option<Subscription>> {
    let sql = "SELECT * FROM subscriptions WHERE id = $1 FOR UPDATE";
    let row = client.query_opt(sql, &[&id.0]).await?;
    row.as_ref().map(subscription).transpose()
}

/// Whether these terms cannot be stored for this subscription.
async fn refusal(
    transaction: &Transaction<'_>,
    id: SubscriptionId,
    terms: &SubscriptionTerms,
) -> Failable<Option<SubscriptionPut>> {
    let sql = "SELECT pg_advisory_xact_lock($1)";
    transaction.execute(sql, &[&NAMES]).await?;
    let sql = "SELECT 1 FROM subscriptions WHERE name = $1 AND id <> $2";
    let taken = transaction.query_opt(sql, &[&terms.name, &id.0]).await?;
    if taken.is_some() {
        return Ok(Some(SubscriptionPut::NameTaken));
    }
    if let Some(pipeline) = terms.pipeline_id {
        let sql = "SELECT 1 FROM pipelines WHERE id = $1 FOR KEY SHARE";
        let known = transaction.query_opt(sql, &[&pipeline.0]).await?;
        if known.is_none() {
            return Ok(Some(SubscriptionPut::NoPipeline));
        }
    }
    Ok(None)
}

/// Writes the terms of a row that exists; `bump` makes it a new version.
async fn write(
    transaction: &Transaction<'_>,
    id: SubscriptionId,
    terms: &SubscriptionTerms,
    bump: bool,
) -> Failable<()> {
    let sql = "UPDATE subscriptions SET name = $2, url = $3, events = $4, pipeline_id = $5, secrets = $6, headers = $7,
            verify_tls = $8, ca_pem = $9, filter = $10, concurrency = $11, rate_per_second = $12, schedule = $13,
            ordered = $14, version = version + CASE WHEN $15 THEN 1 ELSE 0 END,
            updated_at = CASE WHEN $15 THEN clock_timestamp() ELSE updated_at END,
            failures = CASE WHEN url = $3 THEN failures ELSE 0 END,
            failing_since = CASE WHEN url = $3 THEN failing_since END,
            succeeded_at = CASE WHEN url = $3 THEN succeeded_at END,
            paused_until = CASE WHEN url = $3 THEN paused_until END
        WHERE id = $1";
    transaction
        .execute(
            sql,
            &[
                &id.0,
                &terms.name,
                &terms.url,
                &codec::event_words(&terms.events),
                &terms.pipeline_id.map(|id| id.0),
                &codec::json(&terms.secrets),
                &codec::json(&terms.headers),
                &terms.verify_tls,
                &terms.ca_pem,
                &terms.filter,
                &terms.concurrency,
                &terms.rate_per_second,
                &codec::schedule(terms.schedule.as_deref()),
                &terms.ordered,
                &bump,
            ],
        )
        .await?;
    Ok(())
}

async fn create(
    transaction: &Transaction<'_>,
    id: SubscriptionId,
    terms: &SubscriptionTerms,
) -> Failable<SubscriptionPut> {
    if let Some(refused) = refusal(transaction, id, terms).await? {
        return Ok(refused);
    }
    if let Some(stored) = load(transaction, id).await? {
        return Ok(match stored.terms == *terms {
            true => SubscriptionPut::Stored(Box::new(stored)),
            false => SubscriptionPut::Stale,
        });
    }
    // The row first with what cannot be absent; `write` fills it.
    let sql = "INSERT INTO subscriptions (id, version, name, url, events, secrets, headers, verify_tls, concurrency,
            ordered, created_at, updated_at)
        SELECT $1, 1, $2, $3, $4, '[]', '[]', true, 1, false, now, now FROM clock_timestamp() AS now
        WHERE (SELECT count(*) FROM subscriptions) < $5";
    let events = codec::event_words(&terms.events);
    let created = transaction
        .execute(
            sql,
            &[&id.0, &terms.name, &terms.url, &events, &MAX_SUBSCRIPTIONS],
        )
        .await?;
    if created == 0 {
        return Ok(SubscriptionPut::Full);
    }
    write(transaction, id, terms, false).await?;
    let stored = load(transaction, id).await?;
    Ok(stored.map_or(SubscriptionPut::Stale, |stored| {
        SubscriptionPut::Stored(Box::new(stored))
    }))
}

async fn change(
    transaction: &Transaction<'_>,
    id: SubscriptionId,
    version: i64,
    terms: &SubscriptionTerms,
) -> Failable<SubscriptionPut> {
    if let Some(refused) = refusal(transaction, id, terms).await? {
        return Ok(refused);
    }
    let stored = match lock(transaction, id).await? {
        Some(stored) if stored.version == version => stored,
        Some(_) | None => return Ok(SubscriptionPut::Stale),
    };
    if stored.terms == *terms {
        return Ok(SubscriptionPut::Stored(Box::new(stored)));
    }
    write(transaction, id, terms, true).await?;
    let stored = load(transaction, id).await?;
    Ok(stored.map_or(SubscriptionPut::Stale, |stored| {
        SubscriptionPut::Stored(Box::new(stored))
    }))
}

/// Disables one that is locked and enabled, and tells the others if it was not an operator; gives what became due.
async fn disable(
    transaction: &Transaction<'_>,
    stored: &Subscription,
    reason: DisabledReason,
) -> Failable<u64> {
    let sql = "UPDATE subscriptions SET disabled_reason = $2, disabled_since = clock_timestamp(),
            updated_at = clock_timestamp(), version = version + 1 WHERE id = $1
        RETURNING disabled_since, version";
    let row = transaction
        .query_one(sql, &[&stored.id.0, &reason.as_str()])
        .await?;
    if reason == DisabledReason::Operator {
        return Ok(0);
    }
    let version: i64 = row.try_get(1)?;
    let attempt = i32::try_from(version).unwrap_or(i32::MAX);
    let name = EventName::SubscriptionDisabled;
    let mut outbox = Outbox::default();
    outbox.tell(Told {
        id: event_id(name.as_str(), stored.id.0, attempt),
        name,
        pipeline_id: stored.terms.pipeline_id,
        run_id: None,
        job_id: None,
        attempt,
        at: row.try_get(0)?,
        status: "",
        data: codec::disabled_data(stored, reason),
    });
    outbox.write(transaction).await
}

#[async_trait]
impl SubscriptionStore for PostgresStore {
    async fn create_subscription(
        &self,
        id: SubscriptionId,
        terms: SubscriptionTerms,
    ) -> Result<SubscriptionPut> {
        let mut client = self.client().await?;
        let transaction = client.transaction().await.map_err(sql_error)?;
        let put = create(&transaction, id, &terms).await?;
        transaction.commit().await.map_err(sql_error)?;
        Ok(put)
    }

    async fn change_subscription(
        &self,
        id: SubscriptionId,
        version: i64,
        terms: SubscriptionTerms,
    ) -> Result<SubscriptionPut> {
        let mut client = self.client().await?;
        let transaction = client.transaction().await.map_err(sql_error)?;
        let put = change(&transaction, id, version, &terms).await?;
        transaction.commit().await.map_err(sql_error)?;
        // Another URL or concurrency may let something go at once.
        self.wake_deliveries();
        Ok(put)
    }

    async fn enable_subscription(&self, id: SubscriptionId) -> Result<Option<Subscription>> {
        let client = self.client().await?;
        let sql = "UPDATE subscriptions SET disabled_reason = NULL, disabled_since = NULL, failures = 0,
                failing_since = NULL, paused_until = NULL, slot_at = '-infinity', version = version + 1, updated_at = clock_timestamp()
            WHERE id = $1 AND (disabled_reason IS NOT NULL OR paused_until IS NOT NULL)";
        client.execute(sql, &[&id.0]).await.map_err(sql_error)?;
        // What waited is due at once.
        let sql = "UPDATE deliveries SET next_at = clock_timestamp()
            WHERE subscription_id = $1 AND state = 'pending' AND next_at > clock_timestamp()";
        client.execute(sql, &[&id.0]).await.map_err(sql_error)?;
        let stored = load(&client, id).await?;
        self.wake_deliveries();
        Ok(stored)
    }

    async fn disable_subscription(
        &self,
        id: SubscriptionId,
        version: Option<i64>,
        reason: DisabledReason,
    ) -> Result<Option<Subscription>> {
        let mut client = self.client().await?;
        let transaction = client.transaction().await.map_err(sql_error)?;
        let mut due = 0;
        if let Some(stored) = lock(&transaction, id).await?
            && stored.is_enabled()
            && version.is_none_or(|version| version == stored.version)
        {
            due = disable(&transaction, &stored, reason).await?;
        }
        let stored = load(&transaction, id).await?;
        transaction.commit().await.map_err(sql_error)?;
        if due > 0 {
            self.wake_deliveries();
        }
        Ok(stored)
    }

    async fn disable_failing(&self, failing_for: Duration, failures: i64) -> Result<Vec<String>> {
        let mut client = self.client().await?;
        let transaction = client.transaction().await.map_err(sql_error)?;
        let sql = "SELECT * FROM subscriptions WHERE disabled_reason IS NULL AND failures >= $2
            AND failing_since <= clock_timestamp() - $1::bigint * interval '1 millisecond'
            AND failed_at >= clock_timestamp() - $3::bigint * interval '1 millisecond'
            ORDER BY id FOR UPDATE SKIP LOCKED";
        let found = transaction
            .query(
                sql,
                &[&millis(failing_for), &failures, &millis(FAILED_WITHIN)],
            )
            .await
            .map_err(sql_error)?;
        let mut names = Vec::new();
        let mut due = 0;
        for stored in rows::all(&found, subscription)? {
            due += disable(&transaction, &stored, DisabledReason::Failing).await?;
            names.push(stored.terms.name);
        }
        transaction.commit().await.map_err(sql_error)?;
        if due > 0 {
            self.wake_deliveries();
        }
        Ok(names)
    }

    async fn subscription(&self, id: SubscriptionId) -> Result<Option<Subscription>> {
        let client = self.client().await?;
        Ok(load(&client, id).await?)
    }

    async fn subscription_by_name(&self, name: &str) -> Result<Option<Subscription>> {
        let client = self.client().await?;
        let sql = "SELECT * FROM subscriptions WHERE name = $1";
        let row = client.query_opt(sql, &[&name]).await.map_err(sql_error)?;
        Ok(row.as_ref().map(subscription).transpose()?)
    }

    async fn subscriptions(&self, filter: SubscriptionFilter) -> Result<Vec<Subscription>> {
        let client = self.client().await?;
        let sql = "SELECT * FROM subscriptions WHERE ($1::uuid IS NULL OR pipeline_id IS NULL OR pipeline_id = $1)
            AND ($2::uuid IS NULL OR pipeline_id = $2) AND name > $3 ORDER BY name LIMIT $4";
        let (hears, of) = (filter.hears.map(|id| id.0), filter.of.map(|id| id.0));
        let after = filter.after.unwrap_or_default();
        let found = client
            .query(sql, &[&hears, &of, &after, &filter.limit])
            .await
            .map_err(sql_error)?;
        Ok(rows::all(&found, subscription)?)
    }

    async fn delete_subscription(&self, id: SubscriptionId) -> Result<bool> {
        let client = self.client().await?;
        let sql = "DELETE FROM subscriptions WHERE id = $1";
        let gone = client.execute(sql, &[&id.0]).await.map_err(sql_error)?;
        Ok(gone > 0)
    }

    async fn reseal_subscription(
        &self,
        id: SubscriptionId,
        version: i64,
        terms: SubscriptionTerms,
    ) -> Result<bool> {
        let client = self.client().await?;
        let sql =
            "UPDATE subscriptions SET secrets = $3, headers = $4 WHERE id = $1 AND version = $2";
        let (secrets, headers) = (codec::json(&terms.secrets), codec::json(&terms.headers));
        let changed = client
            .execute(sql, &[&id.0, &version, &secrets, &headers])
            .await
            .map_err(sql_error)?;
        Ok(changed > 0)
    }
}

impl PostgresStore {
    /// Tells all servers that deliveries may be due.
    pub(super) fn wake_deliveries(&self) {
        self.wakes.publish(Wake::Deliveries);
        self.notifier.wake(Wake::Deliveries);
    }
}
