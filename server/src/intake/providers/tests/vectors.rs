//! Published test vectors; those of the shared file again from the file, where it is.

use super::published::{SVIX, SVIX_ID, SVIX_TIME, VECTORS};
use super::*;

#[test]
fn every_published_vector_is_told_right() {
    for (provider, secret, headers, body, now, good) in VECTORS {
        let request = request(headers, "/", body.as_bytes());
        let kind = ProviderKind::parse(provider).unwrap();
        for binding in [Binding::default(), Binding::to(kind)] {
            // Its key is public, so it must be bound.
            let good = *good && (kind != ProviderKind::Discord || binding.kind.is_some());
            let verified = verify(&binding, &request, &secrets(&["other", secret]), *now);
            let expected = Verified {
                provider: kind,
                secret: Some(1),
            };
            assert_eq!(verified.is_ok(), good, "{provider} {body}: {verified:?}");
            if let Ok(verified) = verified {
                assert_eq!(verified, expected);
            }
            assert!(verify(&binding, &request, &secrets(&["other"]), *now).is_err());
        }
    }
}

/// RFC 4231, cases 1, 2 and 6: keys of bytes, short and longer than a block.
#[test]
fn keys_are_bytes_of_any_length() {
    let long = [0xaa; 131];
    for (key, body, digest) in [
        (
            &[0x0b; 20][..],
            "Hi There",
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
        ),
        (
            b"Jefe",
            "what do ya want for nothing?",
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        ),
        (
            &long,
            "Test Using Larger Than Block-Size Key - Hash Key First",
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
        ),
    ] {
        let signed = request(&[("x-webhook-signature", digest)], "/", body.as_bytes());
        let secrets = [WebhookSecret::new(key).unwrap()];
        assert!(
            verify(&Binding::default(), &signed, &secrets, 0).is_ok(),
            "{body}"
        );
    }
}

/// adnanh/webhook's SHA-512.
#[test]
fn a_custom_scheme_can_use_sha512() {
    let digest = "4ab17cc8ec668ead8bf498f87f8f32848c04d5ca3c9bcfcd3db9363f0deb44e580b329502a7fdff633d4d8fca301cc5c94a55a2fec458c675fb0ff2655898324";
    let mut binding = Binding::to(ProviderKind::Custom);
    let scheme = r#"{"header":"X-Signature","prefix":"sha512=","algorithm":"sha512"}"#;
    binding.custom = Some(serde_json::from_str(scheme).unwrap());
    for (header, good) in [
        (format!("sha512={digest}"), true),
        (digest.to_owned(), false),
    ] {
        let signed = request(&[("x-signature", &header)], "/", br#"{"a": "z"}"#);
        assert_eq!(
            verify(&binding, &signed, &secrets(&["secret"]), 0).is_ok(),
            good
        );
    }
}

/// Large bodies (Svix's own vectors).
#[test]
fn bodies_of_a_mebibyte_are_signed_whole() {
    for (bytes, signature) in [
        (262_143, "v1,NTItnqyWMoFhk2Bbe5V/BMdcFRWgcSQaTgqLHX7FC7c="),
        (262_144, "v1,Mw4Pe2WgApuT7NSqnSq0PQPV9gbLdggCl9B865x5Xh0="),
        (1_048_576, "v1,txpEUxqWZJ5nteTnymUVa+7C4NHpBeXJ6CsBAW0c3/A="),
    ] {
        let headers = [SVIX_ID, SVIX_TIME, ("webhook-signature", signature)];
        let mut body = vec![b'a'; bytes];
        let good = request(&headers, "/", &body);
        assert_eq!(verdict(&good, &[SVIX], 1_614_265_330), Ok(()), "{bytes}");
        body[bytes - 1] = b'b';
        assert!(verdict(&request(&headers, "/", &body), &[SVIX], 1_614_265_330).is_err());
    }
}

/// Stripe's `whsec_` is part of the key, Standard Webhooks' is not.
#[test]
fn the_two_meanings_of_whsec_are_not_mixed_up() {
    let stripe = VECTORS.iter().find(|vector| vector.0 == "stripe").unwrap();
    let request = request(stripe.2, "/", stripe.3.as_bytes());
    assert!(verdict(&request, &["test_secret"], stripe.4).is_err());
    let undecoded = scheme::hmac(
        SVIX.as_bytes(),
        b"msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.x",
    );
    let signature = format!("v1,{}", scheme::base64(&undecoded));
    let headers = [SVIX_ID, SVIX_TIME, ("webhook-signature", &*signature)];
    let standard = super::request(&headers, "/", b"x");
    assert!(verdict(&standard, &[SVIX], 1_614_265_330).is_err());
}

/// All vectors of the shared file.
#[test]
fn shared_vectors_pass() {
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../shared/vectors/webhook_vectors.json"
    );
    let Ok(text) = std::fs::read_to_string(file) else {
        eprintln!(
            "skipped: {file} is not there; the published vectors are held by the tests beside this one"
        );
        return;
    };
    let vectors: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    assert!(vectors.len() >= 20, "only {} vectors", vectors.len());
    for vector in vectors {
        let headers: Vec<(String, String)> = vector["headers"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
            .collect();
        let headers: Vec<(&str, &str)> = headers
            .iter()
            .map(|(n, v)| (n.as_str(), v.as_str()))
            .collect();
        let request = request(&headers, "/", vector["body"].as_str().unwrap().as_bytes());
        let valid = verdict(
            &request,
            &[vector["secret"].as_str().unwrap()],
            vector["now"].as_i64().unwrap_or(0),
        );
        if vector["provider"] == "discord" {
            // Its key is public: only a hook that is bound to it takes it.
            let binding = Binding {
                kind: Some(ProviderKind::Discord),
                ..Binding::default()
            };
            let keys = secrets(&[vector["secret"].as_str().unwrap()]);
            let now = vector["now"].as_i64().unwrap_or(0);
            let bound = verify(&binding, &request, &keys, now);
            assert_eq!(bound.is_ok(), vector["valid"].as_bool().unwrap());
            assert!(valid.is_err() && detect(&request).is_err());
            continue;
        }
        assert_eq!(
            (detect(&request).unwrap().as_str(), valid.is_ok()),
            (
                vector["provider"].as_str().unwrap(),
                vector["valid"].as_bool().unwrap()
            ),
            "{}: {valid:?}",
            vector["id"]
        );
    }
}
