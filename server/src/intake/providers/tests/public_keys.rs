//! Public keys, which strangers know: they verify signatures, and are never a key or token themselves. And what else is
//! not to be had for nothing: memory, and secrets in what is kept.

use super::scheme::{KEY, NOW, Scheme};
use super::senders::all;
use super::*;
use crate::intake::request::MAX_WHOLE_BYTES;

fn scheme(name: &str) -> Scheme {
    all().into_iter().find(|s| s.name == name).unwrap()
}

#[test]
fn discord_must_be_bound_and_the_operator_is_told_so() {
    let discord = scheme("discord");
    let request = discord.sign(&KEY, b"{}", NOW).arrive().unwrap();
    let secret = String::from_utf8(discord.secret(&KEY)).unwrap();
    let refused = verdict(&request, &[&secret], NOW).unwrap_err();
    assert!(refused.contains("must be bound"), "{refused}");
    let bound = verify(&discord.binding, &request, &secrets(&[&secret]), NOW);
    assert!(bound.is_ok());
    assert_eq!(guess(&request), ProviderKind::Discord, "for the receipt");
}

#[test]
fn whoever_knows_a_public_key_of_standard_webhooks_can_forge_nobody() {
    let standard = scheme("standard, ed25519");
    let public = String::from_utf8(standard.secret(&KEY)).unwrap();
    let genuine = standard.sign(&KEY, b"{}", NOW).arrive().unwrap();
    assert_eq!(verdict(&genuine, &[&public], NOW), Ok(()));
    let mac = |signed: &[u8]| hex::encode(super::scheme::hmac(public.as_bytes(), signed));
    let (plain, slack) = (mac(b"{}"), mac(format!("v0:{NOW}:{{}}").as_bytes()));
    let github = format!("sha256={plain}");
    let slack = format!("v0={slack}");
    let now = NOW.to_string();
    for headers in [
        &[("x-webhook-signature", plain.as_str())][..],
        &[("x-github-event", "push"), ("x-hub-signature-256", &github)],
        &[("x-gitea-event", "push"), ("x-gitea-signature", &plain)],
        &[("x-event-key", "push"), ("x-hub-signature", &github)],
        &[("linear-signature", &plain), ("linear-timestamp", &now)],
        &[("sentry-hook-signature", &plain)],
        &[
            ("x-slack-signature", &slack),
            ("x-slack-request-timestamp", &now),
        ],
        &[("x-gitlab-event", "push"), ("x-gitlab-token", &public)],
        &[("x-buildkite-event", "x"), ("x-buildkite-token", &public)],
        &[("honeybadger-token", &public)],
    ] {
        let forged = request(headers, "/", b"{}");
        assert!(verdict(&forged, &[&public], NOW).is_err(), "{headers:?}");
        let both = [public.as_str(), "another"];
        assert!(verdict(&forged, &both, NOW).is_err(), "{headers:?}");
    }
    // The others' places do not change by it.
    let signed = hex::encode(super::scheme::hmac(b"another", b"{}"));
    let request = request(&[("x-webhook-signature", &signed)], "/", b"{}");
    let both = secrets(&[&public, "another"]);
    let used = verify(&Binding::default(), &request, &both, NOW).unwrap();
    assert_eq!(used.secret, Some(1));
}

#[test]
fn headers_that_are_secrets_themselves_are_blanked_in_what_is_kept() {
    for (kind, name) in [
        (ProviderKind::GitLab, "x-gitlab-token"),
        (ProviderKind::Honeybadger, "honeybadger-token"),
        (ProviderKind::Buildkite, "x-buildkite-token"),
        (ProviderKind::Token, "uuid"),
        (ProviderKind::Token, "token"),
    ] {
        let there = request(&[(name, "s3cret")], "/", b"");
        assert!(verify(&Binding::to(kind), &there, &secrets(&["s3cret"]), 0).is_ok());
        assert!(credentials::is_secret(name), "{name}");
    }
    let came = request(
        &[
            ("authorization", "Bearer s3cret"),
            ("Proxy-Authorization", "s3cret"),
            ("cookie", "s=s3cret"),
            ("X-Gitlab-Token", "s3cret"),
            ("honeybadger-token", "s3cret"),
            ("x-buildkite-token", "s3cret"),
            ("uuid", "s3cret"),
            ("token", "s3cret"),
            ("x-gitlab-event", "Push Hook"),
        ],
        "/?token=s3cret",
        b"{}",
    );
    // Whoever it is said to be from.
    for kind in ProviderKind::ALL {
        let receipt = came.receipt(kind, Facts::default());
        assert_eq!(receipt.headers.len(), 9, "the lines stay");
        for (name, value) in &receipt.headers {
            let expected = match name.as_str() {
                "x-gitlab-event" => "Push Hook",
                _ => credentials::HIDDEN,
            };
            assert_eq!(value, expected.as_bytes(), "{name}");
        }
        assert_eq!(receipt.url, "/?token=***");
    }
}

#[test]
fn a_large_body_is_not_read_whole_before_it_is_verified() {
    let large = vec![b' '; usize::try_from(MAX_WHOLE_BYTES).unwrap() + 1];
    let standard = scheme("standard, ed25519");
    let secret = String::from_utf8(standard.secret(&KEY)).unwrap();
    let arrived = standard.sign(&KEY, &large, NOW).arrive().unwrap();
    let refused = verdict(&arrived, &[&secret], NOW).unwrap_err();
    assert!(refused.contains("1 MiB"), "{refused}");
    let form = ("content-type", "application/x-www-form-urlencoded");
    let zeros = "0".repeat(64);
    let gitea = [
        form,
        ("x-gitea-event", "push"),
        ("x-gitea-signature", zeros.as_str()),
    ];
    let refused = verdict(&request(&gitea, "/", &large), &["s"], NOW).unwrap_err();
    assert!(refused.contains("1 MiB"), "{refused}");
    let token = verify(
        &Binding::to(ProviderKind::Token),
        &request(&[form], "/", &large),
        &secrets(&["s"]),
        NOW,
    );
    assert!(token.unwrap_err().0.contains("1 MiB"));
    // What is signed in the usual way has no such bound; only nothing is read from it.
    let signed = hex::encode(super::scheme::hmac(b"s", &large));
    let stripe = request(&[("x-webhook-signature", &signed)], "/", &large);
    assert_eq!(verdict(&stripe, &["s"], NOW), Ok(()));
    let facts = facts(&Binding::default(), ProviderKind::Stripe, &stripe);
    assert_eq!(facts, Facts::default());
}

#[test]
fn a_long_delivery_id_is_known_by_its_digest() {
    let of = |id: &str| {
        let request = request(&[("x-github-delivery", id)], "/", b"{}");
        let facts = facts(&Binding::default(), ProviderKind::GitHub, &request);
        facts.delivery_id
    };
    let long = "x".repeat(129);
    let digest = of(&long).unwrap();
    assert_eq!(digest.len(), 64);
    assert_eq!(of(&long).as_ref(), Some(&digest), "the same again");
    assert_ne!(of(&"y".repeat(129)), Some(digest));
    assert_eq!(of(&long[..128]).as_deref(), Some(&long[..128]));
    assert_eq!(of(""), None);
}
