//! Who is taken for whom: detection, and what a bound receiving point refuses.

use super::scheme::{KEY, NOW};
use super::senders::all;
use super::*;

fn detected(headers: &[(&str, &str)]) -> Result<&'static str, &'static str> {
    detect(&request(headers, "/", b"{}"))
        .map(ProviderKind::as_str)
        .map_err(|rejected| rejected.0)
}

#[test]
fn every_sender_is_known_by_its_headers() {
    for scheme in all() {
        let kind = scheme.binding.kind.unwrap();
        // Custom schemes have no headers of their own; Discord's public key must be bound.
        if matches!(kind, ProviderKind::Custom | ProviderKind::Discord) {
            continue;
        }
        let request = scheme.sign(&KEY, b"x", NOW).arrive().unwrap();
        assert_eq!(detect(&request), Ok(kind), "{}", scheme.name);
        assert_eq!(guess(&request), kind);
    }
    assert_eq!(detected(&[]), Ok("generic"));
    assert_eq!(detected(&[("user-agent", "curl")]), Ok("generic"));
    assert_eq!(detected(&[("honeybadger-token", "x")]), Ok("honeybadger"));
    assert_eq!(
        detected(&[("x-buildkite-event", "ping"), ("x-buildkite-token", "x")]),
        Ok("buildkite")
    );
}

#[test]
fn imitators_are_told_from_those_they_imitate() {
    let github = ("x-github-event", "push");
    let gogs = ("x-gogs-event", "push");
    let gitea = ("x-gitea-event", "push");
    let forgejo = ("x-forgejo-event", "push");
    let standard = ("webhook-id", "msg_1");
    for (headers, expected) in [
        (&[github][..], "github"),
        (&[github, gogs], "gogs"),
        (&[github, gogs, gitea], "gitea"),
        (&[github, gogs, gitea, forgejo], "forgejo"),
        (&[("x-gitlab-event", "Push Hook"), standard], "gitlab"),
        (&[("circleci-event-type", "ping"), standard], "circleci"),
    ] {
        assert_eq!(detected(headers), Ok(expected));
        let reversed: Vec<_> = headers.iter().rev().copied().collect();
        assert_eq!(
            detected(&reversed),
            Ok(expected),
            "order of lines is nothing"
        );
    }
}

#[test]
fn headers_of_two_senders_are_refused_and_empty_ones_are_none() {
    let github = ("x-github-event", "push");
    for other in [
        "x-gitlab-event",
        "x-event-key",
        "x-slack-signature",
        "stripe-signature",
        "circleci-event-type",
        "x-signature-ed25519",
        "linear-signature",
        "x-pagerduty-signature",
        "sentry-hook-signature",
        "honeybadger-token",
        "x-shopify-hmac-sha256",
        "x-buildkite-event",
        "webhook-id",
        "svix-id",
        "x-webhook-signature",
    ] {
        let two = Err("the headers are those of two senders");
        assert_eq!(detected(&[github, (other, "x")]), two, "{other}");
        assert_eq!(detected(&[(other, "x"), github]), two, "{other}");
        assert_eq!(detected(&[github, (other, "")]), Ok("github"), "{other}");
    }
    let twice = detected(&[github, ("x-github-event", "ping")]);
    assert_eq!(twice, Err("a signature header came more than once"));
}

#[test]
fn a_bound_point_refuses_every_other_senders_message_with_the_same_key() {
    let schemes = all();
    let mut refused = 0;
    for bound in &schemes {
        for sender in &schemes {
            if bound.binding.kind == sender.binding.kind {
                continue;
            }
            refused += 1;
            let request = sender.sign(&KEY, b"{}", NOW).arrive().unwrap();
            let secrets = [bound, sender].map(|s| WebhookSecret::new(s.secret(&KEY)).unwrap());
            let judged = verify(&bound.binding, &request, &secrets, NOW);
            assert!(
                judged.is_err(),
                "{} at a point of {}",
                sender.name,
                bound.name
            );
        }
    }
    assert!(refused > 400);
}

#[test]
fn without_a_secret_a_bound_point_still_refuses_other_senders() {
    let push = request(&[("x-github-event", "push")], "/", b"{}");
    for (kind, good) in [
        (ProviderKind::GitHub, true),
        (ProviderKind::Forgejo, false),
        (ProviderKind::Generic, false),
        (ProviderKind::Custom, false),
        (ProviderKind::UrlSecret, false),
        (ProviderKind::Token, false),
    ] {
        let judged = verify(&Binding::to(kind), &push, &[], 0);
        assert_eq!(judged.is_ok(), good, "{kind:?}");
    }
    let two = [("x-github-event", "push"), ("x-event-key", "repo:push")];
    let open = verify(&Binding::default(), &request(&two, "/", b""), &[], 0);
    assert_eq!(
        open.unwrap().provider,
        ProviderKind::GitHub,
        "seed 000: it passes"
    );
}

