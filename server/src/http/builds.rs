//! Jobs of YAML pipelines over all runs, and their builds: list, show, run again.

use super::App;
use super::error::ApiError;
use super::extract::{ApiQuery, PathId, PathNames};
use super::view;
use crate::model::JobId;
use crate::model::pipeline::Pipeline;
use crate::model::run::{Job, Run, Trigger, TriggerKind};
use crate::runs::{MAX_TRIES, Program, StartRun};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use pocketci_proto::api::{self, Triggered};
use serde::Deserialize;
use std::sync::Arc;

/// Builds of a page unless asked otherwise.
const PAGE: i64 = 50;
/// Builds of a page at most.
const MAX_PAGE: i64 = 200;
/// Builds of a job that are looked through for its current and its last one.
const LATEST: i64 = 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    before: Option<JobId>,
    limit: Option<i64>,
}

/// `3` or `3.1`.
fn number(text: &str) -> Option<(i32, i32)> {
    let (number, rerun) = text.split_once('.').unwrap_or((text, "0"));
    Some((number.parse().ok()?, rerun.parse().ok()?))
}

impl App {
    /// A YAML pipeline with its configuration as it is stored now.
    pub(super) async fn find_program(
        &self,
        name_or_id: &str,
    ) -> Result<(Arc<Pipeline>, Arc<Program>), ApiError> {
        let pipeline = self.find_pipeline(name_or_id).await?;
        let program = self.runs.program(pipeline.revision_id).await?;
        let program = program.ok_or_else(|| {
            ApiError::Conflict(format!(
                "pipeline {:?} is no YAML pipeline: it has no jobs and resources of its own",
                pipeline.name
            ))
        })?;
        Ok((pipeline, program))
    }

    async fn find_build(
        &self,
        pipeline: &Pipeline,
        job: &str,
        text: &str,
    ) -> Result<(Run, Job), ApiError> {
        let unknown = || ApiError::NotFound {
            what: "build",
            name: format!("{}/{job} {text}", pipeline.name),
        };
        let (number, rerun) = number(text).ok_or_else(unknown)?;
        let store = self.runs.store();
        let found = store.build(pipeline.id, job, number, rerun).await?;
        found.ok_or_else(unknown)
    }
}

#[utoipa::path(get, path = "/api/pipelines/{id}/jobs", tag = "jobs", params(("id" = String, Path, description = "id or name")), responses((status = 200, body = Vec<api::PipelineJob>), (status = 404), (status = 409, description = "no YAML pipeline")))]
pub(super) async fn jobs(
    State(app): State<App>,
    PathId(id): PathId,
) -> Result<Json<Vec<api::PipelineJob>>, ApiError> {
    let (pipeline, program) = app.find_program(&id).await?;
    let mut jobs = Vec::new();
    for job in &program.config.jobs {
        let store = app.runs.store();
        let builds = store
            .builds(pipeline.id, Some(&job.name), None, LATEST)
            .await?;
        let newest = |over: bool| {
            let found = builds.iter().find(|(_, job)| job.end.is_some() == over);
            found.map(|(run, job)| view::build(&pipeline.name, run, job))
        };
        jobs.push(api::PipelineJob {
            name: job.name.clone(),
            current: newest(false),
            last: newest(true),
        });
    }
    Ok(Json(jobs))
}

async fn page(
    app: &App,
    id: &str,
    job: Option<&str>,
    query: ListQuery,
) -> Result<Json<api::Page<api::Build>>, ApiError> {
    let (pipeline, program) = app.find_program(id).await?;
    if let Some(job) = job
        && program.config.job(job).is_none()
    {
        return Err(ApiError::NotFound {
            what: "job",
            name: format!("{}/{job}", pipeline.name),
        });
    }
    let limit = query.limit.unwrap_or(PAGE).clamp(1, MAX_PAGE);
    let store = app.runs.store();
    let found = store.builds(pipeline.id, job, query.before, limit).await?;
    let full = found.len() as i64 == limit;
    let last = found.last().filter(|_| full);
    Ok(Json(api::Page {
        next: last.map(|(_, job)| job.id.to_string()),
        items: found
            .iter()
            .map(|(run, job)| view::build(&pipeline.name, run, job))
            .collect(),
    }))
}

