//! The world as one job sees it: console to the log, respond to a report, everything else to whoever can do it.

use super::backend::Backend;
use super::files;
use super::gate;
use super::holdings::Holdings;
use super::journal::JobJournal;
use super::labels::labels;
use super::numbers::Numbers;
use super::secrets::Secrets;
use super::steps::{self, InDriver, InSandbox, Wanted};
use super::{Attempt, StopReason, Workshop};
use crate::container::{Driver, Mount, StepSpec, Volume};
use crate::js::host::{
    Answer, Answered, ConsoleStream, Failure, Host, Reply, Request, RunRequest, RunResult,
    WebhookRequest,
};
use crate::js::journal::{Journal, Tape};
use crate::log::Source;
use crate::outside::{self, Outside};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use pb::log_chunk::Stream;
use pb::report::Kind;
use pocketci_pipeline::expression::WebhookVars;
use pocketci_proto::agent as pb;
use pocketci_proto::api::Driver as DriverName;
use serde_json::json;
use sha2::{Digest, Sha256};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

/// Bytes of a call's hash in the label of its container: a restarted agent goes on with the same call only.
const CONTENT_LABEL_BYTES: usize = 8;

pub(super) struct JobHost {
    parts: Arc<Parts>,
    runtime: Handle,
    numbers: Numbers,
    journal: Mutex<Option<Journal>>,
}

/// What calls under way share.
pub(super) struct Parts {
    pub(super) workshop: Arc<Workshop>,
    pub(super) attempt: Arc<Attempt>,
    pub(super) backend: Arc<dyn Backend>,
    driver: DriverName,
    pub(super) secrets: Arc<Secrets>,
    holdings: Holdings,
    outside: Outside,
    /// Steps at once; more wait.
    room: Semaphore,
    webhook: Option<WebhookRequest>,
}

impl JobHost {
    pub(super) fn new(
        workshop: Arc<Workshop>,
        attempt: Arc<Attempt>,
        backend: Arc<dyn Backend>,
        driver: DriverName,
        webhook: Option<WebhookRequest>,
        runtime: Handle,
    ) -> Self {
        let max_steps = workshop.config.limits.max_steps;
        let secrets = Arc::new(Secrets::new(backend.clone(), attempt.redactor.clone()));
        let parts = Parts {
            secrets,
            holdings: Holdings::new(
                workshop.driver(driver),
                labels(&workshop, &attempt),
                max_steps,
            ),
            outside: workshop.outside.clone(),
            room: Semaphore::new(max_steps),
            webhook,
            workshop,
            attempt,
            backend,
            driver,
        };
        Self {
            parts: Arc::new(parts),
            runtime,
            numbers: Numbers::default(),
            journal: Mutex::default(),
        }
    }

    /// Keeps a journal, which goes on after `tape`, whose last entry has number `seq`.
    pub(super) async fn keep_journal(&self, tape: Tape, seq: u64) {
        let parts = &self.parts;
        parts.secrets.recall(tape.secrets()).await;
        parts.attempt.count_steps_from(tape.last_step());
        let (attempt, backend) = (parts.attempt.clone(), parts.backend.clone());
        let sink = Arc::new(JobJournal::new(
            attempt,
            backend,
            parts.secrets.clone(),
            seq,
        ));
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        *journal = Some(Journal { tape, sink });
    }

    /// Removes what the job still holds.
    pub(super) async fn release(&self) {
        self.parts.holdings.release().await;
    }

