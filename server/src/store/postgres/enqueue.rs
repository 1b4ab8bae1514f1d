//! Storing runs with their receipts and jobs: one statement for everything that waits.

use super::super::batch::{Batch, Habits};
use super::super::wake::{Wake, WakeBus};
use super::super::{Enqueued, NewJob, NewRun, Result, codec};
use super::dedup;
use super::notify::Notifier;
use super::receipts::{COLUMNS, ReceiptColumns, unnest};
use super::room::{Counted, queued};
use super::{builds, millis, pool_error, sql_error};
use crate::model::dedup::First;
use crate::model::run::Hold;
use crate::model::{ReceiptId, RunId};
use deadpool_postgres::{Object, Pool, Transaction};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, LazyLock};
use tokio::task::JoinHandle;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Statement};
use uuid::Uuid;

/// Turns make the round over pipelines: a job comes after the last one of its pipeline, but not before the turn that is
/// served now. So whoever comes late is next, and a pipeline with a thousand jobs takes its turns between the others.
/// What a group holds gets its turn when it is admitted; what waits until its pipeline goes on keeps its place. The
/// pipeline is locked against changes: none is stored after its pipeline was paused or deleted, but for those who knew.
///
/// A run is stored iff its pipeline is as the caller knew it and its key, if it has one, was free; receipts and jobs follow
/// their run. A run that is there already (the call is repeated) stays as it is and counts as stored. The body that its
/// receipt names must be there, and is locked against being forgotten until the receipt is.
///
/// Everything is locked in an order that all groups share: bodies, pipelines, keys, runs, each by its id.
///
/// `IS TRUE` keeps PostgreSQL from making a loop in a loop of a question about a set.
fn store() -> String {
    let receipts = unnest(FIRST_OF_RECEIPTS);
    format!(
        "WITH wanted AS (
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::uuid[], $5::text[], $6::text[], $7::uuid[], $8::bool[],
                         $48::text[], $53::uuid[], $54::bool[], $55::bool[], $56::uuid[], $57::bytea[], $58::bytea[])
        AS t (id, pipeline_id, version, revision_id, trigger_kind, trigger_data, receipt_id, wants_reply, group_key,
              body_id, while_paused, replied, hook_id, key, key_body)
), held_bodies AS (
    SELECT id FROM bodies WHERE id IN (SELECT body_id FROM wanted) ORDER BY id FOR SHARE
), current AS (
    SELECT w.* FROM wanted w JOIN pipelines p ON p.id = w.pipeline_id AND p.version = w.version
        AND p.paused = w.while_paused
    WHERE w.body_id IS NULL OR w.body_id IN (SELECT id FROM held_bodies)
    FOR SHARE OF p
), claimed AS (
    INSERT INTO hook_keys (hook_id, key, body_sha256, receipt_id, run_id, seen_at)
    SELECT hook_id, key, key_body, receipt_id, id, clock_timestamp() FROM current WHERE hook_id IS NOT NULL
    ORDER BY hook_id, key ON CONFLICT DO NOTHING RETURNING run_id
), due AS (
    SELECT * FROM current WHERE hook_id IS NULL OR id IN (SELECT run_id FROM claimed)
), stored AS (
    INSERT INTO runs (id, pipeline_id, revision_id, state, trigger_kind, trigger_data, receipt_id, wants_reply,
                      replied, event_seq, created_at, group_key, group_held)
    SELECT id, pipeline_id, revision_id, 'queued', trigger_kind, trigger_data, receipt_id, wants_reply, replied, 0,
           clock_timestamp(), group_key, group_key IS NOT NULL FROM due ORDER BY id
    ON CONFLICT (id) DO NOTHING RETURNING id
), with_receipts AS (
    INSERT INTO receipts ({COLUMNS})
    SELECT t.* FROM {receipts} AS t ({COLUMNS}) WHERE (t.run_id IN (SELECT id FROM stored)) IS TRUE
), new_jobs AS (
    SELECT *, coalesce(driver, '') || ' ' || labels AS needs, session_id IS NULL AND coalesce(hold, 'paused') = 'paused' AS in_turn
    FROM unnest($39::uuid[], $40::uuid[], $41::text[], $42::uuid[], $43::uuid[], $44::bigint[], $45::text[], $46::text[],
                $49::int[], $50::bigint[], $51::int[], $52::text[], $59::uuid[]) WITH ORDINALITY
        AS t (id, run_id, name, agent_id, session_id, accept_ms, labels, driver, priority, queue_timeout_ms, attempts,
              hold, pipeline_id, position)
    WHERE (t.run_id IN (SELECT id FROM stored)) IS TRUE
), placed AS (
    SELECT *, row_number() OVER (PARTITION BY pipeline_id, session_id IS NULL ORDER BY position) - 1 AS nth,
           row_number() OVER (PARTITION BY pipeline_id, needs, priority, in_turn ORDER BY position) = 1 AS is_first
    FROM new_jobs
), turned AS (
    SELECT *, max(CASE WHEN in_turn AND is_first THEN greatest(1,
               (SELECT q.turn FROM jobs q WHERE q.state = 'queued' AND q.hold IS NULL AND q.needs = placed.needs
                AND q.priority = placed.priority ORDER BY q.turn LIMIT 1),
               (SELECT q.turn + 1 FROM jobs q WHERE q.state <> 'finished' AND q.turn > 0
                AND q.pipeline_id = placed.pipeline_id AND q.needs = placed.needs ORDER BY q.turn DESC LIMIT 1)) END)
           OVER (PARTITION BY pipeline_id, needs, priority, in_turn) AS from_turn
    FROM placed
), with_jobs AS (
    INSERT INTO jobs (id, run_id, name, state, attempt, lost, agent_id, session_id, lease_until, labels, driver,
                      report_seq, log_seq, queued_at, pipeline_id, needs, priority, queue_timeout_ms, attempts, hold,
                      queue_until, turn)
    SELECT id, run_id, name, CASE WHEN session_id IS NULL THEN 'queued' ELSE 'assigned' END,
           CASE WHEN session_id IS NULL THEN 0 ELSE 1 END, 0, agent_id, session_id,
           clock_timestamp() + accept_ms * interval '1 millisecond', labels::jsonb, driver, 0, 0, clock_timestamp(),
           pipeline_id, needs, priority, queue_timeout_ms, attempts, hold,
           CASE WHEN session_id IS NULL AND hold IS DISTINCT FROM 'inputs'
                THEN clock_timestamp() + queue_timeout_ms * interval '1 millisecond' END,
           CASE WHEN in_turn THEN nth + from_turn ELSE 0 END
    FROM turned
)
SELECT id FROM due UNION SELECT id FROM runs WHERE id = ANY ($47)"
    )
}

