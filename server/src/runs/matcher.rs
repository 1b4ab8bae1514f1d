//! Who should look for work: turns hints into pokes of the sessions that can take it.
//!
//! Invariant: a ready job that some free session of this server suits is looked for by one within [`LOOK_EVERY`], hint
//! or no hint. Idle sessions cost nothing: one task looks for all of them, and only those that suit are woken.

use super::Runs;
use crate::store::wake::{Heard, Wake};
use crate::store::{Demand, Result};
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// How often work is looked for without a hint; every hint may be lost.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Serves hints until shutdown.
pub async fn serve(runs: Runs, shutdown: CancellationToken) {
    let mut wakes = runs.store().wakes().listen();
    let mut timer = interval(LOOK_EVERY);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        // What has come together is served by one look.
        let look = tokio::select! {
            _ = timer.tick() => true,
            heard = wakes.heard() => match heard {
                Some(heard) => is_about_work(&runs, heard),
                None => return,
            },
            () = shutdown.cancelled() => return,
        };
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

/// Whether something may be queued; cancels are passed on.
fn is_about_work(runs: &Runs, heard: Heard) -> bool {
    let mut look = heard.missed;
    if heard.missed {
        runs.dispatch().all_have_cancels();
    }
    for wake in heard.wakes {
        match wake {
            Wake::JobQueued => look = true,
            Wake::Cancel(session_id) => {
                if let Some(entry) = runs.dispatch().get(session_id) {
                    entry.tell_of_cancel();
                }
            }
            Wake::Group(..) | Wake::Schedule(_) | Wake::Deliveries | Wake::Replays | Wake::Lost => {
            }
        }
    }
    look
}
