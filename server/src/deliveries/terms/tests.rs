//! What can be said about a subscription, and what not.

use super::*;
use crate::model::subscription::Health;
use crate::model::vault::SecretKey;
use pocketci_proto::api::RotateSubscription;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::macros::datetime;

const NOW: OffsetDateTime = datetime!(2026-03-01 10:00 UTC);

fn vault() -> Vault {
    Vault::new(&SecretKey::new([7; 32]), &[])
}

fn put(more: Value) -> PutSubscription {
    let mut whole = json!({ "url": "https://receiver.example/hook", "events": ["job-completed"] });
    for (name, value) in more.as_object().unwrap() {
        whole[name] = value.clone();
    }
    serde_json::from_value(whole).unwrap()
}

fn stored(terms: SubscriptionTerms) -> Subscription {
    Subscription {
        id: SubscriptionId(Uuid::from_u128(1)),
        version: 1,
        terms,
        disabled: None,
        health: Health::default(),
        created_at: NOW,
        updated_at: NOW,
    }
}

fn agree(before: Option<&Subscription>, put: &PutSubscription) -> Result<Agreed, TermsError> {
    let wanted = Wanted {
        put,
        pipeline: None,
        name: "sub",
    };
    agreed(
        SubscriptionId(Uuid::from_u128(1)),
        before,
        &wanted,
        &vault(),
        &Guard::new(
            vec!["172.16.0.0/12".parse().unwrap()],
            crate::deliveries::WORDS,
        ),
    )
}

