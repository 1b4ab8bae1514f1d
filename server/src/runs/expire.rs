//! Leases that have run out: a tick that takes no input and may run twice, on several servers at once.

use crate::model::transition::{Applied, Change};
use crate::store::{Result, Store};
use std::sync::Arc;

/// Jobs looked at in one go; the tick goes on at once while it finds as many.
const BATCH: i64 = 200;

/// Takes back every job whose lease has run out; returns how many.
pub async fn expire_leases(store: &Arc<dyn Store>) -> Result<usize> {
    let mut taken = 0;
    loop {
        let expired = store.expired(BATCH).await?;
        let full = expired.len() as i64 == BATCH;
        let mut pending = Vec::with_capacity(expired.len());
        for (run_id, job_id) in expired {
            pending.push(store.submit(run_id, Change::Expire { job_id }));
        }
        let before = taken;
        for change in pending {
            taken += usize::from(change.await? == Applied::Done);
        }
        // What cannot be taken back would be found again at once.
        if !full || taken == before {
            return Ok(taken);
        }
    }
}
