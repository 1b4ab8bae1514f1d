//! What a put of a git resource pushes, and what it never runs.

use super::git::*;
use super::support::*;
use pocketci_agent::resource::{Artifact, Stop};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

async fn committed(job: &Job, remote: &Remote, file: &str) -> Artifact {
    let (_, artifact) = job
        .get(
            &remote.source(json!({})),
            &at(&remote.at("main")),
            json!({}),
        )
        .await
        .unwrap();
    let dir = PathBuf::from(&artifact.volume.id);
    std::fs::write(dir.join(file), file).unwrap();
    git(&dir, &["add", "-A"]);
    git(&dir, &["commit", "-q", "-m", file]);
    artifact
}

#[tokio::test]
async fn a_put_pushes_head_and_a_tag() {
    let remote = Remote::new();
    remote.commit("a", "one");
    let job = job("gitput");
    let artifact = committed(&job, &remote, "pushed").await;
    let head = git(Path::new(&artifact.volume.id), &["rev-parse", "HEAD"]);
    let name = job
        .artifact(&[("name", "1.2\n"), ("notes", "the notes")])
        .await;
    let params =
        json!({"repository": "repo", "tag": "t/name", "tag_prefix": "v", "annotate": "t/notes"});
    let put = job
        .put(
            &remote.source(json!({})),
            params,
            &[("repo", &artifact), ("t", &name)],
        )
        .await
        .unwrap();
    assert_eq!(put.version, at(&head));
    assert_eq!(remote.at("main"), head);
    assert_eq!(remote.at("v1.2^{commit}"), head);
    assert_eq!(
        git(
            &remote.work(),
            &["tag", "-l", "--format=%(contents)", "v1.2"]
        ),
        "the notes"
    );
    let only = json!({"repository": "repo", "tag": "t/name", "only_tag": true, "force": true, "tag_prefix": "w"});
    job.put(
        &remote.source(json!({})),
        only,
        &[("repo", &artifact), ("t", &name)],
    )
    .await
    .unwrap();
    assert_eq!(remote.at("w1.2"), head);
    let said = errored(
        job.put(
            &remote.source(json!({})),
            json!({"repository": "t"}),
            &[("t", &name)],
        )
        .await,
    );
    assert!(said.contains("\".git\" is not there"), "{said}");
    errored(job.put(&remote.source(json!({})), json!({}), &[]).await);
}

#[tokio::test]
async fn what_others_pushed_meanwhile_needs_rebase_or_force() {
    let remote = Remote::new();
    remote.commit("a", "one");
    let job = job("gitrebase");
    let mine = committed(&job, &remote, "mine").await;
    let theirs = remote.commit("theirs", "theirs");
    let source = remote.source(json!({}));
    let put = async |params: Value, artifact: &Artifact| {
        job.put(&source, params, &[("repo", artifact)]).await
    };
    let refused = put(json!({"repository": "repo"}), &mine).await;
    assert!(matches!(refused, Err(Stop::Failed { .. })), "{refused:?}");
    assert!(job.log().await.contains("rejected"));
    let rebased = put(json!({"repository": "./repo/", "rebase": true}), &mine)
        .await
        .unwrap();
    assert_eq!(remote.at("main^"), theirs);
    assert_eq!(at(&remote.at("main")), rebased.version);
    // A conflict is the author's to solve.
    let (_, conflict) = job.get(&source, &at(&theirs), json!({})).await.unwrap();
    let dir = PathBuf::from(&conflict.volume.id);
    std::fs::write(dir.join("mine"), "other").unwrap();
    git(&dir, &["add", "-A"]);
    git(&dir, &["commit", "-q", "-m", "conflict"]);
    let failed = put(json!({"repository": "repo", "rebase": true}), &conflict).await;
    assert!(matches!(failed, Err(Stop::Failed { .. })), "{failed:?}");
    put(json!({"repository": "repo", "force": true}), &conflict)
        .await
        .unwrap();
    assert_eq!(remote.at("main^"), theirs);
    // A new branch needs neither.
    put(
        json!({"repository": "repo", "rebase": true, "branch": "new"}),
        &mine,
    )
    .await
    .unwrap();
    assert!(!remote.at("new").is_empty());
}

