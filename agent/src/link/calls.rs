//! A running job's calls of the server, over whatever connection there is.
//!
//! A call waits for a connection and is repeated after a broken one; the server answers the same call the same way.
//! Nothing here outlives the attempt: when it is lost, its calls are dropped with it.

use super::archives;
use super::connection::Connection;
use super::wire::{MAX_TRIES, Wire};
use crate::attempt::{Archive, Backend, GateState, NewPipeline, Pieces, PipelineSet};
use crate::js::journal::Entry;
use crate::js::request::Storage;
use async_trait::async_trait;
use bytes::Bytes;
use pb::call_reply::Kind as Reply;
use pb::call_request::Kind as Ask;
use pocketci_proto::agent as pb;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tonic::Status;

/// How long the server may take to answer, beyond what the call itself waits.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// How long one wait for a gate takes; then the agent asks again.
const GATE_WAIT: Duration = Duration::from_secs(20);

/// Most entries of a journal that is read; the server keeps no more.
const MAX_JOURNAL_ENTRIES: usize = 100_000;

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
        self.ask_often(ask, MAX_TRIES).await
    }

    async fn ask_often(&self, ask: Ask, max_tries: u32) -> Result<Reply, String> {
        self.wire
            .patiently(max_tries, |connection| {
                self.ask_once(connection, ask.clone())
            })
            .await
            .map_err(|status| status.message().to_owned())
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

    async fn save(&self, ask: Ask) -> Result<(), String> {
        match self.ask(ask).await? {
            Reply::Saved(pb::Saved {}) => Ok(()),
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

    async fn note_send(&self, noted: pb::NoteSend) -> Result<(), String> {
        let ask = Ask::NoteSend(noted);
        let answer = self.wire.patiently(MAX_TRIES, |connection| {
            let ask = ask.clone();
            async move {
                match connection.notes_sends {
                    true => self.ask_once(connection, ask).await.map(drop),
                    false => Ok(()),
                }
            }
        });
        answer.await.map_err(|status| status.message().to_owned())
    }

    async fn append_journal(&self, first: u64, entries: Vec<Entry>) -> Result<(), String> {
        let entries = entries.into_iter().zip(first..);
        let entries = entries.map(|(entry, seq)| pb::JournalEntry {
            seq,
            attempt: 0,
            call: entry.call,
            kind: entry.kind,
            content_hash: entry.hash.into(),
            result: entry.data,
        });
        let append = pb::AppendJournal {
            entries: entries.collect(),
        };
        // Until the attempt is lost: what is not stored may not be seen by the program.
        match self.ask_often(Ask::AppendJournal(append), u32::MAX).await? {
            Reply::JournalSeq(_) => Ok(()),
            _ => Err(unexpected()),
        }
    }

    async fn read_journal(&self) -> Result<Vec<Entry>, String> {
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let after = entries.len() as u64;
            let ask = Ask::ReadJournal(pb::ReadJournal { after });
            let Reply::Journal(page) = self.ask_often(ask, u32::MAX).await? else {
                return Err(unexpected());
            };
            for (entry, seq) in page.entries.into_iter().zip(after + 1..) {
                if entry.seq != seq || entries.len() >= MAX_JOURNAL_ENTRIES {
                    return Err("the server's journal has holes, or no end".to_owned());
                }
                entries.push(Entry {
                    attempt: entry.attempt,
                    call: entry.call,
                    kind: entry.kind,
                    hash: entry.content_hash.to_vec(),
                    data: entry.result,
                });
            }
            if !page.more {
                return Ok(entries);
            }
        }
    }

    async fn clear_journal(&self) -> Result<(), String> {
        let ask = Ask::ClearJournal(pb::ClearJournal {});
        // Until the attempt is lost: a later attempt must not go on from what no longer counts.
        match self.ask_often(ask, u32::MAX).await? {
            Reply::JournalSeq(_) => Ok(()),
            _ => Err(unexpected()),
        }
    }

    async fn save_output(
        &self,
        call: u32,
        resource: &str,
        version: String,
        metadata: String,
    ) -> Result<(), String> {
        self.save(Ask::SaveOutput(pb::SaveOutput {
            call,
            resource: resource.to_owned(),
            version_json: version,
            metadata_json: metadata,
        }))
        .await
    }

    async fn save_input_metadata(&self, name: &str, metadata: String) -> Result<(), String> {
        self.save(Ask::SaveInputMetadata(pb::SaveInputMetadata {
            name: name.to_owned(),
            metadata_json: metadata,
        }))
        .await
    }

    async fn save_versions(
        &self,
        resource: &str,
        is_type: bool,
        versions: String,
    ) -> Result<(), String> {
        self.save(Ask::SaveVersions(pb::SaveVersions {
            resource: resource.to_owned(),
            versions_json: versions,
            resource_type: is_type,
        }))
        .await
    }

    async fn set_pipeline(&self, call: u32, pipeline: NewPipeline) -> Result<PipelineSet, String> {
        let ask = Ask::SetPipeline(pb::SetPipeline {
            call,
            name: pipeline.name,
            instance_vars_json: pipeline.instance_vars,
            source: pipeline.source,
            is_self: pipeline.is_self,
            team: pipeline.team,
        });
        match self.ask(ask).await? {
            Reply::SetPipeline(set) => Ok(PipelineSet {
                changed: set.changed,
                diff: set.diff,
                warnings: set.warnings,
                error: set.error,
            }),
            _ => Err(unexpected()),
        }
    }

    async fn fetch_input(&self, name: &str) -> Result<Pieces, String> {
        archives::input(&self.wire, &self.attempt, name)
            .await
            .map_err(|status| status.message().to_owned())
    }

    async fn upload_output(&self, name: &str, archive: &dyn Archive) -> Result<(), String> {
        archives::output(&self.wire, &self.attempt, name, archive)
            .await
            .map_err(|status| status.message().to_owned())
    }
}
