//! The arithmetic of signatures: decode to exactly 32 bytes, compare in constant time, try every secret.

use super::Rejected;
use crate::model::pipeline::WebhookSecret;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Hex of either case to a digest.
pub(super) fn digest_from_hex(text: &[u8]) -> Result<[u8; 32], Rejected> {
    let mut digest = [0; 32];
    hex::decode_to_slice(text, &mut digest)
        .map_err(|_| Rejected("the signature is not 64 hexadecimal digits"))?;
    Ok(digest)
}

/// Whether one of the secrets signs these parts, joined, with this digest. All secrets are tried, whichever fits.
pub(super) fn check(
    secrets: &[WebhookSecret],
    parts: &[&[u8]],
    digest: &[u8; 32],
) -> Result<(), Rejected> {
    let mut fits = false;
    for secret in secrets {
        // HMAC takes keys of any length.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.expose()) else {
            continue;
        };
        for part in parts {
            mac.update(part);
        }
        fits |= mac.verify_slice(digest).is_ok();
    }
    if fits {
        Ok(())
    } else {
        Err(Rejected(
            "the signature does not fit the body and any active secret",
        ))
    }
}