#[track_caller]
fn refused(more: Value) -> String {
    match agree(None, &put(more.clone())) {
        Ok(_) => panic!("accepted: {more}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_receivers_url_is_absolute_http_and_holds_no_password() {
    for (url, word) in [
        ("", "missing"),
        ("receiver.example", "absolute"),
        ("ftp://receiver.example/", "scheme"),
        ("file:///etc/passwd", "scheme"),
        ("https://me:pw@receiver.example/", "password"),
        ("https://me@receiver.example/", "user name"),
    ] {
        let why = refused(json!({ "url": url }));
        assert!(why.contains(word), "{url}: {why}");
        assert!(!why.contains("pw@"), "{why}");
    }
    let long = format!("https://receiver.example/{}", "x".repeat(5000));
    assert!(refused(json!({ "url": long })).contains("bytes"));
    for private in [
        "http://127.0.0.1/",
        "http://2130706433/",
        "http://10.1.2.3:99/",
        "http://[::1]/",
        "http://localhost./",
        "http://169.254.169.254/latest",
        "http://[::ffff:10.0.0.1]/",
        "https://8.8.8.8:22/",
    ] {
        let agreed = agree(None, &put(json!({ "url": private, "secret": "x" }))).unwrap();
        let told = agreed.warnings.join("\n");
        assert!(told.contains("--delivery-allow"), "{private}: {told}");
    }
}

#[test]
fn a_public_host_is_nothing_to_talk_about() {
    for url in [
        "https://receiver.example/hook?key=1",
        "https://8.8.8.8/",
        "https://[2606:4700::1]:8443/",
    ] {
        let agreed = agree(None, &put(json!({ "url": url, "secret": "x" }))).unwrap();
        assert!(agreed.warnings.is_empty(), "{url}: {:?}", agreed.warnings);
    }
}

#[test]
fn events_filters_and_paces_are_checked_when_they_are_said() {
    assert!(refused(json!({ "events": ["job-done"] })).contains("workflow-completed"));
    assert!(refused(json!({ "events": ["ping"] })).contains("no event"));
    assert!(refused(json!({ "events": [] })).contains("empty"));
    assert!(refused(json!({ "filter": "payload.(" })).starts_with("filter: "));
    assert!(refused(json!({ "concurrency": 0 })).contains("concurrency"));
    assert!(refused(json!({ "rate_per_second": 0.0 })).contains("rate"));
    assert!(refused(json!({ "schedule_seconds": [-1.0] })).contains("schedule"));
    assert!(refused(json!({ "schedule_seconds": [1e9] })).contains("schedule"));
    assert!(refused(json!({ "ca_pem": "no certificate" })).starts_with("ca_pem: "));
    assert!(refused(json!({ "name": "0190c6f0-0000-7000-8000-000000000000" })).contains("UUID"));
    assert!(refused(json!({ "name": " x" })).contains("name"));
    let events = put(json!({ "events": ["job-completed", "workflow-completed", "job-completed"] }));
    let terms = agree(None, &events).unwrap().terms;
    assert_eq!(
        terms.events,
        [EventName::WorkflowCompleted, EventName::JobCompleted]
    );
}

#[test]
fn secrets_are_never_empty_and_stored_sealed() {
    assert!(refused(json!({ "secret": "" })).contains("empty"));
    assert!(refused(json!({ "secret": "whsec_short" })).contains("Base64"));
    assert!(refused(json!({ "secret": "whsk_short" })).contains("Ed25519"));
    assert!(refused(json!({ "secret": "****" })).contains("shown"));
    let terms = agree(None, &put(json!({ "secret": "hunter2" })))
        .unwrap()
        .terms;
    let [key] = &terms.secrets[..] else { panic!() };
    assert_eq!(key.id, "f52fbd32b2b3");
    let place = secret_place(SubscriptionId(Uuid::from_u128(1)));
    assert_eq!(vault().open(&place, &key.sealed).unwrap(), b"hunter2");
    let before = stored(terms);
    let kept = agree(Some(&before), &put(json!({}))).unwrap().terms;
    assert!(kept == before.terms, "what is absent stays");
    let none = agree(Some(&before), &put(json!({ "secret": null }))).unwrap();
    assert!(none.terms.secrets.is_empty());
    assert!(none.warnings.join("").contains("nothing is signed"));
}

#[test]
fn headers_are_merged_and_those_of_deliveries_cannot_be_set() {
    for name in [
        "Host",
        "content-length",
        "Circleci-Signature",
        "webhook-id",
        "bad name",
        "user-agent",
    ] {
        refused(json!({ "headers": { name: "x" } }));
    }
    assert!(refused(json!({ "headers": { "x-a": "a\nb" } })).contains("printable"));
    let before = agree(None, &put(json!({ "headers": { "X-A": "1", "X-B": "2" } }))).unwrap();
    let before = stored(before.terms);
    let change = put(json!({ "headers": { "x-a": null, "X-C": "3" } }));
    let after = agree(Some(&before), &change).unwrap().terms;
    let names: Vec<&str> = after
        .headers
        .iter()
        .map(|header| header.name.as_str())
        .collect();
    assert_eq!(names, ["X-B", "X-C"]);
    let why = agree(Some(&before), &put(json!({ "verify_tls": false })))
        .err()
        .unwrap();
    assert!(why.to_string().contains("ca_pem"));
}

fn signing(secret: &str) -> Subscription {
    stored(
        agree(None, &put(json!({ "secret": secret })))
            .unwrap()
            .terms,
    )
}

fn rotate(
    stored: &Subscription,
    wish: Value,
) -> Result<(SubscriptionTerms, Option<String>), TermsError> {
    let wish: RotateSubscription = serde_json::from_value(wish).unwrap();
    rotated(stored, &wish, &vault(), NOW)
}

#[test]
fn a_rotation_lets_the_old_secret_sign_for_the_overlap() {
    let before = signing("old");
    let (terms, made) = rotate(&before, json!({})).unwrap();
    let made = made.expect("the server makes one");
    assert!(made.starts_with("whsec_") && made.len() > 40);
    let ends: Vec<_> = terms.secrets.iter().map(|key| key.not_after).collect();
    assert_eq!(ends, [None, Some(datetime!(2026-03-02 10:00 UTC))]);
    assert_eq!(terms.secrets[0].id, fingerprint(&made));

    let (terms, made) = rotate(&before, json!({ "secret": "new", "overlap_seconds": 0 })).unwrap();
    assert_eq!((terms.secrets.len(), made), (1, None));
    for (wish, word) in [
        (json!({ "secret": "old" }), "already"),
        (json!({ "secret": "" }), "empty"),
        (json!({ "overlap_seconds": 99_999_999 }), "overlap"),
        (json!({ "cut_over": true }), "staged"),
        (json!({ "cut_over": true, "secret": "x" }), "neither"),
    ] {
        let why = rotate(&before, wish).err().unwrap().to_string();
        assert!(why.contains(word), "{why}");
    }
}

#[test]
fn a_staged_secret_is_second_until_the_cut_over() {
    let before = signing("old");
    let (terms, _) = rotate(&before, json!({ "secret": "new", "stage": true })).unwrap();
    let staged = stored(terms);
    let ids: Vec<&str> = staged
        .terms
        .secrets
        .iter()
        .map(|key| key.id.as_str())
        .collect();
    assert_eq!(ids, [fingerprint("old"), fingerprint("new")]);
    assert!(
        staged
            .terms
            .secrets
            .iter()
            .all(|key| key.not_after.is_none())
    );
    let twice = rotate(&staged, json!({ "secret": "newer", "stage": true }))
        .err()
        .unwrap();
    assert!(twice.to_string().contains("already"));
    let (terms, _) = rotate(&staged, json!({ "cut_over": true, "overlap_seconds": 60 })).unwrap();
    assert_eq!(terms.secrets[0].id, fingerprint("new"));
    assert_eq!(
        terms.secrets[1].not_after,
        Some(datetime!(2026-03-01 10:01 UTC))
    );
}

#[test]
fn secrets_that_ended_are_forgotten_and_the_number_of_others_is_bounded() {
    let mut now = signing("s0");
    now.terms.secrets[0].not_after = Some(datetime!(2026-02-01 10:00 UTC));
    let (terms, _) = rotate(&now, json!({ "secret": "s1" })).unwrap();
    assert_eq!(terms.secrets.len(), 1);
    let mut now = stored(terms);
    for number in 2..=10 {
        now = stored(
            rotate(&now, json!({ "secret": format!("s{number}") }))
                .unwrap()
                .0,
        );
    }
    let why = rotate(&now, json!({ "secret": "s11" }))
        .err()
        .unwrap()
        .to_string();
    assert!(why.contains("at most 10"), "{why}");
}

#[test]
fn headers_go_in_clear_only_to_this_machine_and_where_the_operator_allows() {
    let with = |url: &str| json!({ "url": url, "headers": { "Authorization": "Bearer x" } });
    for url in [
        "http://receiver.example/",
        "http://8.8.8.8/",
        "http://192.168.0.1/",
    ] {
        assert!(refused(with(url)).contains("--delivery-allow"), "{url}");
    }
    for url in [
        "https://receiver.example/",
        "http://127.0.0.1:9/",
        "http://[::1]:9/",
        "http://localhost:9/",
        "http://172.16.2.3/",
    ] {
        assert!(agree(None, &put(with(url))).is_ok(), "{url}");
    }
    let allowed = agree(None, &put(json!({ "url": "http://172.16.2.3/" }))).unwrap();
    let warned = allowed.warnings.join(" ");
    assert!(!warned.contains("nothing may be delivered"), "{warned}");
}
