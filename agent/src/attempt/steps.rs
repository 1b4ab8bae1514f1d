//! Steps of a job: a driver runs them, their output goes to the log, the pipeline's callback and the result.

use super::output::collect;
use super::{Attempt, SYSTEM, StopReason};
use crate::container::{
    Driver, DriverError, Mount, Output, PullPolicy, RegistryLogin, Sandbox, StepExit, StepSpec,
};
use crate::js::host::{OutputSink, Pull, RunRequest, RunResult};
use crate::state::BegunStep;
use async_trait::async_trait;
use bytes::Bytes;
use pb::report::Kind;
use pocketci_proto::agent as pb;
use pocketci_proto::api::Driver as DriverName;
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Pieces of output between a driver and the log; a full channel holds the process back.
const OUTPUT_PIECES: usize = 16;
/// Wait before the first retry; doubled for each further one.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// Longest wait between two tries.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(30);

/// What carries a step out.
#[async_trait]
pub(super) trait Runner: Send + Sync {
    async fn run(
        &self,
        spec: StepSpec,
        output: mpsc::Sender<Output>,
        stop: CancellationToken,
    ) -> Result<StepExit, DriverError>;

    /// Goes on with the step as an earlier process began it, if it is there: see [`Driver::reattach`].
    async fn reattach(
        &self,
        _spec: &StepSpec,
        _output: mpsc::Sender<Output>,
        _stop: &CancellationToken,
    ) -> Result<Option<StepExit>, DriverError> {
        Ok(None)
    }

    /// For the report: `run`, `exec`, and whether there is an image.
    fn kind(&self) -> (&'static str, bool);
}

/// A container or process of its own.
pub(super) struct InDriver(pub(super) Arc<dyn Driver>);

#[async_trait]
impl Runner for InDriver {
    async fn run(
        &self,
        spec: StepSpec,
        output: mpsc::Sender<Output>,
        stop: CancellationToken,
    ) -> Result<StepExit, DriverError> {
        self.0.run(spec, output, stop).await
    }

    async fn reattach(
        &self,
        spec: &StepSpec,
        output: mpsc::Sender<Output>,
        stop: &CancellationToken,
    ) -> Result<Option<StepExit>, DriverError> {
        self.0.reattach(spec, output, stop).await
    }

    fn kind(&self) -> (&'static str, bool) {
        ("run", self.0.name() == DriverName::Docker)
    }
}

/// A command in a sandbox.
pub(super) struct InSandbox(pub(super) Arc<dyn Sandbox>);

#[async_trait]
impl Runner for InSandbox {
    async fn run(
        &self,
        spec: StepSpec,
        output: mpsc::Sender<Output>,
        stop: CancellationToken,
    ) -> Result<StepExit, DriverError> {
        self.0.exec(spec, output, stop).await
    }

