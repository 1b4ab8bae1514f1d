//! Slack: `X-Slack-Signature: v0=<hex>` over `v0:<timestamp>:<body>`, the timestamp being fresh.

use super::signature::{Part, check_sha256, digest_from_hex, raw_keys};
use super::timestamp::{TOLERANCE_SECONDS, fresh, seconds};
use super::{IncomingRequest, Rejected};
use crate::model::pipeline::WebhookSecret;

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
    let body = request.whole_body();
    if !body.trim_ascii_start().starts_with(b"{") {
        return String::new();
    }
    serde_json::from_slice::<Typed>(&body)
        .map(|typed| typed.r#type)
        .ok()
        .filter(|kind| !kind.contains(char::is_control) && kind.chars().count() <= MAX_TYPE_CHARS)
        .unwrap_or_default()
}

pub(super) fn verify(
    request: &IncomingRequest,
    secrets: &[WebhookSecret],
    now: i64,
) -> Result<usize, Rejected> {
    let signature = request
        .single("x-slack-signature")?
        .ok_or(Rejected("X-Slack-Signature is missing"))?;
    let timestamp = request
        .single("x-slack-request-timestamp")?
        .ok_or(Rejected("X-Slack-Request-Timestamp is missing"))?;
    fresh(seconds(timestamp)?, now, TOLERANCE_SECONDS)?;
    let digest = parse(signature)?;
    let parts = [
        Part::Text(b"v0:"),
        Part::Text(timestamp),
        Part::Text(b":"),
        Part::Body,
    ];
    check_sha256(&raw_keys(secrets), request, &parts, &[digest])
}

/// The digest in the header.
pub fn parse(header: &[u8]) -> Result<Vec<u8>, Rejected> {
    let hex = header
        .strip_prefix(b"v0=")
        .ok_or(Rejected("X-Slack-Signature does not begin with v0="))?;
    digest_from_hex(hex)
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
            body: bytes::Bytes::copy_from_slice(body.as_bytes()).into(),
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
