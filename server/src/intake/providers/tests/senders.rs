//! The senders that sign, and the schemes that can be said in data.

use super::scheme::{Arithmetic, Content, Scheme};
use super::*;

fn as_it_is(content: &[u8], _: i64) -> Vec<u8> {
    content.to_vec()
}

fn linear_body(content: &[u8], now: i64) -> Vec<u8> {
    let content = hex::encode(content);
    format!(r#"{{"type":"Issue","webhookTimestamp":{now}000,"data":"{content}"}}"#).into_bytes()
}

fn form(content: &[u8], _: i64) -> Vec<u8> {
    format!("payload={}", hex::encode(content)).into_bytes()
}

fn plain(kind: ProviderKind, header: &'static str, value: &'static str) -> Scheme {
    Scheme {
        name: kind.as_str(),
        binding: Binding::to(kind),
        arithmetic: Arithmetic::Text,
        content: Content::Body,
        tolerance: None,
        headers: &[],
        header,
        value,
        second: None,
        wrap: as_it_is,
    }
}

fn timed(scheme: Scheme, template: &'static str, tolerance: i64) -> Scheme {
    Scheme {
        content: Content::Timed(template),
        tolerance: Some(tolerance),
        ..scheme
    }
}

fn with(scheme: Scheme, headers: &'static [(&'static str, &'static str)]) -> Scheme {
    Scheme { headers, ..scheme }
}

fn custom(name: &'static str, json: &str) -> Scheme {
    let mut scheme = plain(ProviderKind::Custom, "x-signature", "{sig}");
    scheme.name = name;
    scheme.binding.custom = Some(serde_json::from_str(json).unwrap());
    assert_eq!(scheme.binding.check(), Ok(()), "{name}");
    scheme
}

/// All of them.
pub(super) fn all() -> Vec<Scheme> {
    let mut all = code_hosts();
    all.extend(services());
    all.extend(open_schemes());
    all
}

fn code_hosts() -> Vec<Scheme> {
    use ProviderKind as Kind;
    let aliases: &[(&str, &str)] = &[
        ("x-forgejo-event", "push"),
        ("x-gitea-event", "push"),
        ("x-gogs-event", "push"),
        ("x-github-event", "push"),
    ];
    let gitea = plain(Kind::Gitea, "x-gitea-signature", "{sig}");
    vec![
        with(
            plain(Kind::GitHub, "x-hub-signature-256", "sha256={sig}"),
            &[("x-github-event", "push")],
        ),
        with(
            plain(Kind::Forgejo, "x-forgejo-signature", "{sig}"),
            aliases_of(aliases, 0),
        ),
        with(gitea.clone(), aliases_of(aliases, 1)),
        with(
            plain(Kind::Gogs, "x-gogs-signature", "{sig}"),
            aliases_of(aliases, 2),
        ),
        Scheme {
            name: "gitea, form",
            content: Content::Payload,
            wrap: form,
            headers: &[
                ("x-gitea-event", "push"),
                (
                    "content-type",
                    "application/x-www-form-urlencoded; charset=utf-8",
                ),
            ],
            ..gitea
        },
        with(
            plain(Kind::Bitbucket, "x-hub-signature", "sha256={sig}"),
            &[("x-event-key", "repo:push")],
        ),
        Scheme {
            name: "gitlab, signing token",
            arithmetic: Arithmetic::Decoded,
            second: Some((" ", "v1,")),
            ..timed(
                with(
                    plain(Kind::GitLab, "webhook-signature", "v1,{sig}"),
                    &[
                        ("x-gitlab-event", "Push Hook"),
                        ("webhook-id", "id"),
                        ("webhook-timestamp", "{ts}"),
                    ],
                ),
                "id.{ts}.{body}",
                300,
            )
        },
    ]
}

fn aliases_of(
    all: &'static [(&'static str, &'static str)],
    from: usize,
) -> &'static [(&'static str, &'static str)] {
    &all[from..]
}