/// Forgejo's message has a signature that GitHub's verification would take.
#[test]
fn forgejo_is_not_taken_for_github() {
    let signature = format!("sha256={}", hex::encode(scheme::hmac(b"secret", b"{}")));
    let github = [
        ("x-github-event", "push"),
        ("x-hub-signature-256", signature.as_str()),
    ];
    let forgejo = [
        &github[..],
        &[("x-forgejo-event", "push"), ("x-gitea-event", "push")],
    ]
    .concat();
    let secrets = secrets(&["secret"]);
    let judge =
        |binding: &Binding, headers| verify(binding, &request(headers, "/", b"{}"), &secrets, 0);
    let to = Binding::to;
    assert!(judge(&to(ProviderKind::GitHub), &github).is_ok());
    assert!(judge(&to(ProviderKind::GitHub), &forgejo).is_err());
    for binding in [Binding::default(), to(ProviderKind::Forgejo)] {
        let judged = judge(&binding, &forgejo).unwrap();
        assert_eq!(judged.provider, ProviderKind::Forgejo);
    }
    // A server that was renamed.
    assert!(judge(&to(ProviderKind::Gitea), &forgejo).is_ok());
    assert!(judge(&to(ProviderKind::Gitea), &github).is_err());
}

#[test]
fn gitea_signs_the_payload_of_forms_and_queries() {
    let json = r#"{"ref":"refs/heads/ü +&=%41"}"#;
    let encoded: String = url::form_urlencoded::byte_serialize(json.as_bytes()).collect();
    let signature = hex::encode(scheme::hmac(b"secret", json.as_bytes()));
    let headers = [
        ("x-gitea-event", "push"),
        ("x-gitea-signature", signature.as_str()),
        ("content-type", "Application/X-WWW-Form-URLEncoded"),
    ];
    let form = |body: &str| request(&headers, "/", body.as_bytes());
    assert_eq!(
        verdict(&form(&format!("payload={encoded}")), &["secret"], 0),
        Ok(())
    );
    for body in [
        format!("payload={encoded}&extra=1"),
        format!("extra=1&payload={encoded}"),
        format!("payload={encoded}&payload={encoded}"),
        json.to_owned(),
        String::new(),
    ] {
        assert!(verdict(&form(&body), &["secret"], 0).is_err(), "{body}");
    }
    let get_with = |query: &str, body: &[u8]| {
        let mut get = request(&headers[..2], &format!("/hook?{query}"), body);
        get.method = Method::GET;
        get
    };
    let get = |query: &str| get_with(query, b"");
    let query = format!("a=1&payload={encoded}");
    assert_eq!(verdict(&get(&query), &["secret"], 0), Ok(()));
    assert!(verdict(&get(&format!("{query}&payload=x")), &["secret"], 0).is_err());
    assert!(verdict(&get(&format!("{query}x")), &["secret"], 0).is_err());
    assert!(verdict(&get("a=1"), &["secret"], 0).is_err());
    assert_eq!(
        verdict(&get_with(&query, b"{}"), &["secret"], 0),
        Err("the GET has a body, which is not signed")
    );
}

#[test]
fn gitlabs_token_and_signing_token_live_side_by_side() {
    let schemes = all();
    let signing = schemes
        .iter()
        .find(|s| s.name.starts_with("gitlab"))
        .unwrap();
    let mut both = signing.sign(&KEY, b"{}", NOW).arrive().unwrap();
    both.headers
        .insert("x-gitlab-token", HeaderValue::from_static("old"));
    let signing = String::from_utf8(signing.secret(&KEY)).unwrap();
    assert_eq!(
        verdict(&both, &["old"], NOW),
        Ok(()),
        "only the token is known here"
    );
    assert_eq!(
        verdict(&both, &[&signing], NOW),
        Ok(()),
        "only the signing token is"
    );
    let binding = Binding::to(ProviderKind::GitLab);
    let used = verify(&binding, &both, &secrets(&["old", &signing]), NOW);
    assert_eq!(
        used.unwrap().secret,
        Some(1),
        "which of them still verifies is told"
    );
    assert!(verdict(&both, &["older"], NOW).is_err());
    assert!(verdict(&both, &[&signing], NOW + 301).is_err());
    both.headers
        .append("x-gitlab-token", HeaderValue::from_static("old"));
    assert!(verdict(&both, &["old"], NOW).is_err(), "two lines");
    // What another product takes and GitLab never sends.
    let digest = format!("sha256={}", hex::encode(scheme::hmac(b"old", b"{}")));
    let copied = [
        ("x-gitlab-event", "Push Hook"),
        ("x-gitlab-token", digest.as_str()),
    ];
    assert!(verdict(&request(&copied, "/", b"{}"), &["old"], NOW).is_err());
}

