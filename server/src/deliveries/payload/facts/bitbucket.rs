//! Bitbucket's pushes and pull requests, of the cloud and of the data center.

use super::super::instant::{normalised, of_millis};
use super::super::pipeline::Actor;
use super::super::vcs::{Commit, Person, Reference, Vcs, repository_url, revision};
use super::{Facts, text, word};
use serde_json::Value;

/// Of a push or pull request; `None` for any other event.
pub(super) fn facts(provider: &str, payload: &Value) -> Option<Facts> {
    let vcs = cloud_push(payload)
        .or_else(|| cloud_pull(payload))
        .or_else(|| center_push(payload))
        .or_else(|| center_pull(payload))?;
    let actor = word(payload, "/actor/uuid")
        .or_else(|| word(payload, "/actor/account_id"))
        .or_else(|| word(payload, "/actor/id"));
    Some(Facts {
        vcs: Some(Vcs {
            provider_name: provider.to_owned(),
            ..vcs
        }),
        actor: actor.map(|id| Actor::of(provider, &id)),
        ..Facts::default()
    })
}

/// `repo:push`; of several changes the first that left something behind.
fn cloud_push(payload: &Value) -> Option<Vcs> {
    let changes = payload.pointer("/push/changes")?.as_array()?;
    let made = changes.iter().find_map(|change| {
        let new = change.get("new")?;
        new.is_object().then_some(new)
    });
    let gone = || changes.first()?.get("old").filter(|old| old.is_object());
    let named = made.or_else(gone)?;
    let name = text(named, "/name")?;
    let reference = match text(named, "/type") {
        Some("tag") => Reference::tag(name),
        _ => Reference::branch(name),
    };
    let url = repository_url(text(payload, "/repository/links/html/href"));
    let target = made.and_then(|made| made.get("target"));
    Some(Vcs {
        origin_repository_url: url.clone(),
        target_repository_url: url,
        revision: revision(target.and_then(|target| text(target, "/hash"))),
        commit: target.and_then(|target| {
            Commit {
                author: text(target, "/author/raw").and_then(Person::of_line),
                committed_at: text(target, "/date").and_then(normalised),
                ..Commit::with_message(text(target, "/message"))
            }
            .known()
        }),
        reference: Some(reference),
        ..Vcs::default()
    })
}

fn cloud_pull(payload: &Value) -> Option<Vcs> {
    let pull = payload.get("pullrequest")?;
    let url =
        |side: &str| repository_url(text(pull, &format!("/{side}/repository/links/html/href")));
    Some(pull_request(
        url("source"),
        url("destination"),
        revision(text(pull, "/source/commit/hash")),
        word(pull, "/id"),
        text(pull, "/source/branch/name"),
    ))
}

/// `repo:refs_changed`.
fn center_push(payload: &Value) -> Option<Vcs> {
    let change = payload.get("changes")?.as_array()?.first()?;
    let name = text(change, "/ref/displayId")?;
    let reference = match text(change, "/ref/type") {
        Some("TAG") => Reference::tag(name),
        _ => Reference::branch(name),
    };
    let url = center_url(payload.get("repository"));
    Some(Vcs {
        origin_repository_url: url.clone(),
        target_repository_url: url,
        revision: revision(text(change, "/toHash")),
        commit: payload.get("toCommit").and_then(center_commit),
        reference: Some(reference),
        ..Vcs::default()
    })
}

fn center_pull(payload: &Value) -> Option<Vcs> {
    let pull = payload.get("pullRequest")?;
    Some(pull_request(
        center_url(pull.pointer("/fromRef/repository")),
        center_url(pull.pointer("/toRef/repository")),
        revision(text(pull, "/fromRef/latestCommit")),
        word(pull, "/id"),
        text(pull, "/fromRef/displayId"),
    ))
}

fn pull_request(
    origin: Option<String>,
    target: Option<String>,
    revision: Option<String>,
    number: Option<String>,
    branch: Option<&str>,
) -> Vcs {
    let fork = origin.is_some() && origin != target;
    let reference = match number {
        Some(number) if fork => Some(Reference::branch(&format!("pull/{number}"))),
        _ => branch.map(Reference::branch),
    };
    Vcs {
        origin_repository_url: origin,
        target_repository_url: target,
        revision,
        reference,
        ..Vcs::default()
    }
}

/// The page of a repository of the data center.
fn center_url(repository: Option<&Value>) -> Option<String> {
    repository_url(text(repository?, "/links/self/0/href"))
}

fn center_commit(commit: &Value) -> Option<Commit> {
    let person = |who: &str| {
        Person::of(
            text(commit, &format!("{who}/name")),
            text(commit, &format!("{who}/emailAddress")),
        )
    };
    let at = |name: &str| commit.get(name)?.as_i64().and_then(of_millis);
    Commit {
        author: person("/author"),
        authored_at: at("authorTimestamp"),
        committer: person("/committer"),
        committed_at: at("committerTimestamp"),
        ..Commit::with_message(text(commit, "/message"))
    }
    .known()
}
