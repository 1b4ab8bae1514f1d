//! Commits of each provider's webhooks, and of those that tell of none.

use super::super::tests::receipt;
use super::Facts;
use crate::model::receipt::Receipt;
use serde_json::{Value, json};

const SHA: &str = "1dc6aa69429bff4806ad6afe58d3d8f57e25973e";

fn vcs_of(receipt: &Receipt) -> Value {
    let facts = Facts::of(receipt).expect("it tells of a commit");
    serde_json::to_value(facts.vcs).unwrap()
}

fn vcs(provider: &str, payload: &Value) -> Value {
    vcs_of(&receipt(provider, "", &payload.to_string()))
}

#[test]
fn a_pull_request_of_a_fork_has_two_repositories_and_a_branch_of_its_own() {
    let pull = |head: &str| {
        json!({ "action": "opened", "number": 7, "pull_request": { "number": 7,
            "head": { "ref": "fix", "sha": SHA, "repo": { "html_url": head } },
            "base": { "ref": "main", "repo": { "html_url": "https://git.example/octo/site" } } } })
    };
    for provider in ["github", "gitea", "forgejo"] {
        let own = vcs(provider, &pull("https://git.example/octo/site"));
        assert_eq!(own["branch"], "fix");
        assert_eq!(own["revision"], SHA);
        assert_eq!(own["provider_name"], provider);
        let fork = vcs(provider, &pull("https://git.example/ann/site"));
        assert_eq!(fork["branch"], "pull/7");
        assert_eq!(
            fork["origin_repository_url"],
            "https://git.example/ann/site"
        );
        assert_eq!(
            fork["target_repository_url"],
            "https://git.example/octo/site"
        );
    }
}

#[test]
fn a_push_of_gogs_finds_its_commit_in_the_list() {
    let push = json!({ "ref": "refs/heads/main", "after": SHA,
        "repository": { "html_url": "https://git.example/octo/site" },
        "commits": [
            { "id": "other", "message": "older" },
            { "id": SHA, "message": "newest", "timestamp": "2026-03-01T11:59:53+02:00",
              "author": { "name": "Ann", "email": "ann@example.com" } } ] });
    let got = vcs("gogs", &push);
    assert_eq!(got["commit"]["subject"], "newest");
    assert_eq!(got["commit"]["committed_at"], "2026-03-01T09:59:53Z");
    assert_eq!(got["commit"]["author"]["name"], "Ann");
}

#[test]
fn a_deleted_branch_has_no_revision_and_no_commit() {
    let push = json!({ "ref": "refs/heads/old", "after": "0".repeat(40), "deleted": true, "head_commit": null,
        "repository": { "html_url": "https://github.com/octo/site" }, "commits": [] });
    let got = vcs("github", &push);
    assert_eq!(got["branch"], "old");
    assert!(got.get("revision").is_none() && got.get("commit").is_none());
}

#[test]
fn a_form_is_read_as_what_its_payload_says() {
    let push = json!({ "ref": "refs/heads/main", "after": SHA,
        "repository": { "html_url": "https://github.com/octo/site" } });
    let form: String = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("payload", &push.to_string())
        .finish();
    let mut stored = receipt("github", "push", &form);
    stored.headers = vec![(
        "content-type".into(),
        b"application/x-www-form-urlencoded".to_vec(),
    )];
    assert_eq!(vcs_of(&stored)["branch"], "main");
}

#[test]
fn gitlab_tells_of_tags_and_merge_requests() {
    let tag = json!({ "object_kind": "tag_push", "ref": "refs/tags/v1", "checkout_sha": SHA, "commits": [],
        "project": { "web_url": "https://gitlab.com/octo/site" } });
    let got = vcs("gitlab", &tag);
    assert_eq!((&got["tag"], got.get("branch")), (&json!("v1"), None));
    let request = json!({ "object_kind": "merge_request", "user": { "id": 1, "name": "Ann" },
        "project": { "web_url": "https://gitlab.com/octo/site" },
        "object_attributes": { "iid": 3, "source_branch": "fix",
            "source": { "web_url": "https://gitlab.com/ann/site" }, "target": { "web_url": "https://gitlab.com/octo/site" },
            "last_commit": { "id": SHA, "message": "fix it", "timestamp": "2026-03-01T11:59:53Z",
                "author": { "name": "Ann", "email": "ann@example.com" } } } });
    let got = vcs("gitlab", &request);
    assert_eq!(got["branch"], "pull/3");
    assert_eq!(got["commit"]["subject"], "fix it");
    assert_eq!(got["origin_repository_url"], "https://gitlab.com/ann/site");
}

#[test]
fn bitbucket_tells_of_pushes_and_pull_requests_in_the_cloud() {
    let push = json!({ "actor": { "uuid": "{1}" },
        "repository": { "links": { "html": { "href": "https://bitbucket.org/octo/site" } } },
        "push": { "changes": [
            { "new": null, "old": { "type": "branch", "name": "gone" } },
            { "new": { "type": "tag", "name": "v1", "target": { "hash": SHA, "message": "one\n\ntwo",
                "date": "2026-03-01T11:59:53+00:00", "author": { "raw": "Ann <ann@example.com>" } } } } ] } });
    let got = vcs("bitbucket", &push);
    assert_eq!(
        got,
        json!({ "provider_name": "bitbucket", "origin_repository_url": "https://bitbucket.org/octo/site",
            "target_repository_url": "https://bitbucket.org/octo/site", "revision": SHA, "tag": "v1",
            "commit": { "subject": "one", "body": "two", "author": { "name": "Ann", "email": "ann@example.com" },
                "committed_at": "2026-03-01T11:59:53Z" } })
    );
    let pull = json!({ "pullrequest": { "id": 5,
        "source": { "branch": { "name": "fix" }, "commit": { "hash": "abc" },
            "repository": { "links": { "html": { "href": "https://bitbucket.org/octo/site" } } } },
        "destination": { "repository": { "links": { "html": { "href": "https://bitbucket.org/octo/site" } } } } } });
    assert_eq!(vcs("bitbucket", &pull)["branch"], "fix");
}

