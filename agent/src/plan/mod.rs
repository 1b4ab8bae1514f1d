//! A job of a YAML pipeline: its plan, step by step.
//!
//! Reading order: `outcome`, `halt` and `state` (what steps are told and how they end), one file for each composite, `tree`
//! (a plan becomes steps), `scope` (artifacts and local vars), `leaf` (what steps do), `job` (from the assignment to the
//! end). Outcomes follow Concourse's: tests compare with its own table.

mod across;
mod attempts;
mod build;
pub(crate) mod cache;
mod check;
mod ensure;
mod halt;
mod in_parallel;
mod job;
mod leaf;
mod on_abort;
mod on_error;
mod on_failure;
mod on_success;
mod one_off;
mod outcome;
mod own_task;
mod scope;
mod sequence;
mod state;
mod timeout;
mod tree;
mod try_step;
mod vars;

#[cfg(test)]
mod composites_tests;
#[cfg(test)]
mod stage_tests;
#[cfg(test)]
mod truth_table_tests;

pub use cache::TaskCaches;
pub use halt::Halt;
pub(crate) use job::execute;
pub use outcome::Outcome;
pub use scope::Scope;
pub use state::State;
pub use tree::{MAX_DEPTH, tree};

use async_trait::async_trait;
use serde_json::Value;

/// A node of the tree that is run: a composite, or what does something.
#[async_trait]
pub trait Step: Send + Sync {
    /// Runs it to its end. Once its `halt` is stopped it ends soon, and everything that it started with it.
    async fn run(&self, state: &State) -> Outcome;
}

/// What composites need of the job.
#[async_trait]
pub trait Job: Send + Sync {
    /// The value with all its `((vars))` replaced; an `Err` names those that cannot be.
    async fn interpolate(&self, state: &State, value: &Value) -> Result<Value, String>;
    /// The text without secrets.
    fn masked(&self, text: String) -> String;
    /// What was told of this place, and of what is in it, does not count after all.
    fn forgive(&self, state: &State);
    /// Tells the author why the step at this place did not succeed.
    async fn fault(&self, state: &State, outcome: Outcome, said: &str);
}
