//! An agent's second life: attempts that its earlier process held go on here, or are dropped, as the server says.

use super::session::Session;
use super::{Agent, lock};
use crate::attempt::{Attempt, Reports, StopReason};
use crate::state::Saved;
use pb::held_verdict::Action;
use pb::report::Kind;
use pocketci_proto::agent as pb;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use tokio::time::Instant;

impl Session {
    /// What the server says of attempts that the earlier process held; then what is nobody's is removed.
    pub(super) fn restore(&self, verdicts: &[pb::HeldVerdict]) {
        let saved = std::mem::take(&mut *lock(&self.agent.saved));
        for saved in saved {
            let verdict = verdicts.iter().find(|v| v.r#ref == saved.assign.r#ref);
            match verdict.map(|verdict| (verdict.action(), verdict)) {
                Some((Action::Continue, verdict)) => self.resume(&saved, verdict, false),
                Some((Action::Cancel, verdict)) => self.resume(&saved, verdict, true),
                _ => saved.file.remove(),
            }
        }
        if !std::mem::replace(&mut *lock(&self.agent.swept), true) {
            let agent = self.agent.clone();
            self.agent.jobs.spawn(async move { sweep(&agent).await });
        }
    }

    fn resume(&self, saved: &Arc<Saved>, verdict: &pb::HeldVerdict, cancel: bool) {
        let Some(reference) = saved.assign.r#ref.clone() else {
            return;
        };
        tracing::info!(job = %hex::encode(&reference.job_id), "going on with a job of this agent's earlier process");
        let config = self.agent.config();
        let outlet = Some(self.outlet.clone());
        let attempt = Attempt::new(
            reference.clone(),
            Reports::resumed(reference.clone(), outlet, verdict.report_seq),
            self.agent.resumed_log(&reference, verdict),
            self.usable_lease(),
            config.limits.max_output_bytes,
        );
        let attempt = Arc::new(attempt.resumed(saved, verdict.report_seq));
        attempt.extend_lease(Instant::now() + self.usable_lease());
        lock(&self.agent.attempts).insert(reference.job_id, attempt.clone());
        if verdict.report_seq == 0 {
            attempt.reports.add(Kind::Accepted(pb::Accepted {}));
        }
        if cancel {
            attempt.stop(StopReason::User);
        } else if saved.interrupted {
            attempt.stop(StopReason::Interrupted);
        }
        self.work(attempt, saved.assign.clone());
    }
}

/// Removes containers and volumes with this agent's name that belong to no attempt it holds.
async fn sweep(agent: &Arc<Agent>) {
    let name = agent.config().name.clone();
    let is_left = |labels: &BTreeMap<String, String>| {
        let label = |name: &str| labels.get(name).map(String::as_str).unwrap_or_default();
        // Looked at after the engine has listed: whatever was assigned meanwhile is held.
        let held: HashSet<(String, String)> = agent
            .attempts()
            .iter()
            .map(|attempt| {
                let reference = &attempt.reference;
                let job = uuid::Uuid::from_slice(&reference.job_id).unwrap_or_default();
                (job.to_string(), reference.attempt.to_string())
            })
            .collect();
        let job = (
            label("pocketci.job").to_owned(),
            label("pocketci.attempt").to_owned(),
        );
        label("pocketci.agent") == name && !held.contains(&job)
    };
    for driver in &agent.workshop.drivers {
        match driver.sweep(&is_left).await {
            Some(0) | None => {}
            Some(count) => {
                tracing::info!(
                    count,
                    "removed containers and volumes that an earlier start left behind"
                );
            }
        }
    }
}
