//! Tries: begun, recorded; in groups that share a commit.

use super::super::super::batch::{Batch, Habits};
use super::super::super::{
    NewTry, Recorded, Result, SUCCESS_NOTED_EVERY, StoreError, TryRecord, codec,
};
use super::super::{Failable, Failure, MAX_TRIES, millis, pool_error};
use crate::model::delivery::{DeliveryState, Next, TryEnd, TryRequest, TryState};
use deadpool_postgres::{Object, Pool};
use futures_util::try_join;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

/// What a sender tells.
pub(in super::super) enum TryWrite {
    Begin(NewTry),
    Record(TryRecord),
}

/// What became of it.
#[derive(Clone, Copy)]
pub(in super::super) enum TryResult {
    Begun(Option<i32>),
    Recorded(Recorded),
}

impl TryResult {
    pub(super) fn number(self) -> Option<i32> {
        match self {
            Self::Begun(number) => number,
            Self::Recorded(_) => None,
        }
    }

    pub(super) fn recorded(self) -> Recorded {
        match self {
            Self::Recorded(recorded) => recorded,
            Self::Begun(_) => Recorded::Stale,
        }
    }
}

pub(in super::super) fn start(pool: Pool) -> (Batch<TryWrite, TryResult>, JoinHandle<()>) {
    Batch::start(Habits::default(), move |group: Vec<TryWrite>| {
        let pool = pool.clone();
        async move {
            match flush(&pool, &group).await {
                Ok(results) => Ok(results.into_iter().map(Ok).collect()),
                Err(StoreError::Internal(_)) if group.len() > 1 => {
                    // One that the database refuses must not spoil the others.
                    let mut results = Vec::with_capacity(group.len());
                    for one in group.chunks(1) {
                        let alone = flush(&pool, one).await;
                        results.push(
                            alone.map(|done| {
                                done.first().copied().unwrap_or(TryResult::Begun(None))
                            }),
                        );
                    }
                    Ok(results)
                }
                Err(error) => Err(error),
            }
        }
    })
}

async fn flush(pool: &Pool, group: &[TryWrite]) -> Result<Vec<TryResult>> {
    let client = pool.get().await.map_err(pool_error)?;
    let mut tries = 1;
    loop {
        match attempt(&client, group).await {
            Ok(done) => return Ok(done),
            Err(failure) => {
                // A broken connection cannot roll back; the server has done so.
                let _ = client.batch_execute("ROLLBACK").await;
                if !failure.is_conflict() || tries >= MAX_TRIES {
                    return Err(failure.into());
                }
                tries += 1;
            }
        }
    }
}

const BEGIN: &str = "WITH new AS (
        SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[],
            $8::bigint[], $9::text[], $10::int[])
            AS t (id, owner, lease, sender, url, method, headers, body_bytes, body_sha256, tries)
    ), mine AS (
        UPDATE deliveries d SET tries = d.tries + 1,
            lease_until = clock_timestamp() + n.lease * interval '1 millisecond'
        FROM new n WHERE d.id = n.id AND d.state = 'sending' AND d.sender = n.owner AND d.tries = n.tries
        RETURNING d.id, d.tries AS number
    )
    INSERT INTO delivery_tries (delivery_id, number, state, began_at, sender, url, method, headers, body_bytes, body_sha256)
    SELECT m.id, m.number, 'unknown', clock_timestamp(), n.sender, n.url, n.method, n.headers, n.body_bytes,
        n.body_sha256
    FROM mine m JOIN new n ON n.id = m.id RETURNING delivery_id, number";

const NOTE: &str = "UPDATE delivery_tries y SET state = t.state, status = t.status, response_headers = t.headers,
        response_body = t.body, error = t.error, duration_us = t.duration, first_byte_us = t.first_byte, peer = t.peer
    FROM unnest($1::uuid[], $2::int[], $3::text[], $4::int[], $5::text[], $6::bytea[], $7::text[], $8::bigint[],
        $9::bigint[], $10::text[])
        AS t (id, number, state, status, headers, body, error, duration, first_byte, peer)
    WHERE y.delivery_id = t.id AND y.number = t.number AND y.state = 'unknown' RETURNING y.delivery_id";

/// Whoever lost the lease decides nothing, but what arrived has arrived.
const MOVE: &str = "UPDATE deliveries d SET state = t.state, reason = t.reason, sender = NULL, lease_until = NULL,
        next_at = CASE WHEN t.state = 'pending' THEN now.at + t.wait * interval '1 millisecond' END,
        finished_at = CASE WHEN t.state <> 'pending' THEN now.at END
    FROM unnest($1::uuid[], $2::uuid[], $3::int[], $4::text[], $5::text[], $6::bigint[])
        AS t (id, owner, number, state, reason, wait), clock_timestamp() AS now (at)
    WHERE d.id = t.id AND ((d.state = 'sending' AND d.sender = t.owner AND (t.number IS NULL OR d.tries = t.number))
        OR (t.state = 'delivered' AND d.state IN ('pending', 'sending')))
    RETURNING d.id, d.tries";

