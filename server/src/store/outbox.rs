//! What both storages write when something happened that somebody may have subscribed to.

use crate::model::delivery::OutgoingFact;
use crate::model::subscription::EventName;
use crate::model::{EventId, JobId, PipelineId, RunId};
use serde_json::Value;
use time::OffsetDateTime;

/// An event to tell: a fact with what is not to be found elsewhere.
pub(super) struct Told {
    pub(super) id: EventId,
    pub(super) name: EventName,
    pub(super) pipeline_id: Option<PipelineId>,
    pub(super) run_id: Option<RunId>,
    pub(super) job_id: Option<JobId>,
    pub(super) attempt: i32,
    pub(super) at: OffsetDateTime,
    pub(super) status: &'static str,
    pub(super) data: Value,
}

impl From<&OutgoingFact> for Told {
    fn from(fact: &OutgoingFact) -> Self {
        Self {
            id: fact.id,
            name: fact.name,
            pipeline_id: Some(fact.pipeline_id),
            run_id: Some(fact.run_id),
            job_id: fact.job_id,
            attempt: fact.attempt,
            at: fact.at,
            status: fact.status.unwrap_or_default(),
            data: Value::Null,
        }
    }
}
