//! Work that nobody asked for: ticks that take no input, may run twice and never die.

mod scheduler;

use crate::intake::fanout;
use crate::model::archive::{ARCHIVES_KEPT, BROKEN_KEPT};
use crate::model::body::UNCLAIMED_KEPT;
use crate::model::dedup::KEYS_KEPT;
use crate::runs::{Runs, expire, matcher};
use crate::store::wake::{Heard, Wake};
use std::collections::HashSet;
use std::future::Future;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// How often leases that ran out are looked for.
const EXPIRE_EVERY: Duration = Duration::from_millis(500);
/// How often concurrency groups are settled without a hint.
const SETTLE_EVERY: Duration = Duration::from_secs(2);
/// How often the connected sessions of this server are recorded as alive; well below the silence limit.
const SEEN_EVERY: Duration = Duration::from_secs(5);

/// How often archives that were kept long enough are looked for.
const FORGET_EVERY: Duration = Duration::from_secs(600);
/// How often listeners are looked for whose runs are still to be started.
const FINISH_EVERY: Duration = Duration::from_secs(1);
/// Keys that are forgotten at a time.
const KEYS_AT_ONCE: i64 = 1_000;
/// Archives that are forgotten at a time: each may be a gigabyte, and others wait for the database meanwhile.
const FORGET_AT_ONCE: i64 = 4;

/// Batches in one tick: the next one goes on, and a server that stops does not wait for all of them.
const MAX_BATCHES: usize = 100;
/// Receipts that are forgotten at a time.
const FORGET_RECEIPTS_AT_ONCE: i64 = 500;

/// The running ticks; dropping it ends them.
pub struct Background {
    tasks: JoinSet<()>,
}

impl Background {
    /// Starts all ticks; they end when `shutdown` is cancelled.
    pub fn start(runs: &Runs, shutdown: &CancellationToken) -> Self {
        let mut tasks = JoinSet::new();
        let expiring = runs.clone();
        tasks.spawn(every(
            "expire leases",
            EXPIRE_EVERY,
            shutdown.clone(),
            move || {
                let runs = expiring.clone();
                async move {
                    let taken = expire::expire_leases(runs.store()).await?;
                    if taken > 0 {
                        tracing::info!(jobs = taken, "leases ran out");
                    }
                    Ok(())
                }
            },
        ));
        let overdue = runs.clone();
        tasks.spawn(every(
            "end overdue jobs",
            EXPIRE_EVERY,
            shutdown.clone(),
            move || {
                let runs = overdue.clone();
                async move { runs.end_overdue().await }
            },
        ));
        let settling = runs.clone();
        tasks.spawn(every(
            "settle groups",
            SETTLE_EVERY,
            shutdown.clone(),
            move || {
                let runs = settling.clone();
                async move { runs.settle_groups().await }
            },
        ));
        let forgetting = runs.clone();
        tasks.spawn(every(
            "forget archives",
            FORGET_EVERY,
            shutdown.clone(),
            move || forget_archives(forgetting.clone()),
        ));
        let receipts = runs.clone();
        tasks.spawn(every(
            "forget receipts",
            FORGET_EVERY,
            shutdown.clone(),
            move || forget_receipts(receipts.clone()),
        ));
        let spreading = runs.clone();
        tasks.spawn(every(
            "finish messages",
            FINISH_EVERY,
            shutdown.clone(),
            move || {
                let runs = spreading.clone();
                async move { fanout::finish(&runs).await }
            },
        ));
        let keys = runs.clone();
        tasks.spawn(every(
            "forget keys of webhooks",
            FORGET_EVERY,
            shutdown.clone(),
            move || forget_keys(keys.clone()),
        ));
        tasks.spawn(settle_groups(runs.clone(), shutdown.clone()));
        tasks.spawn(matcher::serve(runs.clone(), shutdown.clone()));
        tasks.spawn(scheduler::serve(runs.clone(), shutdown.clone()));
        let seeing = runs.clone();
        tasks.spawn(every(
            "record sessions",
            SEEN_EVERY,
            shutdown.clone(),
            move || {
                let runs = seeing.clone();
                async move {
                    let sessions = runs.dispatch().sessions();
                    if !sessions.is_empty() {
                        runs.store().seen(&sessions).await?;
                    }
                    Ok(())
                }
            },
        ));
        Self { tasks }
    }