const HEALTH: &str = "UPDATE subscriptions s SET
        failures = CASE WHEN t.succeeded THEN t.failed ELSE s.failures + t.failed END,
        failing_since = CASE WHEN t.failed = 0 AND t.succeeded THEN NULL
            WHEN t.succeeded THEN now.at ELSE coalesce(s.failing_since, CASE WHEN t.failed > 0 THEN now.at END) END,
        failed_at = CASE WHEN t.failed > 0 THEN now.at ELSE s.failed_at END,
        succeeded_at = CASE WHEN t.succeeded THEN now.at ELSE s.succeeded_at END,
        paused_until = CASE WHEN t.pause > 0 THEN greatest(s.paused_until, now.at + t.pause * interval '1 millisecond')
            WHEN t.succeeded THEN NULL ELSE s.paused_until END
    FROM unnest($1::uuid[], $2::bool[], $3::bigint[], $4::bigint[], $6::bigint[])
        AS t (id, succeeded, failed, pause, version),
        clock_timestamp() AS now (at)
    WHERE s.id = t.id AND s.version = t.version AND (t.failed > 0 OR t.pause > 0 OR s.failures > 0 OR s.succeeded_at IS NULL
        OR s.succeeded_at < now.at - $5::bigint * interval '1 millisecond')";

async fn attempt(client: &Object, group: &[TryWrite]) -> Failable<Vec<TryResult>> {
    let mut begins: Vec<&NewTry> = Vec::new();
    let mut records: Vec<&TryRecord> = Vec::new();
    for write in group {
        match write {
            TryWrite::Begin(new) => begins.push(new),
            TryWrite::Record(record) => records.push(record),
        }
    }
    client.batch_execute("BEGIN").await?;
    let (begun, (noted, moved)) = try_join!(begin(client, &begins), end(client, &records))?;
    client.batch_execute("COMMIT").await?;
    let answer = |write: &TryWrite| match write {
        TryWrite::Begin(new) => TryResult::Begun(begun.get(&new.delivery_id.0).copied()),
        TryWrite::Record(record) => {
            let id = record.delivery_id.0;
            TryResult::Recorded(match (moved.contains(&id), noted.contains(&id)) {
                (true, _) => Recorded::Done,
                (false, true) => Recorded::Late,
                (false, false) => Recorded::Stale,
            })
        }
    };
    Ok(group.iter().map(answer).collect())
}

/// The numbers of the tries that began.
async fn begin(client: &Object, new: &[&NewTry]) -> Failable<HashMap<Uuid, i32>> {
    if new.is_empty() {
        return Ok(HashMap::new());
    }
    let ids: Vec<Uuid> = new.iter().map(|new| new.delivery_id.0).collect();
    let owners: Vec<Uuid> = new.iter().map(|new| new.sender).collect();
    let leases: Vec<i64> = new.iter().map(|new| millis(new.lease)).collect();
    let senders: Vec<&str> = new.iter().map(|new| new.sender_name.as_str()).collect();
    let requests: Vec<&TryRequest> = new.iter().map(|new| &new.request).collect();
    let urls: Vec<&str> = requests.iter().map(|one| one.url.as_str()).collect();
    let methods: Vec<&str> = requests.iter().map(|one| one.method.as_str()).collect();
    let headers: Vec<String> = requests
        .iter()
        .map(|one| codec::json(&one.headers))
        .collect();
    let bytes: Vec<i64> = requests.iter().map(|one| one.body_bytes).collect();
    let hashes: Vec<&str> = requests
        .iter()
        .map(|one| one.body_sha256.as_str())
        .collect();
    let statement = client.prepare_cached(BEGIN).await?;
    let tries: Vec<i32> = new.iter().map(|new| new.tries).collect();
    let given: [&(dyn ToSql + Sync); 10] = [
        &ids, &owners, &leases, &senders, &urls, &methods, &headers, &bytes, &hashes, &tries,
    ];
    let rows = client.query(&statement, &given).await?;
    let number = |row: &tokio_postgres::Row| Ok((row.try_get(0)?, row.try_get(1)?));
    rows.iter().map(number).collect()
}

/// The deliveries whose try was noted, and those that moved.
async fn end(client: &Object, records: &[&TryRecord]) -> Failable<(HashSet<Uuid>, HashSet<Uuid>)> {
    if records.is_empty() {
        return Ok((HashSet::new(), HashSet::new()));
    }
    let (note, move_on, health) = try_join!(
        client.prepare_cached(NOTE),
        client.prepare_cached(MOVE),
        client.prepare_cached(HEALTH)
    )?;
    let ends = Ends::of(records);
    let moves = Moves::of(records);
    let (ends, moves) = (ends.params(), moves.params());
    // Sent in this order, in one round trip.
    let (noted, moved) = try_join!(client.query(&note, &ends), client.query(&move_on, &moves))?;
    let ids = |rows: &[tokio_postgres::Row]| -> Failable<HashSet<Uuid>> {
        let id = |row: &tokio_postgres::Row| Ok::<_, Failure>(row.try_get(0)?);
        rows.iter().map(id).collect()
    };
    let (noted, moved) = (ids(&noted)?, ids(&moved)?);
    let healths = Healths::of(records, &noted);
    let every = millis(SUCCESS_NOTED_EVERY);
    let healths: [&(dyn ToSql + Sync); 6] = [
        &healths.id,
        &healths.succeeded,
        &healths.failed,
        &healths.pause,
        &every,
        &healths.version,
    ];
    client.execute(&health, &healths).await?;
    Ok((noted, moved))
}

