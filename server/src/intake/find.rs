//! Which receiving point an address means; endpoints are kept for a moment.

use super::{Hook, Intake};
use crate::model::PipelineId;
use crate::model::endpoint::{Endpoint, secret_place, uuid_hash};
use crate::model::pipeline::WebhookSecret;
use crate::runs::Runs;
use crate::store::StoreError;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use time::OffsetDateTime;
use uuid::{Uuid, Version};

/// How long an endpoint may be used without asking the store again: so long it may be taken for enabled, or its
/// earlier secret for good, after a change at another server.
const TTL: Duration = Duration::from_secs(1);
/// Most endpoints kept; when full, all are forgotten.
const MAX_KEPT: usize = 4_096;

/// What a URL names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Address {
    /// A pipeline's own URL.
    Pipeline(PipelineId),
    /// An endpoint's, by its secret id.
    Endpoint(Uuid),
}

impl Address {
    /// Reads a UUID: a random one (version 4) is an endpoint's secret id, others are pipelines'.
    pub fn parse(text: &str) -> Option<Self> {
        let uuid = Uuid::parse_str(text).ok()?;
        Some(match uuid.get_version() {
            Some(Version::Random) => Self::Endpoint(uuid),
            _ => Self::Pipeline(PipelineId(uuid)),
        })
    }
}

/// An endpoint and when it was loaded.
type Kept = (Arc<Endpoint>, Instant);

/// Endpoints by the digest of a secret id, their secrets open.
#[derive(Default)]
pub(super) struct Endpoints {
    kept: Mutex<HashMap<[u8; 32], Kept>>,
}

impl Endpoints {
    fn get(&self, hash: &[u8; 32]) -> Option<Arc<Endpoint>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(hash)
            .filter(|(_, loaded)| loaded.elapsed() < TTL)
            .map(|(endpoint, _)| endpoint.clone())
    }

    fn keep(&self, hash: [u8; 32], endpoint: Arc<Endpoint>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MAX_KEPT {
            kept.clear();
        }
        kept.insert(hash, (endpoint, Instant::now()));
    }

    fn clear(&self) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.clear();
    }
}

impl Intake {
    /// The receiving point at an address, at most a second old.
    pub async fn find(&self, address: Address) -> Result<Option<Hook>, StoreError> {
        match address {
            Address::Pipeline(id) => {
                let found = self.runs.pipeline(id).await?;
                found.map(|found| Hook::of_pipeline(&found)).transpose()
            }
            Address::Endpoint(uuid) => {
                let hash = uuid_hash(uuid);
                let found = match self.endpoints.get(&hash) {
                    Some(found) => Some(found),
                    None => self.load(hash).await?,
                };
                found.map(|found| hook(&found, &hash)).transpose()
            }
        }
    }

    /// The same, as it is stored now.
    pub async fn find_again(&self, address: Address) -> Result<Option<Hook>, StoreError> {
        match address {
            Address::Pipeline(id) => {
                let found = self.runs.reload_pipeline(id).await?;
                found.map(|found| Hook::of_pipeline(&found)).transpose()
            }
            Address::Endpoint(uuid) => {
                let hash = uuid_hash(uuid);
                let found = self.load(hash).await?;
                found.map(|found| hook(&found, &hash)).transpose()
            }
        }
    }

    async fn load(&self, hash: [u8; 32]) -> Result<Option<Arc<Endpoint>>, StoreError> {
        let Some(found) = self.runs.store().endpoint_by_uuid(hash).await? else {
            return Ok(None);
        };
        let opened = Arc::new(opened(&self.runs, found)?);
        // A disabled one is asked for each time, as one that is not there is: both take the same time.
        if opened.enabled {
            self.endpoints.keep(hash, opened.clone());
        }
        Ok(Some(opened))
    }

    /// Endpoints have changed.
    pub fn forget_endpoints(&self) {
        self.endpoints.clear();
    }
}

fn hook(endpoint: &Endpoint, hash: &[u8; 32]) -> Result<Hook, StoreError> {
    Hook::of_endpoint(endpoint, hash, OffsetDateTime::now_utc())
}

/// An endpoint with its secrets open. One that cannot be opened is an error: without its secrets an endpoint would let
/// nobody in, and nobody would know why.
fn opened(runs: &Runs, mut endpoint: Endpoint) -> Result<Endpoint, StoreError> {
    let place = secret_place(endpoint.id);
    for sealed in &mut endpoint.secrets {
        let open = runs.vault().open(&place, sealed.secret.expose());
        let open = open.map_err(|error| StoreError::Internal(error.into()))?;
        sealed.secret = WebhookSecret::new(open)
            .ok_or_else(|| StoreError::Internal("a stored webhook secret is empty".into()))?;
    }
    Ok(endpoint)
}