/// The first parameter that is a column of receipts.
const FIRST_OF_RECEIPTS: usize = 9;

/// See [`store`].
static STORE: LazyLock<String> = LazyLock::new(store);

/// One group at a time: the turns of the next one follow those of the last.
pub(super) fn start(
    pool: Pool,
    wakes: Arc<WakeBus>,
    notifier: Notifier,
) -> (Batch<NewRun, Enqueued>, JoinHandle<()>) {
    let counted = Arc::new(Counted::default());
    Batch::start(Habits::default(), move |group: Vec<NewRun>| {
        let (pool, wakes, notifier) = (pool.clone(), wakes.clone(), notifier.clone());
        let counted = counted.clone();
        async move {
            let results = flush(&pool, &group, &counted).await?;
            let queued = group
                .iter()
                .zip(&results)
                .any(|(new, result)| *result == Enqueued::Stored && new.is_ready());
            if queued {
                wakes.publish(Wake::JobQueued);
                notifier.wake(Wake::JobQueued);
            }
            let builds: HashSet<_> = group.iter().filter_map(NewRun::to_schedule).collect();
            for pipeline in builds {
                wakes.publish(Wake::Schedule(pipeline));
                notifier.wake(Wake::Schedule(pipeline));
            }
            Ok(results.into_iter().map(Ok).collect())
        }
    })
}

