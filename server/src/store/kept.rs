//! Verbs of what pipelines keep beyond a run (values, keys seen) and of their approvals.

use super::Result;
use crate::model::gate::{Decision, Gate, NewGate};
use crate::model::{GateId, PipelineId, RunId};
use async_trait::async_trait;
use serde_json::Value;
use std::time::Duration;

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// JSON merge patch (RFC 7396).
    Patch,
    /// Whole.
    Replace,
}

/// What became of a write of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// Stored.
    Done,
    /// The pipeline has as many keys as it may have; nothing was stored.
    Full,
    /// The patched value is larger than a value may be; nothing was stored.
    TooLarge,
}

/// Most keys of one pipeline.
pub const MAX_VALUES: i64 = 1_000;
/// Largest value, in bytes of JSON.
pub const MAX_VALUE_BYTES: usize = 1 << 20;

/// A key that was seen, and by whom.
#[derive(Debug, Clone, Copy)]
pub struct Sighting {
    /// Of which pipeline.
    pub pipeline_id: PipelineId,
    /// SHA-256 of the key.
    pub hash: [u8; 32],
    /// Who asks.
    pub run_id: RunId,
    /// Numbers the run's questions: the same one asked again is answered the same.
    pub call: i32,
}

/// What pipelines keep between runs.
#[async_trait]
pub trait ValueStore: Send + Sync {
    /// One value (JSON).
    async fn value(&self, pipeline_id: PipelineId, key: &str) -> Result<Option<Value>>;
    /// Writes one value.
    async fn put_value(
        &self,
        pipeline_id: PipelineId,
        key: &str,
        write: Write,
        value: Value,
    ) -> Result<Written>;
    /// Removes one; `false` if unknown.
    async fn delete_value(&self, pipeline_id: PipelineId, key: &str) -> Result<bool>;
    /// Keys with a prefix, in the order of their bytes, at most `limit`.
    async fn value_keys(
        &self,
        pipeline_id: PipelineId,
        prefix: &str,
        limit: i64,
    ) -> Result<Vec<String>>;
    /// Values of keys with a prefix, in the order of keys, at most `limit`.
    async fn values(
        &self,
        pipeline_id: PipelineId,
        prefix: &str,
        limit: i64,
    ) -> Result<Vec<(String, Value)>>;
    /// Whether somebody else has seen the key within `ttl`; if not, this one has now.
    async fn seen_before(&self, sighting: Sighting, ttl: Duration) -> Result<bool>;
}

/// Which gates to list.
#[derive(Debug, Clone, Default)]
pub struct GateFilter {
    /// Only of this run.
    pub run_id: Option<RunId>,
    /// Only those that can still be decided: pending, not expired, of a run that is not over.
    pub open: bool,
}

/// Approvals.
#[async_trait]
pub trait GateStore: Send + Sync {
    /// Opens a gate, or returns the one that the same call of the job opened before.
    async fn open_gate(&self, gate: NewGate) -> Result<Gate>;
    /// One gate.
    async fn gate(&self, id: GateId) -> Result<Option<Gate>>;
    /// Gates with their pipelines' names, oldest first, at most `limit`.
    async fn gates(&self, filter: GateFilter, limit: i64) -> Result<Vec<(Gate, String)>>;
    /// Decides if nobody has, the time fits the decision (see [`Decision::status`]) and the run is not over; returns the
    /// gate as it is now and whether this was it. `None` if unknown.
    async fn decide_gate(&self, id: GateId, decision: Decision) -> Result<Option<(Gate, bool)>>;
}
