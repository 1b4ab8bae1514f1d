//! An attempt and its journal: what is asked of the server, and what the next attempt makes of it.
#![allow(clippy::unwrap_used, missing_docs)] // a test fails by panicking

mod slow;

use async_trait::async_trait;
use bytes::Bytes;
use pb::report::Kind;
use pocketci_agent::attempt::{Backend, GateState, Workshop};
use pocketci_agent::container::native::NativeDriver;
use pocketci_agent::container::{Driver, DriverError, Output, Sandbox, StepExit, StepSpec, Volume};
use pocketci_agent::js::journal::Entry;
use pocketci_agent::js::request::Storage;
use pocketci_agent::js::{Limits, Program};
use pocketci_agent::local::{self, GateVerdict, Happening, LocalBackend, LocalJob};
use pocketci_agent::{AgentConfig, Token};
use pocketci_proto::agent as pb;
use pocketci_proto::api::Driver as DriverName;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

/// A server with a journal, and a list of what was asked about it.
struct Server {
    local: LocalBackend,
    journal: Mutex<Vec<Entry>>,
    asked: Mutex<Vec<&'static str>>,
    room: usize,
}

impl Server {
    fn new(journal: Vec<Entry>) -> Arc<Self> {
        let secrets = BTreeMap::from([("TOKEN".to_owned(), "hunter2hunter2".to_owned())]);
        let decide = Arc::new(|_: &str, _: &str| GateVerdict::Approve);
        Arc::new(Self {
            local: LocalBackend::new(secrets, "me".into(), decide),
            journal: Mutex::new(journal),
            asked: Mutex::default(),
            room: usize::MAX,
        })
    }

    fn entries(&self) -> Vec<Entry> {
        self.journal.lock().unwrap().clone()
    }

    fn asked(&self) -> Vec<&'static str> {
        self.asked.lock().unwrap().clone()
    }
}

#[async_trait]
impl Backend for Server {
    async fn secrets(&self, names: Vec<String>) -> Result<BTreeMap<String, String>, String> {
        self.asked.lock().unwrap().push("secrets");
        self.local.secrets(names).await
    }
    async fn storage(&self, request: Storage) -> Result<serde_json::Value, String> {
        self.local.storage(request).await
    }
    async fn dedup(&self, call: u32, key_hash: [u8; 32]) -> Result<bool, String> {
        self.local.dedup(call, key_hash).await
    }
    async fn open_gate(
        &self,
        call: u32,
        name: &str,
        message: &str,
        timeout: Duration,
    ) -> Result<GateState, String> {
        self.local.open_gate(call, name, message, timeout).await
    }
    async fn await_gate(&self, id: &Bytes) -> Result<GateState, String> {
        self.local.await_gate(id).await
    }
    async fn trigger(
        &self,
        call: u32,
        pipeline: &str,
        jobs: Vec<String>,
        args: Vec<String>,
    ) -> Result<String, String> {
        self.local.trigger(call, pipeline, jobs, args).await
    }
    async fn append_journal(&self, first: u64, entries: Vec<Entry>) -> Result<(), String> {
        self.asked.lock().unwrap().push("append");
        let mut journal = self.journal.lock().unwrap();
        assert_eq!(first, journal.len() as u64 + 1, "without holes");
        if journal.len() + entries.len() > self.room {
            return Err("the job's journal is full".to_owned());
        }
        journal.extend(entries.into_iter().map(|e| Entry { attempt: 1, ..e }));
        Ok(())
    }
    async fn read_journal(&self) -> Result<Vec<Entry>, String> {
        self.asked.lock().unwrap().push("read");
        Ok(self.entries())
    }
    async fn clear_journal(&self) -> Result<(), String> {
        self.asked.lock().unwrap().push("clear");
        self.journal.lock().unwrap().clear();
        Ok(())
    }
}

/// How an attempt ended, its reports' kinds, and its log by step and stream.
struct Ran {
    end: pb::Finished,
    started: Vec<u32>,
    system: String,
    stdout: String,
}