async fn flush(pool: &Pool, group: &[NewRun], counted: &Counted) -> Result<Vec<Enqueued>> {
    let mut client = pool.get().await.map_err(pool_error)?;
    let mut queued = queued(&client, group, counted).await?;
    let mut fits = Vec::with_capacity(group.len());
    let mut seen = HashSet::new();
    let admitted: Vec<&NewRun> = group
        .iter()
        .filter(|new| {
            // The same call twice at the same time: one of them is enough.
            if !seen.insert(new.id) {
                fits.push(true);
                return false;
            }
            let wanted = new.queued() as i64;
            let fit = wanted == 0 || wanted <= new.max_queue.saturating_sub(queued);
            if fit {
                queued += wanted;
            }
            fits.push(fit);
            fit
        })
        .collect();
    let statement = client.prepare_cached(&STORE).await.map_err(sql_error)?;
    let (stepped, plain): (Vec<&NewRun>, Vec<&NewRun>) =
        admitted.into_iter().partition(|new| has_builds(new));
    let mut stored = HashSet::new();
    let mut in_steps = stepped;
    if !plain.is_empty() || in_steps.is_empty() {
        let columns = Columns::of(&plain, group, Keys::Claim);
        let rows = client.query(&statement, &columns.params()).await;
        stored.extend(ids(&rows.map_err(sql_error)?));
        // Their keys are not free, most likely.
        let held = |new: &&NewRun| new.dedup.is_some() && !stored.contains(&new.id);
        in_steps.extend(plain.into_iter().filter(held));
    }
    let mut known = HashMap::new();
    if !in_steps.is_empty() {
        let (more, verdicts) = store_in_steps(&mut client, &statement, in_steps, group).await?;
        stored.extend(more);
        known = verdicts;
    }
    let gone = gone(&client, group, &stored).await?;
    let outcome = |new: &NewRun, fit: bool| match (stored.contains(&new.id), fit) {
        (true, _) => Enqueued::Stored,
        (false, false) => Enqueued::QueueFull,
        (false, true) if has_body_in(new, &gone) => Enqueued::BodyGone,
        (false, true) => match known.get(&new.id) {
            // The first one of this very group, if it was not stored after all, has done nothing.
            Some(Enqueued::Duplicate(first)) if is_of(group, first) && !is_in(&stored, first) => {
                Enqueued::Stale
            }
            Some(known) => *known,
            None => Enqueued::Stale,
        },
    };
    Ok(group
        .iter()
        .zip(fits)
        .map(|(new, fit)| outcome(new, fit))
        .collect())
}

/// Whether a run's jobs get numbers, which takes statements of their own.
fn has_builds(new: &NewRun) -> bool {
    new.jobs.iter().any(|job| job.build.is_some())
}

fn ids(rows: &[Row]) -> HashSet<RunId> {
    rows.iter().map(|row| RunId(row.get(0))).collect()
}

/// Stores runs with builds, or with keys that may be somebody's, in one transaction. A run that is not stored must not
/// have claimed its key, nor taken it from another: then all is undone, and done without it.
async fn store_in_steps(
    client: &mut Object,
    statement: &Statement,
    mut admitted: Vec<&NewRun>,
    group: &[NewRun],
) -> Result<(HashSet<RunId>, HashMap<RunId, Enqueued>)> {
    let mut known = HashMap::new();
    loop {
        let transaction = client.transaction().await.map_err(sql_error)?;
        let mut again = HashMap::new();
        if admitted.iter().any(|new| new.dedup.is_some()) {
            lock_pipelines(&transaction, &admitted).await?;
            let verdicts = dedup::claim_group(&transaction, &admitted).await?;
            again = verdicts.again;
            known.extend(verdicts.known);
            admitted.retain(|new| !known.contains_key(&new.id));
        }
        let columns = Columns::of(&admitted, group, Keys::Claimed(&again));
        let rows = transaction.query(statement, &columns.params()).await;
        let stored = ids(&rows.map_err(sql_error)?);
        let mut claimed = admitted.iter().filter(|new| new.dedup.is_some());
        if claimed.any(|new| !stored.contains(&new.id)) {
            transaction.rollback().await.map_err(sql_error)?;
            admitted.retain(|new| stored.contains(&new.id));
            continue;
        }
        if admitted.iter().any(|new| has_builds(new)) {
            builds::number(&transaction, &admitted).await?;
        }
        transaction.commit().await.map_err(sql_error)?;
        return Ok((stored, known));
    }
}

