//! What a plan of a YAML pipeline costs beside the containers: steps that do nothing.

use anyhow::ensure;
use pocketci_agent::plan::{Halt, Job, Outcome, Scope, State, Step, tree};
use pocketci_pipeline::plan::Plan;
use serde_json::Value;
use std::sync::Arc;
use std::time::Instant;
use tokio_util::sync::CancellationToken;

/// Steps of the plan that is measured.
const STEPS: usize = 500;
/// Times it is run.
const RUNS: u32 = 100;

struct Nothing;

#[async_trait::async_trait]
impl Job for Nothing {
    async fn interpolate(&self, _: &State, value: &Value) -> Result<Value, String> {
        Ok(value.clone())
    }

    fn masked(&self, text: String) -> String {
        text
    }

    fn forgive(&self, _: &State) {}

    async fn fault(&self, _: &State, _: Outcome, _: &str) {}
}

#[async_trait::async_trait]
impl Step for Nothing {
    async fn run(&self, _: &State) -> Outcome {
        Outcome::Succeeded
    }
}

/// Microseconds of a step among many: building the tree and running it.
pub async fn step_us() -> anyhow::Result<f64> {
    let task = || Plan::Attempts {
        times: 2,
        step: Box::new(Plan::Task(Box::default())),
    };
    let leaf = |_: Plan| -> Arc<dyn Step> { Arc::new(Nothing) };
    let began = Instant::now();
    for _ in 0..RUNS {
        let plan = Plan::Do((0..STEPS).map(|_| task()).collect());
        let steps = tree(plan, &leaf).map_err(anyhow::Error::msg)?;
        let halt = || Halt::new(CancellationToken::new());
        let state = State::new(
            Arc::new(Nothing),
            Arc::new(Scope::default()),
            halt(),
            halt(),
        );
        ensure!(
            steps.run(&state).await == Outcome::Succeeded,
            "a step failed"
        );
    }
    Ok(began.elapsed().as_secs_f64() * 1e6 / f64::from(RUNS) / STEPS as f64)
}
