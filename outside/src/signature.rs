//! How a receiver knows that a request is ours: the signatures of one body, in all the forms that receivers verify.
//!
//! * `circleci-signature: v1=<hex HMAC-SHA256 of the body>` (CircleCI's outbound webhooks), by the current secret only:
//!   the published verifier keeps the last `v1` it sees.
//! * Standard Webhooks (<https://www.standardwebhooks.com>): `webhook-id`, `webhook-timestamp`, and `webhook-signature`
//!   with an entry for every active secret: `v1,<Base64 HMAC-SHA256 of "id.timestamp.body">`, or for a secret that begins
//!   with `whsk_` (Base64 of an Ed25519 key: seed, or seed and public key) `v1a,<Base64 signature>`.
//! * `x-webhook-signature: <hex HMAC-SHA256 of the body>`, what PocketCI's own generic provider verifies. It is not sent
//!   beside `circleci-signature` ([`plain`] makes it, [`headers`] does not): our own intake, and whoever else tells senders
//!   by their headers, refuses what looks like two.

use base64::Engine;
use base64::engine::general_purpose::{GeneralPurpose, STANDARD};
use ring::hmac;
use ring::signature::{Ed25519KeyPair, KeyPair};

/// How Standard Webhooks writes symmetric secrets: this, then Base64.
const SYMMETRIC: &str = "whsec_";
/// How it writes private keys.
const PRIVATE: &str = "whsk_";
/// How it writes public keys.
const PUBLIC: &str = "whpk_";
/// Bytes of an Ed25519 seed.
const SEED_BYTES: usize = 32;
const BASE64: GeneralPurpose = STANDARD;

/// `webhook-id`.
pub const ID: &str = "webhook-id";
/// `webhook-timestamp`.
pub const TIMESTAMP: &str = "webhook-timestamp";
/// `webhook-signature`.
pub const STANDARD_SIGNATURE: &str = "webhook-signature";
/// `circleci-signature`.
pub const CIRCLECI_SIGNATURE: &str = "circleci-signature";
/// `x-webhook-signature`.
pub const PLAIN_SIGNATURE: &str = "x-webhook-signature";

/// What is signed.
#[derive(Debug, Clone, Copy)]
pub struct Signed<'a> {
    /// The same for every try.
    pub id: &'a str,
    /// Of this try, seconds since 1970.
    pub timestamp: i64,
    /// The bytes as they are sent.
    pub body: &'a [u8],
}

/// Whether it can sign: not empty, and a private key if it says so.
///
/// # Errors
/// For people; says nothing of the secret.
pub fn check_secret(secret: &str) -> Result<(), &'static str> {
    match secret.strip_prefix(PRIVATE) {
        _ if secret.is_empty() => Err("a secret must not be empty"),
        Some(encoded) if key_pair(encoded).is_none() => {
            Err("a secret that begins with whsk_ must be the Base64 of an Ed25519 private key")
        }
        Some(_) | None => Ok(()),
    }
}

/// The public key that receivers verify signatures of a `whsk_` secret with; `None` for other secrets.
pub fn public_key(secret: &str) -> Option<String> {
    let pair = key_pair(secret.strip_prefix(PRIVATE)?)?;
    Some(format!("{PUBLIC}{}", BASE64.encode(pair.public_key())))
}

/// The headers that sign a request with these secrets, the current one first; without secrets only id and timestamp.
/// All but [`PLAIN_SIGNATURE`].
pub fn headers<S: AsRef<str>>(signed: Signed<'_>, secrets: &[S]) -> Vec<(&'static str, String)> {
    let mut headers = vec![
        (ID, signed.id.to_owned()),
        (TIMESTAMP, signed.timestamp.to_string()),
    ];
    let secrets = secrets.iter().map(AsRef::as_ref);
    let usable: Vec<&str> = secrets
        .filter(|secret| check_secret(secret).is_ok())
        .collect();
    let entries: Vec<String> = usable
        .iter()
        .filter_map(|secret| standard(signed, secret))
        .collect();
    if !entries.is_empty() {
        headers.push((STANDARD_SIGNATURE, entries.join(" ")));
    }
    // A private key is no shared secret.
    let shared = usable.iter().find(|secret| !secret.starts_with(PRIVATE));
    if let Some(digest) = shared.and_then(|secret| plain(signed.body, secret)) {
        headers.push((CIRCLECI_SIGNATURE, format!("v1={digest}")));
    }
    headers
}

/// The value of [`PLAIN_SIGNATURE`]; `None` if the secret is no shared one.
pub fn plain(body: &[u8], secret: &str) -> Option<String> {
    if secret.starts_with(PRIVATE) || check_secret(secret).is_err() {
        return None;
    }
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    Some(hex::encode(hmac::sign(&key, body)))
}

