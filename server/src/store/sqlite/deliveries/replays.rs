//! Past events delivered again: counted, and made page by page behind a cursor that is stored with each page.

use super::super::rows::{Columns, json, micros, now};
use super::{EVENT, event};
use crate::model::delivery::{OutgoingEvent, Replay, ReplayFilter, ReplayWhich};
use crate::model::{DeliveryId, ReplayId, SubscriptionId};
use crate::store::{REPLAY_PAGE, Result, codec};
use rusqlite::{Connection, OptionalExtension as _, params};

/// Whether an event `e` is one that `s` shall get: `?1` subscription, `?2` which, `?3` since, `?4` until, `?5` names.
const MATCHES: &str = "e.at >= ?3 AND e.at < ?4 AND e.name <> 'ping' \
    AND (?5 = '[]' OR e.name IN (SELECT value FROM json_each(?5))) \
    AND CASE ?2 WHEN 'failed' THEN \
        EXISTS (SELECT 1 FROM deliveries d WHERE d.event_id = e.id AND d.subscription_id = s.id \
            AND d.state IN ('failed', 'dropped')) \
        AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.event_id = e.id AND d.subscription_id = s.id \
            AND d.state IN ('pending', 'sending', 'delivered')) \
    ELSE e.name IN (SELECT value FROM json_each(s.events)) \
        AND (s.pipeline_id IS NULL OR s.pipeline_id = e.pipeline_id) \
        AND (?2 = 'all' OR NOT EXISTS ( \
            SELECT 1 FROM deliveries d WHERE d.event_id = e.id AND d.subscription_id = s.id)) \
    END";

const REPLAY: &str =
    "id, subscription_id, which, since, until, events, expected, created, done, created_at";

fn replay(columns: &mut Columns) -> rusqlite::Result<Replay> {
    Ok(Replay {
        id: columns.id(ReplayId)?,
        filter: ReplayFilter {
            subscription_id: columns.id(SubscriptionId)?,
            which: columns.word(ReplayWhich::parse)?,
            since: columns.time()?,
            until: columns.time()?,
            events: columns.event_names()?,
        },
        expected: columns.take()?,
        created: columns.take()?,
        done: columns.take()?,
        created_at: columns.time()?,
    })
}

