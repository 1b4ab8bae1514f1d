//! Events and deliveries.

mod claim;
mod replays;
mod tries;

use super::super::outbox::Told;
use super::SqliteStore;
use super::outbox::{NewDelivery, insert_delivery, insert_event};
use super::rows::{Columns, key, micros, micros_opt, now};
use super::subscriptions::{SUBSCRIPTION, subscription};
use super::writer::Hints;
use crate::model::delivery::{
    Delivery, DeliveryFilter, DeliveryState, DeliveryTry, Origin, OutgoingEvent, Replay,
    ReplayFilter,
};
use crate::model::subscription::{EventName, Subscription};
use crate::model::{DeliveryId, EventId, JobId, PipelineId, ReplayId, RunId, SubscriptionId};
use crate::store::{
    ClaimedDeliveries, DeliveryClaim, DeliveryStore, NewTry, Queued, Recorded, Result,
    SEND_ENDS_WITHIN, SEND_UNENDED, SendTry, TryRecord,
};
use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension as _, ToSql, params};
use serde_json::Value;
use std::time::Duration;
use uuid::Uuid;

/// In the order of [`delivery`].
const DELIVERY: &str = "d.id, d.seq, d.origin, d.subscription_id, d.receiver, d.event_id, d.event, d.webhook_id, \
    d.pipeline_id, d.run_id, d.state, d.reason, d.tries, d.next_at, d.resend_of, d.replay_id, d.created_at, \
    d.finished_at";

fn delivery(columns: &mut Columns) -> rusqlite::Result<Delivery> {
    Ok(Delivery {
        id: columns.id(DeliveryId)?,
        seq: columns.take()?,
        origin: columns.word(Origin::parse)?,
        subscription_id: columns.id_opt(SubscriptionId)?,
        receiver: columns.take()?,
        event_id: columns.id_opt(EventId)?,
        event: columns.word_opt(EventName::parse)?,
        webhook_id: columns.take()?,
        pipeline_id: columns.id_opt(PipelineId)?,
        run_id: columns.id_opt(RunId)?,
        state: columns.word(DeliveryState::parse)?,
        reason: columns.take()?,
        tries: columns.take()?,
        next_at: columns.time_opt()?,
        resend_of: columns.id_opt(DeliveryId)?,
        replay_id: columns.id_opt(ReplayId)?,
        created_at: columns.time()?,
        finished_at: columns.time_opt()?,
    })
}

/// In the order of [`event`].
const EVENT: &str = "e.id, e.seq, e.name, e.pipeline_id, e.run_id, e.job_id, e.attempt, e.at, e.status, e.data, \
    e.payload";

fn event(columns: &mut Columns) -> rusqlite::Result<OutgoingEvent> {
    Ok(OutgoingEvent {
        id: columns.id(EventId)?,
        seq: columns.take()?,
        name: columns.word(EventName::parse)?,
        pipeline_id: columns.id_opt(PipelineId)?,
        run_id: columns.id_opt(RunId)?,
        job_id: columns.id_opt(JobId)?,
        attempt: columns.take()?,
        at: columns.time()?,
        status: columns.take()?,
        data: columns.json()?,
        payload: columns.take()?,
    })
}

