//! A request as it came: bytes, in order, nothing interpreted yet.

use super::providers;
use crate::model::binding::Binding;
use crate::model::receipt::{BodyPlace, Receipt, Verdict};
use crate::model::{PipelineId, ReceiptId};
use bytes::Bytes;
use http::{HeaderMap, Method};
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use time::OffsetDateTime;

/// A request as it came.
#[derive(Clone)]
pub struct IncomingRequest {
    /// Any method.
    pub method: Method,
    /// Path with query, as received.
    pub url: String,
    /// All lines.
    pub headers: HeaderMap,
    /// Raw.
    pub body: Bytes,
    /// Peer address, for people.
    pub remote_addr: String,
}

impl IncomingRequest {
    /// The one value of a header: `Ok(None)` if it is missing or empty, `Err` if there are several lines.
    pub fn single(&self, name: &str) -> Result<Option<&[u8]>, SeveralLines> {
        let mut lines = self.headers.get_all(name).iter();
        let first = lines.next();
        if lines.next().is_some() {
            return Err(SeveralLines);
        }
        Ok(first
            .map(http::HeaderValue::as_bytes)
            .filter(|value| !value.is_empty()))
    }

    /// The raw query, without `?`.
    pub fn query(&self) -> &str {
        self.url.split_once('?').map_or("", |(_, query)| query)
    }

    /// The body's bytes in order. What is signed is fed from here, so that a body need not be in one piece.
    pub fn body_chunks(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(&self.body[..])
    }

    /// The body in one piece.
    pub fn whole_body(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.body)
    }

    /// What is stored of it.
    pub fn receipt(&self, pipeline_id: PipelineId, verdict: Verdict, reason: &str) -> Receipt {
        let provider = providers::guess(self);
        let facts = providers::facts(&Binding::default(), provider, self);
        let sha = Sha256::digest(&self.body);
        Receipt {
            id: ReceiptId::new(),
            pipeline_id: Some(pipeline_id),
            endpoint_id: None,
            event_key: None,
            method: self.method.as_str().to_owned(),
            url: self.url.clone(),
            headers: self
                .headers
                .iter()
                .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
                .collect(),
            body: self.body.clone(),
            body_place: BodyPlace::Inline,
            body_bytes: i64::try_from(self.body.len()).unwrap_or(i64::MAX),
            body_sha256: sha.into(),
            files: Vec::new(),
            remote_addr: self.remote_addr.clone(),
            provider: provider.as_str().to_owned(),
            event_type: facts.event_type,
            verdict,
            reason: reason.to_owned(),
            received_at: OffsetDateTime::now_utc(),
            run_id: None,
            delivery_id: None,
            attempt: None,
            verified: false,
            secret_id: None,
            redelivery_of: None,
            replay_of: None,
            answer: None,
        }
    }
}

/// A header that decides about trust came twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeveralLines;