    fn kind(&self) -> (&'static str, bool) {
        ("exec", false)
    }
}

/// What a step needs beside its spec.
pub(super) struct Wanted {
    /// Of the program.
    pub(super) call: u32,
    pub(super) timeout: Option<Duration>,
    pub(super) retries: u32,
    pub(super) sink: Option<OutputSink>,
    /// Kept in the log of each of its streams.
    pub(super) max_output_bytes: u64,
}

/// The request as the drivers know it; mounts are names still.
pub(super) fn spec(request: &RunRequest) -> StepSpec {
    StepSpec {
        name: request.name.clone(),
        image: request.image.clone(),
        path: request.path.clone(),
        args: request.args.clone(),
        user: request.user.clone(),
        env: request.env.clone(),
        stdin: request.stdin.clone(),
        work_dir: request.work_dir.clone(),
        cpu_shares: request.cpu_shares,
        memory_bytes: request.memory_bytes,
        privileged: request.privileged,
        mounts: request
            .mounts
            .iter()
            .map(|(path, volume)| Mount {
                path: path.clone(),
                volume: volume.clone(),
            })
            .collect(),
        pull: match request.pull {
            Pull::Missing => PullPolicy::Missing,
            Pull::Always => PullPolicy::Always,
            Pull::Never => PullPolicy::Never,
        },
        registry: request.registry_auth.as_ref().map(|auth| RegistryLogin {
            username: auth.username.clone(),
            password: auth.password.clone(),
            registry: auth.registry.clone(),
        }),
        no_network: request.no_network,
        host_certificates: false,
        no_copy: false,
        groups: None,
        labels: Default::default(),
    }
}

/// Runs a step, and again while it fails and retries are left.
pub(super) async fn run(
    attempt: &Attempt,
    runner: &dyn Runner,
    mut spec: StepSpec,
    wanted: Wanted,
) -> Result<RunResult, String> {
    let mut begun = attempt.begun(wanted.call);
    let mut tries = begun.as_ref().map_or(0, |begun| begun.tries);
    loop {
        tries += 1;
        let (step, ended) = match begun.take() {
            Some(begun) => match go_on(attempt, runner, begun, &mut spec, &wanted).await {
                Some(ended) => ended,
                // What it had done may not be done twice in one attempt.
                None => return Err("the run was stopped".to_owned()),
            },
            None => {
                let step = begin(attempt, runner, &mut spec, &wanted, tries).await;
                let run = Once {
                    runner,
                    step,
                    reattach: false,
                };
                (
                    step,
                    run_once(attempt, run, spec.clone(), &wanted)
                        .await
                        .unwrap_or_else(gone),
                )
            }
        };
        let failed = match &ended {
            Ok(result) => result.code != 0 && result.status == "complete",
            Err(_) => true,
        };
        if !failed || tries > wanted.retries || attempt.is_stopping() {
            return ended.map(|result| RunResult {
                attempts: tries,
                ..result
            });
        }
        let wait = RETRY_AFTER
            .saturating_mul(1 << (tries - 1).min(8))
            .min(MAX_RETRY_AFTER);
        let left = wanted.retries - (tries - 1);
        let said = format!(
            "step {step} failed; it is run again in {:.1} s (retries left: {left})\n",
            wait.as_secs_f64()
        );
        attempt.log.append(SYSTEM, Bytes::from(said)).await;
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = attempt.stopping() => return ended,
        }
    }
}

/// Numbers a step, tells that it starts, and remembers it.
async fn begin(
    attempt: &Attempt,
    runner: &dyn Runner,
    spec: &mut StepSpec,
    wanted: &Wanted,
    tries: u32,
) -> u32 {
    let step = attempt.next_step();
    let report_seq = tell_started(attempt, runner, step, spec).await;
    if let Some(file) = &attempt.file {
        let begun = BegunStep {
            step,
            tries: tries - 1,
            report_seq,
            ended: None,
        };
        file.begin_step(wanted.call, begun);
    }
    step
}

async fn tell_started(
    attempt: &Attempt,
    runner: &dyn Runner,
    step: u32,
    spec: &mut StepSpec,
) -> u32 {
    spec.labels
        .insert("pocketci.step".to_owned(), step.to_string());
    let (kind, image) = runner.kind();
    // What was printed before it is seen before it.
    attempt.log.flush().await;
    attempt.reports.add(Kind::StepStarted(pb::StepStarted {
        step,
        name: attempt.redactor.text(&spec.name),
        kind: kind.into(),
        image: if image {
            spec.image.clone()
        } else {
            String::new()
        },
        path: String::new(),
    }))
}

/// Goes on with what an earlier process began; `None` if nothing of it is left, which is told and ends the attempt.
async fn go_on(
    attempt: &Attempt,
    runner: &dyn Runner,
    begun: BegunStep,
    spec: &mut StepSpec,
    wanted: &Wanted,
) -> Option<(u32, Result<RunResult, String>)> {
    let step = begun.step;
    spec.labels
        .insert("pocketci.step".to_owned(), step.to_string());
    if begun.report_seq > attempt.reported {
        let report_seq = tell_started(attempt, runner, step, spec).await;
        if let Some(file) = &attempt.file {
            let begun = BegunStep {
                report_seq,
                ..begun.clone()
            };
            file.begin_step(wanted.call, begun);
        }
    }
    let run = Once {
        runner,
        step,
        reattach: true,
    };
    let mut message = "the agent was restarted while the step ran, and nothing of it is left; the job is attempted again";
    match begun.ended {
        None => {
            attempt.log.comes_again(step);
            if let Some(ended) = run_once(attempt, run, spec.clone(), wanted).await {
                return Some((step, ended));
            }
        }
        Some(_) => {
            message = "the agent was restarted after the step had ended, and before its result was stored; the job is attempted again";
        }
    }
    if begun.ended.is_none_or(|report| report > attempt.reported) {
        tell_end(attempt, step, "abort", 0, message.to_owned());
    }
    let said = Bytes::from(format!("step {step}: {message}\n"));
    attempt.log.append(SYSTEM, said).await;
    attempt.stop(StopReason::Interrupted);
    None
}