    /// Called on the job's own thread, which may wait for a large body; none is looked at of uploads.
    fn vars(&self) -> Result<Option<WebhookVars>, String> {
        let Some(webhook) = self.parts.webhook.as_ref() else {
            return Ok(None);
        };
        let body = match webhook.body.here() {
            Some(bytes) => bytes.clone(),
            None if webhook.files.is_empty() && webhook.form.is_empty() => {
                self.runtime.block_on(webhook.body.whole())?
            }
            None => Bytes::new(),
        };
        Ok(Some(WebhookVars {
            provider: webhook.provider.clone(),
            event_type: webhook.event_type.clone(),
            method: webhook.method.clone(),
            headers: webhook.headers.clone(),
            query: webhook.query.clone(),
            body: String::from_utf8_lossy(&body).into_owned(),
        }))
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
        let attempt = &self.parts.attempt;
        let bytes = Bytes::from(attempt.redactor.text(text));
        // Almost always there is room at once; a full buffer holds the program back.
        let mut printing = std::pin::pin!(attempt.print(source, bytes));
        if (&mut printing).now_or_never().is_none() {
            // Called on the job's own thread, which may block; ends when the attempt is lost.
            self.runtime.block_on(printing);
        }
    }

    fn respond(&self, reply: Reply) {
        self.parts.attempt.reports.add(Kind::Respond(pb::Respond {
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
        let Some(vars) = self.vars()? else {
            return Ok(true);
        };
        let compiled = self
            .parts
            .workshop
            .expressions
            .get(expression)
            .map_err(|error| error.to_string())?;
        compiled.matches(&vars).map_err(|error| error.to_string())
    }

    fn webhook_value(&self, expression: &str) -> Result<String, String> {
        let Some(vars) = self.vars()? else {
            return Ok(String::new());
        };
        let compiled = self
            .parts
            .workshop
            .expressions
            .get(expression)
            .map_err(|error| error.to_string())?;
        let value = compiled
            .evaluate(&vars)
            .map_err(|error| error.to_string())?;
        Ok(match value {
            serde_json::Value::String(text) => text,
            serde_json::Value::Null => String::new(),
            other => other.to_string(),
        })
    }

    fn journal(&self) -> Option<Journal> {
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        journal.take()
    }

    fn revive(&self, volume: serde_json::Value) -> BoxFuture<'static, bool> {
        let parts = self.parts.clone();
        async move { parts.revive(&volume).await }.boxed()
    }

    fn run(&self, request: RunRequest) -> BoxFuture<'static, Result<RunResult, String>> {
        let parts = self.parts.clone();
        async move { parts.run(request).await }.boxed()
    }

    fn call(&self, request: Request) -> Answered {
        let parts = self.parts.clone();
        match request {
            Request::StartSandbox(request) => {
                let id = format!("sandbox-{}", parts.holdings.number());
                async move { parts.start_sandbox(id, request).await }.boxed()
            }
            Request::Exec { sandbox, run } => {
                async move { parts.exec(&sandbox, run).await }.boxed()
            }
            Request::CloseSandbox { sandbox } => async move {
                parts.holdings.close_sandbox(&sandbox).await;
                Ok(Answer::Nothing)
            }
            .boxed(),
            // Not broken off by a stop: what the engine creates must be known to be removed.
            Request::CreateVolume { name } => {
                let number = parts.holdings.number();
                let name = name.unwrap_or_else(|| format!("volume-{number}"));
                async move {
                    let (name, volume) = parts.holdings.create_volume(name).await?;
                    Ok(Answer::Json(json!({
                        "name": name, "path": volume.path, "id": volume.id,
                        "attempt": parts.attempt.reference.attempt, "driver": parts.driver.as_str(),
                    })))
                }
                .boxed()
            }
            Request::ReadFiles { volume, paths } => unless_stopped(parts.clone(), async move {
                parts.read_files(&volume, &paths).await
            }),
            Request::Fetch(fetch) => unless_stopped(parts.clone(), async move {
                outside::fetch::fetch(&parts.outside, &parts.secrets, fetch).await
            }),
            Request::SendWebhook(send) => unless_stopped(parts.clone(), async move {
                outside::webhook::send(&parts.outside, &parts.secrets, send).await
            }),
            Request::Notify(notify) => unless_stopped(parts.clone(), async move {
                outside::notify::send(&parts.outside, &parts.secrets, *notify).await
            }),
            Request::EmitEvent { name, payload } => async move {
                parts.attempt.note(pb::noted::Kind::Emitted(pb::Emitted {
                    name,
                    payload_json: parts.attempt.redactor.text(&payload),
                }));
                Ok(Answer::Nothing)
            }
            .boxed(),
            Request::Storage(storage) => unless_stopped(parts.clone(), async move {
                let value = parts.backend.storage(storage).await;
                value
                    .map(Answer::Json)
                    .map_err(|error| Failure::from(format!("storage: {error}")))
            }),
            Request::Dedup { key } => {
                let call = self.numbers.next("dedup", &key);
                unless_stopped(parts.clone(), async move {
                    let hash: [u8; 32] = Sha256::digest(key.as_bytes()).into();
                    let seen = parts.backend.dedup(call, hash).await;
                    seen.map(|seen| Answer::Json(json!(seen)))
                        .map_err(|error| Failure::from(format!("webhookDedup: {error}")))
                })
            }
            Request::Gate {
                name,
                message,
                timeout,
            } => {
                let call = self.numbers.next("gate", &name);
                unless_stopped(parts.clone(), async move {
                    let gate = gate::Gate {
                        call,
                        name: &name,
                        message: &message,
                        timeout,
                    };
                    gate::pass(&parts.attempt, &*parts.backend, gate).await
                })
            }
            Request::Trigger {
                pipeline,
                jobs,
                args,
            } => {
                let content = json!([pipeline, jobs, args]).to_string();
                let call = self.numbers.next("trigger", &content);
                unless_stopped(parts.clone(), async move {
                    let started = parts.backend.trigger(call, &pipeline, jobs, args).await;
                    started
                        .map(|run_id| Answer::Json(json!({ "runID": run_id })))
                        .map_err(|error| Failure::from(format!("triggerPipeline: {error}")))
                })
            }
        }
    }
}

/// Ends with the run at the latest: nothing here needs a grace.
fn unless_stopped(
    parts: Arc<Parts>,
    call: impl Future<Output = Result<Answer, Failure>> + Send + 'static,
) -> Answered {
    async move {
        tokio::select! {
            biased;
            () = parts.attempt.stopping() => Err("the run was stopped".into()),
            answered = call => answered.map_err(|failure| Failure {
                message: parts.attempt.redactor.text(&failure.message),
                ..failure
            }),
        }
    }
    .boxed()
}

/// That the agent has no such driver, and the ways out.
pub(super) fn lacks(driver: DriverName) -> String {
    format!(
        "this agent does not offer the {0} driver; start it with --driver {0}, or set the pipeline with another --driver",
        driver.as_str()
    )
}

impl Parts {
    fn driver(&self) -> Result<Arc<dyn Driver>, String> {
        self.workshop
            .driver(self.driver)
            .ok_or_else(|| lacks(self.driver))
    }

