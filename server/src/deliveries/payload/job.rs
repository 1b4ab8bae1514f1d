//! `job`: a job of a run, with its end.

use super::instant::iso_ms;
use super::status::Status;
use crate::model::JobId;
use crate::store::RunView;
use serde::Serialize;
use uuid::Uuid;

/// A job that is over.
#[derive(Debug, Clone, Serialize)]
pub struct Job {
    /// Its id.
    pub id: Uuid,
    /// Its name; `pipeline` for a JavaScript pipeline.
    pub name: String,
    /// When the last attempt began; of a job that no agent ever had, when it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped_at: Option<String>,
    /// How it ended.
    pub status: Status,
    /// Of a YAML pipeline's build its number, else its place in the run, from 1.
    pub number: u64,
    /// Of a rerun: which one of the build `number`, from 1. CircleCI does not have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rerun: Option<u64>,
}

impl Job {
    /// The job of this id; `None` if the run has none.
    pub fn of(view: &RunView, id: JobId) -> Option<Self> {
        let at = view.jobs.iter().position(|(job, _)| job.id == id)?;
        let (job, _) = view.jobs.get(at)?;
        let build = job.build.map(|build| (build.number, build.rerun));
        let (number, rerun) = build.unwrap_or((0, 0));
        let stopped = job.finished_at;
        Some(Self {
            id: job.id.0,
            name: job.name.clone(),
            started_at: job.started_at.or(stopped).map(iso_ms),
            stopped_at: stopped.map(iso_ms),
            status: Status::of_job(job.end.as_ref()),
            number: match build {
                Some(_) => u64::try_from(number).unwrap_or(0),
                None => at as u64 + 1,
            },
            rerun: u64::try_from(rerun).ok().filter(|rerun| *rerun > 0),
        })
    }
}
