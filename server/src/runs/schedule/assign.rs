//! What a build or a check is told when it is handed out.

use super::super::Runs;
use crate::model::assignment::Assignment;
use crate::store::{ClaimRequest, Claimed, Result};
use std::collections::BTreeMap;

impl Runs {
    /// Hands out jobs, with all that they need. One that cannot be completed is not told of, so that it is handed out
    /// again when it was not accepted in time.
    pub async fn claim(&self, request: ClaimRequest) -> Result<Vec<Claimed>> {
        let mut jobs = self.store().claim(request).await?;
        for job in &mut jobs {
            self.complete(job).await?;
        }
        Ok(jobs)
    }

    /// What gets and puts are told of the server.
    fn build_env(&self, claimed: &Claimed) -> BTreeMap<String, String> {
        let Some(url) = &self.settings().external_url else {
            return BTreeMap::new();
        };
        let url = url.trim_end_matches('/');
        let of_run = format!("{url}/api/runs/{}", claimed.run.id);
        [
            ("ATC_EXTERNAL_URL", url.to_owned()),
            ("BUILD_URL", of_run.clone()),
            ("BUILD_URL_SHORT", of_run),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    /// Adds what a job of a YAML pipeline needs; nothing for any other.
    pub async fn complete(&self, claimed: &mut Claimed) -> Result<()> {
        if let Some(check) = &claimed.run.trigger.check {
            claimed.build = Some(Assignment {
                check: Some((check.resource.clone(), check.from.clone())),
                ..Assignment::default()
            });
            return Ok(());
        }
        if let Some(one_off) = &claimed.run.trigger.one_off {
            claimed.build = Some(Assignment {
                inputs: one_off.inputs.clone(),
                one_off: Some(one_off.clone()),
                env: self.build_env(claimed),
                ..Assignment::default()
            });
            return Ok(());
        }
        let Some(number) = claimed.job.build else {
            return Ok(());
        };
        let used = self.store().build_versions(claimed.job.id).await?;
        let mut assignment = Assignment {
            inputs: used
                .inputs
                .into_iter()
                .map(|input| (input.name, input.resource, input.version))
                .collect(),
            number: number.to_string(),
            env: self.build_env(claimed),
            ..Assignment::default()
        };
        if let Some(receipt) = &claimed.receipt
            && let Some(program) = self.program(claimed.run.revision_id).await?
            && let Some(job) = program.config.job(&claimed.job.name)
        {
            assignment.params = self.webhook_params(receipt, job).await?;
        }
        claimed.build = Some(assignment);
        Ok(())
    }
}