/// One run of a step.
struct Once<'a> {
    runner: &'a dyn Runner,
    step: u32,
    /// Of an earlier process.
    reattach: bool,
}

fn gone() -> Result<RunResult, String> {
    Err("the driver lost the step".to_owned())
}

/// `None` if there is nothing to go on with.
async fn run_once(
    attempt: &Attempt,
    run: Once<'_>,
    spec: StepSpec,
    wanted: &Wanted,
) -> Option<Result<RunResult, String>> {
    let Once { runner, step, .. } = run;
    let started = (OffsetDateTime::now_utc(), tokio::time::Instant::now());
    let (output, pieces) = mpsc::channel(OUTPUT_PIECES);
    let stop = attempt.stop_token().child_token();
    let running = async {
        match run.reattach {
            true => runner.reattach(&spec, output, &stop).await.transpose(),
            false => Some(runner.run(spec, output, stop.clone()).await),
        }
    };
    let collecting = collect(
        attempt,
        step,
        pieces,
        wanted
            .sink
            .as_ref()
            .map(|sink| sink.of_step(step, run.reattach)),
        wanted.max_output_bytes,
    );
    let timed_out = async {
        match wanted.timeout {
            Some(timeout) => tokio::time::sleep(timeout).await,
            None => std::future::pending().await,
        }
        stop.cancel();
        std::future::pending::<()>().await;
    };
    let (exit, (stdout, stderr)) = tokio::select! {
        ended = async { tokio::join!(running, collecting) } => ended,
        () = timed_out => unreachable!("it never ends"),
        () = attempt.lost() => return Some(Err("the agent no longer holds this job".into())),
    };
    attempt.log.flush().await;
    let exit = exit?;
    report_end(attempt, step, &exit).await;
    let (code, status) = match exit {
        Ok(StepExit::Exited { code, .. }) => (code, "complete"),
        Ok(StepExit::Stopped) => (0, "abort"),
        Err(error) => return Some(Err(attempt.redactor.text(&told(&error)))),
    };
    Some(Ok(RunResult {
        code,
        stdout: stdout.into_text(),
        stderr: stderr.into_text(),
        status,
        started_at: rfc3339(started.0),
        ended_at: rfc3339(started.0 + started.1.elapsed()),
        duration_ms: u64::try_from(started.1.elapsed().as_millis()).unwrap_or(u64::MAX),
        attempts: 1,
        step,
    }))
}

fn rfc3339(at: OffsetDateTime) -> String {
    // Years beyond 9999 cannot be written; a machine with such a clock has other worries.
    at.format(&Rfc3339).unwrap_or_default()
}

/// The error with what lies beneath it.
pub(crate) fn told(error: &DriverError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        text.push_str(&format!(": {source}"));
        cause = source.source();
    }
    text
}

async fn report_end(attempt: &Attempt, step: u32, exit: &Result<StepExit, DriverError>) {
    let (status, exit_code, message) = match exit {
        Ok(StepExit::Exited { code, oom: false }) => ("complete", *code, String::new()),
        Ok(StepExit::Exited { code, oom: true }) => {
            let message = "the process was killed because it used more memory than its limit \
                           (containerLimits.memory)";
            attempt
                .log
                .append(SYSTEM, Bytes::from(format!("step {step}: {message}\n")))
                .await;
            ("complete", *code, message.to_owned())
        }
        Ok(StepExit::Stopped) => ("abort", 0, String::new()),
        Err(error) => ("error", 0, attempt.redactor.text(&told(error))),
    };
    tell_end(attempt, step, status, exit_code, message);
}

fn tell_end(attempt: &Attempt, step: u32, status: &str, exit_code: i32, message: String) {
    let report_seq = attempt.reports.add(Kind::StepFinished(pb::StepFinished {
        step,
        status: status.into(),
        exit_code,
        message,
    }));
    if let Some(file) = &attempt.file {
        file.end_step(step, report_seq);
    }
}

#[cfg(test)]
mod tests;
