//! The scheduler's clock: passes over pipelines when something has changed in them, checks when they are due.
//!
//! One server has the duty, for some seconds at a time. Losing it in the middle of a pass is harmless: every step may
//! be done twice. Should it die, another one takes the duty and looks at every pipeline.

use crate::model::PipelineId;
use crate::runs::Runs;
use crate::store::Result;
use crate::store::wake::{Heard, Wake};
use futures_util::stream::{self, StreamExt};
use std::collections::{HashMap, HashSet};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Name of the duty.
const DUTY: &str = "scheduler";
/// How long the duty is taken for; another server takes over after so long.
const HOLD: Duration = Duration::from_secs(10);
/// How often it is prolonged, or asked for.
const KEEP_EVERY: Duration = Duration::from_secs(3);
/// How often the clock is looked at.
const TICK: Duration = Duration::from_millis(500);
/// How often pipelines in which builds wait are passed over without a hint.
const WAITING_EVERY: Duration = Duration::from_secs(5);
/// How often all pipelines are passed over without a hint.
const ALL_EVERY: Duration = Duration::from_secs(60);
/// How long a check that is over can be looked at.
const CHECKS_KEPT: Duration = Duration::from_secs(3600);
/// Pipelines looked at at once.
const AT_ONCE: usize = 4;
/// How soon one is looked at again that could not be looked at.
const AGAIN: Duration = Duration::from_secs(2);
/// Entries of one page.
const BATCH: i64 = 200;

/// The scheduler of one server.
struct Scheduler {
    runs: Runs,
    /// Whether it had the duty at the last look.
    led: bool,
    waiting_at: Instant,
    all_at: Instant,
    /// When to look at a pipeline's checks next.
    checks: HashMap<PipelineId, Instant>,
}

/// Serves until `shutdown`.
pub(super) async fn serve(runs: Runs, shutdown: CancellationToken) {
    let mut wakes = runs.store().wakes().listen();
    let mut timer = interval(TICK);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let now = Instant::now();
    let mut duty = JoinSet::new();
    duty.spawn(keep_duty(runs.clone(), shutdown.clone()));
    let mut scheduler = Scheduler {
        runs,
        led: false,
        waiting_at: now,
        all_at: now,
        checks: HashMap::new(),
    };
    loop {
        let heard = tokio::select! {
            _ = timer.tick() => Heard::default(),
            heard = wakes.heard() => match heard {
                Some(heard) => heard,
                None => return,
            },
            () = shutdown.cancelled() => return,
        };
        if let Err(error) = scheduler.look(heard).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot schedule builds; trying again"
            );
        }
    }
}

/// Takes and keeps the duty, however long a look takes.
async fn keep_duty(runs: Runs, shutdown: CancellationToken) {
    let holder = Uuid::new_v4();
    let mut timer = interval(KEEP_EVERY);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = timer.tick() => {}
            () = shutdown.cancelled() => return,
        }
        // From before it was asked for, and well before another one may have it.
        let until = Instant::now() + HOLD / 2;
        match runs.store().take_duty(DUTY, holder, HOLD).await {
            Ok(taken) => {
                let had = runs.leads();
                runs.set_leads(taken.then_some(until.into_std()));
                if taken && !had {
                    runs.store().wakes().publish_all();
                }
            }
            Err(error) => tracing::debug!(
                error = &error as &dyn std::error::Error,
                "cannot ask for the scheduler's duty; trying again"
            ),
        }
    }
}

impl Scheduler {
    async fn look(&mut self, heard: Heard) -> Result<()> {
        if !self.runs.leads() {
            self.led = false;
            return Ok(());
        }
        let new = !std::mem::replace(&mut self.led, true);
        let mut changed = HashSet::new();
        for wake in heard.wakes {
            if let Wake::Schedule(pipeline_id) = wake {
                changed.insert(pipeline_id);
            }
        }
        let now = Instant::now();
        // Whoever has just got the duty looks at everything.
        if new || heard.missed || now >= self.all_at {
            self.all_at = now + ALL_EVERY;
            changed.extend(self.all().await?);
            while self.runs.store().forget_checks(CHECKS_KEPT, BATCH).await? >= BATCH as u64 {}
        }
        if now >= self.waiting_at {
            self.waiting_at = now + WAITING_EVERY;
            changed.extend(self.runs.store().waiting_pipelines(BATCH).await?);
        }
        let due = self.checks.iter().filter(|(_, at)| **at <= now);
        let due: Vec<(PipelineId, bool)> = due
            .map(|(id, _)| *id)
            .filter(|id| !changed.contains(id))
            .map(|id| (id, false))
            .collect();
        let looks = changed.into_iter().map(|id| (id, true)).chain(due);
        let looks = looks.map(|(id, pass)| look_at(self.runs.clone(), id, pass));
        // A few at once: one with a long history does not keep the others waiting.
        let mut looked = stream::iter(looks).buffer_unordered(AT_ONCE);
        while let Some((pipeline_id, next)) = looked.next().await {
            match next {
                Some(pause) => self.checks.insert(pipeline_id, Instant::now() + pause),
                None => self.checks.remove(&pipeline_id),
            };
        }
        Ok(())
    }

    async fn all(&self) -> Result<Vec<PipelineId>> {
        let mut all = Vec::new();
        let mut after = None;
        loop {
            let page = self.runs.store().yaml_pipelines(after, BATCH).await?;
            after = page.last().map(|(id, _)| *id);
            all.extend(page.into_iter().map(|(id, _)| id));
            if after.is_none() {
                return Ok(all);
            }
        }
    }
}

/// Looks at one pipeline; when to come again by the clock.
async fn look_at(
    runs: Runs,
    pipeline_id: PipelineId,
    pass: bool,
) -> (PipelineId, Option<Duration>) {
    let looked = async {
        if pass {
            runs.schedule(pipeline_id).await?;
        }
        runs.by_clock(pipeline_id).await
    };
    match looked.await {
        Ok(next) => (pipeline_id, next),
        Err(error) => {
            tracing::warn!(
                pipeline = %pipeline_id,
                error = &error as &dyn std::error::Error,
                "cannot look at a pipeline; trying again"
            );
            (pipeline_id, Some(AGAIN))
        }
    }
}
