//! The world as one job sees it: console to the log, respond to a report, run to a driver.

use super::capture::Capture;
use super::{Attempt, SYSTEM, Workshop};
use crate::container::{Driver, DriverError, Output, OutputStream, StepExit, StepSpec};
use crate::js::host::{
    ConsoleStream, Host, OutputSink, Reply, RunRequest, RunResult, WebhookRequest,
};
use crate::log::Source;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use pb::log_chunk::Stream;
use pb::report::Kind;
use pocketci_pipeline::expression::WebhookVars;
use pocketci_proto::agent as pb;
use pocketci_proto::api::Driver as DriverName;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

/// Pieces of output between a driver and the log; a full channel holds the process back.
const OUTPUT_PIECES: usize = 16;

pub(super) struct JobHost {
    workshop: Arc<Workshop>,
    attempt: Arc<Attempt>,
    driver: DriverName,
    webhook: Option<WebhookRequest>,
    runtime: Handle,
    steps: AtomicU32,
}

impl JobHost {
    pub(super) fn new(
        workshop: Arc<Workshop>,
        attempt: Arc<Attempt>,
        driver: DriverName,
        webhook: Option<WebhookRequest>,
        runtime: Handle,
    ) -> Self {
        Self {
            workshop,
            attempt,
            driver,
            webhook,
            runtime,
            steps: AtomicU32::new(0),
        }
    }

    fn driver(&self) -> Result<Arc<dyn Driver>, String> {
        self.workshop
            .drivers
            .iter()
            .find(|driver| driver.name() == self.driver)
            .cloned()
            .ok_or_else(|| {
                format!(
                    "this agent does not offer the {0} driver; start it with --driver {0}, or set the pipeline with another --driver",
                    self.driver.as_str()
                )
            })
    }

    fn spec(&self, step: u32, request: &RunRequest) -> StepSpec {
        let id = |bytes: &[u8]| {
            uuid::Uuid::from_slice(bytes)
                .map(|id| id.to_string())
                .unwrap_or_default()
        };
        let reference = &self.attempt.reference;
        let labels = [
            ("pocketci.run", id(&reference.run_id)),
            ("pocketci.job", id(&reference.job_id)),
            ("pocketci.attempt", reference.attempt.to_string()),
            ("pocketci.step", step.to_string()),
            ("pocketci.agent", self.workshop.config.name.clone()),
        ];
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
            labels: labels
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect::<BTreeMap<_, _>>(),
        }
    }
}

impl Host for JobHost {
    fn console(&self, stream: ConsoleStream, text: &str) {
        let stream = match stream {
            ConsoleStream::Stdout => Stream::Stdout,
            ConsoleStream::Stderr => Stream::Stderr,
            ConsoleStream::System => Stream::System,
        };
        let source = Source { step: 0, stream };
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        // Almost always there is room at once; a full buffer holds the program back.
        match self
            .attempt
            .log
            .append(source, bytes.clone())
            .now_or_never()
        {
            Some(()) => {}
            None => self.wait_for_room(source, bytes),
        }
    }

    fn respond(&self, reply: Reply) {
        self.attempt.reports.add(Kind::Respond(pb::Respond {
            status: u32::from(reply.status),
            headers: reply
                .headers
                .into_iter()
                .map(|(name, value)| pb::Field { name, value })
                .collect(),
            body: reply.body,
        }));
    }

    fn webhook_trigger(&self, expression: &str) -> Result<bool, String> {
        let Some(webhook) = &self.webhook else {
            return Ok(true);
        };
        let compiled = self
            .workshop
            .expressions
            .get(expression)
            .map_err(|error| error.to_string())?;
        let vars = WebhookVars {
            provider: webhook.provider.clone(),
            event_type: webhook.event_type.clone(),
            method: webhook.method.clone(),
            headers: webhook.headers.clone(),
            query: webhook.query.clone(),
            body: String::from_utf8_lossy(&webhook.body).into_owned(),
        };
        compiled.matches(&vars).map_err(|error| error.to_string())
    }

