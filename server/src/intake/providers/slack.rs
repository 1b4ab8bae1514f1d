//! Slack: `X-Slack-Signature: v0=<hex>` over `v0:<timestamp>:<body>`, the timestamp being fresh.

use super::signature::{check, digest_from_hex};
use super::{IncomingRequest, Rejected};
use crate::model::pipeline::WebhookSecret;

/// How far the timestamp may be from now, in seconds, either way (Slack's own advice).
const TOLERANCE_SECONDS: u64 = 300;

/// The body's `type`; a body that is no JSON object has none.
pub(super) fn event_type(request: &IncomingRequest) -> String {
    #[derive(serde::Deserialize)]
    struct Typed {
        r#type: String,
    }
    serde_json::from_slice::<Typed>(&request.body)
        .map(|typed| typed.r#type)
        .unwrap_or_default()
}

pub(super) fn verify(
    request: &IncomingRequest,
    secrets: &[WebhookSecret],
    now: i64,
) -> Result<(), Rejected> {
    let signature = request
        .single("x-slack-signature")?
        .ok_or(Rejected("X-Slack-Signature is missing"))?;
    let timestamp = request
        .single("x-slack-request-timestamp")?
        .ok_or(Rejected("X-Slack-Request-Timestamp is missing"))?;
    let sent = seconds(timestamp).ok_or(Rejected(
        "X-Slack-Request-Timestamp is no number of seconds",
    ))?;
    if sent.abs_diff(now) > TOLERANCE_SECONDS {
        return Err(Rejected(
            "X-Slack-Request-Timestamp is more than 300 seconds from now",
        ));
    }
    let hex = signature
        .strip_prefix(b"v0=")
        .ok_or(Rejected("X-Slack-Signature does not begin with v0="))?;
    check(
        secrets,
        &[b"v0:", timestamp, b":", &request.body],
        &digest_from_hex(hex)?,
    )
}

/// Decimal digits only: no sign, no space.
fn seconds(text: &[u8]) -> Option<i64> {
    if !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}
