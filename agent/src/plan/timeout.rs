//! `timeout` around composite steps: what takes too long is stopped, and has failed.

use super::{Outcome, State, Step};
use async_trait::async_trait;
use pocketci_pipeline::duration;
use std::sync::Arc;
use std::time::Duration;

pub(super) struct Timeout {
    pub(super) step: Arc<dyn Step>,
    /// As Go writes durations: `1h30m`.
    pub(super) within: String,
}

/// The duration of a `timeout`; a negative one is over at once. An `Err` says what is wrong.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let nanos = duration::parse_go_nanos(text).map_err(|error| error.to_string())?;
    Ok(Duration::from_nanos(u64::try_from(nanos).unwrap_or(0)))
}

#[async_trait]
impl Step for Timeout {
    async fn run(&self, state: &State) -> Outcome {
        let within = match parse(&self.within) {
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
