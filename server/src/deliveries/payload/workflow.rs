//! `workflow`: what a run does, with its end.

use super::instant::iso_ms;
use super::project::NAMESPACE;
use super::status::Status;
use crate::model::RunId;
use crate::store::RunView;
use serde::Serialize;
use uuid::Uuid;

/// A run has one workflow, named like its pipeline.
#[derive(Debug, Clone, Serialize)]
pub struct Workflow {
    /// UUIDv5 of the run's id: a receiver that keeps everything by id must not take it for the pipeline.
    pub id: Uuid,
    /// The pipeline's name.
    pub name: String,
    /// When the run was stored.
    pub created_at: String,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped_at: Option<String>,
    /// Where to look at the run.
    pub url: String,
    /// Left out of events about jobs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
}

impl Workflow {
    /// Of this run, with its status.
    pub fn of(view: &RunView, external_url: Option<&str>) -> Self {
        let run = &view.run;
        Self {
            id: workflow_id(run.id),
            name: view.pipeline_name.clone(),
            created_at: iso_ms(run.created_at),
            stopped_at: run.finished_at.map(iso_ms),
            url: run_url(run.id, external_url),
            status: Some(Status::of_run(run.end.as_ref())),
        }
    }

    /// As it stands in events that happen before its end, whenever they are built.
    pub fn running(self) -> Self {
        Self {
            status: Some(Status::Running),
            stopped_at: None,
            ..self
        }
    }

    /// As it stands in events about jobs.
    pub fn without_status(self) -> Self {
        Self {
            status: None,
            ..self
        }
    }
}

/// See [`Workflow::id`].
pub fn workflow_id(run: RunId) -> Uuid {
    Uuid::new_v5(&NAMESPACE, format!("workflow:{run}").as_bytes())
}

/// The run's address; only a path if the server does not know where users reach it.
pub fn run_url(run: RunId, external_url: Option<&str>) -> String {
    let base = external_url.unwrap_or_default().trim_end_matches('/');
    format!("{base}/api/runs/{run}")
}
