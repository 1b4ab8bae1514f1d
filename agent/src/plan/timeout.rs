//! `timeout` around composite steps: what takes too long is stopped, and has failed.

use super::{Outcome, State, Step};
use async_trait::async_trait;
use pocketci_pipeline::duration;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

pub(super) struct Timeout {
    pub(super) step: Arc<dyn Step>,
    /// As Go writes durations: `1h30m`; may hold `((vars))`.
    pub(super) within: String,
}

/// The duration of a `timeout` as it is written; a negative one is over at once.
///
/// # Errors
/// A sentence that says what is wrong.
pub(super) async fn duration(state: &State, written: &str) -> Result<Duration, String> {
    let value = Value::String(written.to_owned());
    let text = match state.job.interpolate(state, &value).await? {
        Value::String(text) => text,
        other => other.to_string(),
    };
    let nanos = duration::parse_go_nanos(&text).map_err(|error| format!("timeout: {error}"))?;
    Ok(Duration::from_nanos(u64::try_from(nanos).unwrap_or(0)))
}

#[async_trait]
impl Step for Timeout {
    async fn run(&self, state: &State) -> Outcome {
        let within = match duration(state, &self.within).await {
            Ok(within) => within,
            Err(error) => {
                state.job.fault(state, Outcome::Errored, &error).await;
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
                state.job.fault(state, Outcome::Failed, &said).await;
                Outcome::Failed
            }
            other => other,
        }
    }
}
