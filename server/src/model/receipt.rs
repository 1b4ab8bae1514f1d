//! A receipt: one webhook request as it came, and what became of it.

use super::body::BodyId;
use super::{EndpointId, PipelineId, ReceiptId, RunId};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;
use time::OffsetDateTime;

/// What was decided about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It started a run, or runs of the listeners of its event.
    Accepted,
    /// Came before, and what it started then has not failed: nothing was done.
    Duplicate,
    /// A filter let nothing of it through.
    Filtered,
    /// Nobody listens to its event.
    Unrouted,
    /// A provider's question whether somebody is there, answered by the server.
    Handshake,
    /// Signature missing, wrong or stale.
    Unauthorized,
    /// The pipeline is paused.
    Paused,
    /// The queue is full.
    QueueFull,
    /// Its delivery id came before with another body.
    Conflict,
    /// A method that starts nothing here.
    Method,
    /// Its body or its head is larger than allowed.
    TooLarge,
    /// Its body is not what its `Content-Type` says.
    Malformed,
    /// Its endpoint is switched off.
    Disabled,
    /// More requests than the hook allows.
    RateLimited,
}

impl Verdict {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Accepted,
        Self::Duplicate,
        Self::Filtered,
        Self::Unrouted,
        Self::Handshake,
        Self::Unauthorized,
        Self::Paused,
        Self::QueueFull,
        Self::Conflict,
        Self::Method,
        Self::TooLarge,
        Self::Malformed,
        Self::Disabled,
        Self::RateLimited,
    ];

    /// The word in the database and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Duplicate => "duplicate",
            Self::Filtered => "filtered",
            Self::Unrouted => "unrouted",
            Self::Handshake => "handshake",
            Self::Unauthorized => "unauthorized",
            Self::Paused => "paused",
            Self::QueueFull => "queue_full",
            Self::Conflict => "conflict",
            Self::Method => "method",
            Self::TooLarge => "too_large",
            Self::Malformed => "malformed",
            Self::Disabled => "disabled",
            Self::RateLimited => "rate_limited",
        }
    }

    /// Reads what [`Self::as_str`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|verdict| verdict.as_str() == text)
    }

    /// Whether the bytes of the body are kept: of what was refused, which anyone can send, only length and digest are. A
    /// verified request that came at a bad time is kept, so that it can be done later.
    pub fn keeps_body(self, verified: bool) -> bool {
        match self {
            Self::Accepted | Self::Filtered | Self::Unrouted | Self::Handshake => true,
            Self::Paused | Self::QueueFull => verified,
            Self::Duplicate
            | Self::Unauthorized
            | Self::Conflict
            | Self::Method
            | Self::TooLarge
            | Self::Malformed
            | Self::Disabled
            | Self::RateLimited => false,
        }
    }
}

/// Where the bytes of a body are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyPlace {
    /// In the receipt itself.
    Inline,
    /// In pages of their own, because they are many.
    Pages(BodyId),
    /// Nowhere: refused, or forgotten by age. Length and digest are kept.
    None,
}

impl BodyPlace {
    /// The word in the database and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inline => "inline",
            Self::Pages(_) => "pages",
            Self::None => "none",
        }
    }

    /// Which pages, if there are any.
    pub fn pages(self) -> Option<BodyId> {
        match self {
            Self::Pages(id) => Some(id),
            Self::Inline | Self::None => None,
        }
    }

    /// Reads what [`Self::as_str`] and [`Self::pages`] wrote.
    pub fn parse(text: &str, pages: Option<BodyId>) -> Option<Self> {
        match (text, pages) {
            ("inline", None) => Some(Self::Inline),
            ("pages", Some(id)) => Some(Self::Pages(id)),
            ("none", None) => Some(Self::None),
            _ => None,
        }
    }
}

/// A file of a `multipart/form-data` body; its bytes are in the raw body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceivedFile {
    /// Number of its part in the body, from 0; parts that are no files count.
    pub index: u32,
    /// The field's name.
    pub name: String,
    /// As sent; never a path to use.
    pub filename: String,
    /// As sent, empty if nothing was.
    pub content_type: String,
    /// Length in bytes.
    pub size: u64,
    /// Of its bytes, in hex.
    pub sha256: String,
}

