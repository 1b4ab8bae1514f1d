//! `ensure`: the hook runs in every case; the worse of the two outcomes counts.

use super::{Outcome, State, Step};
use async_trait::async_trait;
use std::sync::Arc;

pub(super) struct Ensure {
    pub(super) step: Arc<dyn Step>,
    pub(super) hook: Arc<dyn Step>,
}

#[async_trait]
impl Step for Ensure {
    async fn run(&self, state: &State) -> Outcome {
        let outcome = self.step.run(state).await;
        let hook = match state.halt.stopped() {
            None => state.hook("ensure", outcome),
            // It would be stopped before it began.
            Some(_) => state.hook_in_any_case("ensure", outcome),
        };
        outcome.max(self.hook.run(&hook).await)
    }
}
