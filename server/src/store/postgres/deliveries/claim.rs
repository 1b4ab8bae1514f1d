//! Taking what is due: fair between subscriptions, within the limits of each, of all servers together.
//!
//! One claim at a time in the whole database (an advisory lock, taken before the claim's snapshot): how many requests a
//! receiver has in hand can only be counted while nobody else is handing out.

use super::super::super::{ClaimedDeliveries, DAMAGED_WAIT, DeliveryClaim, GONE, StoreError};
use super::super::subscriptions::subscription;
use super::super::{Failable, MAX_TRIES, millis};
use crate::model::delivery::DueDelivery;
use deadpool_postgres::Object;
use futures_util::try_join;
use std::collections::HashMap;
use std::time::Duration;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

/// Any number that nobody else uses for an advisory lock in this database.
const LOCK: i64 = 0x706f_636b_636c_6169;

/// Subscriptions that something waits for, found by stepping through an index. `OFFSET 0` has each of them looked up by its
/// id: joined, all subscriptions would be read for each.
const WAITING: &str = "WITH RECURSIVE waiting AS (
        (SELECT subscription_id FROM deliveries WHERE state = 'pending' ORDER BY subscription_id LIMIT 1)
        UNION ALL
        SELECT next.subscription_id FROM waiting w CROSS JOIN LATERAL (
            SELECT subscription_id FROM deliveries WHERE state = 'pending' AND subscription_id > w.subscription_id
            ORDER BY subscription_id LIMIT 1) next
    ), room AS MATERIALIZED (
        SELECT s.id, s.ordered, s.unproven, s.rate, s.slot_at, s.paused_until, now.at,
            s.most - (SELECT count(*) FROM deliveries h WHERE h.subscription_id = s.id
                AND h.state = 'sending' AND h.lease_until IS NOT NULL) AS room
        FROM clock_timestamp() AS now (at) CROSS JOIN waiting w CROSS JOIN LATERAL (
            SELECT s.id, s.ordered, s.rate_per_second AS rate, s.paused_until,
                -- A rate that was changed, or a clock that was set back, holds up a bucket's time at most.
                least(s.slot_at, now.at + greatest(1, 1 / s.rate_per_second) * interval '1 second') AS slot_at,
                (s.failures > 0 OR s.succeeded_at IS NULL) AS unproven,
                CASE WHEN s.ordered OR s.failures > 0 OR s.succeeded_at IS NULL THEN 1 ELSE s.concurrency END AS most
            FROM subscriptions s WHERE s.id = w.subscription_id AND s.disabled_reason IS NULL OFFSET 0) s
    )";

/// `$1` most, `$2` most of unproven receivers, `$3` sender, `$4` lease in milliseconds. A bucket holds one second's worth
/// of a rate, one request at least.
const CLAIM: &str = "ready AS MATERIALIZED (
        SELECT id, ordered, unproven, rate, at, slot_at, least(room, CASE WHEN rate IS NULL THEN room
            ELSE floor(least(greatest(rate, 1), extract(epoch FROM at - greatest(slot_at, at - interval '1 hour')) * rate)
                + 1e-6)::bigint END) AS room
        FROM room WHERE paused_until IS NULL OR paused_until <= at
    ), found AS (
        SELECT d.id, r.unproven, d.next_at, d.seq,
            row_number() OVER (PARTITION BY r.id ORDER BY d.next_at, d.seq) AS place
        FROM ready r CROSS JOIN LATERAL (
            (SELECT id, next_at, seq FROM deliveries WHERE state = 'pending' AND subscription_id = r.id
                AND NOT r.ordered AND next_at <= r.at ORDER BY next_at, seq LIMIT greatest(r.room, 0))
            UNION ALL
            (SELECT id, next_at, seq FROM (
                SELECT id, next_at, seq FROM deliveries WHERE state = 'pending' AND subscription_id = r.id
                    AND r.ordered ORDER BY seq LIMIT greatest(r.room, 0)) first WHERE next_at <= r.at)) d
        WHERE r.room > 0
    ), ranked AS (
        SELECT *, row_number() OVER (PARTITION BY unproven ORDER BY place, next_at, seq) AS rank FROM found
    ), chosen AS MATERIALIZED (
        SELECT id, place, next_at, seq FROM ranked WHERE NOT unproven OR rank <= $2
        ORDER BY place, next_at, seq LIMIT $1
    ), mine AS MATERIALIZED (
        SELECT d.id, d.subscription_id FROM deliveries d JOIN chosen c ON c.id = d.id
        WHERE d.state = 'pending' ORDER BY d.id FOR UPDATE OF d SKIP LOCKED
    ), paid AS (
        UPDATE subscriptions s SET slot_at = greatest(t.slot_at, t.at - greatest(1, 1 / t.rate) * interval '1 second')
            + t.taken / t.rate * interval '1 second'
        FROM (SELECT r.id, r.rate, r.at, r.slot_at, count(*) AS taken FROM mine m
            JOIN ready r ON r.id = m.subscription_id WHERE r.rate IS NOT NULL
            GROUP BY r.id, r.rate, r.at, r.slot_at) t
        WHERE s.id = t.id
    )
    UPDATE deliveries d SET state = 'sending', next_at = NULL, sender = $3,
        lease_until = clock_timestamp() + $4::bigint * interval '1 millisecond'
    FROM mine WHERE d.id = mine.id RETURNING d.*";

