//! `across`: the step once for each combination of values, each with its own vars and artifacts.

use super::in_parallel::SideBySide;
use super::{Outcome, State, Step};
use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use pocketci_pipeline::config::model::{AcrossVar, MaxInFlight};
use serde_json::Value;
use std::sync::Arc;

/// Most combinations.
const MAX_ITERATIONS: usize = 10_000;
/// Longest value in a path, in characters.
const SHOWN_CHARS: usize = 40;

pub(super) struct Across {
    /// At least one; the first is the outermost.
    pub(super) vars: Vec<AcrossVar>,
    pub(super) step: Arc<dyn Step>,
    pub(super) fail_fast: bool,
}

/// A var with the values that it takes.
struct Level<'a> {
    var: &'a str,
    values: Vec<Value>,
    limit: Option<usize>,
}

#[async_trait]
impl Step for Across {
    async fn run(&self, state: &State) -> Outcome {
        let mut levels = Vec::new();
        for var in &self.vars {
            match level(state, var).await {
                Ok(level) => levels.push(level),
                Err(error) => {
                    let said = format!("across: values of {:?}: {error}", var.var);
                    state.job.fault(state, Outcome::Errored, &said).await;
                    return Outcome::Errored;
                }
            }
        }
        let iterations = levels.iter().try_fold(1_usize, |product, level| {
            product.checked_mul(level.values.len())
        });
        if iterations.is_none_or(|count| count > MAX_ITERATIONS) {
            let said = format!("across: more than {MAX_ITERATIONS} combinations of values");
            state.job.fault(state, Outcome::Errored, &said).await;
            return Outcome::Errored;
        }
        self.run_levels(state, &levels, &[]).await
    }
}

async fn level<'a>(state: &State, var: &'a AcrossVar) -> Result<Level<'a>, String> {
    let values = match state.job.interpolate(state, &var.values).await? {
        Value::Array(values) => values,
        other => return Err(format!("expected a list, found {}", kind(&other))),
    };
    let limit = match var.max_in_flight {
        None => Some(1),
        Some(MaxInFlight::All) => None,
        Some(MaxInFlight::Limit(limit)) => Some(usize::try_from(limit).unwrap_or(1).max(1)),
    };
    Ok(Level {
        var: &var.var,
        values,
        limit,
    })
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

impl Across {
    /// All combinations of the values of `levels`, with those `chosen` around them.
    fn run_levels<'a>(
        &'a self,
        state: &'a State,
        levels: &'a [Level<'a>],
        chosen: &'a [(&'a str, &'a Value)],
    ) -> BoxFuture<'a, Outcome> {
        let Some((level, inner)) = levels.split_first() else {
            return self.iterate(state, chosen).boxed();
        };
        let side_by_side = SideBySide {
            count: level.values.len(),
            limit: level.limit,
            fail_fast: self.fail_fast,
        };
        async move {
            side_by_side
                .run(state, |index, state| async move {
                    let mut chosen = chosen.to_vec();
                    chosen.push((level.var, &level.values[index]));
                    self.run_levels(&state, inner, &chosen).await
                })
                .await
        }
        .boxed()
    }

    async fn iterate(&self, state: &State, chosen: &[(&str, &Value)]) -> Outcome {
        let scope = state.scope.within();
        let mut shown = Vec::new();
        for (var, value) in chosen {
            scope.set_var(var, (*value).clone());
            shown.push(format!("{var}={}", text(state, value)));
        }
        let mut state = state.marked(&format!("{{{}}}", shown.join(",")));
        state.scope = scope;
        self.step.run(&state).await
    }
}

/// The value in a path. Masked before it is cut: no mask knows a part of a secret.
fn text(state: &State, value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let text = state.job.masked(text);
    let mut short: String = text.chars().take(SHOWN_CHARS).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
