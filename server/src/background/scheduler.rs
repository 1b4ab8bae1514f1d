//! The scheduler's clock: passes over pipelines when something has changed in them, checks when they are due.
//!
//! One server has the duty, for some seconds at a time. Losing it in the middle of a pass is harmless: every step may
//! be done twice. Should it die, another one takes the duty and looks at every pipeline.

use super::log_failure;
use crate::model::PipelineId;
use crate::runs::Runs;
use crate::store::Result;
use crate::store::wake::{Heard, Wake};
use std::collections::{HashMap, HashSet};
use std::time::Duration;
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
/// Entries of one page.
const BATCH: i64 = 200;

/// The scheduler of one server.
struct Scheduler {
    runs: Runs,
    holder: Uuid,
    kept: Option<Instant>,
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
    let mut scheduler = Scheduler {
        runs,
        holder: Uuid::new_v4(),
        kept: None,
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
        log_failure(scheduler.look(heard).await);
    }
}

impl Scheduler {
    async fn look(&mut self, heard: Heard) -> Result<()> {
        if !self.has_duty().await? {
            return Ok(());
        }
        let mut changed = HashSet::new();
        for wake in heard.wakes {
            if let Wake::Schedule(pipeline_id) = wake {
                changed.insert(pipeline_id);
            }
        }
        let now = Instant::now();
        if heard.missed || now >= self.all_at {
            self.all_at = now + ALL_EVERY;
            changed.extend(self.all().await?);
            self.runs.store().forget_checks(CHECKS_KEPT, BATCH).await?;
        }
        if now >= self.waiting_at {
            self.waiting_at = now + WAITING_EVERY;
            changed.extend(self.runs.store().waiting_pipelines(BATCH).await?);
        }
        let mut failed = None;
        for pipeline_id in changed {
            // One that cannot be looked at does not keep the others waiting.
            if let Err(error) = self.pass(pipeline_id).await {
                failed = Some(error);
            }
        }
        let due = self.checks.iter().filter(|(_, at)| **at <= now);
        let due: Vec<PipelineId> = due.map(|(id, _)| *id).collect();
        for pipeline_id in due {
            if let Err(error) = self.check(pipeline_id).await {
                failed = Some(error);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    async fn pass(&mut self, pipeline_id: PipelineId) -> Result<()> {
        self.runs.schedule(pipeline_id).await?;
        self.check(pipeline_id).await
    }

    async fn check(&mut self, pipeline_id: PipelineId) -> Result<()> {
        self.checks.remove(&pipeline_id);
        if let Some(pause) = self.runs.by_clock(pipeline_id).await? {
            self.checks.insert(pipeline_id, Instant::now() + pause);
        }
        Ok(())
    }

    /// Takes or keeps the duty; whoever gets it looks at everything.
    async fn has_duty(&mut self) -> Result<bool> {
        let now = Instant::now();
        if self.kept.is_some_and(|kept| now < kept + KEEP_EVERY) {
            return Ok(self.runs.leads());
        }
        let taken = self.runs.store().take_duty(DUTY, self.holder, HOLD).await;
        let leads = matches!(taken, Ok(true));
        if leads && !self.runs.leads() {
            self.all_at = now;
        }
        self.kept = Some(now);
        self.runs.set_leads(leads);
        taken
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
