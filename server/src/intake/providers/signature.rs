//! The arithmetic of signatures: whole digests of exactly the right length, compared in constant time, every secret tried.

use super::{IncomingRequest, Rejected};
use crate::intake::request::MAX_WHOLE_BYTES;
use crate::model::pipeline::WebhookSecret;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256, Sha512};
use std::borrow::Cow;
use subtle::ConstantTimeEq;

/// Most signatures of one message that are looked at; a sender that rotates its keys sends two or three.
pub const MAX_SIGNATURES: usize = 16;

const NO_FIT: Rejected = Rejected("the signature does not fit the body and any active secret");

/// A piece of what is signed.
#[derive(Clone, Copy)]
pub(super) enum Part<'a> {
    /// As it stands.
    Text(&'a [u8]),
    /// The body as received, chunk by chunk.
    Body,
}

/// A key, and the secret that it is made of.
pub(super) struct Key<'a> {
    /// Which of the active secrets.
    pub secret: usize,
    /// The key itself.
    pub bytes: Cow<'a, [u8]>,
}

/// What a public key of Standard Webhooks begins with.
pub(super) const PUBLIC_KEY_PREFIX: &[u8] = b"whpk_";

/// The secrets that are secret, with their places: whoever knows a public key could sign or send with it.
fn symmetric(secrets: &[WebhookSecret]) -> impl Iterator<Item = (usize, &[u8])> {
    let all = secrets.iter().map(WebhookSecret::expose).enumerate();
    all.filter(|(_, secret)| !secret.starts_with(PUBLIC_KEY_PREFIX))
}

/// Each secret's bytes as they are; public keys are none.
pub(super) fn raw_keys(secrets: &[WebhookSecret]) -> Vec<Key<'_>> {
    symmetric(secrets)
        .map(|(secret, key)| Key {
            secret,
            bytes: Cow::Borrowed(key),
        })
        .collect()
}

/// The secret whose HMAC-SHA256 of the parts, joined, is one of the digests.
pub(super) fn check_sha256(
    keys: &[Key<'_>],
    request: &IncomingRequest,
    parts: &[Part<'_>],
    digests: &[Vec<u8>],
) -> Result<usize, Rejected> {
    check::<Hmac<Sha256>>(keys, request, parts, digests)
}

/// As [`check_sha256`], with SHA-512.
pub(super) fn check_sha512(
    keys: &[Key<'_>],
    request: &IncomingRequest,
    parts: &[Part<'_>],
    digests: &[Vec<u8>],
) -> Result<usize, Rejected> {
    check::<Hmac<Sha512>>(keys, request, parts, digests)
}

/// One pass over the body, whatever the number of keys; no early end, so that time does not tell which key fits.
fn check<M: Mac + KeyInit>(
    keys: &[Key<'_>],
    request: &IncomingRequest,
    parts: &[Part<'_>],
    digests: &[Vec<u8>],
) -> Result<usize, Rejected> {
    let mut macs: Vec<(usize, M)> = keys
        .iter()
        // HMAC takes keys of any length.
        .filter_map(|key| Some((key.secret, M::new_from_slice(&key.bytes).ok()?)))
        .collect();
    for part in parts {
        match part {
            Part::Text(text) => macs.iter_mut().for_each(|(_, mac)| mac.update(text)),
            Part::Body => {
                for chunk in request.body_chunks() {
                    macs.iter_mut().for_each(|(_, mac)| mac.update(&chunk));
                }
            }
        }
    }
    let mut fits = None;
    for (secret, mac) in macs {
        let ours = mac.finalize().into_bytes();
        for digest in digests {
            if bool::from(ours.as_slice().ct_eq(digest)) {
                fits = fits.or(Some(secret));
            }
        }
    }
    fits.ok_or(NO_FIT)
}

/// The public key (of 32 bytes; others never fit) whose Ed25519 signature of the parts, joined, is one of those given.
pub(super) fn check_ed25519(
    keys: &[Key<'_>],
    request: &IncomingRequest,
    parts: &[Part<'_>],
    signatures: &[Vec<u8>],
) -> Result<usize, Rejected> {
    if request.body.len() > MAX_WHOLE_BYTES {
        return Err(Rejected(
            "the body has more than 1 MiB, the most that is verified with Ed25519",
        ));
    }
    let mut message = Vec::new();
    for part in parts {
        match part {
            Part::Text(text) => message.extend_from_slice(text),
            Part::Body => request
                .body_chunks()
                .for_each(|c| message.extend_from_slice(&c)),
        }
    }
    let mut fits = None;
    for key in keys {
        let public = ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, &key.bytes);
        for signature in signatures {
            if public.verify(&message, signature).is_ok() {
                fits = fits.or(Some(key.secret));
            }
        }
    }
    fits.ok_or(NO_FIT)
}

/// The secret that is one of the tokens; public keys are none. Their digests are compared, which takes as long for every length.
pub(super) fn check_tokens<T: AsRef<[u8]>>(
    secrets: &[WebhookSecret],
    tokens: &[T],
) -> Result<usize, Rejected> {
    let tokens: Vec<_> = tokens
        .iter()
        .map(|token| Sha256::digest(token.as_ref()))
        .collect();
    let mut fits = None;
    for (at, secret) in symmetric(secrets) {
        let ours = Sha256::digest(secret);
        for token in &tokens {
            if bool::from(ours.as_slice().ct_eq(token.as_slice())) {
                fits = fits.or(Some(at));
            }
        }
    }
    fits.ok_or(Rejected("the token is none of the active secrets"))
}

/// Hex of either case to exactly 32 bytes.
pub(super) fn digest_from_hex(text: &[u8]) -> Result<Vec<u8>, Rejected> {
    let mut digest = vec![0; 32];
    hex::decode_to_slice(text, &mut digest)
        .map_err(|_| Rejected("the signature is not 64 hexadecimal digits"))?;
    Ok(digest)
}
