//! One job without a server: `pocketci run`.
//!
//! The engine, the drivers and the life of an attempt are the agent's own; only the other side of the wire is here:
//! it takes reports and log chunks at once, and answers calls from memory.

use crate::attempt::{
    Attempt, Backend, GateState, Outlet, Reports, StopReason, Work, Workshop, carry_out,
};
use crate::js::Program;
use crate::js::request::Storage;
use crate::log::{AttemptLog, Buffers, Taken};
use async_trait::async_trait;
use bytes::Bytes;
use pb::agent_message::Kind as Message;
use pocketci_proto::agent as pb;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// The lease of a job that nobody else can get.
const FOR_EVER: Duration = Duration::from_secs(10 * 366 * 86_400);

/// What is to be run.
pub struct LocalJob {
    /// The program.
    pub program: Arc<Program>,
    /// Run, pipeline and trigger as a server would assign them.
    pub assign: pb::Assign,
    /// The webhook's body.
    pub body: Bytes,
}

/// Something that happens in the run, in order.
pub enum Happening {
    /// A report of the attempt; the last one is Finished.
    Report(pb::report::Kind),
    /// Output.
    Output(pb::LogChunk),
}

/// Runs the job to its end; cancelling `stop` ends it gracefully. Everything that happens goes to `tell`.
pub async fn run(
    workshop: Arc<Workshop>,
    job: LocalJob,
    backend: Arc<dyn Backend>,
    stop: CancellationToken,
    mut tell: impl FnMut(Happening),
) {
    let reference = job.assign.r#ref.clone().unwrap_or_default();
    let (session, mut reports) = mpsc::unbounded_channel();
    let (uploads, mut uploaded) = mpsc::unbounded_channel();
    let (ready, mut logs) = mpsc::unbounded_channel();
    let log = AttemptLog::new(
        reference.clone(),
        Arc::new(Buffers::new(&workshop.config.spool)),
        ready,
    );
    let attempt = Arc::new(Attempt::new(
        reference.clone(),
        Reports::new(reference, Some(Outlet { session, uploads })),
        Arc::new(log),
        FOR_EVER,
        workshop.config.limits.max_output_bytes,
    ));
    let work = Work {
        assign: job.assign,
        program: job.program,
        body: job.body.into(),
    };
    let working = carry_out(workshop, attempt.clone(), backend, async move { Ok(work) });
    tokio::pin!(working);
    let mut over = false;
    let mut stopped = false;
    loop {
        tokio::select! {
            biased;
            Some(upload) = uploaded.recv() => {
                tell(Happening::Report(pb::report::Kind::Respond(upload.respond)));
                attempt.reports.acknowledge(upload.seq);
            }
            Some(message) = reports.recv() => {
                if let Some(Message::Report(pb::Report { seq, kind: Some(kind), .. })) = message.kind {
                    tell(Happening::Report(kind));
                    attempt.reports.acknowledge(seq);
                }
            }
            // After the reports: a step is named before its output.
            Some(_) = logs.recv() => print(&attempt, &mut tell).await,
            () = stop.cancelled(), if !stopped => {
                stopped = true;
                attempt.stop(StopReason::User);
            }
            () = &mut working, if !over => over = true,
            else => return,
        }
        if over && attempt.reports.is_over() {
            return;
        }
    }
}

/// Shows everything there is at once: there is no wire that chatter could be gathered for.
async fn print(attempt: &Attempt, tell: &mut impl FnMut(Happening)) {
    loop {
        attempt.log.flush().await;
        let Taken { chunks, more, .. } = attempt.log.take(false).await;
        for chunk in chunks {
            let seq = chunk.seq;
            tell(Happening::Output(chunk));
            attempt.log.acknowledge(seq);
        }
        if !more {
            return;
        }
    }
}

/// Who decides about gates of a local run: answers who approved or rejected, with a comment.
pub type Decide = dyn Fn(&str, &str) -> GateVerdict + Send + Sync;

/// A decision about a gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GateVerdict {
    /// Go on.
    Approve,
    /// Do not.
    Reject,
}

/// A server in memory.
pub struct LocalBackend {
    secrets: BTreeMap<String, String>,
    user: String,
    decide: Arc<Decide>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    values: BTreeMap<String, Value>,
    seen: BTreeSet<[u8; 32]>,
    gates: BTreeMap<Bytes, Gate>,
    /// The last version of each resource that was put.
    put: BTreeMap<String, String>,
}

struct Gate {
    name: String,
    message: String,
    until: tokio::time::Instant,
    decided: Option<GateState>,
}

