//! Published vectors, and every way in which a signature can be wrong.

use super::*;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

const GITHUB_SECRET: &str = "It's a Secret to Everybody";
const GITHUB_DIGEST: &str =
    "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
const SLACK_SECRET: &str = "8f742231b10e8888abcd99yyyzzz85a5";
const SLACK_BODY: &str = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
const SLACK_NOW: i64 = 1_531_420_618;
const GENERIC_DIGEST: &str = "a5af72f14cb7a19cb296d796d1164554fbe9c9f2fbd6b776d4b52193b467d8f2";

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

fn github(signature: &str, body: &str) -> IncomingRequest {
    request(
        &[
            ("x-github-event", "push"),
            ("x-hub-signature-256", signature),
        ],
        "/",
        body.as_bytes(),
    )
}

fn slack(signature: &str, timestamp: &str, body: &str) -> IncomingRequest {
    let headers = [
        ("x-slack-signature", signature),
        ("x-slack-request-timestamp", timestamp),
    ];
    request(&headers, "/", body.as_bytes())
}

#[test]
fn published_vectors_pass() {
    let hello = github(GITHUB_DIGEST, "Hello, World!");
    assert_eq!(verdict(&hello, &[GITHUB_SECRET], 0), Ok(()));
    let digest = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503";
    let command = slack(digest, "1531420618", SLACK_BODY);
    for now in [SLACK_NOW, SLACK_NOW + 300, SLACK_NOW - 300] {
        assert_eq!(verdict(&command, &[SLACK_SECRET], now), Ok(()));
    }
    for now in [SLACK_NOW + 301, SLACK_NOW - 301, i64::MAX, i64::MIN] {
        assert!(verdict(&command, &[SLACK_SECRET], now).is_err());
    }
    let body = br#"{"event": "push"}"#;
    for headers in [
        GENERIC_DIGEST.to_owned(),
        GENERIC_DIGEST.to_uppercase(),
        format!("sha256={GENERIC_DIGEST}"),
    ] {
        let generic = request(&[("x-webhook-signature", &headers)], "/", body);
        assert_eq!(verdict(&generic, &["my-secret-key"], 0), Ok(()));
    }
    let query = request(
        &[],
        &format!("/api/webhooks/x?a=1&signature={GENERIC_DIGEST}"),
        body,
    );
    assert_eq!(verdict(&query, &["my-secret-key"], 0), Ok(()));
}

/// All vectors of the shared file for the three providers.
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
    let mut seen = 0;
    for vector in vectors {
        let provider = vector["provider"].as_str().unwrap();
        if !["github", "slack", "generic"].contains(&provider) {
            continue;
        }
        seen += 1;
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
        assert_eq!(guess(&request).as_str(), provider, "{}", vector["id"]);
        let valid = verdict(
            &request,
            &[vector["secret"].as_str().unwrap()],
            vector["now"].as_i64().unwrap_or(0),
        );
        assert_eq!(
            valid.is_ok(),
            vector["valid"].as_bool().unwrap(),
            "{}: {valid:?}",
            vector["id"]
        );
    }
    assert!(seen >= 5, "only {seen} vectors");
}

#[test]
fn any_flipped_bit_refuses() {
    let body = b"Hello, World!".to_vec();
    let digest = GITHUB_DIGEST.strip_prefix("sha256=").unwrap();
    for bit in 0..body.len() * 8 {
        let mut changed = body.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let headers = [
            ("x-github-event", "push"),
            ("x-hub-signature-256", GITHUB_DIGEST),
        ];
        assert!(verdict(&request(&headers, "/", &changed), &[GITHUB_SECRET], 0).is_err());
    }
    let raw = hex::decode(digest).unwrap();
    for bit in 0..256 {
        let mut changed = raw.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let changed = github(&format!("sha256={}", hex::encode(changed)), "Hello, World!");
        assert!(verdict(&changed, &[GITHUB_SECRET], 0).is_err());
    }
    let secret = GITHUB_SECRET.as_bytes();
    for bit in 0..secret.len() * 8 {
        let mut changed = secret.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        let hello = github(GITHUB_DIGEST, "Hello, World!");
        let changed = [WebhookSecret::new(changed).unwrap()];
        assert!(verify(&Binding::default(), &hello, &changed, 0).is_err());
    }
}

#[test]
fn every_malformed_signature_is_refused_with_its_reason() {
    let cases = [
        (github("", "x"), "X-Hub-Signature-256 is missing"),
        (
            github("sha256=", "x"),
            "the signature is not 64 hexadecimal digits",
        ),
        (
            github(&GITHUB_DIGEST[..70], "x"),
            "the signature is not 64 hexadecimal digits",
        ),
        (
            github("sha1=00", "x"),
            "X-Hub-Signature-256 does not begin with sha256=",
        ),
        (
            slack("v0=00", "abc", "x"),
            "the timestamp is no number of seconds",
        ),
        (
            slack("v0=00", "+5", "x"),
            "the timestamp is no number of seconds",
        ),
        (
            slack("v0=00", "99999999999999999999", "x"),
            "the timestamp is no number of seconds",
        ),
        (
            slack("v0=00", "", "x"),
            "X-Slack-Request-Timestamp is missing",
        ),
        (
            slack("v1=00", "5", "x"),
            "X-Slack-Signature does not begin with v0=",
        ),
        (
            request(&[], "/", b"x"),
            "neither X-Webhook-Signature nor ?signature= is there",
        ),
        (
            request(&[], "/?signature=zz", b"x"),
            "the signature is not 64 hexadecimal digits",
        ),
        (
            request(&[], "/?signature=a&signature=b", b"x"),
            "?signature= came more than once",
        ),
        (
            request(
                &[("x-webhook-signature", "a"), ("x-webhook-signature", "b")],
                "/",
                b"x",
            ),
            "a signature header came more than once",
        ),
    ];
    for (request, reason) in cases {
        assert_eq!(verdict(&request, &["s"], 5), Err(reason));
        assert_eq!(
            verdict(&request, &[], 5),
            Ok(()),
            "without a secret everything passes"
        );
    }
}

#[test]
fn while_rotating_any_active_secret_is_good() {
    let hello = github(GITHUB_DIGEST, "Hello, World!");
    assert!(verdict(&hello, &["new", GITHUB_SECRET], 0).is_ok());
    assert!(verdict(&hello, &["new", "other"], 0).is_err());
}

#[test]
fn binary_bodies_are_signed_as_they_are() {
    let body: Vec<u8> = (0..=255).collect();
    let digest = "051ecd1beeb22bbd4b9c7899a8425ad769bd342e9c420e004624417f37dbdf9e";
    let binary = request(&[("x-webhook-signature", digest)], "/", &body);
    assert!(verdict(&binary, &["secret"], 0).is_ok());
}

#[test]
fn slack_says_its_event_in_the_body() {
    let challenge = slack(
        "v0=00",
        "1",
        r#"{"type":"url_verification","challenge":"x"}"#,
    );
    assert_eq!(
        facts(&Binding::default(), ProviderKind::Slack, &challenge).event_type,
        "url_verification"
    );
    let command = slack("v0=00", "1", SLACK_BODY);
    assert_eq!(
        facts(&Binding::default(), ProviderKind::Slack, &command).event_type,
        ""
    );
}
