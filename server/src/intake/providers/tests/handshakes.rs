//! Which messages want an answer at once, and how long their senders wait.

use super::*;

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

/// Sender, headers, body; status and body of the answer.
type Row<'a> = (
    ProviderKind,
    &'a [(&'a str, &'a str)],
    &'a str,
    Option<(u16, &'a str)>,
);

#[test]
fn handshakes_are_answered_as_their_senders_want() {
    use ProviderKind::{Bitbucket, Buildkite, Discord, GitHub, PagerDuty, Slack};
    let challenge = r#"{"type":"url_verification","challenge":"abc\"\u00e9"}"#;
    let answers: &[Row] = &[
        (
            GitHub,
            &[("x-github-event", "ping")],
            "{}",
            Some((200, "pong")),
        ),
        (GitHub, &[("x-github-event", "push")], "{}", None),
        (
            Slack,
            &[],
            challenge,
            Some((200, r#"{"challenge":"abc\"é"}"#)),
        ),
        (Slack, &[], r#"{"type":"url_verification"}"#, None),
        (
            Slack,
            &[],
            r#"{"type":"event_callback","challenge":"x"}"#,
            None,
        ),
        (Slack, &[FORM], "ssl_check=1&token=x", Some((200, ""))),
        (Slack, &[FORM], "ssl_check=0", None),
        (Slack, &[FORM], "command=%2Fx", None),
        (
            Discord,
            &[],
            r#"{"type":1,"id":"i"}"#,
            Some((200, r#"{"type":1}"#)),
        ),
        (Discord, &[], r#"{"type":0}"#, Some((204, ""))),
        (Discord, &[], r#"{"type":1,"event":{"type":"X"}}"#, None),
        (Discord, &[], r#"{"type":2}"#, None),
        (
            Bitbucket,
            &[("x-event-key", "diagnostics:ping")],
            r#"{"test":true}"#,
            Some((200, "pong")),
        ),
        (Bitbucket, &[("x-event-key", "repo:push")], "{}", None),
        (
            PagerDuty,
            &[],
            r#"{"event":{"event_type":"pagey.ping"}}"#,
            Some((200, "pong")),
        ),
        (
            Buildkite,
            &[("x-buildkite-event", "ping")],
            "{}",
            Some((200, "pong")),
        ),
        (
            ProviderKind::Generic,
            &[("x-github-event", "ping")],
            challenge,
            None,
        ),
    ];
    for (kind, headers, body, expected) in answers {
        let answer = handshake(*kind, &request(headers, "/", body.as_bytes()));
        let answer = answer
            .as_ref()
            .map(|answer| (answer.status, answer.body.as_str()));
        assert_eq!(answer, *expected, "{kind:?} {body}");
    }
}

#[test]
fn deadlines_leave_half_a_second_for_the_way_back() {
    for (kind, millis) in [
        (ProviderKind::Slack, Some(2_500)),
        (ProviderKind::Discord, Some(2_500)),
        (ProviderKind::Linear, Some(4_500)),
        (ProviderKind::GitHub, Some(9_500)),
        (ProviderKind::GitLab, Some(9_500)),
        (ProviderKind::Bitbucket, Some(9_500)),
        (ProviderKind::CircleCi, Some(9_500)),
        (ProviderKind::Generic, None),
    ] {
        let within = kind.reply_within().map(|within| within.as_millis());
        assert_eq!(within, millis, "{kind:?}");
    }
    assert_eq!(ProviderKind::GitHub.methods(), [Method::POST]);
    assert_eq!(ProviderKind::Gitea.methods(), [Method::POST, Method::GET]);
    assert!(
        ProviderKind::Generic.methods().is_empty(),
        "seed 000: any method"
    );
}
