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
    /// The room left by the last count, of which `wanted` is taken, if that is good still.
    fn take(&self, wanted: i64, limit: i64) -> Option<i64> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, queued) = (*last)?;
        let room = limit - queued;
        if at.elapsed() > COUNT_HOLDS || room - wanted < limit / ENOUGH_ROOM {
            return None;
        }
        *last = Some((at, queued + wanted));
        Some(room)
    }

    fn set(&self, queued: i64) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some((Instant::now(), queued));
    }
}

/// How many more jobs may be queued; counted only if some job will be.
pub(super) async fn room(client: &Object, group: &[NewRun], counted: &Counted) -> Result<i64> {
    let waiting = group.iter().filter(|new| new.queued() > 0);
    let wanted = waiting.clone().map(NewRun::queued).sum::<usize>() as i64;
    let Some(limit) = waiting.map(|new| new.max_queue).min() else {
        return Ok(0);
    };
    if let Some(room) = counted.take(wanted, limit) {
        return Ok(room);
    }
    // What waits for its inputs is not in the queue yet.
    let sql = "SELECT count(*) FROM (
            (SELECT 1 FROM jobs WHERE state = 'queued' AND hold IS NULL LIMIT $1)
            UNION ALL
            (SELECT 1 FROM jobs WHERE state = 'queued' AND hold IN ('group', 'paused') LIMIT $1)) q";
    let statement = client.prepare_cached(sql).await.map_err(sql_error)?;
    let queued: i64 = client
        .query_one(&statement, &[&limit])
        .await
        .map_err(sql_error)?
        .get(0);
    counted.set(queued + wanted);
    Ok(limit - queued)
}