/// When more becomes due, in milliseconds from now, of receivers that have room.
const WAIT: &str = "SELECT ceil(extract(epoch FROM min(greatest(first.next_at, r.paused_until,
            CASE WHEN r.rate IS NOT NULL THEN r.slot_at + 1 / r.rate * interval '1 second' END)) - clock_timestamp())
            * 1000)::bigint AS wait
    FROM room r CROSS JOIN LATERAL (
        (SELECT next_at FROM deliveries WHERE state = 'pending' AND subscription_id = r.id AND NOT r.ordered
            ORDER BY next_at LIMIT 1)
        UNION ALL
        (SELECT next_at FROM deliveries WHERE state = 'pending' AND subscription_id = r.id AND r.ordered
            ORDER BY seq LIMIT 1)) first
    WHERE r.room > 0";

/// See [`super::super::super::DeliveryStore::claim_deliveries`].
pub(super) async fn claim(
    client: &mut Object,
    claim: &DeliveryClaim,
) -> Failable<ClaimedDeliveries> {
    let mut tries = 1;
    let taken = loop {
        match take(client, claim).await {
            Ok(taken) => break taken,
            Err(failure) => {
                // A broken connection cannot roll back; the server has done so.
                let _ = client.batch_execute("ROLLBACK").await;
                if !failure.is_conflict() || tries >= MAX_TRIES {
                    return Err(failure);
                }
                tries += 1;
            }
        }
    };
    let due = complete(client, &taken).await?;
    let is_all = i64::try_from(due.len()).unwrap_or(i64::MAX) < claim.max;
    let wait = if is_all { wait(client).await? } else { None };
    Ok(ClaimedDeliveries { due, wait })
}

async fn take(client: &Object, claim: &DeliveryClaim) -> Failable<Vec<Row>> {
    let sql = format!("{WAITING}, {CLAIM}");
    let (lock, statement) = try_join!(
        client.prepare_cached("SELECT pg_advisory_xact_lock($1)"),
        client.prepare_cached(&sql)
    )?;
    let lease = millis(claim.lease);
    let locking: [&(dyn ToSql + Sync); 1] = [&LOCK];
    let given: [&(dyn ToSql + Sync); 4] = [&claim.max, &claim.max_unproven, &claim.sender, &lease];
    // Sent in this order, in one round trip.
    let ((), _, taken, ()) = try_join!(
        client.batch_execute("BEGIN"),
        client.execute(&lock, &locking),
        client.query(&statement, &given),
        client.batch_execute("COMMIT"),
    )?;
    Ok(taken)
}

/// What cannot be sent, and why not.
#[derive(Default)]
struct Unsendable {
    /// Its event or subscription is gone.
    gone: Vec<Uuid>,
    /// It, or one of them, cannot be read.
    damaged: Vec<Uuid>,
}