pub(super) fn load(connection: &Connection, id: ReplayId) -> Result<Option<Replay>> {
    let sql = format!("SELECT {REPLAY} FROM replays WHERE id = ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    let found = statement.query_row([id.0.as_bytes()], |row| replay(&mut Columns::of(row)));
    Ok(found.optional()?)
}

pub(super) fn list(connection: &Connection, id: SubscriptionId, limit: i64) -> Result<Vec<Replay>> {
    let sql = format!(
        "SELECT {REPLAY} FROM replays WHERE subscription_id = ?1 ORDER BY created_at DESC, id DESC LIMIT ?2"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let found = statement.query_map(params![id.0.as_bytes(), limit], |row| {
        replay(&mut Columns::of(row))
    })?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

pub(super) fn count(connection: &Connection, filter: &ReplayFilter) -> Result<i64> {
    let sql = format!(
        "SELECT count(*) FROM subscriptions s JOIN outgoing_events e ON {MATCHES} WHERE s.id = ?1"
    );
    let given = params![
        filter.subscription_id.0.as_bytes(),
        filter.which.as_str(),
        micros(filter.since),
        micros(filter.until),
        json(&codec::event_words(&filter.events))?,
    ];
    let mut statement = connection.prepare_cached(&sql)?;
    Ok(statement.query_row(given, |row| row.get(0))?)
}

pub(super) fn begin(
    connection: &Connection,
    id: ReplayId,
    filter: &ReplayFilter,
) -> Result<Option<Replay>> {
    let sql = "INSERT INTO replays (id, subscription_id, which, since, until, events, expected, cursor_at, \
         cursor_seq, last_seq, created_at) SELECT ?1, s.id, ?3, ?4, ?5, ?6, ?7, ?4, 0, \
         (SELECT coalesce(max(seq), 0) FROM outgoing_events), ?8 FROM subscriptions s WHERE s.id = ?2 \
         ON CONFLICT (id) DO NOTHING";
    connection.prepare_cached(sql)?.execute(params![
        id.0.as_bytes(),
        filter.subscription_id.0.as_bytes(),
        filter.which.as_str(),
        micros(filter.since),
        micros(filter.until),
        json(&codec::event_words(&filter.events))?,
        count(connection, filter)?,
        micros(now()),
    ])?;
    load(connection, id)
}

/// Where a replay stands.
struct Cursor {
    at: i64,
    seq: i64,
    last: i64,
    receiver: String,
}

/// A page of the oldest replay; `false` if there is none.
pub(super) fn advance(connection: &Connection) -> Result<bool> {
    let sql = "SELECT r.id, r.cursor_at, r.cursor_seq, r.last_seq, s.name FROM replays r \
         JOIN subscriptions s ON s.id = r.subscription_id WHERE NOT r.done ORDER BY r.created_at LIMIT 1";
    let found = connection.prepare_cached(sql)?.query_row([], |row| {
        let mut columns = Columns::of(row);
        let id = columns.id(ReplayId)?;
        let cursor = Cursor {
            at: columns.take()?,
            seq: columns.take()?,
            last: columns.take()?,
            receiver: columns.take()?,
        };
        Ok((id, cursor))
    });
    let Some((id, mut cursor)) = found.optional()? else {
        return Ok(false);
    };
    let Some(replay) = load(connection, id)? else {
        return Ok(false);
    };
    let last = looked_at(connection, &replay.filter, &cursor)?;
    let page = match last {
        Some(last) => page(connection, &replay.filter, &cursor, last)?,
        None => Vec::new(),
    };
    for event in &page {
        deliver(connection, &replay, &cursor.receiver, event)?;
    }
    let made = i64::try_from(page.len()).unwrap_or(i64::MAX);
    if let Some((at, seq, _)) = last {
        (cursor.at, cursor.seq) = (at, seq);
    }
    let seen = last.map_or(0, |(_, _, seen)| seen);
    let sql = "UPDATE replays SET created = created + ?2, done = ?3, cursor_at = ?4, cursor_seq = ?5 WHERE id = ?1";
    connection.prepare_cached(sql)?.execute(params![
        id.0.as_bytes(),
        made,
        seen < REPLAY_PAGE,
        cursor.at,
        cursor.seq,
    ])?;
    Ok(true)
}

/// Where a page ends, and how many events it looks at, whether they match or not: no transaction is long, and the cursor
/// moves. `None`: there are no more.
fn looked_at(
    connection: &Connection,
    filter: &ReplayFilter,
    cursor: &Cursor,
) -> Result<Option<(i64, i64, i64)>> {
    let sql = "SELECT at, seq, count(*) OVER () FROM (SELECT at, seq FROM outgoing_events \
         WHERE at >= ?1 AND at < ?2 AND (at, seq) > (?3, ?4) AND seq <= ?5 ORDER BY at, seq LIMIT ?6) \
         ORDER BY at DESC, seq DESC LIMIT 1";
    let mut statement = connection.prepare_cached(sql)?;
    let given = params![
        micros(filter.since),
        micros(filter.until),
        cursor.at,
        cursor.seq,
        cursor.last,
        REPLAY_PAGE,
    ];
    let found = statement.query_row(given, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
    Ok(found.optional()?)
}

/// Those up to `last` that match.
fn page(
    connection: &Connection,
    filter: &ReplayFilter,
    cursor: &Cursor,
    last: (i64, i64, i64),
) -> Result<Vec<OutgoingEvent>> {
    let sql = format!(
        "SELECT {EVENT} FROM subscriptions s JOIN outgoing_events e ON {MATCHES} WHERE s.id = ?1 \
         AND (e.at, e.seq) > (?6, ?7) AND (e.at, e.seq) <= (?9, ?10) AND e.seq <= ?8 ORDER BY e.at, e.seq"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let given = params![
        filter.subscription_id.0.as_bytes(),
        filter.which.as_str(),
        micros(filter.since),
        micros(filter.until),
        json(&codec::event_words(&filter.events))?,
        cursor.at,
        cursor.seq,
        cursor.last,
        last.0,
        last.1,
    ];
    let found = statement.query_map(given, |row| event(&mut Columns::of(row)))?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

fn deliver(
    connection: &Connection,
    replay: &Replay,
    receiver: &str,
    event: &OutgoingEvent,
) -> Result<()> {
    let sql = "INSERT INTO deliveries (id, origin, subscription_id, receiver, event_id, event, webhook_id, \
         pipeline_id, run_id, state, next_at, replay_id, created_at) \
         SELECT ?1, 'replay', ?2, ?3, e.id, e.name, ?4, e.pipeline_id, e.run_id, 'pending', ?5, ?6, ?5 \
         FROM outgoing_events e WHERE e.id = ?7";
    connection.prepare_cached(sql)?.execute(params![
        DeliveryId::new().0.as_bytes(),
        replay.filter.subscription_id.0.as_bytes(),
        receiver,
        event.id.to_string(),
        micros(now()),
        replay.id.0.as_bytes(),
        event.id.0.as_bytes(),
    ])?;
    Ok(())
}
