//! A step while it runs: told at its beginning and its end, stopped in time.

use super::super::build::Build;
use super::super::timeout::duration;
use super::super::{Outcome, State};
use super::Ended;
use crate::attempt::{Began, Logged};
use crate::container::{Output, OutputStream};
use crate::resource::StepIo;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// See the module.
pub(crate) struct Running {
    logged: Logged,
    output: Option<mpsc::Sender<Output>>,
}

impl Running {
    /// Tells that a step begins.
    pub(crate) async fn begin(build: &Build, began: Began<'_>) -> Self {
        let limit = build.workshop.config.limits.max_step_output_bytes;
        let (logged, output) = Logged::begin(&build.attempt, began, limit).await;
        Self {
            logged,
            output: Some(output),
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
        self.logged.end(status, code, message).await;
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
