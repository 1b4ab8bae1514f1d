//! Taking what is due: fair between subscriptions, within the limits of each.

use super::super::rows::{Columns, micros, now};
use crate::model::delivery::DueDelivery;
use crate::model::{DeliveryId, SubscriptionId};
use crate::store::{ClaimedDeliveries, DAMAGED_WAIT, DeliveryClaim, GONE, Result};
use rusqlite::{Connection, OptionalExtension as _, params};
use std::time::Duration;

/// A subscription that something waits for.
struct Waiting {
    id: SubscriptionId,
    ordered: bool,
    unproven: bool,
    /// Requests that may be made now.
    room: i64,
    /// Of a rate, a second.
    rate: Option<f64>,
    /// When its bucket was empty.
    slot_at: i64,
    /// Nothing before.
    paused_until: Option<i64>,
    /// Whether more than the clock is in the way.
    is_full: bool,
}

/// Where one delivery is found.
struct Found {
    seq: i64,
    id: DeliveryId,
    next_at: i64,
    unproven: bool,
    /// Among those of its subscription.
    place: usize,
    /// Whose.
    of: usize,
}

const SECOND: f64 = 1e6;

/// See [`crate::store::DeliveryStore::claim_deliveries`].
pub(super) fn claim(connection: &Connection, claim: &DeliveryClaim) -> Result<ClaimedDeliveries> {
    let at = micros(now());
    let waiting = waiting(connection, at)?;
    let mut found = Vec::new();
    for (of, one) in waiting.iter().enumerate() {
        if one.room > 0 && one.paused_until.is_none_or(|until| until <= at) {
            first_due(connection, one, of, at, &mut found)?;
        }
    }
    found.sort_by_key(|one| (one.place, one.next_at, one.seq));
    let mut unproven = 0;
    found.retain(|one| {
        unproven += i64::from(one.unproven);
        !one.unproven || unproven <= claim.max_unproven
    });
    found.truncate(usize::try_from(claim.max).unwrap_or(1));
    take(connection, claim, &waiting, &mut found, at)?;
    let is_all = i64::try_from(found.len()).unwrap_or(i64::MAX) < claim.max;
    Ok(ClaimedDeliveries {
        due: complete(connection, &found)?,
        wait: if is_all { wait(connection, at)? } else { None },
    })
}

/// Those that are enabled, found by stepping through an index.
fn waiting(connection: &Connection, at: i64) -> Result<Vec<Waiting>> {
    let sql = "WITH RECURSIVE waiting (id) AS (
            SELECT * FROM (SELECT subscription_id FROM deliveries WHERE state = 'pending'
                ORDER BY subscription_id LIMIT 1)
            UNION ALL
            SELECT (SELECT subscription_id FROM deliveries WHERE state = 'pending' AND subscription_id > w.id
                ORDER BY subscription_id LIMIT 1) FROM waiting w WHERE w.id IS NOT NULL
        )
        SELECT s.id, s.ordered, (s.failures > 0 OR s.succeeded_at IS NULL), s.concurrency, s.rate_per_second, s.slot_at,
            s.paused_until,
            (SELECT count(*) FROM deliveries h WHERE h.subscription_id = s.id AND h.state = 'sending'
                AND h.lease_until IS NOT NULL)
        FROM waiting w JOIN subscriptions s ON s.id = w.id WHERE s.disabled_reason IS NULL";
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement.query_map([], |row| {
        let mut columns = Columns::of(row);
        let id = columns.id(SubscriptionId)?;
        let (ordered, unproven): (bool, bool) = (columns.take()?, columns.take()?);
        let concurrency: i64 = columns.take()?;
        let rate: Option<f64> = columns.take()?;
        let (slot_at, paused_until): (i64, _) = (columns.take()?, columns.take()?);
        // A rate that was changed, or a clock that was set back, holds up a bucket's time at most.
        let slot_at = rate.map_or(slot_at, |rate| slot_at.min(at.saturating_add(full(rate))));
        let in_hand: i64 = columns.take()?;
        let most = if ordered || unproven { 1 } else { concurrency };
        let room = most - in_hand;
        Ok(Waiting {
            id,
            ordered,
            unproven,
            room: rate.map_or(room, |rate| room.min(tokens(rate, slot_at, at))),
            rate,
            slot_at,
            paused_until,
            is_full: room <= 0,
        })
    })?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

/// How long an empty bucket takes to be full.
fn full(rate: f64) -> i64 {
    (1.0_f64.max(1.0 / rate) * SECOND) as i64
}

/// A bucket holds one second's worth of a rate, one request at least.
fn tokens(rate: f64, slot_at: i64, at: i64) -> i64 {
    let filled = (at - slot_at) as f64 / SECOND * rate;
    // Far below 2^53; the small addition makes up for rounding.
    (filled.min(rate.max(1.0)) + 1e-6).floor() as i64
}