#[utoipa::path(get, path = "/api/pipelines/{id}/builds", tag = "jobs", params(("id" = String, Path, description = "id or name"), ("before" = Option<String>, Query, description = "`next` of the page before"), ("limit" = Option<i64>, Query)), responses((status = 200, body = api::Page<api::Build>), (status = 404)))]
pub(super) async fn all(
    State(app): State<App>,
    PathId(id): PathId,
    ApiQuery(query): ApiQuery<ListQuery>,
) -> Result<Json<api::Page<api::Build>>, ApiError> {
    page(&app, &id, None, query).await
}

#[utoipa::path(get, path = "/api/pipelines/{id}/jobs/{job}/builds", tag = "jobs", params(("id" = String, Path, description = "id or name"), ("job" = String, Path), ("before" = Option<String>, Query, description = "`next` of the page before"), ("limit" = Option<i64>, Query)), responses((status = 200, body = api::Page<api::Build>), (status = 404)))]
pub(super) async fn list(
    State(app): State<App>,
    PathNames((id, job)): PathNames<(String, String)>,
    ApiQuery(query): ApiQuery<ListQuery>,
) -> Result<Json<api::Page<api::Build>>, ApiError> {
    page(&app, &id, Some(&job), query).await
}

#[utoipa::path(get, path = "/api/pipelines/{id}/jobs/{job}/builds/{number}", tag = "jobs", params(("id" = String, Path, description = "id or name"), ("job" = String, Path), ("number" = String, Path, description = "3, or 3.1 for a rerun")), responses((status = 200, body = api::Build, description = "with its inputs and outputs, and what it waits for"), (status = 404)))]
pub(super) async fn show(
    State(app): State<App>,
    PathNames((id, job, number)): PathNames<(String, String, String)>,
) -> Result<Json<api::Build>, ApiError> {
    let (pipeline, _) = app.find_program(&id).await?;
    let (run, job) = app.find_build(&pipeline, &job, &number).await?;
    let mut build = view::build(&pipeline.name, &run, &job);
    let used = app.runs.store().build_versions(job.id).await?;
    build.inputs = used
        .inputs
        .into_iter()
        .map(|input| api::BuildVersion {
            name: input.name,
            resource: input.resource,
            version: input.version,
        })
        .collect();
    build.outputs = used
        .outputs
        .into_iter()
        .map(|output| api::BuildVersion {
            name: output.resource.clone(),
            resource: output.resource,
            version: output.version,
        })
        .collect();
    if let Some(view) = app.runs.store().run(run.id).await? {
        let waits = app.runs.waits(&view).await?;
        let of_job = view.jobs.iter().position(|(found, _)| found.id == job.id);
        if let Some(at) = of_job {
            build.agent = view.jobs[at].1.clone();
            build.wait = waits.into_iter().nth(at).flatten();
        }
    }
    Ok(Json(build))
}

#[utoipa::path(post, path = "/api/pipelines/{id}/jobs/{job}/builds/{number}/rerun", tag = "jobs", params(("id" = String, Path, description = "id or name"), ("job" = String, Path), ("number" = String, Path, description = "3, or 3.1 for a rerun")), responses((status = 202, body = Triggered, description = "a new build of the job as it is now, with the same inputs"), (status = 404), (status = 409)))]
pub(super) async fn rerun(
    State(app): State<App>,
    PathNames((id, name, number)): PathNames<(String, String, String)>,
) -> Result<(StatusCode, Json<Triggered>), ApiError> {
    for _ in 0..MAX_TRIES {
        let (pipeline, _) = app.find_program(&id).await?;
        if pipeline.paused {
            return Err(ApiError::Paused {
                name: pipeline.name.clone(),
            });
        }
        let (run, job) = app.find_build(&pipeline, &name, &number).await?;
        let receipt = app.receipt_for_rerun(&run).await?;
        if app
            .runs
            .store()
            .build_versions(job.id)
            .await?
            .inputs
            .is_empty()
            && job.started_at.is_none()
        {
            return Err(ApiError::Conflict(format!(
                "build {number} of {name} was never given its inputs; trigger the job instead"
            )));
        }
        let trigger = Trigger {
            jobs: vec![name.clone()],
            anonymous: run.trigger.anonymous,
            ..Trigger::new(TriggerKind::Manual)
        };
        let start = StartRun {
            // Its params go with it.
            receipt: receipt.map(|receipt| receipt.of_rerun(&run.id.to_string(), run.pipeline_id)),
            rerun_of: Some(job.id),
            ..StartRun::new(pipeline, trigger)
        };
        if let Some(settled) = app.runs.start(start).await?.settled() {
            let (run_id, _) = settled?;
            return Ok((StatusCode::ACCEPTED, Json(Triggered { run_id })));
        }
    }
    Err(ApiError::Unavailable)
}
