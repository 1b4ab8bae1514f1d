//! Standard Webhooks and Svix: `webhook-signature: v1,<base64> v1a,<base64>` over `<id>.<timestamp>.<body>`.
//!
//! Source: the Standard Webhooks specification. The key of `v1` is what follows `whsec_`, decoded (Stripe's, which
//! begins alike, is not decoded); that of `v1a` is an Ed25519 public key, `whpk_` before it.

use super::entries::{decoded, with_prefix};
use super::message::{self, Message};
use super::signature::{Key, MAX_SIGNATURES, PUBLIC_KEY_PREFIX, Part, check_ed25519, check_sha256};
use super::timestamp::{TOLERANCE_SECONDS, fresh, seconds};
use super::{Facts, IncomingRequest, Rejected};
use crate::model::pipeline::WebhookSecret;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::borrow::Cow;
use std::ops::RangeInclusive;

/// Lengths of a symmetric key, in bytes (the specification's).
const KEY_BYTES: RangeInclusive<usize> = 24..=64;

/// Signatures of both kinds; at least one.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Signatures {
    /// HMAC-SHA256, 32 bytes each.
    pub v1: Vec<Vec<u8>>,
    /// Ed25519, 64 bytes each.
    pub v1a: Vec<Vec<u8>>,
}

/// The three headers of a message.
pub(super) struct Signed<'a> {
    id: &'a [u8],
    timestamp: &'a [u8],
    pub signatures: Signatures,
}

impl<'a> Signed<'a> {
    /// Reads the headers that begin with `webhook-` or `svix-`; the time must be near `now`.
    pub fn read(request: &'a IncomingRequest, prefix: &str, now: i64) -> Result<Self, Rejected> {
        let header = |name: &str, missing| {
            let found = request.single(&format!("{prefix}{name}"))?;
            found.ok_or(Rejected(missing))
        };
        let id = header("id", "the header with the message's id is missing")?;
        // It would not be clear where the timestamp begins.
        if id.contains(&b'.') {
            return Err(Rejected("the message's id has a full stop in it"));
        }
        let timestamp = header("timestamp", "the header with the timestamp is missing")?;
        fresh(seconds(timestamp)?, now, TOLERANCE_SECONDS)?;
        let signature = header("signature", "the header with the signature is missing")?;
        Ok(Self {
            id,
            timestamp,
            signatures: parse(signature)?,
        })
    }

    /// What is signed.
    pub fn parts(&self) -> [Part<'a>; 5] {
        let dot = Part::Text(b".");
        [
            Part::Text(self.id),
            dot,
            Part::Text(self.timestamp),
            dot,
            Part::Body,
        ]
    }
}

pub(super) fn verify(
    request: &IncomingRequest,
    secrets: &[WebhookSecret],
    now: i64,
) -> Result<usize, Rejected> {
    let prefix = match request.single("webhook-id")? {
        Some(_) => "webhook-",
        None => "svix-",
    };
    let signed = Signed::read(request, prefix, now)?;
    let mut symmetric = Vec::new();
    let mut public = Vec::new();
    for (secret, text) in secrets.iter().enumerate() {
        let key = |bytes| Key {
            secret,
            bytes: Cow::Owned(bytes),
        };
        if let Some(bytes) = public_key(text.expose()) {
            public.push(key(bytes));
        } else if let Some(bytes) = symmetric_key(text.expose()) {
            symmetric.push(key(bytes));
        }
    }
    if symmetric.is_empty() && public.is_empty() {
        return Err(Rejected(
            "no active secret is a key of Standard Webhooks: whsec_ and base64 of 24 to 64 bytes, or whpk_ and base64 of 32",
        ));
    }
    let parts = signed.parts();
    let v1 = check_sha256(&symmetric, request, &parts, &signed.signatures.v1);
    // The whole body is copied for these.
    if signed.signatures.v1a.is_empty() || public.is_empty() {
        return v1;
    }
    let v1a = check_ed25519(&public, request, &parts, &signed.signatures.v1a);
    v1.or(v1a)
}

/// The signatures in the header.
pub fn parse(header: &[u8]) -> Result<Signatures, Rejected> {
    let (v1, v1a) = (
        with_prefix(header, b' ', b"v1,")?,
        with_prefix(header, b' ', b"v1a,")?,
    );
    if v1.len() + v1a.len() > MAX_SIGNATURES {
        return Err(Rejected("the header has more than 16 signatures"));
    }
    let read = |values: &[&[u8]], bytes| decoded(values, |text| from_base64(text, bytes));
    match (read(&v1, 32), read(&v1a, 64)) {
        (Err(fault), Err(_)) => Err(fault),
        (v1, v1a) => Ok(Signatures {
            v1: v1.unwrap_or_default(),
            v1a: v1a.unwrap_or_default(),
        }),
    }
}

/// Base64 (with padding) to exactly so many bytes.
pub(super) fn from_base64(text: &[u8], bytes: usize) -> Result<Vec<u8>, Rejected> {
    let decoded = STANDARD.decode(text).ok();
    decoded
        .filter(|decoded| decoded.len() == bytes)
        .ok_or(Rejected(
            "the signature is not base64 of the expected length",
        ))
}

/// The key of `v1` in a secret.
pub(super) fn symmetric_key(secret: &[u8]) -> Option<Vec<u8>> {
    let text = secret.strip_prefix(b"whsec_").unwrap_or(secret);
    let key = STANDARD.decode(text).ok()?;
    KEY_BYTES.contains(&key.len()).then_some(key)
}

fn public_key(secret: &[u8]) -> Option<Vec<u8>> {
    let key = STANDARD
        .decode(secret.strip_prefix(PUBLIC_KEY_PREFIX)?)
        .ok()?;
    (key.len() == 32).then_some(key)
}

pub(super) fn facts(request: &IncomingRequest) -> Facts {
    let ids = ["webhook-id", "svix-id"];
    Facts {
        event_type: Message::of(request, &["type"])
            .word("type")
            .unwrap_or_default(),
        delivery_id: ids
            .iter()
            .find_map(|name| message::id_header(request, name)),
        attempt: None,
    }
}
