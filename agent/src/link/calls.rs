//! A running job's calls of the server, over whatever connection there is.
//!
//! A call waits for a connection and is repeated after a broken one; the server answers the same call the same way.
//! Nothing here outlives the attempt: when it is lost, its calls are dropped with it.

use super::connection::Connection;
use super::lock;
use crate::attempt::{Backend, GateState};
use crate::js::request::Storage;
use async_trait::async_trait;
use bytes::Bytes;
use pb::call_reply::Kind as Reply;
use pb::call_request::Kind as Ask;
use pocketci_proto::agent as pb;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;
use tonic::{Code, Status};

/// How long the server may take to answer, beyond what the call itself waits.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// How long one wait for a gate takes; then the agent asks again.
const GATE_WAIT: Duration = Duration::from_secs(20);
/// Pause before a call is repeated on the same connection.
pub(super) const REPEAT_AFTER: Duration = Duration::from_millis(250);
/// Calls on one connection that may fail before the job is told; each new connection counts anew.
pub(super) const MAX_TRIES: u32 = 20;

/// The current connection, for everyone who needs one.
#[derive(Default)]
pub(super) struct Wire {
    current: Mutex<(u64, Option<Connection>)>,
    changed: Notify,
}

impl Wire {
    pub(super) fn connect(&self, connection: Connection) {
        let mut current = lock(&self.current);
        current.0 += 1;
        current.1 = Some(connection);
        drop(current);
        self.changed.notify_waiters();
    }

    pub(super) fn disconnect(&self) {
        lock(&self.current).1 = None;
    }

    /// The connection with its number; waits while there is none.
    pub(super) async fn connection(&self) -> (u64, Connection) {
        loop {
            let changed = self.changed.notified();
            let current = lock(&self.current).clone();
            if let (number, Some(connection)) = current {
                return (number, connection);
            }
            changed.await;
        }
    }
}

/// The server, as one attempt's backend.
pub(super) struct Remote {
    wire: Arc<Wire>,
    attempt: pb::AttemptRef,
}

impl Remote {
    pub(super) fn new(wire: Arc<Wire>, attempt: pb::AttemptRef) -> Self {
        Self { wire, attempt }
    }

    async fn ask(&self, ask: Ask) -> Result<Reply, String> {
        let mut tries = 0;
        let mut last = 0;
        loop {
            let (number, connection) = self.wire.connection().await;
            tries = if number == last { tries + 1 } else { 1 };
            last = number;
            match self.ask_once(connection, ask.clone()).await {
                Ok(reply) => return Ok(reply),
                Err(status) if may_pass(status.code()) && tries < MAX_TRIES => {
                    tracing::debug!(reason = status.message(), "a call is repeated");
                    tokio::time::sleep(REPEAT_AFTER).await;
                }
                Err(status) => return Err(status.message().to_owned()),
            }
        }
    }

    async fn ask_once(&self, mut connection: Connection, ask: Ask) -> Result<Reply, Status> {
        let request = connection.request(pb::CallRequest {
            r#ref: Some(self.attempt.clone()),
            kind: Some(ask),
        });
        let answer =
            tokio::time::timeout(ANSWER_WITHIN + GATE_WAIT, connection.client.call(request))
                .await
                .map_err(|_| Status::unavailable("the server did not answer in time"))??;
        answer
            .into_inner()
            .kind
            .ok_or_else(|| Status::internal("the server's answer is empty"))
    }

    async fn json(&self, verb: &str, key: String, value: Option<Value>) -> Result<Value, String> {
        let call = pb::StorageCall {
            verb: verb.to_owned(),
            key,
            value_json: value.map(|value| value.to_string()).unwrap_or_default(),
        };
        match self.ask(Ask::Storage(call)).await? {
            Reply::Json(json) => serde_json::from_str(&json).map_err(|_| unexpected()),
            _ => Err(unexpected()),
        }
    }

    async fn gate(&self, ask: Ask) -> Result<GateState, String> {
        match self.ask(ask).await? {
            Reply::Gate(gate) => Ok(GateState {
                id: gate.id,
                status: gate.status,
                by: gate.by,
                comment: gate.comment,
                at: gate.decided_at,
            }),
            _ => Err(unexpected()),
        }
    }
}

/// Whether the same call may do better in a moment.
pub(super) fn may_pass(code: Code) -> bool {
    matches!(
        code,
        Code::Unavailable
            | Code::Cancelled
            | Code::Unknown
            | Code::DeadlineExceeded
            | Code::Aborted
    )
}

fn unexpected() -> String {
    "the server answered something else; is it older than this agent?".to_owned()
}

#[async_trait]
impl Backend for Remote {
    async fn secrets(&self, names: Vec<String>) -> Result<BTreeMap<String, String>, String> {
        match self.ask(Ask::Secrets(pb::ResolveSecrets { names })).await? {
            Reply::Secrets(found) => Ok(found.values.into_iter().collect()),
            _ => Err(unexpected()),
        }
    }

    async fn storage(&self, request: Storage) -> Result<Value, String> {
        match request {
            Storage::Get { key } => self.json("get", key, None).await,
            Storage::Set { key, value } => self.json("set", key, Some(value)).await,
            Storage::Put { key, value } => self.json("put", key, Some(value)).await,
            Storage::Delete { key } => self.json("delete", key, None).await,
            Storage::List { prefix } => self.json("list", prefix, None).await,
            Storage::GetAll { prefix, fields } => {
                self.json("all", prefix, Some(json!(fields))).await
            }
        }
    }

    async fn dedup(&self, call: u32, key_hash: [u8; 32]) -> Result<bool, String> {
        let key_hash = Bytes::copy_from_slice(&key_hash);
        match self
            .ask(Ask::Dedup(pb::DedupCall { call, key_hash }))
            .await?
        {
            Reply::Seen(seen) => Ok(seen),
            _ => Err(unexpected()),
        }
    }

    async fn open_gate(
        &self,
        call: u32,
        name: &str,
        message: &str,
        timeout: Duration,
    ) -> Result<GateState, String> {
        self.gate(Ask::OpenGate(pb::OpenGate {
            call,
            name: name.to_owned(),
            message: message.to_owned(),
            timeout_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
        }))
        .await
    }

    async fn await_gate(&self, id: &Bytes) -> Result<GateState, String> {
        self.gate(Ask::AwaitGate(pb::AwaitGate {
            gate_id: id.clone(),
            wait_ms: u32::try_from(GATE_WAIT.as_millis()).unwrap_or(u32::MAX),
        }))
        .await
    }

    async fn trigger(
        &self,
        call: u32,
        pipeline: &str,
        jobs: Vec<String>,
        args: Vec<String>,
    ) -> Result<String, String> {
        let trigger = pb::TriggerPipeline {
            call,
            name: pipeline.to_owned(),
            jobs,
            args,
        };
        match self.ask(Ask::Trigger(trigger)).await? {
            Reply::RunId(id) => uuid::Uuid::from_slice(&id)
                .map(|id| id.to_string())
                .map_err(|_| unexpected()),
            _ => Err(unexpected()),
        }
    }
}
