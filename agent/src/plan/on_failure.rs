//! `on_failure`: the hook cannot mend the failure, only make it worse.

use super::{Outcome, State, Step};
use async_trait::async_trait;
use std::sync::Arc;

pub(super) struct OnFailure {
    pub(super) step: Arc<dyn Step>,
    pub(super) hook: Arc<dyn Step>,
}

#[async_trait]
impl Step for OnFailure {
    async fn run(&self, state: &State) -> Outcome {
        match self.step.run(state).await {
            Outcome::Failed => {
                let state = state.hook("on_failure", Outcome::Failed);
                self.hook.run(&state).await.max(Outcome::Failed)
            }
            other => other,
        }
    }
}
