//! What a job costs before its program does anything: thread, context, globals, module; and what many cost at once.

use anyhow::Context as _;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use pocketci_agent::js::host::{
    Answer, Answered, ConsoleStream, Host, JobContext, Reply, Request, RunRequest, RunResult,
    WebhookRequest,
};
use pocketci_agent::js::{JobEnd, Limits, Program, run};
use pocketci_pipeline::program::{ContentType, compile};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::{Layer, Registry};

/// Jobs measured, one after the other.
const JOBS: usize = 500;
/// The first line of a program that does nothing else.
const LEAST: &str = "export const pipeline = async () => { console.log('here'); };";
/// A program that uses every global made on first use.
const EVERYTHING: &str = "export const pipeline = async () => {
  const all = [runtime, volumes, fetch, URL, TextEncoder, AbortController, crypto, assert, stage, notify, storage, webhook, yaml, performance, structuredClone];
  console.log('here', all.length);
};";

/// When something was said.
#[derive(Clone, Default)]
struct Marks(Arc<Mutex<Vec<(String, Instant)>>>);

impl Marks {
    fn mark(&self, what: &str) {
        let mut marks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        marks.push((what.to_owned(), Instant::now()));
    }

    fn take(&self) -> Vec<(String, Instant)> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

impl<S: tracing::Subscriber> Layer<S> for Marks {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() == "pocketci::js::start" {
            let mut message = Message(String::new());
            event.record(&mut message);
            self.mark(&message.0);
        }
    }
}

/// A world in which nothing happens.
struct Nowhere(Marks);

impl Host for Nowhere {
    fn console(&self, _: ConsoleStream, _: &str) {
        self.0.mark("first line");
    }
    fn respond(&self, _: Reply) {
        self.0.mark("first line");
    }
    fn webhook_trigger(&self, _: &str) -> Result<bool, String> {
        Ok(false)
    }
    fn webhook_value(&self, _: &str) -> Result<String, String> {
        Ok(String::new())
    }
    fn call(&self, _: Request) -> Answered {
        async { Ok(Answer::Nothing) }.boxed()
    }
    fn run(&self, _: RunRequest) -> BoxFuture<'static, Result<RunResult, String>> {
        async { Err("nothing runs here".to_owned()) }.boxed()
    }
}

/// Medians in microseconds: from the call to each stage, counted from the stage before.
pub struct Start {
    /// Of which program.
    pub name: &'static str,
    /// Stage and its cost.
    pub stages: Vec<(String, f64)>,
    /// From the call to the first line of `pipeline`.
    pub total_us: f64,
}

fn program(source: &str) -> anyhow::Result<Program> {
    let compiled = compile("bench.ts", ContentType::Ts, source, &BTreeMap::new())
        .map_err(|faults| anyhow::anyhow!("{faults:?}"))?;
    Ok(Program {
        file_name: "bench.ts".into(),
        javascript: compiled.javascript,
        source_map: Some(compiled.source_map),
        source: source.into(),
        modules: Vec::new(),
    })
}

/// Measures a least program, the seed's GitHub example, and one that looks at every global.
pub async fn start() -> anyhow::Result<Vec<Start>> {
    let marks = Marks::default();
    tracing::subscriber::set_global_default(Registry::default().with(marks.clone()))
        .context("the bench's own subscriber")?;
    let seed =
        std::fs::read_to_string("examples/seed-github.ts").context("run from the repository")?;
    let mut measured = Vec::new();
    for (name, source) in [
        ("least", LEAST),
        ("seed's GitHub example", &seed),
        ("every global", EVERYTHING),
    ] {
        measured.push(one(name, program(source)?, &marks).await?);
    }
    Ok(measured)
}

async fn one(name: &'static str, program: Program, marks: &Marks) -> anyhow::Result<Start> {
    let context = JobContext {
        webhook: Some(WebhookRequest {
            provider: "github".into(),
            event_type: "ping".into(),
            body: bytes::Bytes::from_static(b"{}").into(),
            ..WebhookRequest::default()
        }),
        ..JobContext::default()
    };
    let mut costs: BTreeMap<(usize, String), Vec<f64>> = BTreeMap::new();
    let mut totals = Vec::new();
    for _ in 0..JOBS {
        marks.take();
        let began = Instant::now();
        let host = Arc::new(Nowhere(marks.clone()));
        let runtime = tokio::runtime::Handle::current();
        let end = run(
            &program,
            &context,
            &Limits::default(),
            host,
            runtime,
            CancellationToken::new(),
        )
        .await;
        anyhow::ensure!(end == JobEnd::Succeeded, "{end:?}");
        let mut before = began;
        for (at, (stage, when)) in marks.take().into_iter().take(5).enumerate() {
            let cost = (when - before).as_secs_f64() * 1e6;
            costs.entry((at, stage)).or_default().push(cost);
            before = when;
        }
        totals.push((before - began).as_secs_f64() * 1e6);
    }
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or_default()
    };
    Ok(Start {
        name,
        stages: costs
            .into_iter()
            .map(|((_, stage), values)| (stage, median(values)))
            .collect(),
        total_us: median(totals),
    })
}