fn workshop(drivers: Vec<Arc<dyn Driver>>) -> Arc<Workshop> {
    let config = AgentConfig {
        server_url: String::new(),
        token: Token::new(""),
        name: "test".into(),
        labels: BTreeMap::new(),
        slots: 1,
        default_driver: DriverName::Native,
        tls_ca: None,
        allow_privileged: false,
        limits: Limits::default(),
        outside: Default::default(),
        drain_timeout: Duration::ZERO,
        spool: Default::default(),
        keep_failed: Duration::ZERO,
        state_dir: None,
    };
    Arc::new(Workshop::new(config, drivers))
}

struct Job<'a> {
    body: &'a str,
    attempt: u32,
    durable: bool,
    stop: CancellationToken,
    drivers: Vec<Arc<dyn Driver>>,
}

impl<'a> Job<'a> {
    fn new(body: &'a str) -> Self {
        Self {
            body,
            attempt: 1,
            durable: true,
            stop: CancellationToken::new(),
            drivers: vec![Arc::new(NativeDriver::default())],
        }
    }

    fn attempt(self, attempt: u32) -> Self {
        Self { attempt, ..self }
    }

    async fn run(self, server: &Arc<Server>) -> Ran {
        let javascript = format!("export const pipeline = async () => {{ {} }};", self.body);
        let job = LocalJob {
            program: Arc::new(Program {
                file_name: "main.js".into(),
                javascript: javascript.clone(),
                source: javascript,
                ..Program::default()
            }),
            assign: pb::Assign {
                r#ref: Some(pb::AttemptRef {
                    run_id: vec![1; 16].into(),
                    job_id: vec![2; 16].into(),
                    attempt: self.attempt,
                }),
                driver: "native".into(),
                durable: self.durable,
                ..pb::Assign::default()
            },
            body: Bytes::new(),
        };
        let mut ran = Ran {
            end: pb::Finished::default(),
            started: Vec::new(),
            system: String::new(),
            stdout: String::new(),
        };
        let backend: Arc<dyn Backend> = server.clone();
        local::run(
            workshop(self.drivers),
            job,
            backend,
            self.stop,
            |happening| match happening {
                Happening::Report(Kind::Finished(end)) => ran.end = end,
                Happening::Report(Kind::StepStarted(step)) => ran.started.push(step.step),
                Happening::Report(_) => {}
                Happening::Output(chunk) => {
                    let text = String::from_utf8_lossy(&chunk.data).into_owned();
                    match (chunk.step, chunk.stream()) {
                        (0, pb::log_chunk::Stream::System) => ran.system.push_str(&text),
                        (_, pb::log_chunk::Stream::Stdout) => ran.stdout.push_str(&text),
                        _ => {}
                    }
                }
            },
        )
        .await;
        ran
    }
}

