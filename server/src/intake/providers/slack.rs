//! Slack: `X-Slack-Signature: v0=<hex>` over `v0:<timestamp>:<body>`, the timestamp being fresh.

use super::signature::{check, digest_from_hex};
use super::{IncomingRequest, Rejected};
use crate::model::pipeline::WebhookSecret;

/// How far the timestamp may be from now, in seconds, either way (Slack's own advice).
const TOLERANCE_SECONDS: u64 = 300;

/// Longest `type` that counts. It is kept with refused webhooks too, of which the body is not.
const MAX_TYPE_CHARS: usize = 128;

/// The body's `type`; a body that is no JSON object has none, and neither has one with a strange `type`: too long, or
/// with control characters, which not every store can hold.
pub(super) fn event_type(request: &IncomingRequest) -> String {
    #[derive(serde::Deserialize)]
    struct Typed {
        r#type: String,
    }
    // An array would be read too: serde takes its first item for the first field.
    if !request.body.trim_ascii_start().starts_with(b"{") {
        return String::new();
    }
    serde_json::from_slice::<Typed>(&request.body)
        .map(|typed| typed.r#type)
        .ok()
        .filter(|kind| !kind.contains(char::is_control) && kind.chars().count() <= MAX_TYPE_CHARS)
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

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, Method};

    fn type_of(body: &str) -> String {
        event_type(&IncomingRequest {
            method: Method::POST,
            url: "/".into(),
            headers: HeaderMap::new(),
            body: bytes::Bytes::copy_from_slice(body.as_bytes()),
            remote_addr: String::new(),
        })
    }

    #[test]
    fn only_an_objects_type_is_the_event() {
        let longest = "x".repeat(MAX_TYPE_CHARS);
        for (body, kind) in [
            (r#"{"type":"event_callback"}"#, "event_callback"),
            (
                " \r\n\t{\"challenge\":[{}], \"type\":\"block_actions\"}",
                "block_actions",
            ),
            (&format!(r#"{{"type":"{longest}"}}"#), longest.as_str()),
            (&format!(r#"{{"type":"{longest}x"}}"#), ""),
            (r#"["event_callback"]"#, ""),
            (r#" ["event_callback"]"#, ""),
            (r#""event_callback""#, ""),
            (r#"{"type":["event_callback"]}"#, ""),
            (r#"{"type":null}"#, ""),
            (r#"{"type":"a\u0000b"}"#, ""),
            (r#"{"other":"x"}"#, ""),
            ("{", ""),
            ("", ""),
        ] {
            assert_eq!(type_of(body), kind, "{body}");
        }
    }
}
