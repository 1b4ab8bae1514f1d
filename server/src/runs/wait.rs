//! Why a job is not running yet, in words: computed when somebody asks, from what is stored.

use super::Runs;
use crate::model::agent::Agent;
use crate::model::concurrency::Member;
use crate::model::gate::Gate;
use crate::model::pipeline::Labels;
use crate::model::run::{Hold, Job, JobState};
use crate::model::transition::{Applied, Change};
use crate::model::{AgentId, JobId, PipelineId, RunId};
use crate::store::{GateFilter, OpenRun, PREFER_OTHER_AGENT, QueuedView, Result, RunView};
use pocketci_proto::api::{Driver, Queue, QueuedJob, Wait};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Duration;
use time::OffsetDateTime;

/// Entries of the queue that are shown.
const SHOWN: i64 = 200;
/// Entries among them of which the scheduler is asked what they wait for.
const EXPLAINED: usize = 20;
/// Overdue jobs ended in one go.
const BATCH: i64 = 200;
/// An agent that no server has heard of for so long is not there, whatever was stored of its connection.
const HEARD_WITHIN: Duration = Duration::from_secs(45);
/// Gates of a run that are looked at.
const GATES: i64 = 10;

/// What explains a wait, as it is stored now.
struct Facts {
    agents: Vec<Agent>,
    load: HashMap<AgentId, i64>,
    max_running: Option<i64>,
    now: OffsetDateTime,
}

/// A queued job with what is particular to it.
struct Waiting<'a> {
    job: &'a Job,
    /// What the scheduler says of a build, if it was asked.
    inputs: Option<(&'static str, String)>,
    paused_by: &'a str,
    /// Its concurrency group: the name and the runs that are not over.
    group: Option<(&'a str, &'a [Member])>,
}

impl Facts {
    fn running(&self) -> i64 {
        self.load.values().sum()
    }

    /// Nobody says of an agent that died together with its server that it has gone.
    fn connected(&self) -> impl Iterator<Item = &Agent> {
        let heard_lately = |agent: &&Agent| self.now - agent.seen_at < HEARD_WITHIN;
        self.agents
            .iter()
            .filter(|agent| agent.connected)
            .filter(heard_lately)
    }

    fn explain(&self, waiting: &Waiting) -> Wait {
        let (reason, message) = self.reason(waiting);
        Wait {
            reason: reason.to_owned(),
            message,
            since: waiting.job.queued_at,
            until: waiting.job.queue_until,
        }
    }

    fn reason(&self, waiting: &Waiting) -> (&'static str, String) {
        let job = waiting.job;
        if job.state == JobState::Assigned {
            return ("starting", "an agent is about to accept it".into());
        }
        match job.hold {
            Some(Hold::Paused) => {
                let by = waiting.paused_by;
                return ("paused", format!("the pipeline was paused by {by}"));
            }
            Some(Hold::Group) => return ("concurrency", in_group(job.run_id, waiting.group)),
            Some(Hold::Inputs) if !waiting.paused_by.is_empty() => {
                let by = waiting.paused_by;
                return ("paused", format!("the pipeline was paused by {by}"));
            }
            Some(Hold::Inputs) => {
                let untold = || ("inputs", "waits for its inputs".to_owned());
                return waiting.inputs.clone().unwrap_or_else(untold);
            }
            None => {}
        }
        if let Some(limit) = self.max_running
            && self.running() >= limit
        {
            return (
                "limit",
                format!("{limit} jobs are running, as many as the server allows (--max-running)"),
            );
        }
        self.agents_for(job)
    }

    /// Nothing of ours holds it back: what about the agents?
    fn agents_for(&self, job: &Job) -> (&'static str, String) {
        if self.connected().next().is_none() {
            return ("no_agent", "no agent is connected".into());
        }
        let suits =
            |agent: &&Agent| has_labels(agent, &job.labels) && has_driver(agent, job.driver);
        let able: Vec<&Agent> = self.connected().filter(suits).collect();
        if able.is_empty() {
            return ("no_match", self.mismatch(job));
        }
        let free = |agent: &&&Agent| {
            self.load.get(&agent.id).copied().unwrap_or(0) < i64::from(agent.slots)
        };
        let free: Vec<&&Agent> = able.iter().filter(free).collect();
        if free.is_empty() {
            let slots: i64 = able.iter().map(|agent| i64::from(agent.slots)).sum();
            let names = some_names(able.iter().map(|agent| agent.name.as_str()));
            return (
                "busy",
                format!("every slot ({slots}) of the agents that fit is taken: {names}"),
            );
        }
        let lost_lately = job.lost > 0 && job.queued_at + PREFER_OTHER_AGENT > self.now;
        if lost_lately && free.iter().all(|agent| Some(agent.id) == job.agent_id) {
            let name = &free[0].name;
            let message = format!("its last attempt failed at {name}; another agent is preferred");
            return ("retry", message);
        }
        ("starting", "it is about to be handed out".into())
    }