    /// The request with its secrets and volumes, if it is allowed.
    async fn spec(&self, mut request: RunRequest) -> Result<StepSpec, String> {
        if request.privileged && !self.workshop.config.allow_privileged {
            return Err("privileged is not allowed on this agent; its operator may start it with --allow-privileged".to_owned());
        }
        let login = request
            .registry_auth
            .iter_mut()
            .flat_map(|auth| [&mut auth.username, &mut auth.password]);
        let texts = request.env.values_mut().chain(login);
        self.secrets.fill(texts).await?;
        let mut spec = steps::spec(&request);
        for mount in &mut spec.mounts {
            mount.volume = self.holdings.volume(&mount.volume)?.id;
        }
        if !request.files.is_empty() {
            spec.mounts.extend(self.files(&request).await?);
        }
        spec.labels = labels(&self.workshop, &self.attempt);
        let content = hex::encode(&request.content[..CONTENT_LABEL_BYTES]);
        spec.labels.insert("pocketci.content".to_owned(), content);
        spec.groups = self.attempt.groups();
        Ok(spec)
    }

    /// Volumes with the files of the webhook that the step mounts.
    async fn files(&self, request: &RunRequest) -> Result<Vec<Mount>, String> {
        let webhook = self.webhook.as_ref().ok_or("no webhook started this run")?;
        files::mounts(&self.holdings, &self.driver()?, webhook, request).await
    }

