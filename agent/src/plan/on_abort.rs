//! `on_abort`: the hook runs after the step was cancelled, and is not cancelled itself; the step stays aborted.

use super::{Outcome, State, Step};
use async_trait::async_trait;
use std::sync::Arc;

pub(super) struct OnAbort {
    pub(super) step: Arc<dyn Step>,
    pub(super) hook: Arc<dyn Step>,
}

#[async_trait]
impl Step for OnAbort {
    async fn run(&self, state: &State) -> Outcome {
        let outcome = self.step.run(state).await;
        if outcome == Outcome::Aborted {
            let state = state.hook_in_any_case("on_abort", outcome);
            // Its own end changes nothing.
            self.hook.run(&state).await;
        }
        outcome
    }
}
