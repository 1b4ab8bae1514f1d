//! Changes to runs, in groups: lock and load, let the state machine decide, write back, commit: two round trips.
//!
//! Rows are locked in the order of their ids, runs before jobs, so groups of several servers do not deadlock; a claim
//! or a renewal that crosses may, and then the group is tried again.

use super::super::batch::{Batch, Habits};
use super::super::wake::{Wake, WakeBus};
use super::super::{Result, StoreError};
use super::notify::Notifier;
use super::rows::{self, RUN_TO_CHANGE};
use super::{Failable, Failure, MAX_TRIES, pool_error};
use crate::model::RunId;
use crate::model::run::{EventBody, Job, RunState};
use crate::model::transition::{Aggregate, Applied, Change, Effects, Report, apply};
use deadpool_postgres::{Object, Pool};
use futures_util::try_join;
use std::collections::BTreeMap;
use std::sync::Arc;
use time::OffsetDateTime;
use tokio::task::JoinHandle;
use tokio_postgres::types::ToSql;
use uuid::Uuid;
use write::Writes;

mod write;

type Item = (RunId, Change);

pub(super) fn start(
    pool: Pool,
    wakes: Arc<WakeBus>,
    notifier: Notifier,
) -> (Batch<Item, Applied>, JoinHandle<()>) {
    let habits = Habits {
        is_urgent,
        ..Habits::default()
    };
    Batch::start(habits, move |group: Vec<Item>| {
        let (pool, wakes, notifier) = (pool.clone(), wakes.clone(), notifier.clone());
        async move {
            let (results, told) = match flush(&pool, &group).await {
                Ok((results, told)) => (results.into_iter().map(Ok).collect(), told),
                Err(StoreError::Internal(_)) if group.len() > 1 => one_by_one(&pool, &group).await,
                Err(error) => return Err(error),
            };
            for run in &told {
                run.publish(&wakes, &notifier);
            }
            Ok(results)
        }
    })
}

/// Nobody waits for an Accepted: what follows it comes within a millisecond or two, and both fit one transaction.
fn is_urgent((_, change): &Item) -> bool {
    !matches!(
        change,
        Change::Report {
            report: Report::Accepted { .. },
            ..
        }
    )
}

/// One change that the database refuses must not spoil the others of its group.
async fn one_by_one(pool: &Pool, group: &[Item]) -> (Vec<Result<Applied>>, Vec<Told>) {
    let mut results = Vec::with_capacity(group.len());
    let mut told = Vec::new();
    for item in group {
        match flush(pool, std::slice::from_ref(item)).await {
            Ok((applied, one)) => {
                results.extend(applied.into_iter().map(Ok));
                told.extend(one);
            }
            Err(error) => results.push(Err(error)),
        }
    }
    (results, told)
}

/// What followed for one run, to be told after the commit.
struct Told {
    run_id: RunId,
    finished: bool,
    effects: Effects,
    /// Deliveries became due, of this run or of another one of its group.
    delivers: bool,
}

impl Told {
    fn publish(&self, wakes: &WakeBus, notifier: &Notifier) {
        if self.effects.job_queued {
            wakes.publish(Wake::JobQueued);
            notifier.wake(Wake::JobQueued);
        }
        if let Some((pipeline, group)) = &self.effects.freed {
            wakes.publish(Wake::Group(*pipeline, group.clone()));
        }
        if let Some(pipeline) = self.effects.schedule {
            wakes.publish(Wake::Schedule(pipeline));
            notifier.wake(Wake::Schedule(pipeline));
        }
        for session in &self.effects.cancel {
            wakes.publish(Wake::Cancel(*session));
            notifier.wake(Wake::Cancel(*session));
        }
        if self.delivers {
            wakes.publish(Wake::Deliveries);
            notifier.wake(Wake::Deliveries);
        }
        if self.effects.events.is_empty() && self.effects.reply.is_none() {
            return;
        }
        let reply = self.effects.reply.clone().map(Arc::new);
        let waited_for_here = wakes.publish_run(self.run_id, reply, self.finished);
        // The caller of a webhook waits on one server only; who else follows the run has a timer.
        let only_output = self.effects.reply.is_none()
            && !self.finished
            && self
                .effects
                .events
                .iter()
                .all(|event| matches!(event.body, EventBody::Log(_)));
        match (waited_for_here, only_output) {
            (true, _) => {}
            (false, true) => notifier.output(self.run_id),
            (false, false) => notifier.run(self.run_id, self.finished),
        }
    }
}