/// One entry of `webhook-signature`.
fn standard(signed: Signed<'_>, secret: &str) -> Option<String> {
    let head = format!("{}.{}.", signed.id, signed.timestamp);
    if let Some(encoded) = secret.strip_prefix(PRIVATE) {
        let signature = key_pair(encoded)?.sign(&[head.as_bytes(), signed.body].concat());
        return Some(format!("v1a,{}", BASE64.encode(signature.as_ref())));
    }
    let key = secret
        .strip_prefix(SYMMETRIC)
        .and_then(|encoded| BASE64.decode(encoded).ok())
        .unwrap_or_else(|| secret.as_bytes().to_vec());
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &key));
    context.update(head.as_bytes());
    context.update(signed.body);
    Some(format!("v1,{}", BASE64.encode(context.sign().as_ref())))
}

fn key_pair(encoded: &str) -> Option<Ed25519KeyPair> {
    let bytes = BASE64.decode(encoded).ok()?;
    match bytes.len() {
        SEED_BYTES => Ed25519KeyPair::from_seed_unchecked(&bytes).ok(),
        64 => {
            let (seed, public) = bytes.split_at(SEED_BYTES);
            Ed25519KeyPair::from_seed_and_public_key(seed, public).ok()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::signature::{ED25519, UnparsedPublicKey};

    fn header(headers: &[(&'static str, String)], name: &str) -> Option<String> {
        let found = headers.iter().find(|(known, _)| *known == name)?;
        Some(found.1.clone())
    }

    #[test]
    fn signatures_are_the_published_ones() {
        // The example of the Standard Webhooks specification's libraries.
        let signed = Signed {
            id: "msg_p5jXN8AQM9LWM0D4loKWxJek",
            timestamp: 1_614_265_330,
            body: br#"{"test": 2432232314}"#,
        };
        let made = headers(signed, &["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]);
        assert_eq!(
            header(&made, STANDARD_SIGNATURE).unwrap(),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
        // CircleCI's documented examples.
        for (secret, body, signature) in [
            (
                "secret",
                "hello world",
                "734cc62f32841568f45715aeb9f4d7891324e6d948e4c6c60c0621cdac48623a",
            ),
            (
                "another-secret",
                "lalala",
                "daa220016c8f29a8b214fbfc3671aeec2145cfb1e6790184ffb38b6d0425fa00",
            ),
        ] {
            let body = body.as_bytes();
            let made = headers(Signed { body, ..signed }, &[secret]);
            assert_eq!(
                header(&made, CIRCLECI_SIGNATURE).unwrap(),
                format!("v1={signature}")
            );
            assert_eq!(plain(body, secret).unwrap(), signature);
            let told = header(&made, PLAIN_SIGNATURE);
            assert_eq!(told, None, "two families of headers are two senders");
        }
    }

    #[test]
    fn every_active_secret_signs_the_standard_header_and_the_current_one_alone_circlecis() {
        let signed = Signed {
            id: "a",
            timestamp: 1,
            body: b"x",
        };
        let (new, old) = (headers(signed, &["new"]), headers(signed, &["old"]));
        let both = headers(signed, &["new", "old"]);
        let entries = header(&both, STANDARD_SIGNATURE).unwrap();
        assert_eq!(
            entries.split(' ').map(str::to_owned).collect::<Vec<_>>(),
            [&new, &old].map(|made| header(made, STANDARD_SIGNATURE).unwrap())
        );
        assert_eq!(
            header(&both, CIRCLECI_SIGNATURE),
            header(&new, CIRCLECI_SIGNATURE)
        );
        let none: [&str; 0] = [];
        assert_eq!(headers(signed, &none).len(), 2, "id and timestamp");
    }

    #[test]
    fn a_private_key_signs_what_its_public_key_verifies() {
        let secret = format!("whsk_{}", BASE64.encode([7; 32]));
        let signed = Signed {
            id: "a",
            timestamp: 1,
            body: b"x",
        };
        let made = headers(signed, &[&secret]);
        let entry = header(&made, STANDARD_SIGNATURE).unwrap();
        let signature = BASE64.decode(entry.strip_prefix("v1a,").unwrap()).unwrap();
        let public = public_key(&secret).unwrap();
        let public = BASE64
            .decode(public.strip_prefix("whpk_").unwrap())
            .unwrap();
        let key = UnparsedPublicKey::new(&ED25519, public);
        assert!(key.verify(b"a.1.x", &signature).is_ok());
        assert!(key.verify(b"a.1.y", &signature).is_err());
        assert_eq!(header(&made, CIRCLECI_SIGNATURE), None);
        assert_eq!(plain(b"x", &secret), None);
        assert!(check_secret("whsk_short").is_err() && check_secret("").is_err());
        assert!(check_secret("whsec_anything").is_ok());
    }
}
