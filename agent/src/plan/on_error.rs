//! `on_error`: the hook runs after an error, also while the job is being cancelled; the step stays errored.

use super::{Outcome, State, Step};
use async_trait::async_trait;
use std::sync::Arc;

pub(super) struct OnError {
    pub(super) step: Arc<dyn Step>,
    pub(super) hook: Arc<dyn Step>,
}

#[async_trait]
impl Step for OnError {
    async fn run(&self, state: &State) -> Outcome {
        let outcome = self.step.run(state).await;
        if matches!(outcome, Outcome::Errored | Outcome::TimedOut) {
            let state = state.hook_in_any_case("on_error", outcome);
            // Its own end changes nothing.
            self.hook.run(&state).await;
        }
        outcome
    }
}
