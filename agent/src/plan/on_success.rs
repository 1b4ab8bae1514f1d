//! `on_success`: goes on with the hook, whose outcome counts.

use super::{Outcome, State, Step};
use async_trait::async_trait;
use std::sync::Arc;

pub(super) struct OnSuccess {
    pub(super) step: Arc<dyn Step>,
    pub(super) hook: Arc<dyn Step>,
}

#[async_trait]
impl Step for OnSuccess {
    async fn run(&self, state: &State) -> Outcome {
        match self.step.run(state).await {
            Outcome::Succeeded => {
                let state = state.hook("on_success", Outcome::Succeeded);
                self.hook.run(&state).await
            }
            other => other,
        }
    }
}
