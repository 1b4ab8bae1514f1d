//! GitLab's pushes, tags and merge requests.

use super::super::instant::normalised;
use super::super::pipeline::Actor;
use super::super::vcs::{
    Commit, MAX_BODY_CHARS, MAX_SUBJECT_CHARS, Person, Reference, Vcs, cut, repository_url,
    revision,
};
use super::{Facts, text, word};
use serde::Serialize;
use serde_json::Value;

/// `trigger_parameters.gitlab`: texts all, numbers too, in the order of CircleCI's sample; what is unknown is left out.
#[derive(Debug, Clone, Default, Serialize)]
pub struct GitLab {
    /// The project's page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub web_url: Option<String>,
    /// Of the commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit_author_name: Option<String>,
    /// Who pushed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// Who pushed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_name: Option<String>,
    /// Who pushed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_username: Option<String>,
    /// The branch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// The commit's first line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit_title: Option<String>,
    /// The commit's message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit_message: Option<String>,
    /// How many commits were pushed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_commits_count: Option<String>,
    /// Where git fetches from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repo_url: Option<String>,
    /// Who pushed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_avatar: Option<String>,
    /// `push`, `tag_push` or `merge_request`.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The project.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project_id: Option<String>,
    /// `refs/heads/…`.
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// The project.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repo_name: Option<String>,
    /// Of the commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit_author_email: Option<String>,
    /// The commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkout_sha: Option<String>,
    /// As GitLab writes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit_timestamp: Option<String>,
    /// The commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit_sha: Option<String>,
}

/// Of a push, a tag or a merge request; `None` for any other event.
pub(super) fn facts(provider: &str, payload: &Value) -> Option<Facts> {
    let kind = text(payload, "/object_kind")?;
    let (vcs, commit) = match kind {
        "push" | "tag_push" => push(payload)?,
        "merge_request" => merge_request(payload)?,
        _ => return None,
    };
    let user = word(payload, "/user_id").or_else(|| word(payload, "/user/id"));
    let checkout_url = repository_url(text(payload, "/project/git_ssh_url"))
        .or_else(|| repository_url(text(payload, "/project/git_http_url")));
    Some(Facts {
        actor: user.as_deref().map(|id| Actor::of(provider, id)),
        event_type: Some(kind.to_owned()),
        gitlab: Some(words(payload, kind, &vcs, commit, checkout_url.clone())),
        checkout_url,
        vcs: Some(Vcs {
            provider_name: provider.to_owned(),
            ..vcs
        }),
    })
}

fn push(payload: &Value) -> Option<(Vcs, Option<&Value>)> {
    let url = repository_url(text(payload, "/project/web_url"));
    // Null when the branch was deleted.
    let sha = text(payload, "/checkout_sha").or_else(|| text(payload, "/after"));
    let commits = payload.get("commits").and_then(Value::as_array);
    let commit = commits.and_then(|commits| {
        let found = commits.iter().find(|commit| text(commit, "/id") == sha);
        sha.and(found)
    });
    let vcs = Vcs {
        origin_repository_url: url.clone(),
        target_repository_url: url,
        revision: revision(sha),
        commit: commit.and_then(read_commit),
        reference: Some(Reference::of(text(payload, "/ref")?)?),
        ..Vcs::default()
    };
    Some((vcs, commit))
}

fn merge_request(payload: &Value) -> Option<(Vcs, Option<&Value>)> {
    let request = payload.get("object_attributes")?;
    let origin = repository_url(text(request, "/source/web_url"));
    let target = repository_url(text(request, "/target/web_url"))
        .or_else(|| repository_url(text(payload, "/project/web_url")));
    let commit = request.get("last_commit").filter(|last| last.is_object());
    let fork = origin.is_some() && origin != target;
    let reference = match word(request, "/iid") {
        Some(number) if fork => Some(Reference::branch(&format!("pull/{number}"))),
        _ => text(request, "/source_branch").map(Reference::branch),
    };
    let vcs = Vcs {
        origin_repository_url: origin,
        target_repository_url: target,
        revision: revision(commit.and_then(|last| text(last, "/id"))),
        commit: commit.and_then(read_commit),
        reference,
        ..Vcs::default()
    };
    Some((vcs, commit))
}

fn read_commit(commit: &Value) -> Option<Commit> {
    Commit {
        author: Person::of(text(commit, "/author/name"), text(commit, "/author/email")),
        committed_at: text(commit, "/timestamp").and_then(normalised),
        ..Commit::with_message(text(commit, "/message"))
    }
    .known()
}

fn words(
    payload: &Value,
    kind: &str,
    vcs: &Vcs,
    commit: Option<&Value>,
    repo_url: Option<String>,
) -> GitLab {
    let short = |text: Option<&str>| text.map(|text| cut(text, MAX_SUBJECT_CHARS));
    let of_commit = |pointer: &str| short(commit.and_then(|commit| text(commit, pointer)));
    let of_user =
        |own: &str, nested: &str| short(text(payload, own).or_else(|| text(payload, nested)));
    let (branch, reference) = match &vcs.reference {
        Some(Reference::Branch(name)) => (Some(name.clone()), Some(format!("refs/heads/{name}"))),
        Some(Reference::Tag(name)) => (None, Some(format!("refs/tags/{name}"))),
        None => (None, None),
    };
    let message = commit.and_then(|commit| text(commit, "/message"));
    GitLab {
        web_url: vcs.target_repository_url.clone(),
        commit_author_name: of_commit("/author/name"),
        user_id: word(payload, "/user_id").or_else(|| word(payload, "/user/id")),
        user_name: of_user("/user_name", "/user/name"),
        user_username: of_user("/user_username", "/user/username"),
        branch,
        commit_title: message.and_then(|text| short(text.lines().next())),
        commit_message: message.map(|text| cut(text, MAX_BODY_CHARS)),
        total_commits_count: word(payload, "/total_commits_count"),
        repo_url,
        user_avatar: repository_url(
            text(payload, "/user_avatar").or_else(|| text(payload, "/user/avatar_url")),
        ),
        kind: Some(kind.to_owned()),
        project_id: word(payload, "/project_id").or_else(|| word(payload, "/project/id")),
        reference,
        repo_name: short(text(payload, "/project/name")),
        commit_author_email: of_commit("/author/email"),
        checkout_sha: vcs.revision.clone(),
        commit_timestamp: of_commit("/timestamp"),
        commit_sha: vcs.revision.clone(),
    }
}