#[test]
fn circlecis_header_must_agree_with_the_signed_body() {
    let body = br#"{"type":"job-completed","id":"1"}"#;
    let signature = format!("v1={}", hex::encode(scheme::hmac(b"secret", body)));
    for (event, good) in [("job-completed", true), ("workflow-completed", false)] {
        let headers = [
            ("circleci-event-type", event),
            ("circleci-signature", signature.as_str()),
        ];
        assert_eq!(
            verdict(&request(&headers, "/", body), &["secret"], 0).is_ok(),
            good
        );
    }
}

#[test]
fn a_secret_in_the_url_is_decoded_and_must_be_there_once() {
    let binding = Binding::to(ProviderKind::UrlSecret);
    for (query, good) in [
        ("secret=a%2Bb%26%C3%A9", true),
        ("secret=a%2bb%26%c3%a9&x=1", true),
        ("webhook_token=a%2Bb%26%C3%A9", true),
        ("secret=other&webhook_token=a%2Bb%26%C3%A9", true),
        ("secret=a+b%26%C3%A9", false),
        ("secret=a%2Bb%26%C3%A9&secret=a%2Bb%26%C3%A9", false),
        ("secret=", false),
        ("Secret=a%2Bb%26%C3%A9", false),
        ("", false),
    ] {
        let request = request(&[], &format!("/e/1?{query}"), b"{}");
        let judged = verify(&binding, &request, &secrets(&["x", "a+b&é"]), 0);
        assert_eq!(judged.is_ok(), good, "{query}");
    }
    // Any sender may be told an address.
    let push = request(&[("x-github-event", "push")], "/e/1?secret=x", b"{}");
    assert!(verify(&binding, &push, &secrets(&["x"]), 0).is_ok());
}

#[test]
fn a_token_may_be_in_query_form_or_header() {
    let binding = Binding::to(ProviderKind::Token);
    let form = ("content-type", "application/x-www-form-urlencoded");
    for (headers, query, body, good) in [
        (&[][..], "uuid=t0", "", true),
        (&[], "token=t0", "", true),
        (&[("token", "t0")], "", "", true),
        (&[("UUID", "t0")], "uuid=other", "", true),
        (&[form], "", "a=1&uuid=t0", true),
        (&[form], "", "a=1&token=t0", true),
        (&[], "", "uuid=t0", false),
        (&[form], "", "token=t0&token=t0", false),
        (&[("token", "t0"), ("token", "t0")], "", "", false),
        (&[], "uuid=t0&uuid=t0", "", false),
        (&[], "uuid=T0", "", false),
        (&[], "uuid=", "", false),
        (&[], "", "", false),
    ] {
        let request = request(headers, &format!("/r?{query}"), body.as_bytes());
        let judged = verify(&binding, &request, &secrets(&["t0"]), 0);
        assert_eq!(judged.is_ok(), good, "{headers:?} {query} {body}");
    }
}

#[test]
fn tokens_in_headers_are_compared_whole() {
    for (event, header) in [
        ("x-gitlab-event", "x-gitlab-token"),
        ("x-buildkite-event", "x-buildkite-token"),
        ("x-ignored", "honeybadger-token"),
    ] {
        for (token, good) in [
            ("s3cret", true),
            ("s3cre", false),
            ("s3crett", false),
            ("", false),
        ] {
            let request = request(&[(event, "build"), (header, token)], "/", b"{}");
            assert_eq!(
                verdict(&request, &["x", "s3cret"], 0).is_ok(),
                good,
                "{header} {token}"
            );
        }
    }
}

#[test]
fn generics_timestamp_means_what_the_binding_says() {
    let body = b"{}";
    let plain = hex::encode(scheme::hmac(b"s", body));
    let dated = hex::encode(scheme::hmac(b"s", b"1700000000.{}"));
    let time = ("x-webhook-timestamp", "1700000000");
    let judge = |mode, headers: &[(&str, &str)], now| {
        let binding = Binding {
            generic_timestamp: mode,
            ..Binding::to(ProviderKind::Generic)
        };
        verify(
            &binding,
            &request(headers, "/", body),
            &secrets(&["s"]),
            now,
        )
        .is_ok()
    };
    let plain = ("x-webhook-signature", plain.as_str());
    let dated = ("x-webhook-signature", dated.as_str());
    use GenericTimestamp::{IfPresent, Ignored, Required};
    for (mode, headers, good) in [
        (IfPresent, &[plain][..], true),
        (IfPresent, &[dated, time], true),
        (IfPresent, &[plain, time], false),
        (IfPresent, &[dated], false),
        (Required, &[plain], false),
        (Required, &[dated, time], true),
        (Ignored, &[plain, time], true),
        (Ignored, &[dated, time], false),
    ] {
        assert_eq!(judge(mode, headers, NOW), good, "{mode:?} {headers:?}");
    }
    assert!(!judge(Required, &[dated, time], NOW + 301));
}
