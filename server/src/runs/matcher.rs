//! Who should look for work: turns hints into pokes of the sessions that can take it.
//!
//! Invariant: a ready job that some free session of this server suits is looked for by one within [`LOOK_EVERY`], hint
//! or no hint. Idle sessions cost nothing: one task looks for all of them, and only those that suit are woken.

use super::Runs;
use crate::store::wake::Wake;
use crate::store::{Demand, Result};
use std::time::Duration;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// How often work is looked for without a hint; every hint may be lost.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Serves hints until shutdown.
pub async fn serve(runs: Runs, shutdown: CancellationToken) {
    let mut wakes = runs.store().wakes().subscribe();
    let mut timer = interval(LOOK_EVERY);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        let mut look = tokio::select! {
            _ = timer.tick() => true,
            woken = wakes.recv() => match heard(&runs, woken) {
                Some(look) => look,
                None => return,
            },
            () = shutdown.cancelled() => return,
        };
        look |= drain(&runs, &mut wakes);
        if !look {
            continue;
        }
        runs.dispatch().all_should_look();
        if runs.dispatch().has_free_slot() {
            timer.reset_at(Instant::now() + LOOK_EVERY);
            match demand(&runs).await {
                Ok(demand) => {
                    failing = false;
                    runs.dispatch().poke(&demand);
                }
                Err(error) => {
                    if !failing {
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "cannot look for queued jobs"
                        );
                    }
                    failing = true;
                }
            }
        }
    }
}

/// What is asked for, as far as a limit on all running jobs leaves room for it.
async fn demand(runs: &Runs) -> Result<Vec<Demand>> {
    let mut demand = runs.store().demand().await?;
    let Some(limit) = runs.settings().max_running else {
        return Ok(demand);
    };
    if demand.is_empty() {
        return Ok(demand);
    }
    let running: i64 = runs
        .store()
        .load()
        .await?
        .iter()
        .map(|(_, jobs)| jobs)
        .sum();
    let mut room = (limit - running).max(0);
    for asked in &mut demand {
        asked.jobs = asked.jobs.min(room);
        room -= asked.jobs;
    }
    demand.retain(|asked| asked.jobs > 0);
    Ok(demand)
}

/// Whether the hint is about queued jobs; `None` when no more will come.
fn heard(runs: &Runs, woken: std::result::Result<Wake, RecvError>) -> Option<bool> {
    match woken {
        Ok(Wake::JobQueued) => Some(true),
        Ok(Wake::Cancel(session_id)) => {
            if let Some(entry) = runs.dispatch().get(session_id) {
                entry.tell_of_cancel();
            }
            Some(false)
        }
        Ok(Wake::Group(..) | Wake::Schedule(_)) => Some(false),
        Err(RecvError::Lagged(_)) => {
            runs.dispatch().all_have_cancels();
            Some(true)
        }
        Err(RecvError::Closed) => None,
    }
}

/// What came meanwhile: one look serves all of it.
fn drain(runs: &Runs, wakes: &mut Receiver<Wake>) -> bool {
    let mut look = false;
    loop {
        let woken = match wakes.try_recv() {
            Ok(wake) => Ok(wake),
            Err(TryRecvError::Lagged(missed)) => Err(RecvError::Lagged(missed)),
            Err(TryRecvError::Empty | TryRecvError::Closed) => return look,
        };
        look |= heard(runs, woken).unwrap_or(false);
    }
}
