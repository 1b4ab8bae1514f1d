//! `do`, and a job's plan: one step after the other, up to the first that does not succeed.

use super::{Outcome, State, Step};
use async_trait::async_trait;
use std::sync::Arc;

pub(super) struct Sequence {
    pub(super) steps: Vec<Arc<dyn Step>>,
    /// What it is called in paths: `do`, or `plan`.
    pub(super) name: &'static str,
}

#[async_trait]
impl Step for Sequence {
    async fn run(&self, state: &State) -> Outcome {
        for (index, step) in self.steps.iter().enumerate() {
            let place = format!("{}[{index}]", self.name);
            let outcome = step.run(&state.within(&place)).await;
            if outcome != Outcome::Succeeded {
                return outcome;
            }
        }
        Outcome::Succeeded
    }
}