/// Pipelines are locked before keys, as in [`store`].
async fn lock_pipelines(transaction: &Transaction<'_>, runs: &[&NewRun]) -> Result<()> {
    let ids: Vec<Uuid> = runs.iter().map(|new| new.pipeline_id.0).collect();
    let sql = "SELECT 1 FROM pipelines WHERE id = ANY ($1) ORDER BY id FOR SHARE";
    let statement = transaction.prepare_cached(sql).await.map_err(sql_error)?;
    let locked = transaction.query(&statement, &[&ids]).await;
    locked.map_err(sql_error)?;
    Ok(())
}

/// The body that a run's own receipt names.
fn body_of(new: &NewRun) -> Option<Uuid> {
    let receipt = new.receipt.as_ref()?;
    // A message's receipt is stored already.
    receipt.run_id?;
    receipt.body_place.pages().map(|body| body.0)
}

fn has_body_in(new: &NewRun, gone: &HashSet<Uuid>) -> bool {
    body_of(new).is_some_and(|body| gone.contains(&body))
}

/// Which bodies are the reason that runs were not stored.
async fn gone(client: &Object, group: &[NewRun], stored: &HashSet<RunId>) -> Result<HashSet<Uuid>> {
    let missing = group.iter().filter(|new| !stored.contains(&new.id));
    let mut gone: HashSet<Uuid> = missing.filter_map(body_of).collect();
    if gone.is_empty() {
        return Ok(gone);
    }
    let bodies: Vec<Uuid> = gone.iter().copied().collect();
    let sql = "SELECT id FROM bodies WHERE id = ANY ($1)";
    for row in client.query(sql, &[&bodies]).await.map_err(sql_error)? {
        gone.remove(&row.get(0));
    }
    Ok(gone)
}

fn is_of(group: &[NewRun], first: &First) -> bool {
    group.iter().any(|new| first.run_id == Some(new.id))
}

fn is_in(stored: &HashSet<RunId>, first: &First) -> bool {
    first.run_id.is_some_and(|run| stored.contains(&run))
}

/// The parameters of [`store`], an array for each column.
#[derive(Default)]
struct Columns<'a> {
    id: Vec<Uuid>,
    pipeline_id: Vec<Uuid>,
    version: Vec<i64>,
    revision_id: Vec<Uuid>,
    trigger_kind: Vec<&'static str>,
    trigger_data: Vec<String>,
    receipt_id: Vec<Option<Uuid>>,
    wants_reply: Vec<bool>,
    receipts: ReceiptColumns<'a>,
    job_id: Vec<Uuid>,
    job_run_id: Vec<Uuid>,
    job_name: Vec<&'a str>,
    agent_id: Vec<Option<Uuid>>,
    session_id: Vec<Option<Uuid>>,
    accept_ms: Vec<Option<i64>>,
    labels: Vec<String>,
    driver: Vec<Option<&'static str>>,
    asked: Vec<Uuid>,
    group: Vec<Option<&'a str>>,
    priority: Vec<i32>,
    queue_timeout_ms: Vec<Option<i64>>,
    attempts: Vec<i32>,
    hold: Vec<Option<&'static str>>,
    body: Vec<Option<Uuid>>,
    while_paused: Vec<bool>,
    replied: Vec<bool>,
    hook: Vec<Option<Uuid>>,
    key: Vec<Option<&'a [u8]>>,
    key_body: Vec<Option<&'a [u8]>>,
    job_pipeline_id: Vec<Uuid>,
}

