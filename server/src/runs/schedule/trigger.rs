//! New versions start runs.

use super::super::{Runs, StartRun, Started};
use super::begin::input_configs;
use super::program::Program;
use crate::model::JobId;
use crate::model::pipeline::Pipeline;
use crate::model::run::{Trigger, TriggerKind};
use crate::store::Result;
use std::collections::HashSet;
use std::sync::Arc;

impl Runs {
    /// Starts one run with every job for which there is a version that it was never given, of an input with
    /// `trigger: true`. A job of which a build waits already gets the version in that one.
    pub(super) async fn start_for_versions(
        &self,
        pipeline: &Arc<Pipeline>,
        program: &Program,
    ) -> Result<bool> {
        if !self.leads() {
            return Ok(false);
        }
        let triggered = |job: &str| program.inputs(job).iter().any(|input| input.trigger);
        let jobs = program.config.jobs.iter().map(|job| job.name.as_str());
        let jobs: Vec<&str> = jobs.filter(|job| triggered(job)).collect();
        if jobs.is_empty() {
            return Ok(false);
        }
        let waiting = self.waiting_jobs(pipeline).await?;
        let mut news = Vec::new();
        let mut sources = Vec::new();
        for job in jobs.into_iter().filter(|job| !waiting.contains(*job)) {
            if let Some(vouched) = self.new_version(pipeline, program, job).await? {
                news.push(job.to_owned());
                sources.extend(vouched);
            }
        }
        if news.is_empty() {
            return Ok(false);
        }
        let trigger = Trigger {
            jobs: news,
            // What builds without rights made or passed on gives none.
            anonymous: !pipeline.lends_rights() && self.store().any_anonymous(&sources).await?,
            ..Trigger::new(TriggerKind::Version)
        };
        let start = StartRun::new(pipeline.clone(), trigger);
        // Changed meanwhile, or too much is queued: the next pass looks again.
        Ok(matches!(self.start(start).await?, Started::Stored { .. }))
    }

    /// The builds that vouch for the versions which a new build of the job would be given, if one of them is new.
    async fn new_version(
        &self,
        pipeline: &Pipeline,
        program: &Program,
        job: &str,
    ) -> Result<Option<Vec<JobId>>> {
        let inputs = input_configs(program, job, &[]);
        let selection = self.store().select_inputs(pipeline.id, job, inputs).await?;
        let is_new = |name: &str| {
            let chosen = selection.inputs.get(name);
            chosen.is_some_and(|chosen| chosen.first_occurrence)
        };
        let mut triggers = program.inputs(job).iter().filter(|input| input.trigger);
        if !selection.errors.is_empty() || !triggers.any(|input| is_new(&input.name)) {
            return Ok(None);
        }
        let chosen = selection.inputs.into_values();
        Ok(Some(chosen.flat_map(|chosen| chosen.sources).collect()))
    }

    /// Jobs of which a build has not begun.
    async fn waiting_jobs(&self, pipeline: &Pipeline) -> Result<HashSet<String>> {
        let waiting = self.store().waiting_jobs(pipeline.id).await?;
        Ok(waiting.into_iter().collect())
    }
}
