//! How much room the queue has: counted rarely while there is plenty.

use super::super::{NewRun, Result};
use super::sql_error;
use deadpool_postgres::Object;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The last count of a long queue: counting it for every group would make it longer.
#[derive(Default)]
pub(super) struct Counted {
    last: Mutex<Option<(Instant, i64)>>,
}

/// How long a count is good while there is room enough; meanwhile own additions are subtracted, those of other servers
/// are not, nor what leaves the queue. Near the limit everybody counts.
const COUNT_HOLDS: Duration = Duration::from_secs(1);
/// Room enough to trust an old count: a quarter of the limit.
const ENOUGH_ROOM: i64 = 4;

impl Counted {
    /// What the last count says is queued, and then `wanted` more; nothing if that may not be good still.
    fn take(&self, wanted: i64, limit: i64) -> Option<i64> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, queued) = (*last)?;
        if at.elapsed() > COUNT_HOLDS || limit - queued - wanted < limit / ENOUGH_ROOM {
            return None;
        }
        *last = Some((at, queued + wanted));
        Some(queued)
    }

    fn set(&self, queued: i64) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some((Instant::now(), queued));
    }
}

/// How many jobs are queued before these, up to the largest of their limits; counted only if that decides something.
pub(super) async fn queued(client: &Object, group: &[NewRun], counted: &Counted) -> Result<i64> {
    let limited = |new: &&NewRun| new.queued() > 0 && new.max_queue < i64::MAX;
    let waiting = group.iter().filter(limited);
    let wanted = waiting.clone().map(NewRun::queued).sum::<usize>() as i64;
    let limits = waiting.map(|new| new.max_queue);
    let (Some(least), Some(most)) = (limits.clone().min(), limits.max()) else {
        return Ok(0);
    };
    if let Some(queued) = counted.take(wanted, least) {
        return Ok(queued);
    }
    // What waits for its inputs is not in the queue yet.
    let sql = "SELECT count(*) FROM (
            (SELECT 1 FROM jobs WHERE state = 'queued' AND hold IS NULL LIMIT $1)
            UNION ALL
            (SELECT 1 FROM jobs WHERE state = 'queued' AND hold IN ('group', 'paused') LIMIT $1)) q";
    let statement = client.prepare_cached(sql).await.map_err(sql_error)?;
    let queued: i64 = client
        .query_one(&statement, &[&most])
        .await
        .map_err(sql_error)?
        .get(0);
    counted.set(queued + wanted);
    Ok(queued)
}