const TWO: &str = "
    const sh = (name, script, more = {}) => runtime.run({ name, command: { path: 'sh', args: ['-c', script] }, ...more });
    await sh('one', 'echo one');
    await sh('two', 'echo two');";

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_not_durable_keeps_no_journal_and_starts_from_the_top() {
    let server = Server::new(Vec::new());
    for attempt in [1, 2] {
        let job = Job {
            durable: false,
            ..Job::new(TWO).attempt(attempt)
        };
        let ran = job.run(&server).await;
        assert_eq!(
            (ran.end.outcome.as_str(), ran.started),
            ("succeeded", vec![1, 2])
        );
    }
    assert!(server.asked().is_empty(), "{:?}", server.asked());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_without_effects_asks_nothing_of_the_server() {
    let server = Server::new(Vec::new());
    let ran = Job::new("http.respond({ status: 200 }); console.log(Date.now(), Math.random());")
        .run(&server)
        .await;
    assert_eq!(ran.end.outcome, "succeeded");
    assert!(server.asked().is_empty(), "{:?}", server.asked());
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_of_an_earlier_attempt_are_not_run_and_numbers_go_on() {
    let server = Server::new(Vec::new());
    let first = Job::new(TWO).run(&server).await;
    assert_eq!(
        (first.end.outcome.as_str(), first.started),
        ("succeeded", vec![1, 2])
    );
    let entries = server.entries();
    let died = Server::new(entries[..entries.len() - 1].to_vec());
    let second = Job::new(TWO).attempt(2).run(&died).await;
    assert_eq!(
        (second.end.outcome.as_str(), second.started),
        ("succeeded", vec![2])
    );
    assert_eq!(
        second.system,
        "step 1 'one' is taken from attempt 1's journal\n"
    );
    assert_eq!(second.stdout, "two\n");
    assert_eq!(died.asked(), ["read", "append"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_way_is_told_the_journal_cleared_and_the_job_started_from_the_top() {
    let server = Server::new(Vec::new());
    Job::new(TWO).run(&server).await;
    let other = TWO.replace("echo one", "echo uno");
    let ran = Job::new(&other).attempt(2).run(&server).await;
    assert_eq!(ran.end.outcome, "succeeded", "{}", ran.system);
    assert_eq!((ran.stdout.as_str(), ran.started.len()), ("uno\ntwo\n", 2));
    assert!(
        ran.system
            .starts_with("the job cannot go on where it was and starts from the top: call 1 is"),
        "{}",
        ran.system
    );
    assert_eq!(
        server
            .asked()
            .iter()
            .filter(|asked| **asked == "clear")
            .count(),
        1
    );
    // The new journal is the new program's.
    let again = Job::new(&other).attempt(3).run(&server).await;
    assert_eq!(
        (again.end.outcome.as_str(), again.started.len()),
        ("succeeded", 0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_cannot_be_read_is_cleared() {
    let strange = Entry {
        kind: "from the future".into(),
        data: "{}".into(),
        ..Entry::default()
    };
    let server = Server::new(vec![strange]);
    let ran = Job::new(TWO).attempt(2).run(&server).await;
    assert_eq!(
        (ran.end.outcome.as_str(), ran.started),
        ("succeeded", vec![1, 2])
    );
    assert!(ran.system.contains("not readable"), "{}", ran.system);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_journal_is_cleared_and_the_job_goes_on_without() {
    let mut server = Server::new(Vec::new());
    Arc::get_mut(&mut server).unwrap().room = 1;
    let ran = Job::new(TWO).run(&server).await;
    assert_eq!(
        (ran.end.outcome.as_str(), ran.started),
        ("succeeded", vec![1, 2])
    );
    assert!(server.entries().is_empty());
    assert_eq!(
        ran.system.matches("goes on without a journal").count(),
        1,
        "{}",
        ran.system
    );
    // What ends at the same time is stored together: one or two messages.
    let asked = server.asked();
    assert!(
        asked == ["append", "append", "clear"] || asked == ["append", "clear"],
        "{asked:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_is_too_large_ends_the_journal_not_the_job() {
    let server = Server::new(Vec::new());
    let ran = Job::new(
        "await runtime.run({ name: 'large', command: { path: 'sh', args: ['-c', 'head -c 1000000 /dev/zero'] } });",
    )
    .run(&server)
    .await;
    assert_eq!(ran.end.outcome, "succeeded");
    assert!(server.entries().is_empty());
    assert!(
        ran.system
            .contains("goes on without a journal (the result of one call has"),
        "{}",
        ran.system
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_not_in_the_journal_and_masked_in_the_next_attempt_too() {
    let body = "
        const sh = (name, script, env) => runtime.run({ name, command: { path: 'sh', args: ['-c', script] }, env });
        await sh('uses', 'echo $T', { T: 'secret:TOKEN' });
        await sh('leaks', 'echo hunter2hunter2');";
    let server = Server::new(Vec::new());
    Job::new(body).run(&server).await;
    let entries = server.entries();
    let stored: Vec<u8> = entries
        .iter()
        .flat_map(|entry| entry.data.to_vec())
        .collect();
    assert!(!String::from_utf8_lossy(&stored).contains("hunter2"));
    assert!(entries.iter().any(|entry| entry.kind == "secrets"));
    // The step that named the secret is not run again; what it hid stays hidden.
    let died = Server::new(entries[..entries.len() - 1].to_vec());
    let second = Job::new(body).attempt(2).run(&died).await;
    assert_eq!(
        (second.end.outcome.as_str(), second.stdout.as_str()),
        ("succeeded", "***\n")
    );
}
