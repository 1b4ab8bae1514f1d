//! A request as it came: bytes, in order, nothing interpreted yet.

use super::providers::{Facts, ProviderKind, credentials};
use super::{Body, redact};
use crate::model::ReceiptId;
use crate::model::receipt::{BodyPlace, Receipt, Verdict};
use bytes::Bytes;
use http::{HeaderMap, Method};
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
    pub body: Body,
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

    /// The body's bytes in order. What is signed is fed from here, so that a body need not be in one piece. If it cannot
    /// be read to its end, which [`Body::is_unreadable`] tells then, this ends too early.
    pub fn body_chunks(&self) -> impl Iterator<Item = Bytes> {
        self.body.chunks().map_while(Result::ok)
    }

    /// The body in one piece: only for senders that sign or say something in it, whose bodies are small. Empty if it
    /// cannot be read.
    ///
    /// # Errors
    /// It has more than [`MAX_WHOLE_BYTES`].
    pub fn whole_body(&self) -> Result<Bytes, TooLarge> {
        match self.body.len() > MAX_WHOLE_BYTES {
            true => Err(TooLarge),
            false => Ok(self.body.to_bytes().unwrap_or_default()),
        }
    }

    /// The same without its body: what may be looked at of a request that nobody has signed.
    pub fn head(&self) -> Self {
        Self {
            method: self.method.clone(),
            url: self.url.clone(),
            headers: self.headers.clone(),
            body: Bytes::new().into(),
            remote_addr: self.remote_addr.clone(),
        }
    }

    /// The one `Content-Type`, or the empty text.
    pub fn content_type(&self) -> &str {
        let value = self.single("content-type").ok().flatten();
        value
            .and_then(|value| std::str::from_utf8(value).ok())
            .unwrap_or_default()
    }

    /// What is stored of it, as of an unverified request to no hook in particular: hook and verdict are filled in by those
    /// who know.
    pub fn receipt(&self, provider: ProviderKind, facts: Facts) -> Receipt {
        // What is not in memory gets its place when it is kept.
        let (body, body_place) = match self.body.in_memory() {
            Some(bytes) => (bytes.clone(), BodyPlace::Inline),
            None => (Bytes::new(), BodyPlace::None),
        };
        Receipt {
            id: ReceiptId::new(),
            pipeline_id: None,
            endpoint_id: None,
            event_key: None,
            method: self.method.as_str().to_owned(),
            url: redact::url(&self.url),
            headers: self
                .headers
                .iter()
                .map(|(name, value)| {
                    let name = name.as_str();
                    (name.to_owned(), credentials::kept(name, value.as_bytes()))
                })
                .collect(),
            body,
            body_place,
            body_bytes: i64::try_from(self.body.len()).unwrap_or(i64::MAX),
            body_sha256: self.body.sha256(),
            files: Vec::new(),
            form: Vec::new(),
            remote_addr: self.remote_addr.clone(),
            provider: provider.as_str().to_owned(),
            event_type: facts.event_type,
            verdict: Verdict::Accepted,
            reason: String::new(),
            received_at: OffsetDateTime::now_utc(),
            run_id: None,
            delivery_id: facts.delivery_id,
            attempt: facts
                .attempt
                .and_then(|attempt| i32::try_from(attempt).ok()),
            verified: false,
            secret_id: None,
            redelivery_of: None,
            replay_of: None,
            answer: None,
        }
    }
}

/// Largest body that is read into memory in one piece, in bytes. Strangers can have it done, as often as there are places
/// for requests, so it is far below the largest body that is taken.
pub const MAX_WHOLE_BYTES: u64 = 1024 * 1024;

/// See [`IncomingRequest::whole_body`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLarge;

/// A header that decides about trust came twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeveralLines;
