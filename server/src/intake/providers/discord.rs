//! Discord: `X-Signature-Ed25519: <hex>` over `<timestamp><body>`; the secret is the application's public key in hex.
//!
//! Source: Discord, "Interactions: setting up an endpoint" and "Webhook events". Discord now and then sends a wrong
//! signature on purpose and gives up an address that does not answer 401. No window is documented for the timestamp, so
//! one is applied only where the binding says so.

use super::message::Message;
use super::signature::{Key, Part, check_ed25519};
use super::timestamp::{fresh, seconds};
use super::{Facts, Handshake, IncomingRequest, Rejected};
use crate::model::pipeline::WebhookSecret;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::borrow::Cow;

pub(super) fn verify(
    tolerance_seconds: Option<u32>,
    request: &IncomingRequest,
    secrets: &[WebhookSecret],
    now: i64,
) -> Result<usize, Rejected> {
    let header = request
        .single("x-signature-ed25519")?
        .ok_or(Rejected("X-Signature-Ed25519 is missing"))?;
    let timestamp = request
        .single("x-signature-timestamp")?
        .ok_or(Rejected("X-Signature-Timestamp is missing"))?;
    // Nothing separates it from the body, so it must be digits: else bytes could wander from one to the other.
    let sent = seconds(timestamp)?;
    if let Some(tolerance) = tolerance_seconds {
        fresh(sent, now, tolerance.into())?;
    }
    let signature = parse(header)?;
    let keys: Vec<Key<'_>> = secrets
        .iter()
        .enumerate()
        .filter_map(|(secret, text)| {
            let bytes = hex::decode(text.expose())
                .ok()
                .filter(|key| key.len() == 32)?;
            Some(Key {
                secret,
                bytes: Cow::Owned(bytes),
            })
        })
        .collect();
    if keys.is_empty() {
        return Err(Rejected(
            "no active secret is a public key of 64 hexadecimal digits",
        ));
    }
    check_ed25519(
        &keys,
        request,
        &[Part::Text(timestamp), Part::Body],
        &[signature],
    )
}

/// The signature's 64 bytes.
pub fn parse(header: &[u8]) -> Result<Vec<u8>, Rejected> {
    let mut signature = vec![0; 64];
    hex::decode_to_slice(header, &mut signature)
        .map_err(|_| Rejected("the signature is not 128 hexadecimal digits"))?;
    Ok(signature)
}

/// Webhook events carry an `event`, interactions do not; both have a number for a type.
pub(super) fn facts(request: &IncomingRequest) -> Facts {
    let body = Message::of(request, &["type", "id", "event"]);
    let number = body.get("type").and_then(Value::as_u64);
    if let Some(kind) = body.inner_word("event", "type") {
        return Facts {
            event_type: kind,
            // None is sent: a delivery is its body.
            delivery_id: Some(body_digest(request)),
            attempt: None,
        };
    }
    let event_type = match number {
        Some(0 | 1) => "ping".to_owned(),
        Some(2) => "application_command".to_owned(),
        Some(3) => "message_component".to_owned(),
        Some(4) => "application_command_autocomplete".to_owned(),
        Some(5) => "modal_submit".to_owned(),
        Some(other) => other.to_string(),
        None => String::new(),
    };
    Facts {
        event_type,
        delivery_id: body.id("id"),
        attempt: None,
    }
}

fn body_digest(request: &IncomingRequest) -> String {
    let mut digest = Sha256::new();
    request.body_chunks().for_each(|chunk| digest.update(chunk));
    hex::encode(digest.finalize())
}

/// PING of interactions (1) wants PONG, PING of webhook events (0) an empty answer.
pub(super) fn handshake(request: &IncomingRequest) -> Option<Handshake> {
    let body = Message::of(request, &["type", "event"]);
    match body.get("type")?.as_u64()? {
        0 => Some(Handshake {
            status: 204,
            headers: Vec::new(),
            body: String::new(),
        }),
        1 if body.get("event").is_none() => Some(Handshake::json(200, &json!({ "type": 1 }))),
        _ => None,
    }
}
