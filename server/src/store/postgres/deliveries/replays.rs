//! Past events delivered again: counted, and made page by page behind a cursor that is stored with each page.

use super::super::super::{REPLAY_PAGE, codec};
use super::super::Failable;
use crate::model::delivery::{Replay, ReplayFilter, ReplayWhich};
use crate::model::{ReplayId, SubscriptionId};
use deadpool_postgres::{GenericClient, Object};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

/// Whether an event `e` is one that `s` shall get: `$1` subscription, `$2` which, `$3` since, `$4` until, `$5` names. An
/// event of another name than the subscription's counts only if it was delivered once, as pings are not.
const MATCHES: &str = "e.at >= $3 AND e.at < $4 AND e.name <> 'ping' AND (cardinality($5::text[]) = 0 OR e.name = ANY ($5))
    AND CASE $2 WHEN 'failed' THEN
        EXISTS (SELECT 1 FROM deliveries d WHERE d.event_id = e.id AND d.subscription_id = s.id
            AND d.state IN ('failed', 'dropped'))
        AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.event_id = e.id AND d.subscription_id = s.id
            AND d.state IN ('pending', 'sending', 'delivered'))
    ELSE e.name = ANY (s.events) AND (s.pipeline_id IS NULL OR s.pipeline_id = e.pipeline_id)
        AND ($2 = 'all' OR NOT EXISTS (
            SELECT 1 FROM deliveries d WHERE d.event_id = e.id AND d.subscription_id = s.id))
    END";

pub(super) fn replay(row: &Row) -> Failable<Replay> {
    let which: &str = row.try_get("which")?;
    Ok(Replay {
        id: ReplayId(row.try_get("id")?),
        filter: ReplayFilter {
            subscription_id: SubscriptionId(row.try_get("subscription_id")?),
            which: codec::word("replays.which", which, ReplayWhich::parse(which))?,
            since: row.try_get("since")?,
            until: row.try_get("until")?,
            events: codec::event_names::<&str>(&row.try_get::<_, Vec<&str>>("events")?)?,
        },
        expected: row.try_get("expected")?,
        created: row.try_get("created")?,
        done: row.try_get("done")?,
        created_at: row.try_get("created_at")?,
    })
}

pub(super) async fn load(client: &impl GenericClient, id: ReplayId) -> Failable<Option<Replay>> {
    let sql = "SELECT * FROM replays WHERE id = $1";
    let row = client.query_opt(sql, &[&id.0]).await?;
    row.as_ref().map(replay).transpose()
}

pub(super) async fn count(client: &impl GenericClient, filter: &ReplayFilter) -> Failable<i64> {
    let sql = format!(
        "SELECT count(*) FROM subscriptions s JOIN outgoing_events e ON {MATCHES} WHERE s.id = $1"
    );
    let events = codec::event_words(&filter.events);
    let given: [&(dyn ToSql + Sync); 5] = [
        &filter.subscription_id.0,
        &filter.which.as_str(),
        &filter.since,
        &filter.until,
        &events,
    ];
    Ok(client.query_one(&sql, &given).await?.try_get(0)?)
}

pub(super) async fn begin(
    client: &impl GenericClient,
    id: ReplayId,
    filter: &ReplayFilter,
) -> Failable<Option<Replay>> {
    let expected = count(client, filter).await?;
    let sql = "INSERT INTO replays (id, subscription_id, which, since, until, events, expected, cursor_at, cursor_seq,
            last_seq, created_at)
        SELECT $1, s.id, $3, $4, $5, $6, $7, $4, 0, (SELECT coalesce(max(seq), 0) FROM outgoing_events),
            clock_timestamp()
        FROM subscriptions s WHERE s.id = $2 ON CONFLICT (id) DO NOTHING";
    let events = codec::event_words(&filter.events);
    let given: [&(dyn ToSql + Sync); 7] = [
        &id.0,
        &filter.subscription_id.0,
        &filter.which.as_str(),
        &filter.since,
        &filter.until,
        &events,
        &expected,
    ];
    client.execute(sql, &given).await?;
    load(client, id).await
}

/// A page of the oldest replay that nobody else is at; `false` if there is none. A page ends after so many events looked
/// at, whether they match or not: no transaction is long, and the cursor moves.
pub(super) async fn advance(client: &mut Object) -> Failable<bool> {
    let transaction = client.transaction().await?;
    let sql = "SELECT r.*, s.name AS receiver FROM replays r JOIN subscriptions s ON s.id = r.subscription_id
        WHERE NOT r.done ORDER BY r.created_at LIMIT 1 FOR UPDATE OF r SKIP LOCKED";
    let Some(row) = transaction.query_opt(sql, &[]).await? else {
        return Ok(false);
    };
    let replay = replay(&row)?;
    let filter = &replay.filter;
    let (cursor_at, cursor_seq): (time::OffsetDateTime, i64) =
        (row.try_get("cursor_at")?, row.try_get("cursor_seq")?);
    let (last_seq, receiver): (i64, &str) = (row.try_get("last_seq")?, row.try_get("receiver")?);
    let sql = format!(
        "WITH looked AS MATERIALIZED (
            SELECT * FROM outgoing_events WHERE at >= $3 AND at < $4 AND (at, seq) > ($6, $7) AND seq <= $8
            ORDER BY at, seq LIMIT $9
        ), page AS MATERIALIZED (
            SELECT e.* FROM subscriptions s JOIN looked e ON {MATCHES} WHERE s.id = $1
        ), made AS (
            INSERT INTO deliveries (id, origin, subscription_id, receiver, event_id, event, webhook_id, pipeline_id,
                run_id, state, next_at, replay_id, created_at)
            SELECT gen_random_uuid(), 'replay', $1, $10, id, name, id::text, pipeline_id, run_id, 'pending', now, $11, now
            FROM page CROSS JOIN clock_timestamp() AS now ORDER BY at, seq
            ON CONFLICT (replay_id, event_id) WHERE replay_id IS NOT NULL DO NOTHING RETURNING 1
        )
        SELECT (SELECT count(*) FROM made) AS made, count(*) AS seen, max(at) AS at,
            (SELECT seq FROM looked ORDER BY at DESC, seq DESC LIMIT 1) AS seq FROM looked"
    );
    let events = codec::event_words(&filter.events);
    let which = filter.which.as_str();
    let given: [&(dyn ToSql + Sync); 11] = [
        &filter.subscription_id.0,
        &which,
        &filter.since,
        &filter.until,
        &events,
        &cursor_at,
        &cursor_seq,
        &last_seq,
        &REPLAY_PAGE,
        &receiver,
        &replay.id.0,
    ];
    let page = transaction.query_one(&sql, &given).await?;
    let (made, seen): (i64, i64) = (page.try_get("made")?, page.try_get("seen")?);
    let at: Option<time::OffsetDateTime> = page.try_get("at")?;
    let seq: Option<i64> = page.try_get("seq")?;
    let sql = "UPDATE replays SET created = created + $2, done = $3, cursor_at = $4, cursor_seq = $5 WHERE id = $1";
    let given: [&(dyn ToSql + Sync); 5] = [
        &replay.id.0,
        &made,
        &(seen < REPLAY_PAGE),
        &at.unwrap_or(cursor_at),
        &seq.unwrap_or(cursor_seq),
    ];
    transaction.execute(sql, &given).await?;
    transaction.commit().await?;
    Ok(true)
}