    fn run(&self, request: RunRequest) -> BoxFuture<'static, Result<RunResult, String>> {
        let driver = match self.driver() {
            Ok(driver) => driver,
            Err(message) => return async { Err(message) }.boxed(),
        };
        if request.privileged && !self.workshop.config.allow_privileged {
            let message = "privileged is not allowed on this agent; its operator may start it with --allow-privileged";
            return async { Err(message.to_owned()) }.boxed();
        }
        let step = self.steps.fetch_add(1, Ordering::Relaxed) + 1;
        let spec = self.spec(step, &request);
        let attempt = self.attempt.clone();
        run_step(attempt, driver, step, spec, request).boxed()
    }
}

impl JobHost {
    /// Called on the job's own thread, which may block; ends when the attempt is lost.
    fn wait_for_room(&self, source: Source, bytes: Bytes) {
        self.runtime
            .block_on(self.attempt.log.append(source, bytes));
    }
}

async fn run_step(
    attempt: Arc<Attempt>,
    driver: Arc<dyn Driver>,
    step: u32,
    spec: StepSpec,
    request: RunRequest,
) -> Result<RunResult, String> {
    attempt.reports.add(Kind::StepStarted(pb::StepStarted {
        step,
        name: spec.name.clone(),
        kind: "run".into(),
        image: if driver.name() == DriverName::Docker {
            spec.image.clone()
        } else {
            String::new()
        },
    }));
    let (output, pieces) = mpsc::channel(OUTPUT_PIECES);
    let stop = attempt.stop.child_token();
    let running = driver.run(spec, output, stop.clone());
    let collecting = collect(&attempt, step, pieces, request.output.clone());
    let timed_out = async {
        match request.timeout {
            Some(timeout) => tokio::time::sleep(timeout).await,
            None => std::future::pending().await,
        }
        stop.cancel();
        std::future::pending::<()>().await;
    };
    let (exit, captured) = tokio::select! {
        ended = async { tokio::join!(running, collecting) } => ended,
        () = timed_out => unreachable!("it never ends"),
        () = attempt.lost.cancelled() => return Err("the agent no longer holds this job".into()),
    };
    report_end(&attempt, step, &exit).await;
    let (stdout, stderr) = captured;
    match exit {
        Ok(StepExit::Exited { code, .. }) => Ok(RunResult {
            code,
            stdout: stdout.into_text(),
            stderr: stderr.into_text(),
            status: "complete",
        }),
        Ok(StepExit::Stopped) => Ok(RunResult {
            code: 0,
            stdout: stdout.into_text(),
            stderr: stderr.into_text(),
            status: "abort",
        }),
        Err(error) => Err(told(&error)),
    }
}

/// The error with what lies beneath it.
fn told(error: &DriverError) -> String {
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
            let message = "the process was killed because it used more memory than its limit";
            attempt
                .log
                .append(SYSTEM, Bytes::from(format!("step {step}: {message}\n")))
                .await;
            ("complete", *code, message.to_owned())
        }
        Ok(StepExit::Stopped) => ("abort", 0, String::new()),
        Err(error) => ("error", 0, told(error)),
    };
    attempt.reports.add(Kind::StepFinished(pb::StepFinished {
        step,
        status: status.into(),
        exit_code,
        message,
    }));
}

/// Passes output on to the log, the pipeline's callback and the result.
async fn collect(
    attempt: &Attempt,
    step: u32,
    mut pieces: mpsc::Receiver<Output>,
    sink: Option<OutputSink>,
) -> (Capture, Capture) {
    let (mut stdout, mut stderr) = (Capture::default(), Capture::default());
    while let Some((from, bytes)) = pieces.recv().await {
        let stream = match from {
            OutputStream::Stdout => {
                stdout.add(&bytes);
                Stream::Stdout
            }
            OutputStream::Stderr => {
                stderr.add(&bytes);
                Stream::Stderr
            }
        };
        if let Some(sink) = &sink {
            sink.send(from, bytes.clone()).await;
        }
        attempt.log.append(Source { step, stream }, bytes).await;
    }
    (stdout, stderr)
}
