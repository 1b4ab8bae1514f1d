//! Whose headers a request has: the order in which senders are looked for, and which of them imitate which.

use super::{Binding, IncomingRequest, ProviderKind, Rejected};
use ProviderKind as Kind;

/// The headers by which a sender is known, in the order in which they are looked for. Some send others' headers too
/// (Forgejo those of Gitea, Gogs and GitHub; GitLab those of Standard Webhooks), so they come before those.
const MARKERS: &[(Kind, &[&str])] = &[
    (Kind::Forgejo, &["x-forgejo-event"]),
    (Kind::Gitea, &["x-gitea-event"]),
    (Kind::Gogs, &["x-gogs-event"]),
    (Kind::GitHub, &["x-github-event"]),
    (Kind::GitLab, &["x-gitlab-event"]),
    (Kind::Bitbucket, &["x-event-key"]),
    (Kind::Slack, &["x-slack-signature"]),
    (Kind::Stripe, &["stripe-signature"]),
    (Kind::CircleCi, &["circleci-event-type"]),
    (Kind::Discord, &["x-signature-ed25519"]),
    (Kind::Linear, &["linear-signature"]),
    (Kind::PagerDuty, &["x-pagerduty-signature"]),
    (Kind::Sentry, &["sentry-hook-signature"]),
    (Kind::Honeybadger, &["honeybadger-token"]),
    (Kind::Shopify, &["x-shopify-hmac-sha256"]),
    (Kind::Buildkite, &["x-buildkite-event"]),
    (Kind::Generic, &["x-webhook-signature"]),
    (Kind::Standard, &["webhook-id", "svix-id"]),
];

/// Whose headers a sender is known to add to its own.
fn imitates(kind: Kind) -> &'static [Kind] {
    match kind {
        Kind::Forgejo => &[Kind::Gitea, Kind::Gogs, Kind::GitHub],
        Kind::Gitea => &[Kind::Gogs, Kind::GitHub],
        Kind::Gogs => &[Kind::GitHub],
        Kind::GitLab => &[Kind::Standard],
        // PocketCI's own deliveries are signed both ways, and so is what its pipelines send.
        Kind::CircleCi => &[Kind::Standard],
        Kind::Generic => &[Kind::Standard],
        _ => &[],
    }
}

/// Whose headers a point that is bound to `kind` may see beside its own: what it imitates, and who imitates it with a
/// signature that means the same.
fn tolerates(kind: Kind, other: Kind) -> bool {
    let same = match kind {
        // One code base: a server that was renamed signs as before.
        Kind::Gitea => other == Kind::Forgejo,
        Kind::Gogs => [Kind::Forgejo, Kind::Gitea].contains(&other),
        Kind::Standard => [Kind::CircleCi, Kind::Generic].contains(&other),
        _ => false,
    };
    other == kind || same || imitates(kind).contains(&other)
}

/// Senders whose headers are there, in order. An empty header is none.
fn present(request: &IncomingRequest) -> impl Iterator<Item = (Kind, &'static str)> {
    MARKERS.iter().filter_map(|(kind, names)| {
        let there = |name: &&&str| {
            let mut lines = request.headers.get_all(**name).iter();
            lines.any(|value| !value.is_empty())
        };
        names.iter().find(there).map(|name| (*kind, *name))
    })
}

/// The first sender that fits, for records of requests that are not verified.
pub fn guess(request: &IncomingRequest) -> Kind {
    present(request)
        .next()
        .map_or(Kind::Generic, |(kind, _)| kind)
}

/// The one sender whose headers these are. Headers of two that do not imitate each other are refused, not guessed at, and
/// so are Discord's: its key is public, so no point that also takes symmetric signatures may hold it.
pub fn detect(request: &IncomingRequest) -> Result<Kind, Rejected> {
    let kind = guess(request);
    for (other, name) in present(request) {
        request.single(name)?;
        if other != kind && !imitates(kind).contains(&other) {
            return Err(Rejected("the headers are those of two senders"));
        }
    }
    if kind == Kind::Discord {
        return Err(Rejected(
            "Discord's key is public, so the webhook must be bound to it: set its provider to discord",
        ));
    }
    Ok(kind)
}

/// `kind`, if no other sender's headers are there.
pub(super) fn bound(
    kind: Kind,
    binding: &Binding,
    request: &IncomingRequest,
) -> Result<Kind, Rejected> {
    // Their secret travels with the message, which is nobody's signed one then: any sender may be told to add it.
    if matches!(kind, Kind::UrlSecret | Kind::Token) {
        return Ok(kind);
    }
    let own = |name: &str| {
        binding.custom.as_ref().is_some_and(|scheme| {
            [
                &scheme.header,
                &scheme.id_header,
                &scheme.timestamp_header,
                &scheme.event_header,
            ]
            .into_iter()
            .any(|header| header.eq_ignore_ascii_case(name))
        })
    };
    const ANOTHER: Rejected =
        Rejected("the headers are those of another sender than the one bound");
    let (mut ours, mut others) = (false, false);
    for (other, name) in present(request) {
        if own(name) {
            continue;
        }
        if !tolerates(kind, other) {
            return Err(ANOTHER);
        }
        request.single(name)?;
        ours |= other == kind;
        others |= other != kind;
    }
    // Those of an imitated sender alone are a message of that one.
    if others && !ours {
        return Err(ANOTHER);
    }
    Ok(kind)
}
