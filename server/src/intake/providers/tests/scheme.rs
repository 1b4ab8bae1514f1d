//! Every sender that signs, played: how it makes a secret, a body and the headers of a message.

use super::*;
use crate::model::binding::Binding;
use ::base64::Engine as _;
use ::base64::engine::general_purpose::STANDARD;
use ::hmac::{Hmac, KeyInit, Mac};
use ring::signature::{Ed25519KeyPair, KeyPair};
use sha2::{Sha256, Sha512};

pub(super) const NOW: i64 = 1_700_000_000;
pub(super) const KEY: [u8; 32] = [0x5a; 32];

/// HMAC-SHA256.
pub(super) fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(message);
    mac.finalize().into_bytes().to_vec()
}

pub(super) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// How the key of a scheme is made and used.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Arithmetic {
    /// The secret is the key in hex, as text.
    Text,
    /// The secret is the key in base64, after `whsec_`.
    Decoded,
    /// As `Text`, with SHA-512.
    Sha512,
    /// The secret is the public key in hex.
    EdHex,
    /// The secret is the public key in base64, after `whpk_`.
    EdBase64,
}

/// What of a message is signed.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Content {
    Body,
    /// Template with `{ts}` and `{body}`.
    Timed(&'static str),
    /// The value of the form's field.
    Payload,
}

/// A sender.
#[derive(Clone)]
pub(super) struct Scheme {
    pub name: &'static str,
    pub binding: Binding,
    pub arithmetic: Arithmetic,
    pub content: Content,
    /// How far the time may be off, in seconds.
    pub tolerance: Option<i64>,
    /// Headers beside the signature; `{ts}` is replaced.
    pub headers: &'static [(&'static str, &'static str)],
    /// The header with the signature.
    pub header: &'static str,
    /// Its value; `{ts}` and `{sig}` are replaced.
    pub value: &'static str,
    /// What separates a second entry, and what it begins with.
    pub second: Option<(&'static str, &'static str)>,
    /// What is made of the content to be the body.
    pub wrap: fn(&[u8], i64) -> Vec<u8>,
}

/// A message before it is sent.
#[derive(Clone)]
pub(super) struct Message {
    pub scheme: Scheme,
    pub timestamp: Vec<u8>,
    pub signature: Vec<u8>,
    pub body: Vec<u8>,
}

impl Scheme {
    /// The secret that a receiver of messages signed with `key` is given.
    pub fn secret(&self, key: &[u8; 32]) -> Vec<u8> {
        let public = || {
            let pair = Ed25519KeyPair::from_seed_unchecked(key).unwrap();
            pair.public_key().as_ref().to_vec()
        };
        match self.arithmetic {
            Arithmetic::Text | Arithmetic::Sha512 => hex::encode(key).into_bytes(),
            Arithmetic::Decoded => format!("whsec_{}", base64(key)).into_bytes(),
            Arithmetic::EdHex => hex::encode(public()).into_bytes(),
            Arithmetic::EdBase64 => format!("whpk_{}", base64(&public())).into_bytes(),
        }
    }

    /// The same secret with one bit of the key that is in it changed.
    pub fn other_secret(&self, key: &[u8; 32], bit: usize) -> Vec<u8> {
        let flip = |bytes: &mut [u8]| bytes[bit / 8 % 32] ^= 1 << (bit % 8);
        let secret = self.secret(key);
        let (prefix, text) = match self.arithmetic {
            Arithmetic::Decoded => secret.split_at(6),
            Arithmetic::EdBase64 => secret.split_at(5),
            _ => secret.split_at(0),
        };
        let mut raw = match self.arithmetic {
            Arithmetic::Decoded | Arithmetic::EdBase64 => STANDARD.decode(text).unwrap(),
            _ => hex::decode(text).unwrap(),
        };
        flip(&mut raw);
        let text = match self.arithmetic {
            Arithmetic::Decoded | Arithmetic::EdBase64 => base64(&raw),
            _ => hex::encode(&raw),
        };
        [prefix, text.as_bytes()].concat()
    }

