//! A scheme in data (`CustomScheme`): the header it names, the content its template says, its arithmetic.

use super::entries::{decoded, one, with_prefix};
use super::message;
use super::signature::{Key, Part, check_ed25519, check_sha256, check_sha512};
use super::timestamp::{fresh, seconds};
use super::{Facts, IncomingRequest, Rejected};
use crate::model::custom_scheme::{Algorithm, CustomScheme, Encoding, KeyEncoding, Piece};
use crate::model::pipeline::WebhookSecret;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::borrow::Cow;

pub(super) fn verify(
    scheme: &CustomScheme,
    request: &IncomingRequest,
    secrets: &[WebhookSecret],
    now: i64,
) -> Result<usize, Rejected> {
    let header = request.single(&scheme.header)?.ok_or(Rejected(
        "the scheme's header with the signature is missing",
    ))?;
    let signatures = parse(scheme, header)?;
    let timestamp = timestamp(scheme, request, header, now)?;
    let id = match scheme.id_header.as_str() {
        "" => None,
        name => request.single(name)?,
    };
    let pieces = scheme
        .pieces()
        .map_err(|_| Rejected("the scheme's template is wrong"))?;
    let mut parts = Vec::with_capacity(pieces.len());
    for piece in pieces {
        parts.push(match piece {
            Piece::Text(text) => Part::Text(text.as_bytes()),
            Piece::Id => {
                Part::Text(id.ok_or(Rejected("the scheme's header with the id is missing"))?)
            }
            Piece::Timestamp => {
                Part::Text(timestamp.ok_or(Rejected("the scheme has no timestamp"))?)
            }
            Piece::Body => Part::Body,
            Piece::Method => Part::Text(request.method.as_str().as_bytes()),
            Piece::Path => Part::Text(request.url.as_bytes()),
        });
    }
    let keys = keys(scheme, secrets);
    if keys.is_empty() {
        return Err(Rejected("no active secret is written as the scheme says"));
    }
    match scheme.algorithm {
        Algorithm::Sha256 => check_sha256(&keys, request, &parts, &signatures),
        Algorithm::Sha512 => check_sha512(&keys, request, &parts, &signatures),
        Algorithm::Ed25519 => check_ed25519(&keys, request, &parts, &signatures),
    }
}

/// The signatures in the header that can be read, at least one.
pub fn parse(scheme: &CustomScheme, header: &[u8]) -> Result<Vec<Vec<u8>>, Rejected> {
    let prefix = scheme.prefix.as_bytes();
    let values = match scheme.separator.as_bytes() {
        [separator] => with_prefix(header, *separator, prefix)?,
        _ => header.strip_prefix(prefix).into_iter().collect(),
    };
    let bytes = match scheme.algorithm {
        Algorithm::Sha256 => 32,
        Algorithm::Sha512 | Algorithm::Ed25519 => 64,
    };
    decoded(&values, |text| {
        let signature = match scheme.encoding {
            Encoding::Hex => hex::decode(text).ok(),
            Encoding::Base64 => STANDARD.decode(text).ok(),
        };
        let signature = signature.filter(|signature| signature.len() == bytes);
        signature.ok_or(Rejected(
            "the signature is not of the scheme's encoding and length",
        ))
    })
}

/// The timestamp as it stands, which is fresh; `None` if the scheme has none.
fn timestamp<'a>(
    scheme: &CustomScheme,
    request: &'a IncomingRequest,
    header: &'a [u8],
    now: i64,
) -> Result<Option<&'a [u8]>, Rejected> {
    let timestamp = match (
        scheme.timestamp_header.as_str(),
        scheme.timestamp_prefix.as_bytes(),
        scheme.separator.as_bytes(),
    ) {
        ("", [], _) => return Ok(None),
        ("", prefix, [separator]) => one(header, *separator, prefix)?,
        (name, _, _) => request.single(name)?.ok_or(Rejected(
            "the scheme's header with the timestamp is missing",
        ))?,
    };
    // The check when the scheme was saved wants it; without it no time is near enough.
    let tolerance = scheme.tolerance_seconds.unwrap_or(0);
    fresh(seconds(timestamp)?, now, tolerance.into())?;
    Ok(Some(timestamp))
}

/// The keys in the secrets that are written as the scheme says.
fn keys<'a>(scheme: &CustomScheme, secrets: &'a [WebhookSecret]) -> Vec<Key<'a>> {
    let key = |(secret, text): (usize, &'a WebhookSecret)| {
        let text = text.expose().strip_prefix(scheme.key_prefix.as_bytes())?;
        let bytes = match scheme.key {
            KeyEncoding::Raw => Cow::Borrowed(text),
            KeyEncoding::Hex => Cow::Owned(hex::decode(text).ok()?),
            KeyEncoding::Base64 => Cow::Owned(STANDARD.decode(text).ok()?),
        };
        // An empty key would verify anybody who knows the scheme.
        (!bytes.is_empty()).then_some(Key { secret, bytes })
    };
    secrets.iter().enumerate().filter_map(key).collect()
}

pub(super) fn facts(scheme: &CustomScheme, request: &IncomingRequest) -> Facts {
    let header = |name: &str| match name {
        "" => None,
        name => message::header(request, name),
    };
    Facts {
        event_type: header(&scheme.event_header).unwrap_or_default(),
        delivery_id: match scheme.id_header.as_str() {
            "" => None,
            name => message::id_header(request, name),
        },
        attempt: None,
    }
}
