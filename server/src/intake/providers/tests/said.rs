//! What messages say of themselves, and which want an answer at once.

use super::*;

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

fn of(kind: ProviderKind, headers: &[(&str, &str)], body: &str) -> [String; 3] {
    let facts = facts(
        &Binding::to(kind),
        kind,
        &request(headers, "/", body.as_bytes()),
    );
    [
        facts.event_type,
        facts.delivery_id.unwrap_or_default(),
        facts
            .attempt
            .map(|attempt| attempt.to_string())
            .unwrap_or_default(),
    ]
}

/// Sender, headers, body; event type, delivery id, attempt.
type Row = (
    ProviderKind,
    &'static [(&'static str, &'static str)],
    &'static str,
    [&'static str; 3],
);

const HEADERS: &[Row] = &[
    (
        ProviderKind::GitHub,
        &[
            ("x-github-event", "pull_request"),
            ("x-github-delivery", "d1"),
        ],
        r#"{"action":"opened"}"#,
        ["pull_request", "d1", ""],
    ),
    (
        ProviderKind::GitHub,
        &[("x-github-event", "pull_request"), FORM],
        "payload=%7B%22action%22%3A%22closed%22%7D",
        ["pull_request", "", ""],
    ),
    (
        ProviderKind::Forgejo,
        &[
            ("x-forgejo-event", "pull_request"),
            ("x-forgejo-event-type", "pull_request_sync"),
            ("x-forgejo-delivery", "d2"),
            ("x-github-event", "other"),
        ],
        "{}",
        ["pull_request", "d2", ""],
    ),
    (
        ProviderKind::Gitea,
        &[("x-gitea-event", "push"), ("x-gitea-delivery", "d3")],
        "{}",
        ["push", "d3", ""],
    ),
    (
        ProviderKind::Gogs,
        &[
            ("x-gogs-event", "push"),
            ("x-gitea-event", "x"),
            ("x-gogs-delivery", "d4"),
        ],
        "{}",
        ["push", "d4", ""],
    ),
    (
        ProviderKind::GitLab,
        &[
            ("x-gitlab-event", "Merge Request Hook"),
            ("webhook-id", "w"),
            ("x-gitlab-event-uuid", "u"),
        ],
        r#"{"object_kind":"merge_request"}"#,
        ["Merge Request Hook", "w", ""],
    ),
    (
        ProviderKind::GitLab,
        &[
            ("x-gitlab-event", "Push Hook"),
            ("x-gitlab-event-uuid", "u"),
        ],
        "{}",
        ["Push Hook", "u", ""],
    ),
    (
        ProviderKind::Bitbucket,
        &[
            ("x-event-key", "repo:push"),
            ("x-request-uuid", "r"),
            ("x-attempt-number", "2"),
        ],
        "{}",
        ["repo:push", "r", "2"],
    ),
    (
        ProviderKind::Bitbucket,
        &[("x-event-key", "repo:refs_changed"), ("x-request-id", "q")],
        "{}",
        ["repo:refs_changed", "q", ""],
    ),
    (
        ProviderKind::Sentry,
        &[("sentry-hook-resource", "issue"), ("request-id", "r")],
        r#"{"action":"created"}"#,
        ["issue", "r", ""],
    ),
    (
        ProviderKind::Shopify,
        &[
            ("x-shopify-topic", "orders/create"),
            ("x-shopify-webhook-id", "s"),
        ],
        "{}",
        ["orders/create", "s", ""],
    ),
    (
        ProviderKind::Buildkite,
        &[("x-buildkite-event", "build.finished")],
        "{}",
        ["build.finished", "", ""],
    ),
    (
        ProviderKind::Generic,
        &[
            ("x-event-type", "made"),
            ("idempotency-key", "i"),
            ("x-delivery-id", "d"),
        ],
        "{}",
        ["made", "i", ""],
    ),
    (
        ProviderKind::Generic,
        &[("x-delivery-id", "d")],
        "{}",
        ["", "d", ""],
    ),
    (ProviderKind::Token, &[], "{}", ["", "", ""]),
    (
        ProviderKind::UrlSecret,
        &[],
        "{}",
        ["custom_webhook", "", ""],
    ),
];

const BODIES: &[Row] = &[
    (
        ProviderKind::Slack,
        &[("x-slack-retry-num", "1")],
        r#"{"type":"event_callback","event":{"type":"app_mention"},"event_id":"Ev1"}"#,
        ["event_callback", "Ev1", "2"],
    ),
    (
        ProviderKind::Slack,
        &[FORM],
        "command=%2Fdeploy&trigger_id=13.7",
        ["/deploy", "13.7", ""],
    ),
    (
        ProviderKind::Slack,
        &[FORM],
        "payload=%7B%22type%22%3A%22block_actions%22%2C%22trigger_id%22%3A%229%22%7D",
        ["block_actions", "9", ""],
    ),
    (
        ProviderKind::Slack,
        &[("x-slack-retry-num", "4294967295")],
        "{}",
        ["", "", ""],
    ),
    (
        ProviderKind::Stripe,
        &[],
        r#"{"id":"evt_1","type":"charge.succeeded"}"#,
        ["charge.succeeded", "evt_1", ""],
    ),
    (
        ProviderKind::Linear,
        &[("linear-event", "Issue"), ("linear-delivery", "l")],
        r#"{"type":"Other","action":"create"}"#,
        ["Issue", "l", ""],
    ),
    (
        ProviderKind::Linear,
        &[],
        r#"{"type":"Comment"}"#,
        ["Comment", "", ""],
    ),
    (
        ProviderKind::Discord,
        &[],
        r#"{"type":2,"id":"i"}"#,
        ["application_command", "i", ""],
    ),
    (
        ProviderKind::Discord,
        &[],
        r#"{"type":9,"id":"i"}"#,
        ["9", "i", ""],
    ),
    (
        ProviderKind::Discord,
        &[],
        r#"{"type":1,"event":{"type":"ENTITLEMENT_CREATE"}}"#,
        ["ENTITLEMENT_CREATE", "3a8c", ""],
    ),
    (
        ProviderKind::Standard,
        &[("webhook-id", "msg_1")],
        r#"{"type":"user.created"}"#,
        ["user.created", "msg_1", ""],
    ),
    (
        ProviderKind::Standard,
        &[("svix-id", "msg_2")],
        "no json",
        ["", "msg_2", ""],
    ),
    (
        ProviderKind::CircleCi,
        &[("circleci-event-type", "job-completed")],
        r#"{"type":"job-completed","id":"c"}"#,
        ["job-completed", "c", ""],
    ),
    (
        ProviderKind::CircleCi,
        &[("circleci-event-type", "ping")],
        "{}",
        ["ping", "", ""],
    ),
    (
        ProviderKind::PagerDuty,
        &[],
        r#"{"event":{"event_type":"incident.triggered","id":"p"}}"#,
        ["incident.triggered", "p", ""],
    ),
    (
        ProviderKind::PagerDuty,
        &[],
        r#"{"messages":[{"event":"incident.resolve","id":"p2"}]}"#,
        ["incident.resolve", "p2", ""],
    ),
    (
        ProviderKind::Honeybadger,
        &[],
        r#"{"event":"occurred"}"#,
        ["occurred", "", ""],
    ),
];

#[test]
fn every_senders_event_and_delivery_are_found() {
    for (kind, headers, body, expected) in HEADERS.iter().chain(BODIES) {
        let found = of(*kind, headers, body);
        if *expected[1] == *"3a8c" {
            // It sends no id: a delivery is its body.
            assert_eq!(found[1].len(), 64);
            assert_eq!(found[0], expected[0]);
            continue;
        }
        assert_eq!(found, expected.map(str::to_owned), "{kind:?} {body}");
    }
}

#[test]
fn an_unbound_generic_senders_event_stays_empty_as_the_seed_says() {
    let request = request(&[("x-event-type", "made")], "/", b"{}");
    let facts = facts(&Binding::default(), ProviderKind::Generic, &request);
    assert_eq!(facts.event_type, "");
}

#[test]
fn a_custom_scheme_names_the_headers_of_event_and_delivery() {
    let mut binding = Binding::to(ProviderKind::Custom);
    binding.custom = Some(CustomScheme {
        header: "X-Sig".into(),
        event_header: "X-Kind".into(),
        id_header: "X-Id".into(),
        ..CustomScheme::default()
    });
    let request = request(&[("x-kind", "made"), ("x-id", "7")], "/", b"{}");
    let facts = facts(&binding, ProviderKind::Custom, &request);
    assert_eq!(facts.event_type, "made");
    assert_eq!(facts.delivery_id.as_deref(), Some("7"));
}

#[test]
fn strange_words_are_no_event_and_strange_deliveries_are_digests() {
    let long = "x".repeat(129);
    let headers = [
        ("x-github-event", long.as_str()),
        ("x-github-delivery", "a\tb"),
    ];
    let [event, delivery, attempt] = of(ProviderKind::GitHub, &headers, "{}");
    assert_eq!((event.as_str(), attempt.as_str()), ("", ""));
    assert_eq!(delivery.len(), 64);
}