    /// A good message.
    pub fn sign(&self, key: &[u8; 32], content: &[u8], now: i64) -> Message {
        self.sign_as_of(key, content, now, &now.to_string())
    }

    /// A message signed with another text for a timestamp.
    pub fn sign_as_of(&self, key: &[u8; 32], content: &[u8], now: i64, timestamp: &str) -> Message {
        let timestamp = timestamp.as_bytes().to_vec();
        let body = (self.wrap)(content, now);
        let message = Message {
            scheme: self.clone(),
            signature: Vec::new(),
            timestamp,
            body,
        };
        let signed = message.signed();
        let signature = match self.arithmetic {
            Arithmetic::Text => hmac(hex::encode(key).as_bytes(), &signed),
            Arithmetic::Decoded => hmac(key, &signed),
            Arithmetic::Sha512 => {
                let mut mac = Hmac::<Sha512>::new_from_slice(hex::encode(key).as_bytes()).unwrap();
                mac.update(&signed);
                mac.finalize().into_bytes().to_vec()
            }
            Arithmetic::EdHex | Arithmetic::EdBase64 => {
                let pair = Ed25519KeyPair::from_seed_unchecked(key).unwrap();
                pair.sign(&signed).as_ref().to_vec()
            }
        };
        Message {
            signature,
            ..message
        }
    }
}

impl Message {
    fn signed(&self) -> Vec<u8> {
        match self.scheme.content {
            Content::Body => self.body.clone(),
            Content::Payload => self.body.strip_prefix(b"payload=").unwrap().to_vec(),
            Content::Timed(template) => {
                let (before, after) = template.split_once("{ts}").unwrap();
                let between = after.strip_suffix("{body}").unwrap();
                [
                    before.as_bytes(),
                    &self.timestamp,
                    between.as_bytes(),
                    &self.body,
                ]
                .concat()
            }
        }
    }

    /// The signature as text.
    pub fn encoded(&self, signature: &[u8]) -> String {
        let custom = self.scheme.binding.custom.as_ref();
        let base = custom
            .is_some_and(|s| s.encoding == crate::model::custom_scheme::Encoding::Base64)
            || self.scheme.binding.kind == Some(ProviderKind::Shopify)
            || matches!(
                self.scheme.arithmetic,
                Arithmetic::Decoded | Arithmetic::EdBase64
            );
        match base {
            true => base64(signature),
            false => hex::encode(signature),
        }
    }

    /// The value of the header with the signature.
    pub fn value(&self) -> String {
        let timestamp = String::from_utf8_lossy(&self.timestamp);
        let value = self.scheme.value.replace("{ts}", &timestamp);
        value.replace("{sig}", &self.encoded(&self.signature))
    }

    /// As it arrives; `None` if HTTP cannot carry it.
    pub fn arrive(&self) -> Option<IncomingRequest> {
        self.arrive_with(&[&self.value()])
    }

    /// As it arrives with these lines of the header with the signature.
    pub fn arrive_with(&self, lines: &[&str]) -> Option<IncomingRequest> {
        let mut request = request(&[], "/hook?a=1", &self.body);
        for (name, value) in self.scheme.headers {
            let value = match *value {
                "{ts}" => HeaderValue::from_bytes(&self.timestamp).ok()?,
                value => HeaderValue::from_static(value),
            };
            request.headers.append(*name, value);
        }
        for line in lines {
            let line = HeaderValue::from_bytes(line.as_bytes()).ok()?;
            request.headers.append(self.scheme.header, line);
        }
        Some(request)
    }
}

/// What is said of a request by a receiver with one secret.
pub(super) fn judged(
    scheme: &Scheme,
    secret: &[u8],
    request: &IncomingRequest,
    now: i64,
) -> Result<Verified, Rejected> {
    let secret = WebhookSecret::new(secret).unwrap();
    verify(&scheme.binding, request, &[secret], now)
}
