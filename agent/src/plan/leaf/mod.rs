//! Steps that do something, a kind a file, and what they have in common: they are told in the log, and how they end.

mod build_image;
mod get;
mod load_var;
mod message;
mod put;
mod set_pipeline;
mod step;
mod task;

pub(super) use get::{Fetch, version_of};
pub(super) use step::{Running, within};

use super::build::Build;
use super::{Job, Outcome, State, Step};
use crate::attempt::told;
use crate::container::DriverError;
use crate::resource::Stop;
use async_trait::async_trait;
use pocketci_pipeline::plan::Plan;
use std::sync::Arc;

/// A step that is no composite.
pub(super) struct Leaf {
    pub(super) build: Arc<Build>,
    pub(super) plan: Plan,
}

/// Why a step did not succeed; sentences for the author.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ended {
    /// It ran and said no.
    Failed {
        /// Of its process; 0 if it has none.
        exit_code: i32,
        said: String,
    },
    /// It ran longer than it may.
    TooLong(String),
    /// It could not be run properly.
    Errored(String),
    /// Its part of the plan was stopped.
    Stopped,
}

impl Ended {
    /// It failed, without a process that could have an exit code.
    pub(super) fn failed(said: impl Into<String>) -> Self {
        Self::Failed {
            exit_code: 0,
            said: said.into(),
        }
    }

    /// The driver refused `what`.
    pub(super) fn of_driver(what: &str, error: &DriverError) -> Self {
        Self::Errored(format!("{what}: {}", told(error)))
    }

    /// With what it is about, where it says why.
    fn of(self, what: &str) -> Self {
        let with = |said: String| format!("{what}: {said}");
        match self {
            Self::Failed { exit_code, said } => Self::Failed {
                exit_code,
                said: with(said),
            },
            Self::TooLong(said) => Self::TooLong(with(said)),
            Self::Errored(said) => Self::Errored(with(said)),
            Self::Stopped => Self::Stopped,
        }
    }

    /// Of a resource; `what` is the step.
    pub(super) fn of_resource(what: &str, stop: Stop) -> Self {
        match stop {
            Stop::Failed { exit_code } => Self::Failed {
                exit_code,
                said: format!("{what}: exit code {exit_code}"),
            },
            Stop::Errored(said) => Self::Errored(format!("{what}: {said}")),
            Stop::Stopped => Self::Stopped,
        }
    }
}

#[async_trait]
impl Step for Leaf {
    async fn run(&self, state: &State) -> Outcome {
        if let Some(stopped) = state.halt.stopped() {
            return stopped;
        }
        let build = &self.build;
        // Boxed: one kind's state would make every leaf's as large.
        let ended = match &self.plan {
            Plan::Get(step) => Box::pin(get::get(build, state, step)).await,
            Plan::Put(step) => Box::pin(put::put(build, state, step)).await,
            Plan::Task(step) => Box::pin(task::task(build, state, step)).await,
            Plan::SetPipeline(step) => {
                Box::pin(set_pipeline::set_pipeline(build, state, step)).await
            }
            Plan::LoadVar(step) => Box::pin(load_var::load_var(build, state, step)).await,
            Plan::Notify(step) => Box::pin(message::notify(build, state, step)).await,
            Plan::Gate(step) => Box::pin(message::gate(build, state, step)).await,
            Plan::Run(step) => Box::pin(message::run(build, state, step)).await,
            Plan::BuildImage(step) => Box::pin(build_image::build_image(build, state, step)).await,
            Plan::Agent(step) => Err(Ended::Errored(format!(
                "agent step {:?}: this server does not run language models; run your own program in a task",
                step.name
            ))),
            Plan::Do(_)
            | Plan::InParallel { .. }
            | Plan::Try(_)
            | Plan::Across { .. }
            | Plan::Attempts { .. }
            | Plan::Timeout { .. }
            | Plan::OnSuccess { .. }
            | Plan::OnFailure { .. }
            | Plan::OnError { .. }
            | Plan::OnAbort { .. }
            | Plan::Ensure { .. } => Err(Ended::Errored("internal error: a composite".to_owned())),
        };
        match ended {
            Ok(()) => Outcome::Succeeded,
            Err(ended) => conclude(build, state, ended).await,
        }
    }
}

/// What a step ends with; tells why.
pub(super) async fn conclude(build: &Build, state: &State, ended: Ended) -> Outcome {
    match ended {
        Ended::Failed { said, .. } => {
            // Its step has said it.
            build.note_fault(state, Outcome::Failed, &said);
            Outcome::Failed
        }
        Ended::TooLong(said) => {
            build.fault(state, Outcome::Failed, &said).await;
            Outcome::Failed
        }
        Ended::Errored(said) => {
            build.fault(state, Outcome::Errored, &said).await;
            Outcome::Errored
        }
        Ended::Stopped => state.halt.stopped().unwrap_or(Outcome::Aborted),
    }
}
