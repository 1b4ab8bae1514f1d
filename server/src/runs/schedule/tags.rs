//! Where a job must run: one agent runs all of its steps.

use pocketci_pipeline::config::Job;
use pocketci_pipeline::plan::{Plan, plan_of};
use std::collections::BTreeSet;

/// The tags of all of a job's steps: each its own, or those around it.
pub fn tags_of(job: &Job) -> BTreeSet<String> {
    let mut tags = BTreeSet::new();
    leaves(&plan_of(job), &mut |leaf| {
        let of_leaf: &[String] = match leaf {
            Plan::Get(step) => &step.tags,
            Plan::Put(step) => &step.tags,
            Plan::Task(step) => &step.tags,
            Plan::Run(step) => &step.tags,
            _ => &[],
        };
        tags.extend(of_leaf.iter().cloned());
    });
    tags
}

fn leaves(plan: &Plan, see: &mut impl FnMut(&Plan)) {
    match plan {
        Plan::Do(steps) | Plan::InParallel { steps, .. } => {
            for step in steps {
                leaves(step, see);
            }
        }
        Plan::Try(step)
        | Plan::Across { step, .. }
        | Plan::Attempts { step, .. }
        | Plan::Timeout { step, .. } => leaves(step, see),
        Plan::OnSuccess { step, hook }
        | Plan::OnFailure { step, hook }
        | Plan::OnError { step, hook }
        | Plan::OnAbort { step, hook }
        | Plan::Ensure { step, hook } => {
            leaves(step, see);
            leaves(hook, see);
        }
        leaf => see(leaf),
    }
}
