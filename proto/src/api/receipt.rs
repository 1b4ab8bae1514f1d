//! Receipts: requests that came to webhooks, what was decided about them, and doing them again.

use crate::ids::{EndpointId, PipelineId, ReceiptId, RevisionId, RunId};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

/// A request as it is listed.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Receipt {
    /// Its id.
    pub id: ReceiptId,
    /// When it was complete.
    #[serde(with = "time::serde::rfc3339")]
    pub received_at: OffsetDateTime,
    /// The pipeline it was for; absent for a message of an event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline_id: Option<PipelineId>,
    /// Its name, if it is there still.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<String>,
    /// The endpoint it came to; absent if it came to the pipeline's own URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint_id: Option<EndpointId>,
    /// The event that it was a message of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// HTTP method.
    pub method: String,
    /// Path with query, credentials removed.
    pub url: String,
    /// Whose it is.
    pub provider: String,
    /// The provider's event.
    pub event_type: String,
    /// The provider's id of the delivery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery_id: Option<String>,
    /// Which try of the provider, if it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<i32>,
    /// Whether a secret was checked and fits.
    pub verified: bool,
    /// Fingerprint of that secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_id: Option<String>,
    /// `accepted`, `duplicate`, `filtered`, `unrouted`, `handshake`, `unauthorized`, `paused`, `queue_full`, `conflict`,
    /// `method`, `too_large`, `malformed`, `disabled` or `rate_limited`.
    pub verdict: String,
    /// Which check failed; empty if it was accepted.
    pub reason: String,
    /// The caller's address.
    pub remote_addr: String,
    /// Length of the body as it came.
    pub body_bytes: i64,
    /// SHA-256 of it, in hex.
    pub body_sha256: String,
    /// Whether its bytes are kept, so that it can be looked at and done again.
    pub body_kept: bool,
    /// Files of a multipart body.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<ReceiptFile>,
    /// The run it started, if it was for one pipeline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<RunId>,
    /// The first receipt with the same delivery id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redelivery_of: Option<ReceiptId>,
    /// The receipt that was done again as this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay_of: Option<ReceiptId>,
    /// HTTP status of the answer, once there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// How long the caller waited for it, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_after_ms: Option<f64>,
}

/// A file in a request's body.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ReceiptFile {
    /// Which part of the body, from 0.
    pub index: u32,
    /// The form's field.
    pub name: String,
    /// As sent.
    pub filename: String,
    /// As sent.
    pub content_type: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256 in hex.
    pub sha256: String,
}

/// One request, looked at.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ReceiptDetails {
    /// As it is listed.
    #[serde(flatten)]
    pub receipt: Receipt,
    /// Header lines in order, names in lower case; those with credentials are masked.
    pub headers: Vec<(String, String)>,
    /// Fields of a multipart body.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub form: Vec<(String, String)>,
    /// The runs it started, or is to start.
    pub runs: Vec<ReceiptRun>,
    /// What was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<ReceiptReply>,
    /// The receipts as which it was done again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replays: Vec<ReceiptId>,
    /// What was decided, step by step, in sentences.
    pub explain: Vec<String>,
}

/// A pipeline that a request concerned.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ReceiptRun {
    /// Its pipeline.
    pub pipeline_id: PipelineId,
    /// Its name, if it is there still.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<String>,
    /// The run; absent if none was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<RunId>,
    /// Of the run as in `GET /api/runs/{id}`; else `pending`, `filtered` or `dropped`.
    pub status: String,
    /// Why there is no run (yet).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// What the caller was told.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ReceiptReply {
    /// HTTP status.
    pub status: u16,
    /// Whose words: the pipeline's (`http.respond`), or the server's own.
    pub by_pipeline: bool,
    /// Header lines that the pipeline gave.
    pub headers: Vec<(String, String)>,
    /// The body if it is text; its beginning, if it is the server's or long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The body if it is no text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
    /// Length of the whole body, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_bytes: Option<u64>,
}

/// Body of `POST /api/receipts/{id}/replay`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplayRequest {
    /// The pipeline's program to use instead of its newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<RevisionId>,
    /// Only say what would become of it.
    #[serde(default)]
    pub dry_run: bool,
    /// A version 7 UUID of the caller's choice: the same one starts nothing twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wish: Option<Uuid>,
}

/// What became, or would become, of a replay.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Replayed {
    /// The receipt that was done again.
    pub replay_of: ReceiptId,
    /// The new receipt; absent of a dry run, and if nothing was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt_id: Option<ReceiptId>,
    /// For each pipeline that it concerns.
    pub decisions: Vec<ReplayDecision>,
    /// Why it could not be done again, where many were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What became of a replay for one pipeline.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ReplayDecision {
    /// Its id.
    pub pipeline_id: PipelineId,
    /// Its name.
    pub pipeline: String,
    /// The new run; absent of a dry run, and if none is started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<RunId>,
    /// Whether a run is (or would be) started.
    pub starts: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// Which receipts: those for which everything holds that is said.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReceiptQuery {
    /// Id or name of a pipeline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<String>,
    /// Id or name of an endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Messages of this event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// See [`Receipt::verdict`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<String>,
    /// Whose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The provider's event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_type: Option<String>,
    /// The provider's id of the delivery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery_id: Option<String>,
    /// Contained in reason or URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Not before this time.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "time::serde::rfc3339::option"
    )]
    pub from: Option<OffsetDateTime>,
    /// Before this time.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "time::serde::rfc3339::option"
    )]
    pub until: Option<OffsetDateTime>,
    /// Done again from this receipt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay_of: Option<ReceiptId>,
    /// Only those behind this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<ReceiptId>,
    /// 1 to 200; 50 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
}

/// Body of `POST /api/receipts/replay`: oldest first, a page at a time.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplayMany {
    /// Which; what was a replay itself is left out, unless `filter.replay_of` asks for it.
    pub filter: ReceiptQuery,
    /// Only count them, and say what would become of the page.
    #[serde(default)]
    pub dry_run: bool,
    /// As in [`ReplayRequest::wish`], the same for all pages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wish: Option<Uuid>,
}

/// A page of a replay of many.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ReplayedMany {
    /// How many the filter finds from this page on; counting stops at 100 000.
    pub count: i64,
    /// To be sent with the next page.
    pub wish: Uuid,
    /// What became, or would become, of this page.
    pub items: Vec<Replayed>,
    /// `filter.after` of the next page; absent if there is none. A page with an error that trying later may help ends there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<ReceiptId>,
}
