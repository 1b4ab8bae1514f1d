//! `attempts`: again until it succeeds, so many times at most.

use super::{Outcome, State, Step};
use async_trait::async_trait;
use std::sync::Arc;

pub(super) struct Attempts {
    pub(super) step: Arc<dyn Step>,
    /// At least 1.
    pub(super) attempts: u32,
}

#[async_trait]
impl Step for Attempts {
    async fn run(&self, state: &State) -> Outcome {
        let mut attempt = 1;
        loop {
            let outcome = match attempt {
                1 => self.step.run(state).await,
                _ => self.step.run(&state.marked(&format!("#{attempt}"))).await,
            };
            if let Some(stopped) = state.halt.stopped() {
                return stopped;
            }
            let is_over = matches!(outcome, Outcome::Succeeded | Outcome::Aborted);
            if outcome == Outcome::Succeeded {
                state.job.forgive(state);
            }
            if is_over || attempt >= self.attempts {
                return outcome;
            }
            attempt += 1;
        }
    }
}