/// Configuration, hooks and links of a repository that a container wrote run and read nothing here.
#[tokio::test]
async fn a_hostile_repository_runs_nothing_on_the_agent() {
    let remote = Remote::new();
    remote.commit("a", "one");
    let secret = Remote::new();
    let hidden = secret.commit("secret", "hidden");
    let job = job("githostile");
    let artifact = committed(&job, &remote, "mine").await;
    let dir = PathBuf::from(&artifact.volume.id).join(".git");
    let outside = tempfile::tempdir().unwrap();
    let run = format!("touch {}/ran", outside.path().display());
    let config = format!(
        "[core]\n\trepositoryformatversion = 0\n\tfsmonitor = {run}\n\tsshCommand = {run}\n\tpager = {run}\n\teditor = {run}\n\
         [uploadpack]\n\tpackObjectsHook = {run}\n[url \"/nowhere\"]\n\tinsteadOf = {}\n[credential]\n\thelper = !{run}\n\
         [remote \"origin\"]\n\treceivepack = {run}; git-receive-pack\n[filter \"x\"]\n\tsmudge = {run}\n\tclean = {run}\n\
         [gpg]\n\tprogram = {run}\n[commit]\n\tgpgSign = true\n[merge \"x\"]\n\tdriver = {run}\n",
        remote.uri()
    );
    std::fs::write(dir.join("config"), config).unwrap();
    std::fs::create_dir_all(dir.join("info")).unwrap();
    std::fs::write(dir.join("info/attributes"), "* filter=x merge=x\n").unwrap();
    std::fs::create_dir_all(dir.join("hooks")).unwrap();
    for hook in [
        "pre-push",
        "pre-rebase",
        "post-checkout",
        "reference-transaction",
        "post-index-change",
        "post-rewrite",
    ] {
        let path = dir.join("hooks").join(hook);
        std::fs::write(&path, format!("#!/bin/sh\n{run}\n")).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .unwrap();
    }
    // Another repository's objects, by an alternate and by a link.
    let theirs = secret.work().join(".git/objects");
    std::fs::create_dir_all(dir.join("objects/info")).unwrap();
    std::fs::write(
        dir.join("objects/info/alternates"),
        format!("{}\n", theirs.display()),
    )
    .unwrap();
    let _ = std::fs::remove_dir_all(dir.join("objects").join(&hidden[..2]));
    std::os::unix::fs::symlink(
        theirs.join(&hidden[..2]),
        dir.join("objects").join(&hidden[..2]),
    )
    .unwrap();
    remote.commit("theirs", "theirs");
    let params = json!({"repository": "repo", "rebase": true});
    let put = job
        .put(&remote.source(json!({})), params, &[("repo", &artifact)])
        .await;
    put.unwrap();
    // And its HEAD at what is hidden pushes nothing.
    std::fs::write(dir.join("HEAD"), format!("{hidden}\n")).unwrap();
    let params = json!({"repository": "repo", "force": true, "branch": "stolen"});
    let stolen = job
        .put(&remote.source(json!({})), params, &[("repo", &artifact)])
        .await;
    assert!(stolen.is_err(), "{stolen:?}");
    assert!(!outside.path().join("ran").exists());
    // A file that points elsewhere is no repository.
    let file = job
        .artifact(&[(
            ".git",
            &format!("gitdir: {}\n", secret.work().join(".git").display()),
        )])
        .await;
    errored(
        job.put(
            &remote.source(json!({})),
            json!({"repository": "repo"}),
            &[("repo", &file)],
        )
        .await,
    );
}