fn load(connection: &Connection, id: DeliveryId) -> Result<Option<Delivery>> {
    let sql = format!("SELECT {DELIVERY} FROM deliveries d WHERE d.id = ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    let found = statement.query_row([id.0.as_bytes()], |row| delivery(&mut Columns::of(row)));
    Ok(found.optional()?)
}

fn load_event(connection: &Connection, id: EventId) -> Result<Option<OutgoingEvent>> {
    let sql = format!("SELECT {EVENT} FROM outgoing_events e WHERE e.id = ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    let found = statement.query_row([id.0.as_bytes()], |row| event(&mut Columns::of(row)));
    Ok(found.optional()?)
}

fn load_subscription(
    connection: &Connection,
    id: Option<SubscriptionId>,
) -> Result<Option<Subscription>> {
    let sql = format!("SELECT {SUBSCRIPTION} FROM subscriptions s WHERE s.id = ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    let id = key(id.map(|id| id.0));
    let found = statement.query_row([id], |row| subscription(&mut Columns::of(row)));
    Ok(found.optional()?)
}

fn keep_payload(connection: &Connection, id: EventId, payload: &str) -> Result<Option<String>> {
    let sql = "UPDATE outgoing_events SET payload = ?2 WHERE id = ?1 AND payload IS NULL";
    let given = params![id.0.as_bytes(), payload];
    if connection.prepare_cached(sql)?.execute(given)? > 0 {
        return Ok(Some(payload.to_owned()));
    }
    let sql = "SELECT payload FROM outgoing_events WHERE id = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let kept = statement.query_row([id.0.as_bytes()], |row| row.get(0));
    Ok(kept.optional()?)
}

fn expire(connection: &Connection, limit: i64, hints: &mut Hints) -> Result<i64> {
    let sql = "UPDATE deliveries SET state = 'pending', next_at = ?1, sender = NULL, lease_until = NULL \
         WHERE seq IN (SELECT seq FROM deliveries WHERE state = 'sending' AND lease_until IS NOT NULL \
         AND lease_until < ?1 LIMIT ?2)";
    let expired = connection
        .prepare_cached(sql)?
        .execute(params![micros(now()), limit])?;
    hints.deliveries |= expired > 0;
    let sql = "UPDATE deliveries SET state = 'failed', reason = ?3, finished_at = ?1 WHERE seq IN ( \
         SELECT seq FROM deliveries WHERE state = 'sending' AND origin = 'send' AND created_at < ?2 LIMIT ?4)";
    let (at, before) = (micros(now()), micros(now() - SEND_ENDS_WITHIN));
    connection
        .prepare_cached(sql)?
        .execute(params![at, before, SEND_UNENDED, limit])?;
    Ok(i64::try_from(expired).unwrap_or(i64::MAX))
}

fn ping(
    connection: &Connection,
    id: SubscriptionId,
    data: &Value,
    hints: &mut Hints,
) -> Result<Queued> {
    let Some(subscription) = load_subscription(connection, Some(id))? else {
        return Ok(Queued::Unknown);
    };
    if !subscription.is_enabled() {
        return Ok(Queued::Disabled);
    }
    let told = Told {
        id: EventId::new(),
        name: EventName::Ping,
        pipeline_id: subscription.terms.pipeline_id,
        run_id: None,
        job_id: None,
        attempt: 0,
        at: now(),
        status: "",
        data: data.clone(),
    };
    insert_event(connection, &told)?;
    let new = NewDelivery {
        origin: "ping",
        subscription_id: id,
        receiver: &subscription.terms.name,
        told: &told,
    };
    hints.deliveries = true;
    Ok(Queued::As(insert_delivery(connection, &new)?))
}

fn resend(connection: &Connection, id: DeliveryId, hints: &mut Hints) -> Result<Queued> {
    let subscription = match load(connection, id)? {
        Some(delivery) => load_subscription(connection, delivery.subscription_id)?,
        None => None,
    };
    match subscription {
        None => return Ok(Queued::Unknown),
        Some(subscription) if !subscription.is_enabled() => return Ok(Queued::Disabled),
        Some(_) => {}
    }
    let new = DeliveryId::new();
    let sql = "INSERT INTO deliveries (id, origin, subscription_id, receiver, event_id, event, webhook_id, \
         pipeline_id, run_id, state, next_at, resend_of, created_at) \
         SELECT ?2, 'resend', d.subscription_id, d.receiver, d.event_id, d.event, d.webhook_id, d.pipeline_id, \
         d.run_id, 'pending', ?3, d.id, ?3 FROM deliveries d JOIN outgoing_events e ON e.id = d.event_id \
         WHERE d.id = ?1";
    let made = connection.prepare_cached(sql)?.execute(params![
        id.0.as_bytes(),
        new.0.as_bytes(),
        micros(now())
    ])?;
    hints.deliveries |= made > 0;
    Ok(match made {
        0 => Queued::Unknown,
        _ => Queued::As(new),
    })
}

fn show(connection: &Connection, id: DeliveryId) -> Result<Option<(Delivery, Vec<DeliveryTry>)>> {
    let Some(delivery) = load(connection, id)? else {
        return Ok(None);
    };
    Ok(Some((delivery, tries::of(connection, id)?)))
}

/// Only the filters that are set are in the question, so that an index serves it.
fn list(connection: &Connection, filter: &DeliveryFilter) -> Result<Vec<Delivery>> {
    let mut given: Vec<Box<dyn ToSql>> = Vec::new();
    let mut all = vec!["true".to_owned()];
    let mut ask = |condition: &str, value: Option<Box<dyn ToSql>>| {
        if let Some(value) = value {
            given.push(value);
            all.push(condition.replace('?', &format!("?{}", given.len())));
        }
    };
    let id = |id: Option<Uuid>| key(id).map(|id| Box::new(id) as Box<dyn ToSql>);
    let word = |word: Option<&'static str>| word.map(|word| Box::new(word) as Box<dyn ToSql>);
    let time = |at| micros_opt(at).map(|at| Box::new(at) as Box<dyn ToSql>);
    ask(
        "d.subscription_id = ?",
        id(filter.subscription_id.map(|id| id.0)),
    );
    ask("d.pipeline_id = ?", id(filter.pipeline_id.map(|id| id.0)));
    ask("d.run_id = ?", id(filter.run_id.map(|id| id.0)));
    ask("d.event_id = ?", id(filter.event_id.map(|id| id.0)));
    ask("d.event = ?", word(filter.event.map(EventName::as_str)));
    ask("d.state = ?", word(filter.state.map(DeliveryState::as_str)));
    ask("d.origin = ?", word(filter.origin.map(Origin::as_str)));
    ask("d.created_at >= ?", time(filter.since));
    ask("d.created_at < ?", time(filter.until));
    let older = "d.seq < (SELECT seq FROM deliveries WHERE id = ?)";
    ask(older, id(filter.after.map(|id| id.0)));
    given.push(Box::new(filter.limit));
    let (all, limit) = (all.join(" AND "), given.len());
    let sql = format!(
        "SELECT {DELIVERY} FROM deliveries d WHERE {all} ORDER BY d.seq DESC LIMIT ?{limit}"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let given = rusqlite::params_from_iter(given.iter());
    let found = statement.query_map(given, |row| delivery(&mut Columns::of(row)))?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

/// Deletes at most `?1` deliveries of subscriptions that are gone, found by stepping through an index.
const OF_NOBODY: &str = "WITH RECURSIVE known (id) AS ( \
        SELECT * FROM (SELECT subscription_id FROM deliveries WHERE subscription_id IS NOT NULL \
            ORDER BY subscription_id LIMIT 1) \
        UNION ALL \
        SELECT (SELECT subscription_id FROM deliveries WHERE subscription_id > k.id ORDER BY subscription_id LIMIT 1) \
        FROM known k WHERE k.id IS NOT NULL \
    ) DELETE FROM deliveries WHERE seq IN (SELECT seq FROM deliveries WHERE subscription_id IN ( \
        SELECT id FROM known WHERE id IS NOT NULL AND id NOT IN (SELECT id FROM subscriptions)) LIMIT ?1)";
/// The same of what pipelines that are gone sent. What subscribers of everything were told about them stays.
const SENT_BY_NOBODY: &str = "WITH RECURSIVE known (id) AS ( \
        SELECT * FROM (SELECT pipeline_id FROM deliveries WHERE subscription_id IS NULL AND pipeline_id IS NOT NULL \
            ORDER BY pipeline_id LIMIT 1) \
        UNION ALL \
        SELECT (SELECT pipeline_id FROM deliveries WHERE subscription_id IS NULL AND pipeline_id > k.id \
            ORDER BY pipeline_id LIMIT 1) \
        FROM known k WHERE k.id IS NOT NULL \
    ) DELETE FROM deliveries WHERE seq IN (SELECT seq FROM deliveries WHERE subscription_id IS NULL \
        AND pipeline_id IN (SELECT id FROM known WHERE id IS NOT NULL AND id NOT IN (SELECT id FROM pipelines)) \
        LIMIT ?1)";

fn forget(connection: &Connection, older: Duration, limit: i64) -> Result<i64> {
    let before = micros(now() - older);
    let mut forgotten = 0;
    for sql in [OF_NOBODY, SENT_BY_NOBODY] {
        forgotten += connection.prepare_cached(sql)?.execute([limit])?;
    }
    for sql in [
        "DELETE FROM deliveries WHERE seq IN (SELECT seq FROM deliveries WHERE created_at < ?1 \
         AND (state <> 'sending' OR lease_until IS NULL) ORDER BY created_at LIMIT ?2)",
        "DELETE FROM outgoing_events WHERE seq IN (SELECT e.seq FROM outgoing_events e WHERE e.at < ?1 \
         AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.event_id = e.id) ORDER BY e.at, e.seq LIMIT ?2)",
    ] {
        forgotten += connection
            .prepare_cached(sql)?
            .execute(params![before, limit])?;
    }
    let sql = "DELETE FROM replays WHERE id IN (SELECT id FROM replays WHERE done AND created_at < ?1 LIMIT ?2)";
    connection
        .prepare_cached(sql)?
        .execute(params![before, limit])?;
    Ok(i64::try_from(forgotten).unwrap_or(i64::MAX))
}

#[async_trait]
impl DeliveryStore for SqliteStore {
    async fn claim_deliveries(&self, claim: DeliveryClaim) -> Result<ClaimedDeliveries> {
        self.writer
            .call(move |connection, _| claim::claim(connection, &claim))
            .await
    }

    async fn keep_payload(&self, id: EventId, payload: String) -> Result<Option<String>> {
        self.writer
            .call(move |connection, _| keep_payload(connection, id, &payload))
            .await
    }

    async fn begin_try(&self, new: NewTry) -> Result<Option<i32>> {
        self.writer
            .call(move |connection, _| tries::begin(connection, &new))
            .await
    }

    async fn record_try(&self, record: TryRecord) -> Result<Recorded> {
        self.writer
            .call(move |connection, _| tries::record(connection, &record))
            .await
    }

    async fn expire_deliveries(&self, limit: i64) -> Result<i64> {
        self.writer
            .call(move |connection, hints| expire(connection, limit, hints))
            .await
    }

    async fn ping_subscription(
        &self,
        id: SubscriptionId,
        by: &str,
        sample: Option<EventName>,
    ) -> Result<Queued> {
        let data = OutgoingEvent::ping_data(by, sample);
        self.writer
            .call(move |connection, hints| ping(connection, id, &data, hints))
            .await
    }

    async fn resend(&self, id: DeliveryId) -> Result<Queued> {
        self.writer
            .call(move |connection, hints| resend(connection, id, hints))
            .await
    }

    async fn count_replay(&self, filter: &ReplayFilter) -> Result<i64> {
        let filter = filter.clone();
        self.readers
            .read(move |connection| replays::count(connection, &filter))
            .await
    }

    async fn begin_replay(&self, id: ReplayId, filter: ReplayFilter) -> Result<Option<Replay>> {
        self.writer
            .call(move |connection, hints| {
                hints.replays = true;
                replays::begin(connection, id, &filter)
            })
            .await
    }

    async fn advance_replays(&self) -> Result<bool> {
        self.writer
            .call(move |connection, hints| {
                let advanced = replays::advance(connection)?;
                hints.deliveries |= advanced;
                Ok(advanced)
            })
            .await
    }

    async fn replay(&self, id: ReplayId) -> Result<Option<Replay>> {
        self.readers
            .read(move |connection| replays::load(connection, id))
            .await
    }

    async fn replays(&self, id: SubscriptionId, limit: i64) -> Result<Vec<Replay>> {
        self.readers
            .read(move |connection| replays::list(connection, id, limit))
            .await
    }

    async fn outgoing_event(&self, id: EventId) -> Result<Option<OutgoingEvent>> {
        self.readers
            .read(move |connection| load_event(connection, id))
            .await
    }

    async fn delivery(&self, id: DeliveryId) -> Result<Option<(Delivery, Vec<DeliveryTry>)>> {
        self.readers
            .read(move |connection| show(connection, id))
            .await
    }

    async fn deliveries(&self, filter: DeliveryFilter) -> Result<Vec<Delivery>> {
        self.readers
            .read(move |connection| list(connection, &filter))
            .await
    }

    async fn record_send(&self, noted: SendTry) -> Result<bool> {
        self.writer
            .call(move |connection, _| tries::record_send(connection, &noted))
            .await
    }

    async fn forget_deliveries(&self, older: Duration, limit: i64) -> Result<i64> {
        self.writer
            .call(move |connection, _| forget(connection, older, limit))
            .await
    }

    async fn waiting_deliveries(&self) -> Result<i64> {
        let sql = "SELECT (SELECT count(*) FROM deliveries WHERE state = 'pending') \
             + (SELECT count(*) FROM deliveries WHERE state = 'sending' AND lease_until IS NOT NULL)";
        self.readers
            .read(move |connection| Ok(connection.query_row(sql, [], |row| row.get(0))?))
            .await
    }
}
