//! A deep part of the plan in a task of its own: polling the whole plan would recurse as deep as it is nested.

use super::{Outcome, State, Step};
use async_trait::async_trait;
use std::sync::Arc;
use tokio_util::task::AbortOnDropHandle;

/// Levels of composites that are polled on one stack.
pub(super) const LEVELS: usize = 16;

pub(super) struct OwnTask(pub(super) Arc<dyn Step>);

#[async_trait]
impl Step for OwnTask {
    async fn run(&self, state: &State) -> Outcome {
        let (step, inner) = (self.0.clone(), state.clone());
        let task = tokio::spawn(async move { step.run(&inner).await });
        match AbortOnDropHandle::new(task).await {
            Ok(outcome) => outcome,
            // Nobody aborts it while it is awaited.
            Err(error) => {
                tracing::error!(%error, path = %state.path, "a step of a plan panicked");
                let said = "internal error; see the agent's log";
                state.job.fault(state, Outcome::Errored, said).await;
                Outcome::Errored
            }
        }
    }
}
