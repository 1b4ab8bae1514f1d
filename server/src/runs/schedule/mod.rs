//! The scheduler: which builds of a YAML pipeline may begin, which new ones there are to be, which resources are to be
//! looked at.
//!
//! A pass over a pipeline looks at what is stored and does what follows from it; every step of it may be repeated, on
//! several servers at once, and a pass that dies half-way is finished by the next one. Order of a pass: declare the
//! resources, skip what webhooks do not mean, let builds go in the order of their runs, start runs for new versions.

mod assign;
mod begin;
mod check;
mod clock;
mod filter;
mod graph;
mod jobs;
mod program;
mod tags;
mod trigger;

pub(super) use begin::input_configs;
pub(super) use jobs::label;
pub use program::{Program, Programs};

use super::Runs;
use crate::model::pipeline::Pipeline;
use crate::model::{PipelineId, RevisionId};
use crate::store::Result;
use std::sync::Arc;

/// Runs with waiting builds that are loaded at a time.
const OPEN_RUNS: i64 = 200;
/// Rounds of one pass: each lets builds go or starts runs, which may be what others wait for.
const MAX_ROUNDS: usize = 20;

impl Runs {
    /// The configuration of a revision; `None` if it is no YAML.
    pub async fn program(&self, id: RevisionId) -> Result<Option<Arc<Program>>> {
        let revision = self.revision(id).await?;
        Ok(revision.and_then(|revision| self.inner.programs.of(&revision)))
    }

    /// One pass over a pipeline; nothing if it is gone or paused. If it is no YAML (any more), only builds of its earlier
    /// revisions are looked at.
    pub async fn schedule(&self, pipeline_id: PipelineId) -> Result<()> {
        for _ in 0..MAX_ROUNDS {
            let Some(pipeline) = self.reload_pipeline(pipeline_id).await? else {
                return Ok(());
            };
            if pipeline.paused {
                return Ok(());
            }
            let program = self.program(pipeline.revision_id).await?;
            if let Some(program) = &program {
                self.declare(&pipeline, program).await?;
            }
            // Builds of its earlier revisions may wait, whatever it is now.
            let begun = self.begin_builds(pipeline_id).await?;
            let started = match &program {
                Some(program) => self.start_for_versions(&pipeline, program).await?,
                None => false,
            };
            if !begun && !started {
                return Ok(());
            }
        }
        tracing::warn!(pipeline = %pipeline_id, "a pipeline has always more to schedule; going on later");
        Ok(())
    }

    /// Makes the resources of the newest revision known; done before, it changes nothing.
    pub async fn declare(&self, pipeline: &Pipeline, program: &Program) -> Result<()> {
        if self.inner.programs.is_declared(pipeline.revision_id) {
            return Ok(());
        }
        let scopes = program.scopes().to_vec();
        let declared = self
            .store()
            .declare_resources(pipeline.id, pipeline.revision_id, scopes)
            .await?;
        if declared {
            self.inner.programs.declared(pipeline.revision_id);
        }
        Ok(())
    }
}
