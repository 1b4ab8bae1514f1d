//! A step while it runs: told at its beginning and its end, stopped in time.

use super::super::build::Build;
use super::super::timeout::duration;
use super::super::{Outcome, State};
use super::Ended;
use crate::attempt::{Began, Logged, StepEnd, Workshop};
use crate::container::{Output, OutputStream, Remains};
use crate::resource::{LookedAt, StepIo};
use crate::shelf::StepId;
use bytes::Bytes;
use pocketci_proto::agent::yaml_job::Work;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// See the module.
pub(crate) struct Running {
    logged: Logged,
    output: Option<mpsc::Sender<Output>>,
    workshop: Arc<Workshop>,
    id: StepId,
    /// Where its driver tells what there is to be seen of it.
    remains: Option<Arc<Remains>>,
    kept: Duration,
}

impl Running {
    /// Tells that a step begins.
    pub(crate) async fn begin(build: &Build, began: Began<'_>) -> Self {
        let limit = build.workshop.config.limits.max_step_output_bytes;
        let (logged, output) = Logged::begin(&build.attempt, began, limit).await;
        let id = StepId {
            job: build.about.job_id.clone(),
            attempt: build.attempt.reference.attempt,
            step: logged.step(),
        };
        let shelf = &build.workshop.shelf;
        // A resource that cannot be checked, again and again, would push out what people look for.
        let is_check = matches!(build.about.yaml.work, Some(Work::Check(_)));
        let begin = || shelf.begin(id.clone(), &build.about.pipeline_id);
        let remains = (!is_check).then(begin).flatten();
        Self {
            logged,
            output: Some(output),
            workshop: build.workshop.clone(),
            remains,
            id,
            kept: Duration::ZERO,
        }
    }

    /// Of a step without a container of its own.
    pub(crate) async fn plain(build: &Build, state: &State, kind: &str, name: &str) -> Self {
        let began = Began {
            name,
            kind,
            image: "",
            path: &state.path,
        };
        Self::begin(build, began).await
    }

    /// Where its output goes.
    pub(crate) fn output(&self) -> mpsc::Sender<Output> {
        self.output.clone().unwrap_or_else(|| mpsc::channel(1).0)
    }

    /// For resources.
    pub(crate) fn io(&self, stop: &CancellationToken) -> StepIo {
        StepIo {
            output: self.output(),
            stop: stop.clone(),
            looked_at: self.remains.clone().map(|remains| LookedAt {
                step: self.number(),
                remains,
            }),
        }
    }

    /// For its container.
    pub(crate) fn remains(&self) -> Option<Arc<Remains>> {
        self.remains.clone()
    }

    /// It has ended: what it left is kept, or removed.
    pub(crate) async fn leave(&mut self, failed: bool) {
        if let Some(remains) = self.remains.take() {
            self.kept = self.workshop.shelf.end(&self.id, &remains, failed).await;
        }
    }

    /// PocketCI's words in the step's log, a line.
    pub(crate) async fn say(&self, said: &str) {
        self.logged.say(said).await;
    }

    /// The step's own output, a line.
    pub(crate) async fn print(&self, said: &str) {
        let line = Bytes::from(format!("{}\n", said.trim_end()));
        if let Some(output) = &self.output {
            // Closed only if the attempt is lost.
            let _ = output.send((OutputStream::Stdout, line)).await;
        }
    }

    /// Its stdout and stderr, without secrets, long ones cut in the middle. All senders must be gone.
    pub(crate) async fn printed(&mut self) -> (String, String) {
        self.output = None;
        self.logged.printed().await
    }

    /// Its number.
    pub(crate) fn number(&self) -> u32 {
        self.logged.step()
    }

    /// Tells its end.
    pub(crate) async fn end<T>(mut self, result: &Result<T, Ended>) {
        self.output = None;
        self.leave(result.is_err()).await;
        let (status, code, message) = match result {
            Ok(_) => ("complete", 0, ""),
            Err(Ended::Failed { exit_code, said }) => {
                let code = if *exit_code == 0 { 1 } else { *exit_code };
                ("complete", code, said.as_str())
            }
            Err(Ended::TooLong(said)) => ("abort", 0, said.as_str()),
            Err(Ended::Errored(said)) => ("error", 0, said.as_str()),
            Err(Ended::Stopped) => ("abort", 0, ""),
        };
        let ended = StepEnd {
            status,
            exit_code: code,
            message,
            kept: self.kept,
        };
        self.logged.end(ended).await;
    }
}

/// Runs `work` with a token that is cancelled when the step is stopped, or takes longer than its own `timeout`.
pub(crate) async fn within<T, Fut: Future<Output = Result<T, Ended>>>(
    state: &State,
    timeout: Option<&str>,
    work: impl FnOnce(CancellationToken) -> Fut,
) -> Result<T, Ended> {
    // As in Concourse, an empty one is none.
    let Some(written) = timeout.filter(|timeout| !timeout.trim().is_empty()) else {
        return work(state.halt.token().clone()).await;
    };
    let within = duration(state, written).await.map_err(Ended::Errored)?;
    let halt = state.halt.child();
    let working = work(halt.token().clone());
    tokio::pin!(working);
    let result = tokio::select! {
        result = &mut working => return result,
        () = tokio::time::sleep(within) => {
            halt.stop(Outcome::TimedOut);
            working.await
        }
    };
    match result {
        Err(Ended::Stopped) if state.halt.stopped().is_none() => Err(Ended::TooLong(format!(
            "it took longer than its timeout of {written}"
        ))),
        other => other,
    }
}
