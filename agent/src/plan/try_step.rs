//! `try`: whatever its step says, it succeeds, unless the job is cancelled.

use super::{Outcome, State, Step};
use async_trait::async_trait;
use std::sync::Arc;

pub(super) struct Try(pub(super) Arc<dyn Step>);

#[async_trait]
impl Step for Try {
    async fn run(&self, state: &State) -> Outcome {
        let state = state.within("try");
        match self.0.run(&state).await {
            Outcome::Aborted => Outcome::Aborted,
            Outcome::Succeeded | Outcome::Failed | Outcome::Errored | Outcome::TimedOut => {
                state.job.forgive(&state);
                Outcome::Succeeded
            }
        }
    }
}