/// One stored webhook request. Headers and body may be secret: no Debug.
#[derive(Clone)]
pub struct Receipt {
    /// Its id.
    pub id: ReceiptId,
    /// The pipeline it was for; none if it was for an event. One of this and `endpoint_id` is set.
    pub pipeline_id: Option<PipelineId>,
    /// The endpoint it came to; none if it came to a pipeline's own URL.
    pub endpoint_id: Option<EndpointId>,
    /// The event that it was a message of.
    pub event_key: Option<String>,
    /// HTTP method.
    pub method: String,
    /// Path with query, as received, credentials in path and query removed (`signature` is kept: it is no secret).
    pub url: String,
    /// All header lines in order, names in lower case, values as bytes (latin-1 when shown). Values that are credentials
    /// (`Authorization`, `Cookie`, tokens) are `***`.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Raw body; empty unless it is [`BodyPlace::Inline`].
    pub body: Bytes,
    /// Where the raw body is.
    pub body_place: BodyPlace,
    /// Length as received.
    pub body_bytes: i64,
    /// SHA-256 of the raw body.
    pub body_sha256: [u8; 32],
    /// The files of a multipart body, in order.
    pub files: Vec<ReceivedFile>,
    /// The fields of a multipart body, in order.
    pub form: Vec<(String, String)>,
    /// Peer address, for people.
    pub remote_addr: String,
    /// Detected provider.
    pub provider: String,
    /// Provider-specific event.
    pub event_type: String,
    /// The provider's id of this delivery, the same when it sends again.
    pub delivery_id: Option<String>,
    /// Which try of the provider it is, from 1, if it says so.
    pub attempt: Option<i32>,
    /// Whether a secret was checked and fits.
    pub verified: bool,
    /// Which secret fitted: its fingerprint, the first bytes of its SHA-256.
    pub secret_id: Option<String>,
    /// What was decided.
    pub verdict: Verdict,
    /// Which check failed, for the operator; empty if accepted.
    pub reason: String,
    /// When it was complete.
    pub received_at: OffsetDateTime,
    /// The run it started, if it was for one pipeline. Runs of listeners have their `receipt_id`.
    pub run_id: Option<RunId>,
    /// The first receipt with the same delivery id: of a duplicate, and of one that was done again because the first
    /// failed.
    pub redelivery_of: Option<ReceiptId>,
    /// The receipt that an operator had done again as this one.
    pub replay_of: Option<ReceiptId>,
    /// What was answered, once it was.
    pub answer: Option<Answer>,
}

/// Most bytes of an answer's body that are kept with a receipt.
pub const MAX_SUMMARY_BYTES: usize = 512;

/// What the caller was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// How its body began: at most [`MAX_SUMMARY_BYTES`], what is no UTF-8 replaced.
    pub summary: String,
    /// From the complete head of the request to the head of the answer.
    pub duration: Duration,
}

impl Answer {
    /// Of an answer with this body, given after `duration`.
    pub fn new(status: u16, body: &[u8], duration: Duration) -> Self {
        let start = &body[..body.len().min(MAX_SUMMARY_BYTES)];
        // PostgreSQL's text knows no NUL.
        let mut summary = String::from_utf8_lossy(start).replace('\0', "\u{fffd}");
        while summary.len() > MAX_SUMMARY_BYTES {
            summary.pop();
        }
        Self {
            status,
            summary,
            duration,
        }
    }
}

/// What the reason of a rerun's receipt begins with.
const RERUN: &str = "rerun of ";

impl Receipt {
    /// The same request for a run that does it again.
    pub fn of_rerun(self, run: &str, pipeline_id: PipelineId) -> Self {
        Self {
            id: ReceiptId::new(),
            // Of a message to many this is one listener's.
            pipeline_id: Some(pipeline_id),
            reason: format!("{RERUN}{run}"),
            answer: None,
            redelivery_of: None,
            ..self
        }
    }

    /// Whether somebody wanted the request to be done again, from an earlier run or receipt.
    pub fn is_rerun(&self) -> bool {
        self.reason.starts_with(RERUN) || self.replay_of.is_some()
    }

    /// The decoded query of the URL: `+` is a space, a bad escape stays as it is, of a repeated name the first counts.
    pub fn query(&self) -> BTreeMap<String, String> {
        let mut decoded = BTreeMap::new();
        if let Some((_, query)) = self.url.split_once('?') {
            for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
                decoded
                    .entry(name.into_owned())
                    .or_insert_with(|| value.into_owned());
            }
        }
        decoded
    }
}