    async fn run(&self, request: RunRequest) -> Result<RunResult, String> {
        let wanted = self.wanted(&request);
        let runner = InDriver(self.driver()?);
        let spec = self.stoppable(self.spec(request)).await??;
        let _room = self.stoppable(self.room.acquire()).await?;
        steps::run(&self.attempt, &runner, spec, wanted).await
    }

    /// Whether a volume that this very attempt made, in an earlier process, is still there. One of an earlier attempt is
    /// not taken: whoever made it may be removing it.
    async fn revive(&self, volume: &serde_json::Value) -> bool {
        let text = |name: &str| volume[name].as_str().unwrap_or_default().to_owned();
        if volume["attempt"] != self.attempt.reference.attempt {
            return false;
        }
        let found = Volume {
            id: text("id"),
            path: text("path"),
        };
        let is_there = text("driver") == self.driver.as_str()
            && self.holdings.adopt_volume(&text("name"), found).await;
        if !is_there {
            // The steps that mounted it would be done twice in one attempt.
            self.attempt.stop(StopReason::Interrupted);
        }
        is_there
    }

    async fn start_sandbox(&self, id: String, request: RunRequest) -> Result<Answer, Failure> {
        let driver = self.driver()?;
        let place = self.holdings.place()?;
        let name = request.name.clone();
        let mut spec = self.stoppable(self.spec(request)).await??;
        spec.labels
            .insert("pocketci.step".to_owned(), "sandbox".to_owned());
        let starting = driver.start_sandbox(spec);
        tokio::pin!(starting);
        let started = tokio::select! {
            started = &mut starting => started,
            () = self.attempt.stopping() => {
                // The engine may be creating it: only its answer tells what is to be removed. A pull is broken off.
                let grace = self.workshop.config.limits.stop_grace;
                if let Ok(Ok(sandbox)) = tokio::time::timeout(grace, starting).await {
                    sandbox.close().await;
                }
                return Err("the run was stopped".into());
            }
        };
        let sandbox = started.map_err(|error| {
            let told = self.attempt.redactor.text(&steps::told(&error));
            Failure::from(format!("failed to start the sandbox: {told}"))
        })?;
        Ok(Answer::Json(json!(place.keep(id, name, sandbox).await?)))
    }

    async fn exec(&self, sandbox: &str, mut request: RunRequest) -> Result<Answer, Failure> {
        // What is mounted is the sandbox's.
        request.files.clear();
        let wanted = self.wanted(&request);
        let kept = self.holdings.sandbox(sandbox)?;
        let runner = InSandbox(kept.sandbox);
        let spec = self.stoppable(self.spec(request)).await??;
        let spec = StepSpec {
            name: kept.name,
            ..spec
        };
        let ended = steps::run(&self.attempt, &runner, spec, wanted).await;
        Ok(Answer::Run(ended?))
    }

    async fn read_files(&self, volume: &str, paths: &[String]) -> Result<Answer, Failure> {
        let found = self.holdings.volume(volume)?;
        let read = self.driver()?.read_files(&found, paths).await;
        let read = read.map_err(|error| {
            let told = steps::told(&error);
            Failure::from(format!(
                "could not read files from volume {volume:?}: {told}"
            ))
        })?;
        let files: serde_json::Map<String, serde_json::Value> = read
            .into_iter()
            .map(|(path, bytes)| (path, json!(String::from_utf8_lossy(&bytes))))
            .collect();
        Ok(Answer::Json(files.into()))
    }

    /// Preparation ends with the run; the step itself has its grace.
    async fn stoppable<T>(&self, work: impl Future<Output = T>) -> Result<T, String> {
        tokio::select! {
            biased;
            () = self.attempt.stopping() => Err("the run was stopped".to_owned()),
            done = work => Ok(done),
        }
    }

    fn wanted(&self, request: &RunRequest) -> Wanted {
        Wanted {
            call: request.call,
            timeout: request.timeout,
            retries: request.retries,
            sink: request.output.clone(),
            max_output_bytes: self.workshop.config.limits.max_step_output_bytes,
        }
    }
}
