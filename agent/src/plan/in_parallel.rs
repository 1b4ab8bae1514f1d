//! `in_parallel`: steps side by side, up to a limit.

use super::{Outcome, State, Step};
use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::sync::Arc;

pub(super) struct InParallel {
    pub(super) steps: Vec<Arc<dyn Step>>,
    /// At a time; `None` is all of them.
    pub(super) limit: Option<usize>,
    pub(super) fail_fast: bool,
}

#[async_trait]
impl Step for InParallel {
    async fn run(&self, state: &State) -> Outcome {
        let side_by_side = SideBySide {
            count: self.steps.len(),
            limit: self.limit,
            fail_fast: self.fail_fast,
        };
        side_by_side
            .run(state, |index, state| {
                let state = state.within(&format!("in_parallel[{index}]"));
                async move { self.steps[index].run(&state).await }
            })
            .await
    }
}

/// How many are run, and how.
pub(super) struct SideBySide {
    pub(super) count: usize,
    pub(super) limit: Option<usize>,
    pub(super) fail_fast: bool,
}

impl SideBySide {
    /// Runs `one` for each index; all that were started have ended when it returns.
    pub(super) async fn run<Fut: Future<Output = Outcome>>(
        &self,
        state: &State,
        one: impl Fn(usize, State) -> Fut,
    ) -> Outcome {
        let halt = state.halt.child();
        let limit = self.limit.unwrap_or(self.count).max(1);
        let mut waiting = 0..self.count;
        let mut running = FuturesUnordered::new();
        let (mut errored, mut succeeded) = (false, true);
        loop {
            while running.len() < limit && halt.stopped().is_none() {
                let Some(index) = waiting.next() else { break };
                running.push(one(index, state.halted_by(halt.clone())));
            }
            let Some(outcome) = running.next().await else {
                break;
            };
            succeeded &= outcome == Outcome::Succeeded;
            // What a failed sibling stopped is no error of its own.
            errored |= matches!(outcome, Outcome::Errored | Outcome::TimedOut);
            if outcome != Outcome::Succeeded && self.fail_fast {
                halt.stop(Outcome::Aborted);
            }
        }
        match state.halt.stopped() {
            Some(stopped) => stopped,
            None if errored => Outcome::Errored,
            None if succeeded => Outcome::Succeeded,
            None => Outcome::Failed,
        }
    }
}
