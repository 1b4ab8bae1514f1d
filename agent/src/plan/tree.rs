//! From a plan to the steps that are run.

use super::Step;
use super::across::Across;
use super::attempts::Attempts;
use super::ensure::Ensure;
use super::in_parallel::InParallel;
use super::on_abort::OnAbort;
use super::on_error::OnError;
use super::on_failure::OnFailure;
use super::on_success::OnSuccess;
use super::own_task::{LEVELS, OwnTask};
use super::sequence::Sequence;
use super::timeout::Timeout;
use super::try_step::Try;
use pocketci_pipeline::deep_stack;
use pocketci_pipeline::plan::Plan;
use std::sync::Arc;

/// Deepest nesting of a plan, modifiers counted.
pub const MAX_DEPTH: usize = 1024;

/// The steps of a plan; `leaf` makes those that do something.
///
/// # Errors
/// It is nested deeper than [`MAX_DEPTH`].
pub fn tree(plan: Plan, leaf: &Leaf<'_>) -> Result<Arc<dyn Step>, String> {
    let builder = Builder { leaf, depth: 0 };
    deep_stack::run(MAX_DEPTH, || builder.build(plan, "plan")).map_err(|error| error.to_string())?
}

/// Makes a step of a plan that is no composite.
pub type Leaf<'a> = dyn Fn(Plan) -> Arc<dyn Step> + Sync + 'a;

#[derive(Clone, Copy)]
struct Builder<'a> {
    leaf: &'a Leaf<'a>,
    depth: usize,
}

impl Builder<'_> {
    /// `sequence` is what a `do` at this place is called.
    fn build(mut self, plan: Plan, sequence: &'static str) -> Result<Arc<dyn Step>, String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(format!("the plan is nested deeper than {MAX_DEPTH} levels"));
        }
        let own_task = self.depth.is_multiple_of(LEVELS);
        let step = self.composite(plan, sequence)?;
        Ok(if own_task {
            Arc::new(OwnTask(step))
        } else {
            step
        })
    }

    fn inner(self, plan: Plan) -> Result<Arc<dyn Step>, String> {
        self.build(plan, "do")
    }

    fn all(self, plans: Vec<Plan>) -> Result<Vec<Arc<dyn Step>>, String> {
        plans.into_iter().map(|plan| self.inner(plan)).collect()
    }

    fn composite(self, plan: Plan, sequence: &'static str) -> Result<Arc<dyn Step>, String> {
        // A modifier is around a step at the same place.
        let around = |step: Box<Plan>| self.build(*step, sequence);
        let hook = |hook: Box<Plan>| self.inner(*hook);
        Ok(match plan {
            Plan::Do(plans) => Arc::new(Sequence {
                steps: self.all(plans)?,
                name: sequence,
            }),
            Plan::InParallel {
                steps,
                limit,
                fail_fast,
            } => Arc::new(InParallel {
                steps: self.all(steps)?,
                limit: (limit > 0).then_some(limit),
                fail_fast,
            }),
            Plan::Try(step) => Arc::new(Try(self.inner(*step)?)),
            Plan::Across {
                vars,
                step,
                fail_fast,
            } => Arc::new(Across {
                vars,
                step: around(step)?,
                fail_fast,
            }),
            Plan::Attempts { times, step } => Arc::new(Attempts {
                attempts: times,
                step: around(step)?,
            }),
            Plan::Timeout { duration, step } => Arc::new(Timeout {
                within: duration,
                step: around(step)?,
            }),
            Plan::OnSuccess { step, hook: after } => Arc::new(OnSuccess {
                step: around(step)?,
                hook: hook(after)?,
            }),
            Plan::OnFailure { step, hook: after } => Arc::new(OnFailure {
                step: around(step)?,
                hook: hook(after)?,
            }),
            Plan::OnError { step, hook: after } => Arc::new(OnError {
                step: around(step)?,
                hook: hook(after)?,
            }),
            Plan::OnAbort { step, hook: after } => Arc::new(OnAbort {
                step: around(step)?,
                hook: hook(after)?,
            }),
            Plan::Ensure { step, hook: after } => Arc::new(Ensure {
                step: around(step)?,
                hook: hook(after)?,
            }),
            leaf @ (Plan::Get(_)
            | Plan::Put(_)
            | Plan::Task(_)
            | Plan::SetPipeline(_)
            | Plan::LoadVar(_)
            | Plan::Run(_)
            | Plan::Notify(_)
            | Plan::Gate(_)
            | Plan::BuildImage(_)
            | Plan::Agent(_)) => (self.leaf)(leaf),
        })
    }
}