impl LocalBackend {
    /// With these secrets; `user` is who decides about gates by `decide`, which may block.
    pub fn new(secrets: BTreeMap<String, String>, user: String, decide: Arc<Decide>) -> Self {
        Self {
            secrets,
            user,
            decide,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Backend for LocalBackend {
    async fn secrets(&self, names: Vec<String>) -> Result<BTreeMap<String, String>, String> {
        Ok(names
            .into_iter()
            .filter_map(|name| {
                let value = self.secrets.get(&name)?.clone();
                Some((name, value))
            })
            .collect())
    }

    async fn storage(&self, request: Storage) -> Result<Value, String> {
        let values = &mut self.state().values;
        Ok(match request {
            Storage::Get { key } => values.get(&key).cloned().unwrap_or_default(),
            Storage::Set { key, value } => {
                let stored = values.entry(key).or_default();
                pocketci_pipeline::merge_patch::apply(stored, value);
                Value::Null
            }
            Storage::Put { key, value } => {
                values.insert(key, value);
                Value::Null
            }
            Storage::Delete { key } => json!(values.remove(&key).is_some()),
            Storage::List { prefix } => {
                let keys = values.keys().filter(|key| key.starts_with(&prefix));
                json!(keys.collect::<Vec<_>>())
            }
            Storage::GetAll { prefix, fields } => {
                let found = values.iter().filter(|(key, _)| key.starts_with(&prefix));
                let found = found.map(|(key, value)| {
                    json!({ "path": key, "payload": pocketci_pipeline::merge_patch::pick(value, &fields) })
                });
                Value::Array(found.collect())
            }
        })
    }

    async fn dedup(&self, _call: u32, key_hash: [u8; 32]) -> Result<bool, String> {
        Ok(!self.state().seen.insert(key_hash))
    }

    async fn open_gate(
        &self,
        call: u32,
        name: &str,
        message: &str,
        timeout: Duration,
    ) -> Result<GateState, String> {
        let mut id = [0; 16];
        id[12..].copy_from_slice(&call.to_be_bytes());
        let id = Bytes::copy_from_slice(&id);
        let gate = Gate {
            name: name.to_owned(),
            message: message.to_owned(),
            until: tokio::time::Instant::now() + timeout,
            decided: None,
        };
        self.state().gates.insert(id.clone(), gate);
        Ok(GateState {
            id,
            status: "pending".to_owned(),
            ..GateState::default()
        })
    }

    async fn await_gate(&self, id: &Bytes) -> Result<GateState, String> {
        let (name, message, until) = {
            let state = self.state();
            let gate = state.gates.get(id).ok_or("no such gate")?;
            if let Some(decided) = &gate.decided {
                return Ok(decided.clone());
            }
            (gate.name.clone(), gate.message.clone(), gate.until)
        };
        let decide = self.decide.clone();
        let asking = tokio::task::spawn_blocking(move || decide(&name, &message));
        let status = tokio::select! {
            verdict = asking => match verdict {
                Ok(GateVerdict::Approve) => "approved",
                Ok(GateVerdict::Reject) | Err(_) => "rejected",
            },
            () = tokio::time::sleep_until(until) => "timed_out",
        };
        let decided = GateState {
            id: id.clone(),
            status: status.to_owned(),
            by: self.user.clone(),
            comment: String::new(),
            at: time::OffsetDateTime::now_utc()
                .format(&time::format_description::well_known::Rfc3339)
                .unwrap_or_default(),
        };
        if let Some(gate) = self.state().gates.get_mut(id) {
            gate.decided = Some(decided.clone());
        }
        Ok(decided)
    }

    fn keeps_versions(&self) -> bool {
        false
    }

    fn put_last(&self, resource: &str) -> Option<String> {
        self.state().put.get(resource).cloned()
    }

    async fn save_output(
        &self,
        _: u32,
        resource: &str,
        version: String,
        _: String,
    ) -> Result<(), String> {
        self.state().put.insert(resource.to_owned(), version);
        Ok(())
    }

    async fn save_input_metadata(&self, _: &str, _: String) -> Result<(), String> {
        Ok(())
    }

    async fn save_versions(&self, _: &str, _: bool, _: String) -> Result<(), String> {
        Ok(())
    }

    async fn trigger(
        &self,
        _call: u32,
        pipeline: &str,
        _jobs: Vec<String>,
        _args: Vec<String>,
    ) -> Result<String, String> {
        Err(format!(
            "there is no server here that could run {pipeline:?}; set the pipelines on a server to try this"
        ))
    }
}
