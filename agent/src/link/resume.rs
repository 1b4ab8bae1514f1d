//! An agent's second life: attempts that its earlier process held go on here, or are dropped, as the server says.

use super::session::Session;
use super::{Agent, lock};
use crate::attempt::{Attempt, Reports, SERVER_LABEL, StopReason};
use crate::plan::cache::CACHE_LABEL as TASK_CACHE_LABEL;
use crate::resource::cache::CACHE_LABEL;
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
        let lease = self.held_until.saturating_duration_since(Instant::now());
        if lease.is_zero() {
            // The answer took so long that another agent may have it.
            return saved.file.remove();
        }
        tracing::info!(job = %hex::encode(&reference.job_id), "going on with a job of this agent's earlier process");
        let config = self.agent.config();
        let outlet = Some(self.outlet.clone());
        let attempt = Attempt::new(
            reference.clone(),
            Reports::resumed(reference.clone(), outlet, verdict.report_seq),
            self.agent.resumed_log(&reference, verdict),
            lease,
            config.limits.max_output_bytes,
        );
        let attempt = attempt.resumed(saved, verdict.report_seq);
        let logged = verdict.log_ends.iter().map(|end| end.step).max();
        attempt.count_steps_from(logged.unwrap_or_default());
        let attempt = Arc::new(attempt);
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

/// Whether what has these labels is this agent's (of this server) and belongs to no attempt it holds.
fn is_left(agent: &Agent, labels: &BTreeMap<String, String>) -> bool {
    let label = |name: &str| labels.get(name).map(String::as_str).unwrap_or_default();
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
    let config = agent.config();
    label("pocketci.agent") == config.name
        && label(SERVER_LABEL) == config.identity()
        // What was fetched, and what tasks keep, outlives jobs; the caches look after their own.
        && !labels.contains_key(CACHE_LABEL)
        && !labels.contains_key(TASK_CACHE_LABEL)
        && !held.contains(&job)
}

/// Removes containers and volumes of this agent that belong to no attempt it holds.
async fn sweep(agent: &Arc<Agent>) {
    // Looked at after the engine has listed: whatever was assigned meanwhile is held.
    let is_left = |labels: &BTreeMap<String, String>| is_left(agent, labels);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AgentConfig;
    use crate::link::tests::{agent, config, held};

    fn labels(config: &AgentConfig, attempt: &str) -> BTreeMap<String, String> {
        let job = uuid::Uuid::from_slice(b"job").unwrap_or_default();
        let labels = [
            ("pocketci.agent", config.name.clone()),
            (SERVER_LABEL, config.identity()),
            ("pocketci.job", job.to_string()),
            ("pocketci.attempt", attempt.to_owned()),
        ];
        labels.map(|(name, value)| (name.to_owned(), value)).into()
    }

    #[tokio::test]
    async fn only_what_this_agent_of_this_server_left_is_removed() {
        let agent = agent();
        let _held = held(&agent);
        assert!(is_left(&agent, &labels(&config(), "2")));
        assert!(!is_left(&agent, &labels(&config(), "1")), "held");
        let elsewhere = AgentConfig {
            server_url: "http://127.0.0.1:2".into(),
            ..config()
        };
        assert!(!is_left(&agent, &labels(&elsewhere, "2")));
        let mut unlabelled = labels(&config(), "2");
        unlabelled.remove(SERVER_LABEL);
        assert!(!is_left(&agent, &unlabelled));
        let mut cached = labels(&config(), "");
        cached.remove("pocketci.job");
        assert!(is_left(&agent, &cached));
        cached.insert(CACHE_LABEL.to_owned(), "key".to_owned());
        assert!(!is_left(&agent, &cached));
    }
}
