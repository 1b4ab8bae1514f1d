//! Work that nobody asked for: ticks that take no input, may run twice and never die.

mod scheduler;

use crate::deliveries::Deliveries;
use crate::model::archive::{ARCHIVES_KEPT, BROKEN_KEPT};
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

/// How often leases of deliveries that ran out are looked for.
const EXPIRE_DELIVERIES_EVERY: Duration = Duration::from_secs(1);
/// How often receivers that are dead for good are looked for.
const DISABLE_EVERY: Duration = Duration::from_secs(60);
/// How often replays that a dead server left are looked for.
const REPLAY_EVERY: Duration = Duration::from_secs(10);
/// How often archives that were kept long enough are looked for.
const FORGET_EVERY: Duration = Duration::from_secs(600);
/// Archives that are forgotten at a time: each may be a gigabyte, and others wait for the database meanwhile.
const FORGET_AT_ONCE: i64 = 4;

/// The running ticks; dropping it ends them.
pub struct Background {
    tasks: JoinSet<()>,
}

impl Background {
    /// Starts all ticks; they end when `shutdown` is cancelled.
    pub fn start(runs: &Runs, deliveries: Deliveries, shutdown: &CancellationToken) -> Self {
        let mut tasks = JoinSet::new();
        deliver(&mut tasks, deliveries, shutdown);
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

/// The sender, and what it leaves to be done.
fn deliver(tasks: &mut JoinSet<()>, deliveries: Deliveries, shutdown: &CancellationToken) {
    let expiring = deliveries.clone();
    tasks.spawn(every(
        "expire deliveries",
        EXPIRE_DELIVERIES_EVERY,
        shutdown.clone(),
        move || {
            let deliveries = expiring.clone();
            async move { deliveries.expire().await }
        },
    ));
    let disabling = deliveries.clone();
    tasks.spawn(every(
        "disable dead receivers",
        DISABLE_EVERY,
        shutdown.clone(),
        move || {
            let deliveries = disabling.clone();
            async move { deliveries.disable_dead().await }
        },
    ));
    let forgetting = deliveries.clone();
    tasks.spawn(every(
        "forget deliveries",
        FORGET_EVERY,
        shutdown.clone(),
        move || {
            let deliveries = forgetting.clone();
            async move { deliveries.forget().await }
        },
    ));
    tasks.spawn(replay(deliveries.clone(), shutdown.clone()));
    tasks.spawn(deliveries.serve(shutdown.clone()));
}

/// Makes the deliveries of replays as soon as one is asked for, and now and then those that a dead server left.
async fn replay(deliveries: Deliveries, shutdown: CancellationToken) {
    let mut wakes = deliveries.wakes();
    let mut timer = interval(REPLAY_EVERY);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = timer.tick() => {}
            heard = wakes.heard() => match heard {
                None => return,
                Some(heard) if heard.wakes.contains(&Wake::Replays) => {}
                Some(_) => continue,
            },
            () = shutdown.cancelled() => return,
        }
        if let Err(error) = deliveries.replay().await {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "cannot go on with replays; trying again"
            );
        }
    }
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
