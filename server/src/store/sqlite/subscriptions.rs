//! Subscriptions.

use super::super::outbox::Told;
use super::SqliteStore;
use super::outbox::tell;
use super::rows::{Columns, json, key, micros, now};
use super::writer::Hints;
use crate::model::derived::event_id;
use crate::model::subscription::{
    Disabled, DisabledReason, EventName, Health, MAX_SUBSCRIPTIONS, Subscription, SubscriptionTerms,
};
use crate::model::{PipelineId, SubscriptionId};
use crate::store::{
    FAILED_WITHIN, Result, SubscriptionFilter, SubscriptionPut, SubscriptionStore, codec,
};
use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension as _, ToSql, params};
use std::time::Duration;

/// In the order of [`subscription`].
pub(super) const SUBSCRIPTION: &str = "s.id, s.version, s.name, s.url, s.events, s.pipeline_id, s.secrets, \
    s.verify_tls, s.ca_pem, s.headers, s.filter, s.concurrency, s.rate_per_second, s.schedule, s.ordered, \
    s.disabled_reason, s.disabled_since, s.failures, s.failing_since, s.succeeded_at, s.paused_until, \
    s.created_at, s.updated_at";

/// Reads [`SUBSCRIPTION`].
pub(super) fn subscription(columns: &mut Columns) -> rusqlite::Result<Subscription> {
    let id = columns.id(SubscriptionId)?;
    let version = columns.take()?;
    let terms = SubscriptionTerms {
        name: columns.take()?,
        url: columns.take()?,
        events: columns.event_names()?,
        pipeline_id: columns.id_opt(PipelineId)?,
        secrets: columns.json()?,
        verify_tls: columns.take()?,
        ca_pem: columns.take()?,
        headers: columns.json()?,
        filter: columns.take()?,
        concurrency: columns.take()?,
        rate_per_second: columns.take()?,
        schedule: columns.schedule()?,
        ordered: columns.take()?,
    };
    let reason = columns.word_opt(DisabledReason::parse)?;
    let disabled = match (reason, columns.time_opt()?) {
        (Some(reason), Some(since)) => Some(Disabled { reason, since }),
        _ => None,
    };
    Ok(Subscription {
        id,
        version,
        terms,
        disabled,
        health: Health {
            failures: columns.take()?,
            failing_since: columns.time_opt()?,
            succeeded_at: columns.time_opt()?,
            paused_until: columns.time_opt()?,
        },
        created_at: columns.time()?,
        updated_at: columns.time()?,
    })
}

