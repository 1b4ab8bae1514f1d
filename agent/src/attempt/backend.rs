//! What a job needs of the server while it runs.

use crate::js::journal::Entry;
use crate::js::request::Storage;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use pocketci_proto::agent as pb;
use std::collections::BTreeMap;
use std::time::Duration;

/// An approval, as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GateState {
    /// Its id.
    pub id: Bytes,
    /// `pending`, `approved`, `rejected`, `timed_out`.
    pub status: String,
    /// Who decided.
    pub by: String,
    /// What they said.
    pub comment: String,
    /// RFC 3339.
    pub at: String,
}

/// A pipeline that a `set_pipeline` step sets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NewPipeline {
    /// Its name; empty for the job's own pipeline.
    pub name: String,
    /// JSON object that belongs to its identity, or empty.
    pub instance_vars: String,
    /// YAML.
    pub source: String,
    /// The pipeline that the job belongs to.
    pub is_self: bool,
    /// Whose; empty is the job's own.
    pub team: String,
}

/// What became of a [`NewPipeline`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PipelineSet {
    /// Whether anything is different now.
    pub changed: bool,
    /// What, for people.
    pub diff: String,
    /// What the author should look at.
    pub warnings: Vec<String>,
    /// Why it was not set, or empty.
    pub error: String,
}

/// A tar archive piece by piece, or why it does not go on; its end without an error is its end.
pub type Pieces = BoxStream<'static, Result<Bytes, String>>;

/// A tar archive that is never whole in memory, and can be read again from its beginning.
#[async_trait]
pub trait Archive: Send + Sync {
    /// Its pieces.
    async fn pieces(&self) -> Result<Pieces, String>;
}

/// The server's side of a job's calls: over gRPC for an agent, in memory for `pocketci run`.
///
/// An `Err` is for the author: a sentence without internals. `call` is the same for the same call (its content, and the
/// how-manieth with that content) of a job that is attempted again, so that nothing is changed twice.
#[async_trait]
pub trait Backend: Send + Sync {
    /// The secrets with these names that exist.
    async fn secrets(&self, names: Vec<String>) -> Result<BTreeMap<String, String>, String>;
    /// The pipeline's own storage.
    async fn storage(&self, request: Storage) -> Result<serde_json::Value, String>;
    /// Whether this key was seen before by another call.
    async fn dedup(&self, call: u32, key_hash: [u8; 32]) -> Result<bool, String>;
    /// Opens an approval, or finds the one that this call opened before.
    async fn open_gate(
        &self,
        call: u32,
        name: &str,
        message: &str,
        timeout: Duration,
    ) -> Result<GateState, String>;
    /// Waits a while for its decision.
    async fn await_gate(&self, id: &Bytes) -> Result<GateState, String>;
    /// Starts a run of another pipeline; answers its id.
    async fn trigger(
        &self,
        call: u32,
        pipeline: &str,
        jobs: Vec<String>,
        args: Vec<String>,
    ) -> Result<String, String>;
    /// Tells one try of `webhook.send`, for the log; where nobody keeps it, nothing happens.
    async fn note_send(&self, _noted: pb::NoteSend) -> Result<(), String> {
        Ok(())
    }
    /// Adds entries to the job's journal, the first of them with number `first`; tries until they are stored, or refused.
    async fn append_journal(&self, _first: u64, _entries: Vec<Entry>) -> Result<(), String> {
        Err("no journal is kept here".to_owned())
    }
    /// All entries of the job's journal.
    async fn read_journal(&self) -> Result<Vec<Entry>, String> {
        Ok(Vec::new())
    }
    /// Removes all entries of the job's journal.
    async fn clear_journal(&self) -> Result<(), String> {
        Ok(())
    }
    /// Whether versions are chosen before a job begins; where nobody does, a get takes the newest.
    fn keeps_versions(&self) -> bool {
        true
    }
    /// Where nobody chooses: the version, as JSON, that a put of this resource made last.
    fn put_last(&self, _resource: &str) -> Option<String> {
        None
    }
    /// A put step made this version; it counts though the job fails later. Both are JSON.
    async fn save_output(
        &self,
        _call: u32,
        _resource: &str,
        _version: String,
        _metadata: String,
    ) -> Result<(), String> {
        Err("no versions are kept here".to_owned())
    }
    /// What a get step learnt about its version, as JSON.
    async fn save_input_metadata(&self, _name: &str, _metadata: String) -> Result<(), String> {
        Err("no versions are kept here".to_owned())
    }
    /// What a check answered, oldest first, as JSON.
    async fn save_versions(
        &self,
        _resource: &str,
        _is_type: bool,
        _versions: String,
    ) -> Result<(), String> {
        Err("no versions are kept here".to_owned())
    }
    /// Creates or updates a pipeline.
    async fn set_pipeline(&self, _call: u32, pipeline: NewPipeline) -> Result<PipelineSet, String> {
        Err(format!(
            "there is no server here that could keep the pipeline {:?}",
            pipeline.name
        ))
    }
    /// An uploaded input of a one-off task.
    async fn fetch_input(&self, name: &str) -> Result<Pieces, String> {
        Err(format!("no input {name:?} was uploaded here"))
    }
    /// Sends an output of a one-off task back.
    async fn upload_output(&self, name: &str, _archive: &dyn Archive) -> Result<(), String> {
        Err(format!("there is nowhere to send the output {name:?}"))
    }
}
