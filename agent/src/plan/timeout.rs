//! `timeout` around composite steps: what takes too long is stopped, and has failed.

use super::{Outcome, State, Step, duration};
use async_trait::async_trait;
use std::sync::Arc;

pub(super) struct Timeout {
    pub(super) step: Arc<dyn Step>,
    /// As Go writes durations: `1h30m`.
    pub(super) within: String,
}

#[async_trait]
impl Step for Timeout {
    async fn run(&self, state: &State) -> Outcome {
        let within = match duration::parse(&self.within) {
            Ok(within) => within,
            Err(error) => {
                state.job.fault(state, &format!("timeout: {error}")).await;
                return Outcome::Errored;
            }
        };
        let halt = state.halt.child();
        let inner = state.halted_by(halt.clone());
        let running = self.step.run(&inner);
        tokio::pin!(running);
        let outcome = tokio::select! {
            outcome = &mut running => outcome,
            () = tokio::time::sleep(within) => {
                halt.stop(Outcome::TimedOut);
                running.await
            }
        };
        match outcome {
            Outcome::TimedOut => {
                let said = format!("it took longer than its timeout of {}", self.within);
                state.job.fault(state, &said).await;
                Outcome::Failed
            }
            other => other,
        }
    }
}