    /// Why no connected agent fits, as exactly as can be said.
    fn mismatch(&self, job: &Job) -> String {
        if let Some(driver) = job.driver
            && !self.connected().any(|agent| has_driver(agent, job.driver))
        {
            return format!("no connected agent has the driver {}", driver.as_str());
        }
        let missing = job.labels.iter().find(|(name, value)| {
            !self
                .connected()
                .any(|agent| agent.labels.get(*name) == Some(*value))
        });
        match missing {
            Some((name, value)) => format!("no connected agent has the label {name}={value}"),
            None => {
                let labels = job.labels.iter();
                let labels: Vec<String> = labels.map(|(k, v)| format!("{k}={v}")).collect();
                let driver = job.driver.map_or(String::new(), |driver| {
                    format!(" and the driver {}", driver.as_str())
                });
                let labels = labels.join(", ");
                format!("no connected agent has all of the labels {labels}{driver}")
            }
        }
    }
}

fn has_labels(agent: &Agent, wanted: &Labels) -> bool {
    let has = |(name, value)| agent.labels.get(name) == Some(value);
    wanted.iter().all(has)
}

fn has_driver(agent: &Agent, wanted: Option<Driver>) -> bool {
    wanted.is_none_or(|driver| agent.drivers.contains(&driver))
}

fn some_names<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    const NAMED: usize = 5;
    let more = names.len().saturating_sub(NAMED);
    let mut text = names.take(NAMED).collect::<Vec<_>>().join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

fn in_group(run_id: RunId, group: Option<(&str, &[Member])>) -> String {
    let Some((name, members)) = group else {
        return "its concurrency group is full".into();
    };
    let running: Vec<String> = members
        .iter()
        .filter(|member| member.admitted)
        .map(|member| member.run_id.to_string())
        .collect();
    let ahead = members
        .iter()
        .filter(|member| !member.admitted && !member.cancelled && member.run_id < run_id)
        .count();
    let of = match name {
        "" => "the pipeline".to_owned(),
        name => format!("concurrency group {name:?}"),
    };
    let running = match running.as_slice() {
        [] => "nothing".into(),
        some => some_names(some.iter().map(String::as_str)),
    };
    format!("waits for its place in {of}: running {running}, {ahead} ahead in the queue")
}

impl Runs {
    async fn facts(&self) -> Result<Facts> {
        Ok(Facts {
            agents: self.store().agents().await?,
            load: self.store().load().await?.into_iter().collect(),
            max_running: self.settings().max_running,
            now: OffsetDateTime::now_utc(),
        })
    }

    /// Why each job of a run is not running, in the order of `view.jobs`; `None` where there is nothing to wait for.
    pub async fn waits(&self, view: &RunView) -> Result<Vec<Option<Wait>>> {
        if view.run.end.is_some() {
            return Ok(view.jobs.iter().map(|_| None).collect());
        }
        let facts = self.facts().await?;
        let run = &view.run;
        let members = match &run.group {
            Some(group) => self.store().group(run.pipeline_id, group).await?,
            None => Vec::new(),
        };
        let pipeline = self.store().pipeline(run.pipeline_id).await?;
        let paused_by = pipeline.map(|pipeline| pipeline.paused_by);
        let gates = self.pending_gates(run.id).await?;
        let mut inputs = self.why_builds_wait(view).await?;
        let mut wait = |job: &Job| match job.state {
            JobState::Queued | JobState::Assigned => Some(facts.explain(&Waiting {
                job,
                inputs: inputs.remove(&job.id),
                paused_by: paused_by.as_deref().unwrap_or_default(),
                group: run.group.as_deref().map(|name| (name, &members[..])),
            })),
            JobState::Running => gates.first().map(for_approval),
            JobState::Finished => None,
        };
        Ok(view.jobs.iter().map(|(job, _)| wait(job)).collect())
    }

    /// What the builds of a run that wait for their inputs wait for.
    async fn why_builds_wait(
        &self,
        view: &RunView,
    ) -> Result<HashMap<JobId, (&'static str, String)>> {
        let open = OpenRun {
            run: view.run.clone(),
            jobs: view.jobs.iter().map(|(job, _)| job.clone()).collect(),
        };
        let mut found = HashMap::new();
        for job in &open.jobs {
            if job.hold == Some(Hold::Inputs) {
                found.insert(job.id, self.why_waiting(&open, job).await?);
            }
        }
        Ok(found)
    }

