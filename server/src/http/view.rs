//! The model in the words of the public API.

use crate::model::JobId;
use crate::model::agent::Agent;
use crate::model::pipeline::Pipeline;
use crate::model::run::{End, Event, EventBody, Job, JobState, ReplyBy, Run, RunState};
use crate::store::RunView;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pocketci_proto::api::{self, RunEventKind, RunStatus};
use std::collections::HashMap;

pub(super) fn pipeline(pipeline: &Pipeline, content: Option<String>) -> api::Pipeline {
    api::Pipeline {
        id: pipeline.id,
        name: pipeline.name.clone(),
        revision_id: pipeline.revision_id,
        revision: pipeline.revision,
        content_type: pipeline.content_type.as_str().to_owned(),
        content,
        driver: pipeline.driver,
        labels: pipeline.labels.clone(),
        webhook_secrets: u32::try_from(pipeline.webhook_secrets.len()).unwrap_or(u32::MAX),
        settings: pipeline.settings.clone(),
        paused: pipeline.paused,
        paused_by: pipeline.paused_by.clone(),
        webhook_path: format!("/api/webhooks/{}", pipeline.id),
        created_at: pipeline.created_at,
        updated_at: pipeline.updated_at,
    }
}

fn status(end: Option<&End>, queued: bool) -> RunStatus {
    match end {
        Some(end) => end.outcome.status(),
        None if queued => RunStatus::Queued,
        None => RunStatus::Running,
    }
}

fn reason(end: Option<&End>) -> Option<String> {
    end.map(|end| end.reason.clone())
        .filter(|reason| !reason.is_empty())
}

fn actor(end: Option<&End>) -> Option<String> {
    end.map(|end| end.actor.clone())
        .filter(|actor| !actor.is_empty())
}

/// A run with what its jobs wait for, in the order of the jobs; none where nobody asked.
pub(super) fn run(view: &RunView, waits: Vec<Option<api::Wait>>) -> api::Run {
    let mut waits = waits.into_iter();
    let run = &view.run;
    let end = run.end.as_ref();
    api::Run {
        id: run.id,
        pipeline_id: run.pipeline_id,
        pipeline_name: view.pipeline_name.clone(),
        revision_id: run.revision_id,
        status: status(end, run.state == RunState::Queued),
        reason: reason(end),
        actor: actor(end),
        message: end
            .map(|end| end.message.clone())
            .filter(|message| !message.is_empty()),
        group: run.group.clone(),
        triggered_by: run.trigger.kind.as_str().to_owned(),
        receipt_id: run.receipt_id,
        reply: view.reply.as_ref().map(|reply| api::Reply {
            status: reply.status,
            by_pipeline: reply.by == ReplyBy::Pipeline,
            body_bytes: reply.body.len() as u64,
        }),
        jobs: view
            .jobs
            .iter()
            .map(|(found, agent)| job(found, agent.clone(), waits.next().flatten()))
            .collect(),
        created_at: run.created_at,
        started_at: run.started_at,
        finished_at: run.finished_at,
    }
}

fn job(job: &Job, agent: Option<String>, wait: Option<api::Wait>) -> api::Job {
    let queued = matches!(job.state, JobState::Queued | JobState::Assigned);
    api::Job {
        name: job.name.clone(),
        number: job.build.map(|build| build.to_string()),
        status: status(job.end.as_ref(), queued),
        attempt: job.attempt,
        agent,
        reason: reason(job.end.as_ref()),
        actor: actor(job.end.as_ref()),
        wait,
    }
}

/// A build, without what only an answer about one build has.
pub(super) fn build(pipeline: &str, run: &Run, job: &Job) -> api::Build {
    let end = job.end.as_ref();
    let queued = matches!(job.state, JobState::Queued | JobState::Assigned);
    api::Build {
        run_id: run.id,
        pipeline: pipeline.to_owned(),
        job: job.name.clone(),
        number: job
            .build
            .map_or_else(String::new, |build| build.to_string()),
        status: status(end, queued),
        reason: reason(end),
        message: end
            .map(|end| end.message.clone())
            .filter(|message| !message.is_empty()),
        wait: None,
        triggered_by: run.trigger.kind.as_str().to_owned(),
        agent: None,
        inputs: Vec::new(),
        outputs: Vec::new(),
        created_at: run.created_at,
        started_at: job.started_at,
        finished_at: job.finished_at,
    }
}

/// Names of a run's jobs, for its events.
pub(super) fn job_names(view: &RunView) -> HashMap<JobId, String> {
    view.jobs
        .iter()
        .map(|(job, _)| (job.id, job.name.clone()))
        .collect()
}

pub(super) fn event(event: Event, jobs: &HashMap<JobId, String>) -> api::RunEvent {
    api::RunEvent {
        seq: event.seq,
        at: event.at,
        job: event.job_id.and_then(|id| jobs.get(&id).cloned()),
        attempt: event.attempt,
        kind: match event.body {
            EventBody::Fact(kind) => kind,
            EventBody::Log(piece) => {
                let (bytes, gap) = piece.shown();
                let (text, base64) = match String::from_utf8(bytes.into()) {
                    Ok(text) => (Some(text), None),
                    Err(error) => (None, Some(STANDARD.encode(error.as_bytes()))),
                };
                RunEventKind::Log {
                    step: piece.step,
                    stream: piece.stream.as_str().to_owned(),
                    offset: piece.offset,
                    text,
                    base64,
                    gap,
                }
            }
        },
    }
}

pub(super) fn agent(agent: Agent) -> api::Agent {
    api::Agent {
        id: agent.id,
        name: agent.name,
        status: if agent.connected {
            "connected"
        } else {
            "offline"
        }
        .to_owned(),
        labels: agent.labels,
        slots: agent.slots,
        drivers: agent
            .drivers
            .iter()
            .map(|driver| driver.as_str().to_owned())
            .collect(),
        version: agent.version,
        seen_at: agent.seen_at,
    }
}