fn services() -> Vec<Scheme> {
    use ProviderKind as Kind;
    vec![
        timed(
            with(
                plain(Kind::Slack, "x-slack-signature", "v0={sig}"),
                &[("x-slack-request-timestamp", "{ts}")],
            ),
            "v0:{ts}:{body}",
            300,
        ),
        Scheme {
            second: Some((",", "v1=")),
            ..timed(
                plain(Kind::Stripe, "stripe-signature", "t={ts},v1={sig},v0=00"),
                "{ts}.{body}",
                300,
            )
        },
        Scheme {
            tolerance: Some(60),
            wrap: linear_body,
            ..plain(Kind::Linear, "linear-signature", "{sig}")
        },
        Scheme {
            arithmetic: Arithmetic::EdHex,
            binding: Binding {
                discord_tolerance_seconds: Some(30),
                ..Binding::to(Kind::Discord)
            },
            ..timed(
                with(
                    plain(Kind::Discord, "x-signature-ed25519", "{sig}"),
                    &[("x-signature-timestamp", "{ts}")],
                ),
                "{ts}{body}",
                30,
            )
        },
        Scheme {
            second: Some((",", "v1=")),
            ..with(
                plain(Kind::CircleCi, "circleci-signature", "v1={sig},v2=00"),
                &[("circleci-event-type", "job-completed")],
            )
        },
        Scheme {
            second: Some((",", "v1=")),
            ..plain(Kind::PagerDuty, "x-pagerduty-signature", "v1={sig}")
        },
        plain(Kind::Sentry, "sentry-hook-signature", "{sig}"),
        plain(Kind::Shopify, "x-shopify-hmac-sha256", "{sig}"),
        Scheme {
            second: Some((",", "signature=")),
            ..timed(
                with(
                    plain(
                        Kind::Buildkite,
                        "x-buildkite-signature",
                        "timestamp={ts},signature={sig}",
                    ),
                    &[("x-buildkite-event", "build.finished")],
                ),
                "{ts}.{body}",
                300,
            )
        },
    ]
}

fn open_schemes() -> Vec<Scheme> {
    use ProviderKind as Kind;
    let standard = timed(
        with(
            plain(Kind::Standard, "webhook-signature", "v1,{sig} v2,AA=="),
            &[("webhook-id", "id"), ("webhook-timestamp", "{ts}")],
        ),
        "id.{ts}.{body}",
        300,
    );
    let convoy = r#"{"header":"x-signature","separator":",","prefix":"v1=","timestamp_prefix":"t=",
        "template":"{ts},{body}","tolerance_seconds":300,"algorithm":"sha512"}"#;
    let edwards = r#"{"header":"x-signature","prefix":"ed25519=","algorithm":"ed25519","key":"hex","encoding":"base64",
        "template":"{method} {path}\n{ts}\n{body}","timestamp_header":"x-time","tolerance_seconds":10}"#;
    vec![
        Scheme {
            name: "standard",
            arithmetic: Arithmetic::Decoded,
            second: Some((" ", "v1,")),
            ..standard.clone()
        },
        Scheme {
            name: "standard, ed25519",
            arithmetic: Arithmetic::EdBase64,
            value: "v1a,{sig}",
            second: Some((" ", "v1a,")),
            ..standard.clone()
        },
        Scheme {
            name: "svix",
            arithmetic: Arithmetic::Decoded,
            header: "svix-signature",
            headers: &[("svix-id", "id"), ("svix-timestamp", "{ts}")],
            ..standard
        },
        plain(Kind::Generic, "x-webhook-signature", "{sig}"),
        Scheme {
            name: "generic, sha256=",
            ..plain(Kind::Generic, "x-webhook-signature", "sha256={sig}")
        },
        Scheme {
            name: "generic, timestamp",
            ..timed(
                with(
                    plain(Kind::Generic, "x-webhook-signature", "{sig}"),
                    &[("x-webhook-timestamp", "{ts}")],
                ),
                "{ts}.{body}",
                300,
            )
        },
        Scheme {
            arithmetic: Arithmetic::Sha512,
            value: "v1={sig},t={ts}",
            second: Some((",", "v1=")),
            ..timed(custom("custom, convoy", convoy), "{ts},{body}", 300)
        },
        Scheme {
            arithmetic: Arithmetic::EdHex,
            value: "ed25519={sig}",
            headers: &[("x-time", "{ts}")],
            ..timed(
                custom("custom, ed25519", edwards),
                "POST /hook?a=1\n{ts}\n{body}",
                10,
            )
        },
    ]
}
