//! A receipt: one webhook request as it came, and what became of it.

use super::{PipelineId, ReceiptId, RunId};
use bytes::Bytes;
use std::collections::BTreeMap;
use time::OffsetDateTime;

/// What was decided about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It started a run.
    Accepted,
    /// Signature missing, wrong or stale.
    Unauthorized,
    /// The pipeline is paused.
    Paused,
    /// The queue is full.
    QueueFull,
}

impl Verdict {
    /// The word in the database and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Unauthorized => "unauthorized",
            Self::Paused => "paused",
            Self::QueueFull => "queue_full",
        }
    }

    /// Reads what [`Self::as_str`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        [
            Self::Accepted,
            Self::Unauthorized,
            Self::Paused,
            Self::QueueFull,
        ]
        .into_iter()
        .find(|verdict| verdict.as_str() == text)
    }
}

/// One stored webhook request. Headers and body may be secret: no Debug.
#[derive(Clone)]
pub struct Receipt {
    /// Its id.
    pub id: ReceiptId,
    /// To which pipeline.
    pub pipeline_id: PipelineId,
    /// HTTP method.
    pub method: String,
    /// Path with query, as received, credentials in the query removed (`signature` is kept: it is no secret).
    pub url: String,
    /// All header lines in order, names in lower case, values as bytes (latin-1 when shown).
    pub headers: Vec<(String, Vec<u8>)>,
    /// Raw body; empty for refused requests, whose `body_bytes` and `body_sha256` are kept.
    pub body: Bytes,
    /// Length as received.
    pub body_bytes: i64,
    /// SHA-256 of the raw body.
    pub body_sha256: [u8; 32],
    /// Peer address, for people.
    pub remote_addr: String,
    /// Detected provider.
    pub provider: String,
    /// Provider-specific event.
    pub event_type: String,
    /// What was decided.
    pub verdict: Verdict,
    /// Which check failed, for the operator; empty if accepted.
    pub reason: String,
    /// When it was complete.
    pub received_at: OffsetDateTime,
    /// The run it started.
    pub run_id: Option<RunId>,
}

/// What the reason of a rerun's receipt begins with.
const RERUN: &str = "rerun of ";

impl Receipt {
    /// The same request for a run that does it again.
    pub fn of_rerun(self, run: &str) -> Self {
        Self {
            id: ReceiptId::new(),
            reason: format!("{RERUN}{run}"),
            ..self
        }
    }

    /// Whether the request was made again from an earlier run.
    pub fn is_rerun(&self) -> bool {
        self.reason.starts_with(RERUN)
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