/// What becomes of the keys of runs.
#[derive(Clone, Copy)]
enum Keys<'a> {
    /// Each is claimed beside its run, if it is free.
    Claim,
    /// They are claimed already; these runs are done again, and what came first.
    Claimed(&'a HashMap<RunId, ReceiptId>),
}

impl<'a> Columns<'a> {
    /// Of the runs to store, among all that were asked for.
    fn of(admitted: &[&'a NewRun], asked: &[NewRun], keys: Keys<'_>) -> Self {
        let mut columns = Self {
            asked: asked.iter().map(|new| new.id.0).collect(),
            ..Self::default()
        };
        for new in admitted {
            columns.id.push(new.id.0);
            columns.pipeline_id.push(new.pipeline_id.0);
            columns.version.push(new.pipeline_version);
            columns.revision_id.push(new.revision_id.0);
            columns.trigger_kind.push(new.trigger.kind.as_str());
            columns.trigger_data.push(codec::json(&new.trigger));
            columns
                .receipt_id
                .push(new.receipt.as_ref().map(|receipt| receipt.id.0));
            columns.wants_reply.push(new.wants_reply);
            columns.group.push(new.group.as_deref());
            columns.body.push(body_of(new));
            columns.while_paused.push(new.while_paused);
            columns.replied.push(new.replied);
            if let Some(receipt) = &new.receipt {
                columns.receipts.push(receipt);
                if let Keys::Claimed(again) = keys
                    && let Some(first) = again.get(&new.id)
                {
                    columns.receipts.repeats(*first);
                }
            }
            let key = new.dedup.as_ref();
            let key = key.filter(|_| matches!(keys, Keys::Claim) && new.receipt.is_some());
            columns.hook.push(key.map(|key| key.hook));
            columns.key.push(key.map(|key| key.key.as_slice()));
            let body = key.and_then(|key| key.body_sha256.as_ref());
            columns.key_body.push(body.map(<[u8; 32]>::as_slice));
            for job in &new.jobs {
                columns.push_job(new, job);
            }
        }
        columns
    }

    fn push_job(&mut self, run: &NewRun, job: &'a NewJob) {
        let hand_to = job.hand_to.as_ref();
        self.job_id.push(job.id.0);
        self.job_run_id.push(run.id.0);
        self.job_pipeline_id.push(run.pipeline_id.0);
        self.job_name.push(&job.name);
        self.agent_id.push(hand_to.map(|hand| hand.agent_id.0));
        self.session_id.push(hand_to.map(|hand| hand.session_id.0));
        self.accept_ms
            .push(hand_to.map(|hand| millis(hand.accept_within)));
        self.priority.push(job.terms.priority);
        self.queue_timeout_ms.push(job.terms.timeout.map(millis));
        self.attempts.push(job.terms.attempts);
        self.hold.push(run.hold_of(job).map(Hold::as_str));
        self.labels.push(codec::labels(&job.labels));
        self.driver.push(job.driver.map(|driver| driver.as_str()));
    }

    fn params(&self) -> Vec<&(dyn ToSql + Sync)> {
        let mut params: Vec<&(dyn ToSql + Sync)> = vec![
            &self.id,
            &self.pipeline_id,
            &self.version,
            &self.revision_id,
            &self.trigger_kind,
            &self.trigger_data,
            &self.receipt_id,
            &self.wants_reply,
        ];
        params.extend(self.receipts.params());
        let jobs: [&(dyn ToSql + Sync); 21] = [
            &self.job_id,
            &self.job_run_id,
            &self.job_name,
            &self.agent_id,
            &self.session_id,
            &self.accept_ms,
            &self.labels,
            &self.driver,
            &self.asked,
            &self.group,
            &self.priority,
            &self.queue_timeout_ms,
            &self.attempts,
            &self.hold,
            &self.body,
            &self.while_paused,
            &self.replied,
            &self.hook,
            &self.key,
            &self.key_body,
            &self.job_pipeline_id,
        ];
        params.extend(jobs);
        params
    }
}