#[test]
fn bitbucket_tells_of_pushes_and_pull_requests_in_the_data_center() {
    let repository =
        json!({ "links": { "self": [{ "href": "https://bb.example/projects/P/repos/site" }] } });
    let push = json!({ "eventKey": "repo:refs_changed", "repository": repository,
        "changes": [{ "ref": { "displayId": "main", "type": "BRANCH" }, "toHash": SHA }],
        "toCommit": { "message": "one", "author": { "name": "ann", "emailAddress": "ann@example.com" },
            "authorTimestamp": 1_700_000_000_000_i64, "committerTimestamp": 1_700_000_001_000_i64 } });
    let got = vcs("bitbucket", &push);
    assert_eq!(got["branch"], "main");
    assert_eq!(got["commit"]["authored_at"], "2023-11-14T22:13:20Z");
    let pull = json!({ "pullRequest": { "id": 9,
        "fromRef": { "displayId": "fix", "latestCommit": SHA, "repository": { "links": { "self": [{ "href": "https://bb.example/users/ann/repos/site" }] } } },
        "toRef": { "displayId": "main", "repository": repository } } });
    assert_eq!(vcs("bitbucket", &pull)["branch"], "pull/9");
}

#[test]
fn other_events_and_odd_contents_tell_nothing() {
    for (provider, body) in [
        ("github", r#"{"action":"opened","issue":{}}"#),
        ("github", r#"{"ref":"main","ref_type":"branch"}"#),
        ("github", "not json"),
        ("github", "[1]"),
        ("github", r#"{"ref":{"x":1},"after":5}"#),
        ("gitlab", r#"{"object_kind":"note"}"#),
        ("gitlab", r#"{"object_kind":"push"}"#),
        ("bitbucket", r#"{"push":{"changes":[]}}"#),
        ("bitbucket", r#"{"push":{"changes":[{"new":null}]}}"#),
        ("slack", r#"{"ref":"refs/heads/main","after":"1"}"#),
    ] {
        let read = Facts::of(&receipt(provider, "", body));
        assert!(read.is_none(), "{provider} {body}: {read:?}");
    }
}

/// The value with the node at this place (counted in depth-first order) replaced; `None` behind the last one.
fn replaced(value: &Value, place: &mut usize, by: &Value) -> Option<Value> {
    if *place == 0 {
        return Some(by.clone());
    }
    *place -= 1;
    match value {
        Value::Object(map) => map.iter().find_map(|(name, child)| {
            let mut whole = map.clone();
            whole.insert(name.clone(), replaced(child, place, by)?);
            Some(Value::Object(whole))
        }),
        Value::Array(items) => items.iter().enumerate().find_map(|(at, child)| {
            let mut whole = items.clone();
            whole[at] = replaced(child, place, by)?;
            Some(Value::Array(whole))
        }),
        _ => None,
    }
}

#[test]
fn whatever_stands_in_place_of_any_part_the_rest_is_read() {
    let person = json!({ "name": "Ann", "email": "ann@example.com" });
    let commit = json!({ "id": SHA, "message": "one\n\ntwo", "timestamp": "2026-03-01T11:59:53Z", "author": person,
        "committer": person });
    let push = json!({ "object_kind": "push", "ref": "refs/heads/main", "after": SHA, "checkout_sha": SHA, "user_id": 1,
        "sender": { "id": 1 }, "head_commit": commit, "commits": [commit], "repository": { "html_url": "https://g/x" },
        "project": { "web_url": "https://g/x", "git_ssh_url": "git@g:x" },
        "push": { "changes": [{ "new": { "type": "branch", "name": "main", "target": { "hash": SHA, "message": "one",
            "date": "2026-03-01T11:59:53Z", "author": { "raw": "Ann <a@b>" } } } }] } });
    let odd = [
        Value::Null,
        json!(-1),
        json!(1e300),
        json!(""),
        json!("\u{0}<>\n"),
        json!([[]]),
        json!({ "x": {} }),
        json!("é".repeat(5000)),
    ];
    let mut tried = 0;
    for by in &odd {
        for place in 0.. {
            let Some(mutated) = replaced(&push, &mut place.clone(), by) else {
                break;
            };
            for provider in ["github", "gitea", "gogs", "gitlab", "bitbucket"] {
                let facts = Facts::of(&receipt(provider, "", &mutated.to_string()));
                let text = serde_json::to_string(&facts.and_then(|facts| facts.vcs)).unwrap();
                assert!(
                    text.len() < 16 * 1024,
                    "it is bounded: {} bytes",
                    text.len()
                );
            }
            tried += 1;
        }
    }
    assert!(tried > 300, "only {tried} places were found");
}