async fn flush(pool: &Pool, group: &[Item]) -> Result<(Vec<Applied>, Vec<Told>)> {
    let mut client = pool.get().await.map_err(pool_error)?;
    for _ in 1..MAX_TRIES {
        match attempt(&mut client, group).await {
            Err(failure) if failure.is_conflict() => rollback(&client).await?,
            Err(failure) => {
                // A broken connection cannot roll back; the server has done so.
                let _ = rollback(&client).await;
                return Err(failure.into());
            }
            Ok(done) => return Ok(done),
        }
    }
    let last = attempt(&mut client, group).await;
    if last.is_err() {
        let _ = rollback(&client).await;
    }
    Ok(last?)
}

async fn rollback(client: &Object) -> Result<()> {
    client
        .batch_execute("ROLLBACK")
        .await
        .map_err(|error| Failure::Sql(error).into())
}

async fn attempt(client: &mut Object, group: &[Item]) -> Failable<(Vec<Applied>, Vec<Told>)> {
    let mut ids: Vec<Uuid> = group.iter().map(|(run, _)| run.0).collect();
    ids.sort_unstable();
    ids.dedup();
    let (mut runs, now) = load(client, &ids).await?;
    let before: BTreeMap<RunId, Vec<Job>> = runs
        .iter()
        .map(|(id, aggregate)| (*id, aggregate.jobs.clone()))
        .collect();
    let mut effects: BTreeMap<RunId, Effects> = BTreeMap::new();
    let mut results = Vec::with_capacity(group.len());
    for (run_id, change) in group {
        results.push(match runs.get_mut(run_id) {
            Some(aggregate) => {
                let effects = effects.entry(*run_id).or_default();
                apply(aggregate, change.clone(), now, effects)
            }
            None => Applied::Stale,
        });
    }
    let mut writes = Writes::default();
    for (run_id, effects) in &effects {
        if let (Some(aggregate), Some(before)) = (runs.get(run_id), before.get(run_id)) {
            writes.add(aggregate, before, effects, now);
        }
    }
    let due = writes.commit(client).await?;
    let told = effects
        .into_iter()
        .map(|(run_id, effects)| Told {
            run_id,
            finished: runs
                .get(&run_id)
                .is_some_and(|found| found.run.state == RunState::Finished),
            delivers: due > 0 && !effects.outgoing.is_empty(),
            effects,
        })
        .collect();
    Ok((results, told))
}

/// The jobs of some runs, locked.
const JOBS_TO_CHANGE: &str = "SELECT * FROM jobs WHERE run_id = ANY ($1) ORDER BY id FOR UPDATE";

/// Begins a transaction, locks and loads: one round trip, as the statements are pipelined.
async fn load(
    client: &Object,
    ids: &[Uuid],
) -> Failable<(BTreeMap<RunId, Aggregate>, OffsetDateTime)> {
    let sql = format!(
        "SELECT {RUN_TO_CHANGE}, clock_timestamp() AS now FROM runs WHERE id = ANY ($1) ORDER BY id FOR UPDATE"
    );
    let (runs, jobs) = try_join!(
        client.prepare_cached(&sql),
        client.prepare_cached(JOBS_TO_CHANGE)
    )?;
    let params: [&(dyn ToSql + Sync); 1] = [&ids];
    let ((), run_rows, job_rows) = try_join!(
        client.batch_execute("BEGIN"),
        client.query(&runs, &params),
        client.query(&jobs, &params),
    )?;
    let mut now = OffsetDateTime::UNIX_EPOCH;
    let mut runs = BTreeMap::new();
    for row in &run_rows {
        now = now.max(row.try_get("now")?);
        let run = rows::run_to_change(row)?;
        runs.insert(
            run.id,
            Aggregate {
                run,
                jobs: Vec::new(),
            },
        );
    }
    for row in &job_rows {
        let job = rows::job(row)?;
        if let Some(aggregate) = runs.get_mut(&job.run_id) {
            aggregate.jobs.push(job);
        }
    }
    Ok((runs, now))
}