/// Rows by id; `None`: it cannot be read.
fn by_id<T>(
    rows: &[Row],
    decode: impl Fn(&Row) -> Failable<T>,
) -> Failable<HashMap<Uuid, Option<T>>> {
    let entry = |row: &Row| {
        let id: Uuid = row.try_get("id")?;
        let decoded = decode(row).map_err(StoreError::from).inspect_err(|error| {
            tracing::error!(%id, error = error as &dyn std::error::Error, "a row cannot be read; its deliveries wait");
        });
        Ok((id, decoded.ok()))
    };
    rows.iter().map(entry).collect()
}

/// Adds events and subscriptions. What cannot be sent is settled, or waits; it holds nothing else up.
async fn complete(client: &Object, taken: &[Row]) -> Failable<Vec<DueDelivery>> {
    if taken.is_empty() {
        return Ok(Vec::new());
    }
    let taken = by_id(taken, super::delivery)?;
    let known = || taken.values().flatten();
    let event_ids: Vec<Uuid> = known().filter_map(|d| Some(d.event_id?.0)).collect();
    let ids: Vec<Uuid> = known().filter_map(|d| Some(d.subscription_id?.0)).collect();
    let (events, subscriptions) = try_join!(
        client.prepare_cached("SELECT * FROM outgoing_events WHERE id = ANY ($1)"),
        client.prepare_cached("SELECT * FROM subscriptions WHERE id = ANY ($1)")
    )?;
    let (of_events, of_ids): ([&(dyn ToSql + Sync); 1], [&(dyn ToSql + Sync); 1]) =
        ([&event_ids], [&ids]);
    let (events, subscriptions) = try_join!(
        client.query(&events, &of_events),
        client.query(&subscriptions, &of_ids)
    )?;
    let events = by_id(&events, super::event)?;
    let subscriptions = by_id(&subscriptions, subscription)?;
    let mut due = Vec::with_capacity(taken.len());
    let mut unsendable = Unsendable::default();
    for (id, delivery) in taken {
        let Some(delivery) = delivery else {
            unsendable.damaged.push(id);
            continue;
        };
        let event = delivery.event_id.and_then(|id| events.get(&id.0));
        let to = delivery.subscription_id;
        match (event, to.and_then(|id| subscriptions.get(&id.0))) {
            (Some(Some(event)), Some(Some(subscription))) => due.push(DueDelivery {
                event: event.clone(),
                subscription: subscription.clone(),
                delivery,
            }),
            (None, _) | (_, None) => unsendable.gone.push(id),
            (Some(_), Some(_)) => unsendable.damaged.push(id),
        }
    }
    set_aside(client, &unsendable).await?;
    due.sort_by_key(|due| due.delivery.seq);
    Ok(due)
}

/// Nobody else has them: this claim's lease holds.
async fn set_aside(client: &Object, unsendable: &Unsendable) -> Failable<()> {
    if !unsendable.gone.is_empty() {
        let sql = "UPDATE deliveries SET state = 'dropped', reason = $2, sender = NULL, lease_until = NULL,
                finished_at = clock_timestamp() WHERE id = ANY ($1) AND state = 'sending'";
        client.execute(sql, &[&unsendable.gone, &GONE]).await?;
    }
    if !unsendable.damaged.is_empty() {
        let sql = "UPDATE deliveries SET state = 'pending', sender = NULL, lease_until = NULL,
                next_at = clock_timestamp() + $2::bigint * interval '1 millisecond'
            WHERE id = ANY ($1) AND state = 'sending'";
        let wait = millis(DAMAGED_WAIT);
        client.execute(sql, &[&unsendable.damaged, &wait]).await?;
    }
    Ok(())
}

async fn wait(client: &Object) -> Failable<Option<Duration>> {
    let sql = format!("{WAITING} {WAIT}");
    let statement = client.prepare_cached(&sql).await?;
    let row = client.query_one(&statement, &[]).await?;
    let wait: Option<i64> = row.try_get(0)?;
    Ok(wait.map(|wait| Duration::from_millis(u64::try_from(wait).unwrap_or(0))))
}
