//! Agents' bearer tokens: only the SHA-256 is stored, the answer is remembered for a moment.

use super::store_status;
use crate::model::TokenId;
use crate::model::agent::token_hash;
use crate::store::Store;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tonic::Status;
use tonic::metadata::MetadataMap;

/// How long a revoked token may still open streams.
const REMEMBER: Duration = Duration::from_secs(10);
/// Most answers remembered; when full, all are forgotten.
const MAX_REMEMBERED: usize = 4096;

pub(super) struct Tokens {
    store: Arc<dyn Store>,
    known: Mutex<HashMap<[u8; 32], (TokenId, Instant)>>,
}

impl Tokens {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            known: Mutex::default(),
        }
    }

    /// Which credential a call came with.
    pub(super) async fn check(&self, metadata: &MetadataMap) -> Result<TokenId, Status> {
        let refused = || {
            Status::unauthenticated(
                "the agent token is missing, wrong or revoked; make one with `pocketci agents token create`",
            )
        };
        let token = metadata
            .get("authorization")
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "))
            .ok_or_else(refused)?;
        let hash = token_hash(token);
        let known = self
            .known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&hash)
            .copied();
        if let Some((id, since)) = known
            && since.elapsed() < REMEMBER
        {
            return Ok(id);
        }
        let found = self.store.token_by_hash(hash).await;
        let id = found
            .map_err(|error| store_status(&error))?
            .ok_or_else(refused)?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_REMEMBERED {
            known.clear();
        }
        known.insert(hash, (id, Instant::now()));
        Ok(id)
    }
}