fn one(connection: &Connection, filter: &str, by: impl ToSql) -> Result<Option<Subscription>> {
    let sql = format!("SELECT {SUBSCRIPTION} FROM subscriptions s WHERE {filter} = ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    let found = statement.query_row([by], |row| subscription(&mut Columns::of(row)));
    Ok(found.optional()?)
}

fn load(connection: &Connection, id: SubscriptionId) -> Result<Option<Subscription>> {
    one(connection, "s.id", id.0.as_bytes())
}

fn stored(connection: &Connection, id: SubscriptionId) -> Result<SubscriptionPut> {
    let stored = load(connection, id)?;
    Ok(stored.map_or(SubscriptionPut::Stale, |stored| {
        SubscriptionPut::Stored(Box::new(stored))
    }))
}

/// Whether these terms cannot be stored for this subscription.
fn refusal(
    connection: &Connection,
    id: SubscriptionId,
    terms: &SubscriptionTerms,
) -> Result<Option<SubscriptionPut>> {
    let sql = "SELECT 1 FROM subscriptions WHERE name = ?1 AND id <> ?2";
    let mut taken = connection.prepare_cached(sql)?;
    if taken.exists(params![terms.name, id.0.as_bytes()])? {
        return Ok(Some(SubscriptionPut::NameTaken));
    }
    if let Some(pipeline) = terms.pipeline_id {
        let mut known = connection.prepare_cached("SELECT 1 FROM pipelines WHERE id = ?1")?;
        if !known.exists([pipeline.0.as_bytes()])? {
            return Ok(Some(SubscriptionPut::NoPipeline));
        }
    }
    Ok(None)
}

/// Writes the terms of a row that exists; `bump` makes it a new version.
fn write(
    connection: &Connection,
    id: SubscriptionId,
    terms: &SubscriptionTerms,
    bump: bool,
) -> Result<()> {
    let sql = "UPDATE subscriptions SET name = ?2, url = ?3, events = ?4, pipeline_id = ?5, secrets = ?6, \
         headers = ?7, verify_tls = ?8, ca_pem = ?9, filter = ?10, concurrency = ?11, rate_per_second = ?12, \
         schedule = ?13, ordered = ?14, version = version + ?15, updated_at = iif(?15, ?16, updated_at), \
         failures = iif(url = ?3, failures, 0), failing_since = iif(url = ?3, failing_since, NULL), \
         succeeded_at = iif(url = ?3, succeeded_at, NULL), paused_until = iif(url = ?3, paused_until, NULL) \
         WHERE id = ?1";
    connection.prepare_cached(sql)?.execute(params![
        id.0.as_bytes(),
        terms.name,
        terms.url,
        json(&codec::event_words(&terms.events))?,
        key(terms.pipeline_id.map(|id| id.0)),
        json(&terms.secrets)?,
        json(&terms.headers)?,
        terms.verify_tls,
        terms.ca_pem,
        terms.filter,
        terms.concurrency,
        terms.rate_per_second,
        codec::schedule(terms.schedule.as_deref()),
        terms.ordered,
        bump,
        micros(now()),
    ])?;
    Ok(())
}

fn create(
    connection: &Connection,
    id: SubscriptionId,
    terms: &SubscriptionTerms,
) -> Result<SubscriptionPut> {
    if let Some(refused) = refusal(connection, id, terms)? {
        return Ok(refused);
    }
    if let Some(stored) = load(connection, id)? {
        return Ok(match stored.terms == *terms {
            true => SubscriptionPut::Stored(Box::new(stored)),
            false => SubscriptionPut::Stale,
        });
    }
    // The row first with what cannot be absent; `write` fills it.
    let sql = "INSERT INTO subscriptions (id, version, name, url, events, secrets, headers, verify_tls, concurrency, \
         ordered, created_at, updated_at) SELECT ?1, 1, ?2, ?3, ?4, '[]', '[]', 1, 1, 0, ?5, ?5 \
         WHERE (SELECT count(*) FROM subscriptions) < ?6";
    let created = connection.prepare_cached(sql)?.execute(params![
        id.0.as_bytes(),
        terms.name,
        terms.url,
        json(&codec::event_words(&terms.events))?,
        micros(now()),
        MAX_SUBSCRIPTIONS,
    ])?;
    if created == 0 {
        return Ok(SubscriptionPut::Full);
    }
    write(connection, id, terms, false)?;
    stored(connection, id)
}

fn change(
    connection: &Connection,
    id: SubscriptionId,
    version: i64,
    terms: &SubscriptionTerms,
) -> Result<SubscriptionPut> {
    if let Some(refused) = refusal(connection, id, terms)? {
        return Ok(refused);
    }
    match load(connection, id)? {
        Some(stored) if stored.version != version => return Ok(SubscriptionPut::Stale),
        None => return Ok(SubscriptionPut::Stale),
        Some(stored) if stored.terms == *terms => {
            return Ok(SubscriptionPut::Stored(Box::new(stored)));
        }
        Some(_) => {}
    }
    write(connection, id, terms, true)?;
    stored(connection, id)
}

/// Disables one that is enabled, and tells the others if it was not an operator.
fn disable(
    connection: &Connection,
    stored: &Subscription,
    reason: DisabledReason,
    hints: &mut Hints,
) -> Result<()> {
    let at = now();
    let sql = "UPDATE subscriptions SET disabled_reason = ?2, disabled_since = ?3, updated_at = ?3, \
         version = version + 1 WHERE id = ?1";
    let given = params![stored.id.0.as_bytes(), reason.as_str(), micros(at)];
    connection.prepare_cached(sql)?.execute(given)?;
    if reason == DisabledReason::Operator {
        return Ok(());
    }
    let attempt = i32::try_from(stored.version + 1).unwrap_or(i32::MAX);
    let name = EventName::SubscriptionDisabled;
    let told = Told {
        id: event_id(name.as_str(), stored.id.0, attempt),
        name,
        pipeline_id: stored.terms.pipeline_id,
        run_id: None,
        job_id: None,
        attempt,
        at,
        status: "",
        data: codec::disabled_data(stored, reason),
    };
    tell(connection, &told, hints)
}

fn disable_failing(
    connection: &Connection,
    failing_for: Duration,
    failures: i64,
    hints: &mut Hints,
) -> Result<Vec<String>> {
    let sql = format!(
        "SELECT {SUBSCRIPTION} FROM subscriptions s WHERE s.disabled_reason IS NULL \
         AND s.failures >= ?2 AND s.failing_since <= ?1 AND s.failed_at >= ?3 ORDER BY s.id"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let given = params![
        micros(now() - failing_for),
        failures,
        micros(now() - FAILED_WITHIN)
    ];
    let found = statement.query_map(given, |row| subscription(&mut Columns::of(row)))?;
    let found: Vec<Subscription> = found.collect::<rusqlite::Result<_>>()?;
    let mut names = Vec::new();
    for stored in found {
        disable(connection, &stored, DisabledReason::Failing, hints)?;
        names.push(stored.terms.name);
    }
    Ok(names)
}

fn enable(connection: &Connection, id: SubscriptionId) -> Result<Option<Subscription>> {
    let at = micros(now());
    let sql = "UPDATE subscriptions SET disabled_reason = NULL, disabled_since = NULL, failures = 0, \
         failing_since = NULL, paused_until = NULL, slot_at = 0, version = version + 1, updated_at = ?2 \
         WHERE id = ?1 AND (disabled_reason IS NOT NULL OR paused_until IS NOT NULL)";
    let given = params![id.0.as_bytes(), at];
    connection.prepare_cached(sql)?.execute(given)?;
    let sql = "UPDATE deliveries SET next_at = ?2 WHERE subscription_id = ?1 AND state = 'pending' AND next_at > ?2";
    connection.prepare_cached(sql)?.execute(given)?;
    load(connection, id)
}

fn list(connection: &Connection, filter: &SubscriptionFilter) -> Result<Vec<Subscription>> {
    let sql = format!(
        "SELECT {SUBSCRIPTION} FROM subscriptions s \
         WHERE (?1 IS NULL OR s.pipeline_id IS NULL OR s.pipeline_id = ?1) \
         AND (?2 IS NULL OR s.pipeline_id = ?2) AND s.name > ?3 ORDER BY s.name LIMIT ?4"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let given = params![
        key(filter.hears.map(|id| id.0)),
        key(filter.of.map(|id| id.0)),
        filter.after.as_deref().unwrap_or_default(),
        filter.limit
    ];
    let found = statement.query_map(given, |row| subscription(&mut Columns::of(row)))?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

fn reseal(
    connection: &Connection,
    id: SubscriptionId,
    version: i64,
    terms: &SubscriptionTerms,
) -> Result<bool> {
    let sql = "UPDATE subscriptions SET secrets = ?3, headers = ?4 WHERE id = ?1 AND version = ?2";
    let changed = connection.prepare_cached(sql)?.execute(params![
        id.0.as_bytes(),
        version,
        json(&terms.secrets)?,
        json(&terms.headers)?
    ])?;
    Ok(changed > 0)
}

#[async_trait]
impl SubscriptionStore for SqliteStore {
    async fn create_subscription(
        &self,
        id: SubscriptionId,
        terms: SubscriptionTerms,
    ) -> Result<SubscriptionPut> {
        self.writer
            .call(move |connection, _| create(connection, id, &terms))
            .await
    }

    async fn change_subscription(
        &self,
        id: SubscriptionId,
        version: i64,
        terms: SubscriptionTerms,
    ) -> Result<SubscriptionPut> {
        self.writer
            .call(move |connection, hints| {
                // Another URL or concurrency may let something go at once.
                hints.deliveries = true;
                change(connection, id, version, &terms)
            })
            .await
    }

    async fn enable_subscription(&self, id: SubscriptionId) -> Result<Option<Subscription>> {
        self.writer
            .call(move |connection, hints| {
                hints.deliveries = true;
                enable(connection, id)
            })
            .await
    }

    async fn disable_subscription(
        &self,
        id: SubscriptionId,
        version: Option<i64>,
        reason: DisabledReason,
    ) -> Result<Option<Subscription>> {
        self.writer
            .call(move |connection, hints| {
                if let Some(stored) = load(connection, id)?
                    && stored.is_enabled()
                    && version.is_none_or(|version| version == stored.version)
                {
                    disable(connection, &stored, reason, hints)?;
                }
                load(connection, id)
            })
            .await
    }

    async fn disable_failing(&self, failing_for: Duration, failures: i64) -> Result<Vec<String>> {
        self.writer
            .call(move |connection, hints| {
                disable_failing(connection, failing_for, failures, hints)
            })
            .await
    }

    async fn subscription(&self, id: SubscriptionId) -> Result<Option<Subscription>> {
        self.readers
            .read(move |connection| load(connection, id))
            .await
    }

    async fn subscription_by_name(&self, name: &str) -> Result<Option<Subscription>> {
        let name = name.to_owned();
        self.readers
            .read(move |connection| one(connection, "s.name", name))
            .await
    }

    async fn subscriptions(&self, filter: SubscriptionFilter) -> Result<Vec<Subscription>> {
        self.readers
            .read(move |connection| list(connection, &filter))
            .await
    }

    async fn delete_subscription(&self, id: SubscriptionId) -> Result<bool> {
        self.writer
            .call(move |connection, _| {
                let sql = "DELETE FROM subscriptions WHERE id = ?1";
                let gone = connection.prepare_cached(sql)?.execute([id.0.as_bytes()])?;
                Ok(gone > 0)
            })
            .await
    }

    async fn reseal_subscription(
        &self,
        id: SubscriptionId,
        version: i64,
        terms: SubscriptionTerms,
    ) -> Result<bool> {
        self.writer
            .call(move |connection, _| reseal(connection, id, version, &terms))
            .await
    }
}