fn first_due(
    connection: &Connection,
    one: &Waiting,
    of: usize,
    at: i64,
    found: &mut Vec<Found>,
) -> Result<()> {
    let order = if one.ordered { "seq" } else { "next_at, seq" };
    let sql = format!(
        "SELECT seq, id, next_at FROM (SELECT seq, id, next_at FROM deliveries \
         WHERE state = 'pending' AND subscription_id = ?1 AND (?4 OR next_at <= ?2) ORDER BY {order} LIMIT ?3) \
         WHERE next_at <= ?2"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let given = params![one.id.0.as_bytes(), at, one.room, one.ordered];
    let rows = statement.query_map(given, |row| {
        let mut columns = Columns::of(row);
        Ok((columns.take()?, columns.id(DeliveryId)?, columns.take()?))
    })?;
    for (place, row) in rows.enumerate() {
        let (seq, id, next_at) = row?;
        found.push(Found {
            seq,
            id,
            next_at,
            unproven: one.unproven,
            place,
            of,
        });
    }
    Ok(())
}

fn take(
    connection: &Connection,
    claim: &DeliveryClaim,
    waiting: &[Waiting],
    found: &mut [Found],
    at: i64,
) -> Result<()> {
    let lease = i64::try_from(claim.lease.as_micros()).unwrap_or(i64::MAX / 2);
    let sql = "UPDATE deliveries SET state = 'sending', next_at = NULL, sender = ?2, lease_until = ?3 WHERE seq = ?1";
    let mut taken = vec![0_u32; waiting.len()];
    for one in found.iter() {
        let given = params![one.seq, claim.sender.as_bytes(), at.saturating_add(lease)];
        connection.prepare_cached(sql)?.execute(given)?;
        taken[one.of] += 1;
    }
    for (one, taken) in waiting.iter().zip(taken) {
        if let (Some(rate), 1..) = (one.rate, taken) {
            let paid = (f64::from(taken) / rate * SECOND) as i64;
            let slot_at = one.slot_at.max(at - full(rate)) + paid;
            let sql = "UPDATE subscriptions SET slot_at = ?2 WHERE id = ?1";
            let given = params![one.id.0.as_bytes(), slot_at];
            connection.prepare_cached(sql)?.execute(given)?;
        }
    }
    found.sort_by_key(|one| one.seq);
    Ok(())
}

/// Adds events and subscriptions. What cannot be sent is settled, or waits; it holds nothing else up.
fn complete(connection: &Connection, found: &[Found]) -> Result<Vec<DueDelivery>> {
    let mut due = Vec::with_capacity(found.len());
    for one in found {
        match completed(connection, one.id) {
            Ok(Some(one)) => due.push(one),
            Ok(None) => {
                let sql = "UPDATE deliveries SET state = 'dropped', reason = ?2, sender = NULL, lease_until = NULL, \
                     finished_at = ?3 WHERE seq = ?1";
                let given = params![one.seq, GONE, micros(now())];
                connection.prepare_cached(sql)?.execute(given)?;
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(delivery = %one.id, error, "a delivery cannot be read; it waits");
                let sql = "UPDATE deliveries SET state = 'pending', sender = NULL, lease_until = NULL, next_at = ?2 \
                     WHERE seq = ?1";
                let given = params![one.seq, micros(now() + DAMAGED_WAIT)];
                connection.prepare_cached(sql)?.execute(given)?;
            }
        }
    }
    Ok(due)
}

/// `None`: its event or subscription is gone.
fn completed(connection: &Connection, id: DeliveryId) -> Result<Option<DueDelivery>> {
    let Some(delivery) = super::load(connection, id)? else {
        return Ok(None);
    };
    let event = match delivery.event_id {
        Some(id) => super::load_event(connection, id)?,
        None => None,
    };
    let subscription = super::load_subscription(connection, delivery.subscription_id)?;
    Ok(match (event, subscription) {
        (Some(event), Some(subscription)) => Some(DueDelivery {
            delivery,
            event,
            subscription,
        }),
        _ => None,
    })
}

/// How long until more becomes due, of receivers that have room.
fn wait(connection: &Connection, at: i64) -> Result<Option<Duration>> {
    let mut first: Option<i64> = None;
    for one in waiting(connection, at)? {
        if one.is_full {
            continue;
        }
        let order = if one.ordered { "seq" } else { "next_at" };
        let sql = format!(
            "SELECT next_at FROM deliveries WHERE state = 'pending' AND subscription_id = ?1 ORDER BY {order} LIMIT 1"
        );
        let mut statement = connection.prepare_cached(&sql)?;
        let next = statement.query_row([one.id.0.as_bytes()], |row| row.get::<_, i64>(0));
        let Some(next) = next.optional()? else {
            continue;
        };
        let slot = one.rate.map_or(0, |rate| {
            one.slot_at.saturating_add((SECOND / rate).ceil() as i64)
        });
        let due = next.max(slot).max(one.paused_until.unwrap_or(0));
        first = Some(first.map_or(due, |first| first.min(due)));
    }
    Ok(first.map(|due| Duration::from_micros(u64::try_from(due - at).unwrap_or(0))))
}