/// Columns of ended tries.
#[derive(Default)]
pub(super) struct Ends {
    id: Vec<Uuid>,
    number: Vec<i32>,
    state: Vec<&'static str>,
    status: Vec<Option<i32>>,
    headers: Vec<String>,
    body: Vec<Vec<u8>>,
    error: Vec<String>,
    duration: Vec<i64>,
    first_byte: Vec<Option<i64>>,
    peer: Vec<Option<String>>,
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

impl Ends {
    fn of(records: &[&TryRecord]) -> Self {
        let mut all = Self::default();
        for record in records {
            if let Some((number, end)) = &record.ended {
                all.add(record.delivery_id.0, *number, end);
            }
        }
        all
    }

    pub(super) fn add(&mut self, id: Uuid, number: i32, end: &TryEnd) {
        self.id.push(id);
        self.number.push(number);
        self.state.push(end.state.as_str());
        self.status.push(end.status.map(i32::from));
        self.headers.push(codec::json(&end.headers));
        self.body.push(end.body.to_vec());
        self.error.push(end.error.clone());
        self.duration.push(micros(end.duration));
        self.first_byte.push(end.first_byte.map(micros));
        self.peer.push(end.peer.clone());
    }

    pub(super) fn params(&self) -> Vec<&(dyn ToSql + Sync)> {
        vec![
            &self.id,
            &self.number,
            &self.state,
            &self.status,
            &self.headers,
            &self.body,
            &self.error,
            &self.duration,
            &self.first_byte,
            &self.peer,
        ]
    }
}

/// Columns of what becomes of deliveries.
#[derive(Default)]
struct Moves {
    id: Vec<Uuid>,
    owner: Vec<Uuid>,
    number: Vec<Option<i32>>,
    state: Vec<&'static str>,
    reason: Vec<String>,
    wait: Vec<i64>,
}

impl Moves {
    fn of(records: &[&TryRecord]) -> Self {
        let mut all = Self::default();
        for record in records {
            let (state, reason, wait) = match &record.next {
                Next::Done => (DeliveryState::Delivered, "", Duration::ZERO),
                Next::Again(wait) => (DeliveryState::Pending, "", *wait),
                Next::Fail(reason) => (DeliveryState::Failed, reason.as_str(), Duration::ZERO),
                Next::Drop(reason) => (DeliveryState::Dropped, reason.as_str(), Duration::ZERO),
                Next::Filter => (DeliveryState::Filtered, "", Duration::ZERO),
            };
            all.id.push(record.delivery_id.0);
            all.owner.push(record.sender);
            all.number
                .push(record.ended.as_ref().map(|(number, _)| *number));
            all.state.push(state.as_str());
            all.reason.push(reason.to_owned());
            all.wait.push(millis(wait));
        }
        all
    }

    fn params(&self) -> Vec<&(dyn ToSql + Sync)> {
        vec![
            &self.id,
            &self.owner,
            &self.number,
            &self.state,
            &self.reason,
            &self.wait,
        ]
    }
}

/// Columns of subscriptions, in the order of their ids so that groups of several servers lock them alike.
#[derive(Default)]
struct Healths {
    id: Vec<Uuid>,
    succeeded: Vec<bool>,
    failed: Vec<i64>,
    pause: Vec<i64>,
    version: Vec<i64>,
}

impl Healths {
    /// What was noted before counts no second time.
    fn of(records: &[&TryRecord], noted: &HashSet<Uuid>) -> Self {
        let mut by_id: BTreeMap<(Uuid, i64), (bool, i64, i64)> = BTreeMap::new();
        for record in records {
            let key = (record.subscription_id.0, record.version);
            let (succeeded, failed, pause) = by_id.entry(key).or_default();
            let is_new = noted.contains(&record.delivery_id.0);
            let ended = record.ended.as_ref().filter(|_| is_new);
            match ended.map(|(_, end)| end.state) {
                Some(TryState::Delivered) => (*succeeded, *failed) = (true, 0),
                Some(TryState::Failed) => *failed += 1,
                Some(TryState::Unknown) | None => {}
            }
            *pause = (*pause).max(record.pause.map_or(0, millis));
        }
        let mut all = Self::default();
        for ((id, version), (succeeded, failed, pause)) in by_id {
            all.id.push(id);
            all.version.push(version);
            all.succeeded.push(succeeded);
            all.failed.push(failed);
            all.pause.push(pause);
        }
        all
    }
}