    async fn pending_gates(&self, run_id: RunId) -> Result<Vec<Gate>> {
        let filter = GateFilter {
            run_id: Some(run_id),
            open: true,
        };
        let found = self.store().gates(filter, GATES).await?;
        Ok(found.into_iter().map(|(gate, _)| gate).collect())
    }

    /// What waits, and why.
    pub async fn queue(&self) -> Result<Queue> {
        let facts = self.facts().await?;
        let queued = self.store().queued_jobs().await?;
        let waiting = self.store().queue(SHOWN).await?;
        let mut groups = HashMap::new();
        for view in &waiting {
            self.look_up_group(&mut groups, view).await?;
        }
        let mut inputs = self.why_some_wait(&waiting).await?;
        let slots = facts.connected().map(|agent| i64::from(agent.slots)).sum();
        let items = waiting
            .iter()
            .map(|view| QueuedJob {
                run_id: view.job.run_id,
                pipeline: view.pipeline_name.clone(),
                job: view.job.name.clone(),
                priority: view.job.terms.priority,
                wait: explain(&facts, &groups, inputs.remove(&view.job.id), view),
            })
            .collect();
        Ok(Queue {
            queued,
            running: facts.running(),
            slots,
            items,
        })
    }

    /// The same for the first of all that wait: each is a search through history.
    async fn why_some_wait(
        &self,
        waiting: &[QueuedView],
    ) -> Result<HashMap<JobId, (&'static str, String)>> {
        let for_inputs = |view: &&QueuedView| view.job.hold == Some(Hold::Inputs);
        let mut found = HashMap::new();
        for view in waiting.iter().filter(for_inputs).take(EXPLAINED) {
            if found.contains_key(&view.job.id) {
                continue;
            }
            if let Some(run) = self.store().run(view.job.run_id).await? {
                found.extend(self.why_builds_wait(&run).await?);
            }
        }
        Ok(found)
    }

    async fn look_up_group(&self, groups: &mut Groups, view: &QueuedView) -> Result<()> {
        if let Some(group) = &view.group {
            let key = (view.pipeline_id, group.clone());
            if let Entry::Vacant(place) = groups.entry(key) {
                place.insert(self.store().group(view.pipeline_id, group).await?);
            }
        }
        Ok(())
    }

    /// Ends the jobs that have waited longer than they may, saying what for. May run twice, on several servers at once.
    pub async fn end_overdue(&self) -> Result<()> {
        loop {
            let overdue = self.store().overdue(BATCH).await?;
            if overdue.is_empty() {
                return Ok(());
            }
            let full = overdue.len() as i64 == BATCH;
            let mut ended = false;
            for (run_id, job_id) in overdue {
                let waited_for = self.waited_for(run_id, job_id).await?;
                let change = Change::Overdue { job_id, waited_for };
                ended |= self.store().submit(run_id, change).await? == Applied::Done;
            }
            // What cannot be ended would be found again at once.
            if !full || !ended {
                return Ok(());
            }
        }
    }

    async fn waited_for(&self, run_id: RunId, job_id: JobId) -> Result<String> {
        let Some(view) = self.store().run(run_id).await? else {
            return Ok(String::new());
        };
        let waits = self.waits(&view).await?;
        let of_job = view.jobs.iter().position(|(job, _)| job.id == job_id);
        let wait = of_job.and_then(|at| waits.into_iter().nth(at)).flatten();
        Ok(wait.map_or_else(String::new, |wait| wait.message))
    }
}

type Groups = HashMap<(PipelineId, String), Vec<Member>>;

fn explain(
    facts: &Facts,
    groups: &Groups,
    inputs: Option<(&'static str, String)>,
    view: &QueuedView,
) -> Wait {
    let group = view.group.as_ref().and_then(|name| {
        let members = groups.get(&(view.pipeline_id, name.clone()))?;
        Some((name.as_str(), members.as_slice()))
    });
    facts.explain(&Waiting {
        job: &view.job,
        inputs,
        paused_by: &view.paused_by,
        group,
    })
}

fn for_approval(gate: &Gate) -> Wait {
    Wait {
        reason: "approval".into(),
        message: format!(
            "waits for somebody to approve {:?} (gate {})",
            gate.name, gate.id
        ),
        since: gate.opened_at,
        until: Some(gate.expires_at),
    }
}
