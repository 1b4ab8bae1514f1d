//! What every webhook needs and what seldom changes, kept for a moment.
//!
//! A stale pipeline is harmless: the store checks its version in the transaction that stores the run.

use crate::model::pipeline::{Pipeline, Revision};
use crate::model::{PipelineId, RevisionId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a pipeline may be used without asking the store again.
const PIPELINE_TTL: Duration = Duration::from_secs(1);
/// Most pipelines kept; when full, everything is forgotten and loaded again.
const MAX_PIPELINES: usize = 4096;
/// Most programs kept; a program is at most a few MiB.
const MAX_REVISIONS: usize = 64;

#[derive(Default)]
pub(super) struct Cache {
    pipelines: Mutex<HashMap<PipelineId, (Arc<Pipeline>, Instant)>>,
    revisions: Mutex<HashMap<RevisionId, Arc<Revision>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Cache {
    pub(super) fn pipeline(&self, id: PipelineId) -> Option<Arc<Pipeline>> {
        lock(&self.pipelines)
            .get(&id)
            .filter(|(_, loaded)| loaded.elapsed() < PIPELINE_TTL)
            .map(|(pipeline, _)| pipeline.clone())
    }

    pub(super) fn keep_pipeline(&self, id: PipelineId, found: Option<Arc<Pipeline>>) {
        let mut pipelines = lock(&self.pipelines);
        if pipelines.len() >= MAX_PIPELINES {
            pipelines.clear();
        }
        match found {
            Some(pipeline) => pipelines.insert(id, (pipeline, Instant::now())),
            None => pipelines.remove(&id),
        };
    }

    pub(super) fn revision(&self, id: RevisionId) -> Option<Arc<Revision>> {
        lock(&self.revisions).get(&id).cloned()
    }

    pub(super) fn keep_revision(&self, revision: Arc<Revision>) {
        let mut revisions = lock(&self.revisions);
        if revisions.len() >= MAX_REVISIONS {
            revisions.clear();
        }
        revisions.insert(revision.id, revision);
    }
}