    /// Waits until all ticks have ended.
    pub async fn stopped(mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a background tick panicked");
            }
        }
    }
}

/// Forgets receipts and bodies that were kept long enough, or are too many, batch by batch, so that nobody waits for the
/// database longer than one takes.
async fn forget_receipts(runs: Runs) -> crate::store::Result<()> {
    let (store, settings) = (runs.store(), runs.settings());
    for _ in 0..MAX_BATCHES {
        let mut forgotten = 0;
        if let Some(kept) = settings.receipts_kept {
            forgotten += store.forget_receipts(kept, FORGET_RECEIPTS_AT_ONCE).await?;
        }
        if let Some(bytes) = settings.receipt_bytes_kept {
            let at_once = FORGET_RECEIPTS_AT_ONCE;
            forgotten += store.forget_receipt_bodies(bytes, at_once).await?;
        }
        forgotten += store.forget_bodies(UNCLAIMED_KEPT, FORGET_AT_ONCE).await?;
        if forgotten == 0 {
            break;
        }
    }
    Ok(())
}

/// Settles groups as soon as something is to be decided in them; what fails is for the tick. One at a time: whatever
/// comes meanwhile for the same group is one decision.
async fn settle_groups(runs: Runs, shutdown: CancellationToken) {
    let mut wakes = runs.store().wakes().listen();
    loop {
        let heard = tokio::select! {
            heard = wakes.heard() => heard,
            () = shutdown.cancelled() => return,
        };
        let Some(Heard { wakes: all, missed }) = heard else {
            return;
        };
        let mut groups = HashSet::new();
        for wake in all {
            if let Wake::Group(pipeline_id, group) = wake {
                groups.insert((pipeline_id, group));
            }
        }
        if missed {
            let settled = runs.settle_groups().await;
            log_failure(settled);
        }
        for (pipeline_id, group) in groups {
            log_failure(runs.settle_group(pipeline_id, &group).await);
        }
    }
}

async fn forget_archives(runs: Runs) -> crate::store::Result<()> {
    loop {
        let forgotten = runs
            .store()
            .forget_archives(ARCHIVES_KEPT, BROKEN_KEPT, FORGET_AT_ONCE)
            .await?;
        if forgotten == 0 {
            return Ok(());
        }
        tracing::info!(
            archives = forgotten,
            "forgot inputs and outputs of one-off tasks"
        );
    }
}

async fn forget_keys(runs: Runs) -> crate::store::Result<()> {
    while runs.store().forget_keys(KEYS_KEPT, KEYS_AT_ONCE).await? == KEYS_AT_ONCE as u64 {}
    Ok(())
}

fn log_failure(settled: crate::store::Result<()>) {
    if let Err(error) = settled {
        tracing::debug!(
            error = &error as &dyn std::error::Error,
            "cannot settle a concurrency group; trying again"
        );
    }
}

/// Runs `tick` at once and then every `period`; an error is logged and the next tick tries again.
async fn every<F, Fut>(name: &'static str, period: Duration, shutdown: CancellationToken, tick: F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = crate::store::Result<()>>,
{
    let mut timer = interval(period);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        tokio::select! {
            _ = timer.tick() => {}
            () = shutdown.cancelled() => return,
        }
        match tick().await {
            Ok(()) => failing = false,
            Err(error) if failing => {
                tracing::debug!(
                    tick = name,
                    error = &error as &dyn std::error::Error,
                    "still failing"
                );
            }
            Err(error) => {
                failing = true;
                tracing::warn!(
                    tick = name,
                    error = &error as &dyn std::error::Error,
                    "background tick failed; trying again"
                );
            }
        }
    }
}
