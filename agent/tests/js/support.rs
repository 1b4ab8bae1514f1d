//! A recording host, and one call to run a program.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use pocketci_agent::js::host::{
    Answer, Answered, ConsoleStream, Failure, Host, JobContext, Reply, Request, RunRequest,
    RunResult, WebhookRequest,
};
use pocketci_agent::js::journal::Journal;
use pocketci_agent::js::{JobEnd, Limits, Program, execute};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

type Step = dyn Fn(RunRequest) -> BoxFuture<'static, Result<RunResult, String>> + Send + Sync;

type Call = dyn Fn(Request) -> Result<Answer, Failure> + Send + Sync;

pub struct Recorder {
    pub console: Mutex<Vec<(ConsoleStream, String)>>,
    pub replies: Mutex<Vec<Reply>>,
    pub requests: Mutex<Vec<RunRequest>>,
    pub expressions: Mutex<Vec<String>>,
    pub trigger: Result<bool, String>,
    pub trigger_panics: bool,
    pub step: Box<Step>,
    pub call: Arc<Call>,
    /// Calls are never answered.
    pub slow: bool,
    /// Commands of sandboxes are carried out as `step` says.
    pub exec_as_step: bool,
    /// Told of every line of the console.
    pub spoke: Option<std::sync::mpsc::Sender<()>>,
    pub journal: Mutex<Option<Journal>>,
    /// Volumes of earlier attempts are there.
    pub volumes_live: bool,
}

impl Default for Recorder {
    fn default() -> Self {
        Self {
            spoke: None,
            journal: Mutex::default(),
            volumes_live: false,
            console: Mutex::default(),
            replies: Mutex::default(),
            requests: Mutex::default(),
            expressions: Mutex::default(),
            trigger: Ok(true),
            trigger_panics: false,
            slow: false,
            exec_as_step: false,
            call: Arc::new(|_| Ok(Answer::Nothing)),
            step: Box::new(|_| Box::pin(async { Ok(result(0, "out", "")) })),
        }
    }
}

impl Host for Recorder {
    fn console(&self, stream: ConsoleStream, text: &str) {
        if let Some(spoke) = &self.spoke {
            let _ = spoke.send(());
        }
        self.console.lock().unwrap().push((stream, text.to_owned()));
    }
    fn journal(&self) -> Option<Journal> {
        self.journal.lock().unwrap().take()
    }
    fn revive(&self, _: serde_json::Value) -> BoxFuture<'static, bool> {
        let live = self.volumes_live;
        Box::pin(async move { live })
    }
    fn respond(&self, reply: Reply) {
        self.replies.lock().unwrap().push(reply);
    }
    fn webhook_trigger(&self, expression: &str) -> Result<bool, String> {
        self.expressions.lock().unwrap().push(expression.to_owned());
        assert!(!self.trigger_panics, "the host panics as it was told to");
        self.trigger.clone()
    }
    fn webhook_value(&self, expression: &str) -> Result<String, String> {
        self.expressions.lock().unwrap().push(expression.to_owned());
        match expression {
            "wrong" => Err("a wrong expression".into()),
            other => Ok(format!("value of {other}")),
        }
    }
    fn call(&self, request: Request) -> Answered {
        let (call, slow) = (self.call.clone(), self.slow);
        let request = match request {
            Request::Exec { run, .. } if self.exec_as_step => {
                let running = (self.step)(run);
                return Box::pin(
                    async move { running.await.map(Answer::Run).map_err(Failure::from) },
                );
            }
            other => other,
        };
        Box::pin(async move {
            if slow {
                std::future::pending::<()>().await;
            }
            call(request)
        })
    }
    fn run(&self, request: RunRequest) -> BoxFuture<'static, Result<RunResult, String>> {
        self.requests.lock().unwrap().push(request.clone());
        (self.step)(request)
    }
}

pub fn result(code: i32, stdout: &str, stderr: &str) -> RunResult {
    RunResult {
        code,
        stdout: stdout.into(),
        stderr: stderr.into(),
        status: "complete",
        started_at: "2026-01-01T00:00:00Z".into(),
        ended_at: "2026-01-01T00:00:01Z".into(),
        duration_ms: 1000,
        attempts: 1,
        step: 1,
    }
}

pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

pub struct Case {
    pub program: Program,
    pub job: JobContext,
    pub limits: Limits,
    pub host: Recorder,
    pub cancel: CancellationToken,
}

pub struct Ran {
    pub end: JobEnd,
    pub host: Arc<Recorder>,
}

impl Case {
    pub fn new(javascript: &str) -> Self {
        Self {
            program: Program {
                file_name: "main.js".into(),
                javascript: javascript.into(),
                source_map: None,
                source: javascript.into(),
                modules: Vec::new(),
            },
            job: JobContext {
                run_id: "r".into(),
                pipeline_id: "p".into(),
                pipeline_name: "demo".into(),
                triggered_by: "manual".into(),
                args: vec!["a".into(), "b".into()],
                driver_name: "native".into(),
                attempt: 1,
                ..JobContext::default()
            },
            limits: Limits::default(),
            host: Recorder::default(),
            cancel: CancellationToken::new(),
        }
    }

    /// The body of an async pipeline.
    pub fn body(body: &str) -> Self {
        Self::new(&format!(
            "export const pipeline = async () => {{\n{body}\n}};"
        ))
    }

    pub fn webhook(mut self, headers: &[(&str, &str)], body: &[u8]) -> Self {
        self.job.triggered_by = "webhook".into();
        self.job.webhook = Some(WebhookRequest {
            provider: "github".into(),
            event_type: "push".into(),
            method: "POST".into(),
            url: "/api/webhooks/1?x=1".into(),
            headers: headers
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
            query: BTreeMap::from([("x".to_owned(), "1".to_owned())]),
            body: Bytes::copy_from_slice(body).into(),
            ..WebhookRequest::default()
        });
        self
    }

    pub fn step(
        mut self,
        step: impl Fn(RunRequest) -> BoxFuture<'static, Result<RunResult, String>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        self.host.step = Box::new(step);
        self
    }

    pub fn run(self) -> Ran {
        let runtime = runtime();
        let host = Arc::new(self.host);
        let as_host: Arc<dyn Host> = host.clone();
        let end = execute(
            &self.program,
            &self.job,
            &self.limits,
            as_host,
            runtime.handle().clone(),
            self.cancel,
        );
        runtime.shutdown_timeout(Duration::from_secs(5));
        Ran { end, host }
    }
}

impl Ran {
    #[track_caller]
    pub fn succeeded(self) -> Self {
        assert_eq!(self.end, JobEnd::Succeeded, "log: {}", self.log());
        self
    }

    #[track_caller]
    pub fn failed(&self) -> &str {
        match &self.end {
            JobEnd::Failed { message } => message,
            other => panic!("expected a failure, got {other:?}; log: {}", self.log()),
        }
    }

    #[track_caller]
    pub fn errored(&self) -> (&'static str, &str) {
        match &self.end {
            JobEnd::Errored { reason, message } => (reason, message),
            other => panic!("expected an error, got {other:?}; log: {}", self.log()),
        }
    }

    pub fn lines(&self, wanted: ConsoleStream) -> String {
        let console = self.host.console.lock().unwrap();
        console
            .iter()
            .filter(|(stream, _)| *stream == wanted)
            .map(|(_, text)| text.as_str())
            .collect()
    }

    pub fn stdout(&self) -> String {
        self.lines(ConsoleStream::Stdout)
    }

    pub fn system(&self) -> String {
        self.lines(ConsoleStream::System)
    }

    pub fn log(&self) -> String {
        self.host
            .console
            .lock()
            .unwrap()
            .iter()
            .map(|(_, text)| text.as_str())
            .collect()
    }

    pub fn reply(&self) -> Reply {
        let replies = self.host.replies.lock().unwrap();
        assert_eq!(replies.len(), 1, "one reply; log: {}", self.log());
        replies[0].clone()
    }

    pub fn requests(&self) -> Vec<RunRequest> {
        self.host.requests.lock().unwrap().clone()
    }
}
