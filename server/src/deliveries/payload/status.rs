//! How a run or job ended, in CircleCI's words.

use crate::model::run::{End, Outcome};
use serde::Serialize;

/// The reasons that mean: it was not allowed to do what it wanted.
const NOT_ALLOWED: &[&str] = &["unauthorized", "forbidden"];

/// CircleCI's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Well.
    Success,
    /// The pipeline's own failure.
    Failed,
    /// It could not be carried out; of workflows only.
    Error,
    /// Stopped, or it had nothing to do.
    Canceled,
    /// It was not allowed to.
    Unauthorized,
    /// Not over yet; in `run-started` and `gate-waiting`, which CircleCI does not have.
    Running,
}

impl Status {
    /// Of a run; CircleCI's workflow.
    pub fn of_run(end: Option<&End>) -> Self {
        match end {
            None => Self::Running,
            Some(end) if NOT_ALLOWED.contains(&end.reason.as_str()) => Self::Unauthorized,
            Some(end) => match end.outcome {
                Outcome::Succeeded => Self::Success,
                Outcome::Failed => Self::Failed,
                Outcome::Errored => Self::Error,
                // What was skipped did not run: nobody shall count it as a success.
                Outcome::Aborted | Outcome::Skipped => Self::Canceled,
            },
        }
    }

    /// Of a job, for which CircleCI has no `error`.
    pub fn of_job(end: Option<&End>) -> Self {
        match Self::of_run(end) {
            Self::Error => Self::Failed,
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_has_a_word_and_jobs_know_no_error() {
        let end = |outcome, reason: &str| End {
            outcome,
            reason: reason.to_owned(),
            actor: String::new(),
            message: String::new(),
        };
        let cases = [
            (Outcome::Succeeded, "", Status::Success, Status::Success),
            (Outcome::Failed, "", Status::Failed, Status::Failed),
            (
                Outcome::Errored,
                "agent_lost",
                Status::Error,
                Status::Failed,
            ),
            (
                Outcome::Errored,
                "unauthorized",
                Status::Unauthorized,
                Status::Unauthorized,
            ),
            (Outcome::Aborted, "user", Status::Canceled, Status::Canceled),
            (Outcome::Skipped, "", Status::Canceled, Status::Canceled),
        ];
        for (outcome, reason, run, job) in cases {
            let end = end(outcome, reason);
            assert_eq!(Status::of_run(Some(&end)), run);
            assert_eq!(Status::of_job(Some(&end)), job);
        }
    }
}
