//! Published vectors, and every way in which a message can be wrong.

mod arbitrary;
mod bindings;
mod flipped;
mod handshakes;
mod malformed;
mod public_keys;
mod published;
mod said;
mod scheme;
mod seed;
mod senders;
mod vectors;

use super::*;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

fn request(headers: &[(&str, &str)], url: &str, body: &[u8]) -> IncomingRequest {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_str(value).unwrap(),
        );
    }
    IncomingRequest {
        method: Method::POST,
        url: url.into(),
        headers: map,
        body: Bytes::copy_from_slice(body).into(),
        remote_addr: "127.0.0.1".into(),
    }
}

fn secrets(all: &[&str]) -> Vec<WebhookSecret> {
    all.iter()
        .map(|text| WebhookSecret::new(*text).unwrap())
        .collect()
}

fn verdict(request: &IncomingRequest, all: &[&str], now: i64) -> Result<(), &'static str> {
    verify(&Binding::default(), request, &secrets(all), now)
        .map(|_| ())
        .map_err(|rejected| rejected.0)
}
