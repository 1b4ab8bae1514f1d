//! Tries: begun, recorded.

use super::super::rows::{Columns, json, micros, now};
use crate::model::DeliveryId;
use crate::model::delivery::{DeliveryState, DeliveryTry, Next, TryEnd, TryRequest, TryState};
use crate::store::{NewTry, Recorded, Result, SUCCESS_NOTED_EVERY, SendTry, TryRecord, codec};
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use std::time::Duration;
use time::OffsetDateTime;

fn length(micros: i64) -> Duration {
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

fn span(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

fn a_try(row: &Row) -> rusqlite::Result<DeliveryTry> {
    let mut columns = Columns::of(row);
    let number = columns.take()?;
    let state = columns.word(TryState::parse)?;
    let began_at = columns.time()?;
    let sender = columns.take()?;
    let request = TryRequest {
        url: columns.take()?,
        method: columns.take()?,
        headers: columns.json()?,
        body_bytes: columns.take()?,
        body_sha256: columns.take()?,
    };
    let end = TryEnd {
        state,
        status: columns.take()?,
        headers: columns.json()?,
        body: columns.bytes()?,
        error: columns.take()?,
        duration: length(columns.take()?),
        first_byte: columns.take::<Option<i64>>()?.map(length),
        peer: columns.take()?,
    };
    Ok(DeliveryTry {
        number,
        began_at,
        sender,
        request,
        end: (state != TryState::Unknown).then_some(end),
    })
}

/// The tries of a delivery in order.
pub(super) fn of(connection: &Connection, id: DeliveryId) -> Result<Vec<DeliveryTry>> {
    let sql = "SELECT number, state, began_at, sender, url, method, headers, body_bytes, body_sha256, status, \
         response_headers, response_body, error, duration_us, first_byte_us, peer \
         FROM delivery_tries WHERE delivery_id = ?1 ORDER BY number";
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement.query_map([id.0.as_bytes()], a_try)?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

fn insert(
    connection: &Connection,
    id: DeliveryId,
    number: i32,
    sender: &str,
    request: &TryRequest,
    began_at: OffsetDateTime,
) -> Result<bool> {
    let sql = "INSERT INTO delivery_tries (delivery_id, number, state, began_at, sender, url, method, headers, \
         body_bytes, body_sha256) VALUES (?1, ?2, 'unknown', ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO NOTHING";
    let inserted = connection.prepare_cached(sql)?.execute(params![
        id.0.as_bytes(),
        number,
        micros(began_at),
        sender,
        request.url,
        request.method,
        json(&request.headers)?,
        request.body_bytes,
        request.body_sha256,
    ])?;
    Ok(inserted > 0)
}

/// See [`crate::store::DeliveryStore::begin_try`].
pub(super) fn begin(connection: &Connection, new: &NewTry) -> Result<Option<i32>> {
    let at = now();
    let sql = "UPDATE deliveries SET tries = tries + 1, lease_until = ?3 \
         WHERE id = ?1 AND state = 'sending' AND sender = ?2 AND tries = ?4 RETURNING tries";
    let given = params![
        new.delivery_id.0.as_bytes(),
        new.sender.as_bytes(),
        micros(at + new.lease),
        new.tries,
    ];
    let mut statement = connection.prepare_cached(sql)?;
    let begun = statement.query_row(given, |row| row.get(0)).optional()?;
    if let Some(number) = begun {
        let name = &new.sender_name;
        insert(connection, new.delivery_id, number, name, &new.request, at)?;
    }
    Ok(begun)
}

/// `false` if it was noted before.
fn note(connection: &Connection, id: DeliveryId, number: i32, end: &TryEnd) -> Result<bool> {
    let sql = "UPDATE delivery_tries SET state = ?3, status = ?4, response_headers = ?5, response_body = ?6, \
         error = ?7, duration_us = ?8, first_byte_us = ?9, peer = ?10 \
         WHERE delivery_id = ?1 AND number = ?2 AND state = 'unknown'";
    let noted = connection.prepare_cached(sql)?.execute(params![
        id.0.as_bytes(),
        number,
        end.state.as_str(),
        end.status,
        json(&end.headers)?,
        end.body.as_ref(),
        end.error,
        span(end.duration),
        end.first_byte.map(span),
        end.peer,
    ])?;
    Ok(noted > 0)
}

/// See [`crate::store::DeliveryStore::record_try`].
pub(super) fn record(connection: &Connection, record: &TryRecord) -> Result<Recorded> {
    let mut noted = false;
    if let Some((number, end)) = &record.ended {
        noted = note(connection, record.delivery_id, *number, end)?;
    }
    let moved = move_on(connection, record)?;
    health(connection, record, noted)?;
    Ok(match (moved, noted) {
        (true, _) => Recorded::Done,
        (false, true) => Recorded::Late,
        (false, false) => Recorded::Stale,
    })
}

/// Whoever lost the lease decides nothing, but what arrived has arrived.
fn move_on(connection: &Connection, record: &TryRecord) -> Result<bool> {
    let (state, reason, wait) = match &record.next {
        Next::Done => (DeliveryState::Delivered, "", None),
        Next::Again(wait) => (DeliveryState::Pending, "", Some(*wait)),
        Next::Fail(reason) => (DeliveryState::Failed, reason.as_str(), None),
        Next::Drop(reason) => (DeliveryState::Dropped, reason.as_str(), None),
        Next::Filter => (DeliveryState::Filtered, "", None),
    };
    let at = now();
    let sql = "UPDATE deliveries SET state = ?4, reason = ?5, sender = NULL, lease_until = NULL, next_at = ?6, \
         finished_at = ?7 WHERE id = ?1 AND ((state = 'sending' AND sender = ?2 AND (?3 IS NULL OR tries = ?3)) \
         OR (?4 = 'delivered' AND state IN ('pending', 'sending')))";
    let moved = connection.prepare_cached(sql)?.execute(params![
        record.delivery_id.0.as_bytes(),
        record.sender.as_bytes(),
        record.ended.as_ref().map(|(number, _)| *number),
        state.as_str(),
        reason,
        wait.map(|wait| micros(at + wait)),
        state.is_final().then(|| micros(at)),
    ])?;
    Ok(moved > 0)
}

/// What was noted before counts no second time.
fn health(connection: &Connection, record: &TryRecord, noted: bool) -> Result<()> {
    let at = micros(now());
    let id = record.subscription_id.0.as_bytes();
    let ended = record.ended.as_ref().filter(|_| noted);
    match ended.map(|(_, end)| end.state) {
        Some(TryState::Delivered) => {
            let sql = "UPDATE subscriptions SET failures = 0, failing_since = NULL, succeeded_at = ?2, \
                 paused_until = NULL WHERE id = ?1 AND version = ?4 \
                 AND (failures > 0 OR succeeded_at IS NULL OR succeeded_at < ?2 - ?3)";
            let given = params![id, at, span(SUCCESS_NOTED_EVERY), record.version];
            connection.prepare_cached(sql)?.execute(given)?;
        }
        Some(TryState::Failed) => {
            let sql = "UPDATE subscriptions SET failures = failures + 1, \
                 failing_since = coalesce(failing_since, ?2), failed_at = ?2 WHERE id = ?1 AND version = ?3";
            let given = params![id, at, record.version];
            connection.prepare_cached(sql)?.execute(given)?;
        }
        Some(TryState::Unknown) | None => {}
    }
    if let Some(pause) = record.pause {
        let sql = "UPDATE subscriptions SET paused_until = max(coalesce(paused_until, 0), ?2) \
             WHERE id = ?1 AND version = ?3";
        let until = at.saturating_add(span(pause));
        connection
            .prepare_cached(sql)?
            .execute(params![id, until, record.version])?;
    }
    Ok(())
}

/// See [`crate::store::DeliveryStore::record_send`].
pub(super) fn record_send(connection: &Connection, noted: &SendTry) -> Result<bool> {
    let state = match (noted.end.state, noted.last) {
        (TryState::Delivered, _) => DeliveryState::Delivered,
        (_, true) => DeliveryState::Failed,
        (_, false) => DeliveryState::Sending,
    };
    let id = codec::send_id(noted.run_id, &noted.webhook_id);
    let at = micros(now());
    let sql = "INSERT INTO deliveries (id, origin, receiver, webhook_id, pipeline_id, run_id, state, tries, \
         created_at, finished_at) SELECT ?1, 'send', ?2, ?3, ?4, ?5, ?6, ?7, ?8, iif(?6 <> 'sending', ?8, NULL) \
         WHERE EXISTS (SELECT 1 FROM runs WHERE id = ?5) \
         ON CONFLICT (id) DO UPDATE SET tries = max(tries, excluded.tries), \
         state = iif(state = 'sending' OR excluded.state = 'delivered', excluded.state, state), \
         reason = iif(excluded.state = 'delivered', '', reason), \
         finished_at = coalesce(finished_at, excluded.finished_at)";
    let stored = connection.prepare_cached(sql)?.execute(params![
        id.0.as_bytes(),
        noted.request.url,
        noted.webhook_id,
        noted.pipeline_id.0.as_bytes(),
        noted.run_id.0.as_bytes(),
        state.as_str(),
        noted.number,
        at,
    ])?;
    if stored == 0 {
        return Ok(false);
    }
    let (sender, request) = (&noted.sender, &noted.request);
    if !insert(
        connection,
        id,
        noted.number,
        sender,
        request,
        noted.began_at,
    )? {
        return Ok(false);
    }
    note(connection, id, noted.number, &noted.end)
}
