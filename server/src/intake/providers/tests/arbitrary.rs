//! Arbitrary bytes: no parser falls over, nothing unsigned passes. The fuzz targets in `fuzz/` call the same functions.

use super::scheme::{NOW, judged};
use super::senders::all;
use super::*;
use crate::model::custom_scheme::{Algorithm, Encoding};
use proptest::prelude::*;

/// Inputs tried of each kind.
const CASES: u32 = 256;

/// Bytes, and what looks like a header.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..200),
        "(sha256=|v0=|v1=|v1,|v1a,|t=|timestamp=|signature=|payload=|[ ,;=%&+]|[0-9a-fA-F]{1,70}|[A-Za-z0-9+/]{1,90}={0,2}){0,24}"
            .prop_map(String::into_bytes),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_parser_falls_over_and_what_is_read_has_the_right_length(input in bytes()) {
        let digests = [
            github::parse(&input),
            gitea::parse(&input),
            bitbucket::parse(&input),
            slack::parse(&input),
            linear::parse(&input),
            sentry::parse(&input),
            shopify::parse(&input),
            generic::parse(&input),
        ];
        prop_assert!(digests.iter().flatten().all(|digest| digest.len() == 32));
        prop_assert!(discord::parse(&input).map_or(true, |signature| signature.len() == 64));
        for several in [circleci::parse(&input), pagerduty::parse(&input)].into_iter().flatten() {
            prop_assert!((1..=16).contains(&several.len()) && several.iter().all(|d| d.len() == 32));
        }
        for dated in [stripe::parse(&input), buildkite::parse(&input)].into_iter().flatten() {
            prop_assert!(dated.sent >= 0 && (1..=16).contains(&dated.digests.len()));
        }
        if let Ok(read) = standard::parse(&input) {
            prop_assert!((1..=16).contains(&(read.v1.len() + read.v1a.len())));
        }
        prop_assert!(timestamp::seconds(&input).map_or(true, |sent| sent >= 0));
        let _ = gitea::payload_of_form(&input);
        let _ = url_secret::parse(&String::from_utf8_lossy(&input));
    }

    #[test]
    fn no_custom_scheme_falls_over(input in bytes(), prefix in "[ -~]{0,3}", separator in "[,; ]?", choice in 0..6usize) {
        let scheme = CustomScheme {
            header: "x-signature".into(),
            prefix,
            separator,
            algorithm: [Algorithm::Sha256, Algorithm::Sha512, Algorithm::Ed25519][choice % 3],
            encoding: [Encoding::Hex, Encoding::Base64][choice % 2],
            ..CustomScheme::default()
        };
        let bytes = if scheme.algorithm == Algorithm::Sha256 { 32 } else { 64 };
        if let Ok(read) = custom::parse(&scheme, &input) {
            prop_assert!(read.iter().all(|signature| signature.len() == bytes));
        }
        let template = CustomScheme { template: String::from_utf8_lossy(&input).into_owned(), ..scheme };
        let _ = template.check();
    }

    #[test]
    fn no_message_falls_over_and_none_passes_unsigned(header in bytes(), other in bytes(), body in bytes()) {
        for scheme in all() {
            let mut message = scheme.sign(&[7; 32], b"x", NOW);
            message.body = body.clone();
            let mut request = message.arrive_with(&[]).unwrap();
            for (name, value) in [(scheme.header, &header), ("x-gitlab-token", &other), ("x-buildkite-token", &other)] {
                if let Ok(value) = HeaderValue::from_bytes(value) {
                    request.headers.insert(name, value);
                }
            }
            let secret = scheme.secret(&[8; 32]);
            prop_assert!(judged(&scheme, &secret, &request, NOW).is_err());
            let kind = scheme.binding.kind.unwrap();
            let said = facts(&scheme.binding, kind, &request);
            prop_assert!(said.event_type.chars().count() <= 128);
            let _ = handshake(kind, &request);
        }
    }
}
