//! What a step is told when it runs: where it is, what it sees, what stops it.

use super::halt::Halt;
use super::scope::Scope;
use super::{Job, Outcome};
use std::sync::Arc;

/// See the module. Clones share everything.
#[derive(Clone)]
pub struct State {
    /// Stops the step.
    pub halt: Halt,
    /// Stops hooks that run though their step was stopped.
    hooks: Halt,
    /// Artifacts and vars that it sees.
    pub scope: Arc<Scope>,
    /// Where it is: `plan[0].in_parallel[1].on_failure`, `#2` for a second try, `{a=1}` for an iteration. Empty is the job.
    pub path: Arc<str>,
    /// How the step ended whose hook this is.
    pub hook_of: Option<Outcome>,
    /// What all steps share.
    pub job: Arc<dyn Job>,
}

impl State {
    /// Of the whole plan: `halt` stops it, `hooks` also stops what runs after that.
    pub fn new(job: Arc<dyn Job>, scope: Arc<Scope>, halt: Halt, hooks: Halt) -> Self {
        Self {
            halt,
            hooks,
            scope,
            path: Arc::from(""),
            hook_of: None,
            job,
        }
    }

    /// For a step within this one.
    pub fn within(&self, place: &str) -> Self {
        let dot = if self.path.is_empty() { "" } else { "." };
        self.marked(&format!("{dot}{place}"))
    }

    /// For the same step once more: `mark` tells it from the others.
    pub fn marked(&self, mark: &str) -> Self {
        Self {
            path: Arc::from(format!("{}{mark}", self.path)),
            ..self.clone()
        }
    }

    /// Stopped by this.
    pub fn halted_by(&self, halt: Halt) -> Self {
        Self {
            halt,
            ..self.clone()
        }
    }

    /// For a hook of this step, which ended so.
    pub fn hook(&self, place: &str, outcome: Outcome) -> Self {
        Self {
            hook_of: Some(outcome),
            ..self.within(place)
        }
    }

    /// As above; the hook runs though its step was stopped.
    pub fn hook_in_any_case(&self, place: &str, outcome: Outcome) -> Self {
        Self {
            halt: self.hooks.clone(),
            ..self.hook(place, outcome)
        }
    }
}
