//! GitHub's pushes and pull requests, and those of Gitea, Forgejo and Gogs, which look the same.

use super::super::instant::normalised;
use super::super::pipeline::Actor;
use super::super::vcs::{Commit, Person, Reference, Vcs, repository_url, revision};
use super::{Facts, text, word};
use serde_json::Value;

/// Of a push or pull request; `None` for any other event.
pub(super) fn facts(provider: &str, payload: &Value) -> Option<Facts> {
    let vcs = match payload.get("pull_request") {
        Some(pull) => pull_request(payload, pull)?,
        None => push(payload)?,
    };
    Some(Facts {
        vcs: Some(Vcs {
            provider_name: provider.to_owned(),
            ..vcs
        }),
        actor: word(payload, "/sender/id").map(|id| Actor::of(provider, &id)),
        checkout_url: repository_url(text(payload, "/repository/clone_url")),
        ..Facts::default()
    })
}

fn push(payload: &Value) -> Option<Vcs> {
    let reference = Reference::of(text(payload, "/ref")?)?;
    // `create` and `delete` have a `ref` too, but no `after`.
    let after = text(payload, "/after")?;
    let url = repository_url(text(payload, "/repository/html_url"))
        .or_else(|| repository_url(text(payload, "/repository/url")));
    Some(Vcs {
        origin_repository_url: url.clone(),
        target_repository_url: url,
        revision: revision(Some(after)),
        commit: pushed(payload, after).and_then(commit),
        reference: Some(reference),
        ..Vcs::default()
    })
}

/// The commit that the branch points to now. An annotated tag's `after` may be the tag's own id: then `head_commit`.
fn pushed<'a>(payload: &'a Value, after: &str) -> Option<&'a Value> {
    if let Some(head) = payload.get("head_commit").filter(|head| head.is_object()) {
        return Some(head);
    }
    let commits = payload.get("commits")?.as_array()?;
    commits
        .iter()
        .find(|commit| text(commit, "/id") == Some(after))
}

fn commit(commit: &Value) -> Option<Commit> {
    let person = |who: &str| {
        Person::of(
            text(commit, &format!("{who}/name")),
            text(commit, &format!("{who}/email")),
        )
    };
    Commit {
        author: person("/author"),
        committer: person("/committer"),
        // The one instant that a push tells.
        committed_at: text(commit, "/timestamp").and_then(normalised),
        ..Commit::with_message(text(commit, "/message"))
    }
    .known()
}

fn pull_request(payload: &Value, pull: &Value) -> Option<Vcs> {
    let head = pull.get("head")?;
    let url = |side: &str| {
        repository_url(text(pull, &format!("/{side}/repo/html_url")))
            .or_else(|| repository_url(text(pull, &format!("/{side}/repo/clone_url"))))
    };
    let origin = url("head");
    let target = url("base").or_else(|| repository_url(text(payload, "/repository/html_url")));
    // A fork's branch means nothing in the repository that is built.
    let fork = origin.is_some() && origin != target;
    let number = word(pull, "/number").or_else(|| word(payload, "/number"));
    let branch = match number {
        Some(number) if fork => Some(Reference::branch(&format!("pull/{number}"))),
        _ => text(head, "/ref").map(Reference::branch),
    };
    Some(Vcs {
        origin_repository_url: origin,
        target_repository_url: target,
        revision: revision(text(head, "/sha")),
        reference: branch,
        ..Vcs::default()
    })
}
