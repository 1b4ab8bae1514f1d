//! Arbitrary bytes as the body of every sender: what it says of itself, and whether it wants an answer at once.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pocketci_server::intake::IncomingRequest;
use pocketci_server::intake::providers::{Binding, ProviderKind, facts, handshake};

fuzz_target!(|data: &[u8]| {
    for form in [false, true] {
        let mut headers = http::HeaderMap::new();
        if form {
            let kind = http::HeaderValue::from_static("application/x-www-form-urlencoded");
            headers.insert(http::header::CONTENT_TYPE, kind);
        }
        let request = IncomingRequest {
            method: http::Method::POST,
            url: "/".into(),
            headers,
            body: bytes::Bytes::copy_from_slice(data).into(),
            remote_addr: String::new(),
        };
        for kind in ProviderKind::ALL {
            let said = facts(&Binding::default(), kind, &request);
            assert!(said.event_type.chars().count() <= 128);
            let _ = handshake(kind, &request);
        }
    }
});
