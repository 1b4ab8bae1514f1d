//! `git` against repositories on this disk.

use super::support::*;
use pocketci_agent::container::Driver;
use pocketci_agent::resource::{Artifact, ResourceSpec, Stop, Version};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use tempfile::TempDir;

/// A repository that others push to and fetch from.
struct Remote(TempDir);

fn git(dir: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .args(args)
        .current_dir(dir)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .envs(["AUTHOR", "COMMITTER"].map(|who| (format!("GIT_{who}_NAME"), "Ann")))
        .envs(["AUTHOR", "COMMITTER"].map(|who| (format!("GIT_{who}_EMAIL"), "ann@example.com")))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {args:?}: {said}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

impl Remote {
    fn new() -> Self {
        let remote = Self(tempfile::tempdir().unwrap());
        git(remote.0.path(), &["init", "-q", "-b", "main", "work"]);
        git(
            &remote.work(),
            &["config", "receive.denyCurrentBranch", "ignore"],
        );
        remote
    }

    fn work(&self) -> PathBuf {
        self.0.path().join("work")
    }

    fn uri(&self) -> String {
        self.work().to_string_lossy().into_owned()
    }

    /// Commits a file; the commit.
    fn commit(&self, file: &str, message: &str) -> String {
        let path = self.work().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let before = std::fs::read_to_string(&path).unwrap_or_default();
        std::fs::write(&path, format!("{before}{message}\n")).unwrap();
        git(&self.work(), &["add", "-A"]);
        git(&self.work(), &["commit", "-q", "-m", message]);
        self.at("HEAD")
    }

    fn at(&self, name: &str) -> String {
        git(&self.work(), &["rev-parse", name])
    }

    fn source(&self, more: Value) -> ResourceSpec {
        let mut source = map(json!({"uri": self.uri(), "branch": "main"}));
        source.extend(map(more));
        resource("git", Value::Object(source))
    }
}

fn refs(found: &[Version]) -> Vec<&str> {
    found
        .iter()
        .map(|version| version["ref"].as_str())
        .collect()
}

fn at(commit: &str) -> Version {
    version(&[("ref", commit)])
}

fn job(test: &str) -> Job {
    Job::new(native(), test, Vec::new())
}

#[tokio::test]
async fn the_first_check_finds_the_newest_commit_and_later_ones_what_came_since() {
    let remote = Remote::new();
    let first = remote.commit("a", "one");
    let second = remote.commit("a", "two");
    let job = job("gitcheck");
    let source = remote.source(json!({}));
    let found = job.check(&source, None).await.unwrap();
    assert_eq!(refs(&found), [&second]);
    assert_eq!(job.check(&source, Some(&found[0])).await.unwrap(), found);
    let third = remote.commit("a", "three [ci skip]");
    let fourth = remote.commit("b/c", "four");
    let since = job.check(&source, Some(&at(&first))).await.unwrap();
    assert_eq!(refs(&since), [&first, &second, &fourth]);
    let all = remote.source(json!({"disable_ci_skip": true}));
    let since = job.check(&all, Some(&at(&second))).await.unwrap();
    assert_eq!(refs(&since), [&second, &third, &fourth]);
    // A commit that was rewritten away is nothing to go on from.
    let gone = at("00000000000000000000000000000000deadbeef");
    assert_eq!(
        refs(&job.check(&source, Some(&gone)).await.unwrap()),
        [&fourth]
    );
    let uri = format!("file://{}", remote.uri());
    let by_uri = resource("git", json!({"uri": uri}));
    assert_eq!(refs(&job.check(&by_uri, None).await.unwrap()), [&fourth]);
}

#[tokio::test]
async fn paths_choose_commits() {
    let remote = Remote::new();
    let docs = remote.commit("docs/a.md", "docs");
    let code = remote.commit("src/a.rs", "code");
    let both = remote.commit("src/b.rs", "more");
    let job = job("gitpaths");
    let check = async |more: Value, from: Option<&Version>| {
        let found = job.check(&remote.source(more), from).await.unwrap();
        refs(&found)
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        check(json!({"paths": ["docs"]}), None).await,
        std::slice::from_ref(&docs)
    );
    assert_eq!(
        check(json!({"paths": ["*.rs"]}), None).await,
        std::slice::from_ref(&both)
    );
    assert_eq!(
        check(json!({"ignore_paths": ["src"]}), None).await,
        std::slice::from_ref(&docs)
    );
    let since = check(
        json!({"paths": ["src"], "ignore_paths": ["src/b.rs"]}),
        Some(&at(&docs)),
    )
    .await;
    assert_eq!(since, [docs, code]);
}

#[tokio::test]
async fn tags_are_versions_with_a_filter() {
    let remote = Remote::new();
    let mut commits = Vec::new();
    for number in 1..=3 {
        commits.push(remote.commit("a", &number.to_string()));
        git(
            &remote.work(),
            &["tag", "-a", "-m", "m", &format!("v{number}")],
        );
        git(&remote.work(), &["tag", &format!("other{number}")]);
    }
    let job = job("gittags");
    let source = remote.source(json!({"tag_filter": "v*"}));
    let found = job.check(&source, None).await.unwrap();
    assert_eq!(found.len(), 1);
    let mut since = job.check(&source, Some(&at("v1"))).await.unwrap();
    assert_eq!(since.len(), 3);
    let last = since.remove(2);
    assert_eq!(
        last["commit"],
        commits[last["ref"]
            .trim_start_matches('v')
            .parse::<usize>()
            .unwrap()
            - 1]
    );
    let (fetched, artifact) = job.get(&source, &last, json!({})).await.unwrap();
    assert_eq!(fetched.version, last);
    assert_eq!(job.read(&artifact, ".git/ref").await.trim(), last["ref"]);
}

#[tokio::test]
async fn a_clone_is_at_its_commit_with_what_it_says_beside() {
    for driver in [native(), docker()] {
        let remote = Remote::new();
        let first = remote.commit("dir/a", "one\n\nbody");
        remote.commit("dir/a", "two");
        std::os::unix::fs::symlink("dir/a", remote.work().join("link")).unwrap();
        let third = remote.commit("b", "three");
        let job = Job::new(driver, "gitget", Vec::new());
        let source = remote.source(json!({}));
        let (fetched, artifact) = job.get(&source, &at(&first), json!({})).await.unwrap();
        assert_eq!(job.read(&artifact, "dir/a").await, "one\n\nbody\n");
        assert_eq!(job.read(&artifact, ".git/ref").await.trim(), first);
        assert_eq!(
            job.read(&artifact, ".git/short_ref").await.trim(),
            &first[..7]
        );
        assert_eq!(
            job.read(&artifact, ".git/committer").await.trim(),
            "ann@example.com"
        );
        assert_eq!(
            job.read(&artifact, ".git/commit_message").await.trim(),
            "one\n\nbody"
        );
        let names: Vec<&str> = fetched
            .metadata
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(
            names,
            [
                "commit",
                "author",
                "author_date",
                "branch",
                "message",
                "url"
            ]
        );
        assert!(job.log().await.contains("HEAD is now at"));
        // A shallow one reaches back to what it needs.
        let (_, shallow) = job
            .get(&source, &at(&first), json!({"depth": 1}))
            .await
            .unwrap();
        assert_eq!(job.read(&shallow, "dir/a").await, "one\n\nbody\n");
        let (_, newest) = job
            .get(&source, &at(&third), json!({"depth": 1}))
            .await
            .unwrap();
        let listed = job
            .shell(
                &busybox(),
                "readlink v/link; cat v/link; test -e v/.git/shallow",
                &newest.volume,
            )
            .await;
        assert_eq!(listed, "dir/a\none\n\nbody\ntwo\n");
        let none = at("00000000000000000000000000000000deadbeef");
        assert!(matches!(
            job.get(&source, &none, json!({})).await.map(drop),
            Err(Stop::Failed { .. })
        ));
        job.resources.release().await;
    }
    sweep("gitget").await;
}

#[tokio::test]
async fn submodules_come_along_unless_they_are_not_wanted() {
    let inner = Remote::new();
    inner.commit("i", "inner");
    let remote = Remote::new();
    remote.commit("a", "one");
    git(
        &remote.work(),
        &[
            "-c",
            "protocol.file.allow=always",
            "submodule",
            "--quiet",
            "add",
            &inner.uri(),
            "sub",
        ],
    );
    let commit = remote.commit("a", "with submodule");
    let job = job("gitsub");
    let source = remote.source(json!({}));
    let (_, artifact) = job.get(&source, &at(&commit), json!({})).await.unwrap();
    assert_eq!(job.read(&artifact, "sub/i").await, "inner\n");
    let (_, without) = job
        .get(&source, &at(&commit), json!({"submodules": "none"}))
        .await
        .unwrap();
    assert!(!Path::new(&without.volume.id).join("sub/i").exists());
    errored(
        job.get(&source, &at(&commit), json!({"submodules": "some"}))
            .await,
    );
}

/// What a task would have made of a clone.
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

#[tokio::test]
async fn secrets_are_on_no_command_line_and_in_no_message() {
    let job = job("gitsecret");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (told, asked) = std::sync::mpsc::channel();
    // Asks for a login, then is not satisfied with it.
    std::thread::spawn(move || {
        use std::io::{BufRead, BufReader, Write};
        for stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut head = String::new();
            while reader.read_line(&mut head).unwrap_or(0) > 2 {}
            let answer = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            let _ = (&stream).write_all(answer.as_bytes());
            // Every process of this machine, while git waits for the answer to its login.
            let lines = std::fs::read_dir("/proc")
                .unwrap()
                .flatten()
                .filter_map(|entry| std::fs::read_to_string(entry.path().join("cmdline")).ok());
            let _ = told.send((head, lines.collect::<String>()));
        }
    });
    let uri = format!("http://us%40er:hunter2@127.0.0.1:{port}/a.git");
    let source = resource("git", json!({"uri": uri, "branch": "main"}));
    let failed = job.check(&source, None).await;
    assert!(matches!(failed, Err(Stop::Failed { .. })), "{failed:?}");
    let heard: Vec<(String, String)> = asked.try_iter().collect();
    // `us@er:hunter2` in Base64.
    assert!(
        heard
            .iter()
            .any(|(head, _)| head.contains("Basic dXNAZXI6aHVudGVyMg==")),
        "{heard:?}"
    );
    for (_, lines) in &heard {
        assert!(!lines.contains("hunter2:") && !lines.contains(":hunter2"));
    }
    let log = job.log().await;
    assert!(
        log.contains("127.0.0.1") && !log.contains("hunter2"),
        "{log}"
    );
    let shown = format!("{source:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[tokio::test]
async fn mistakes_are_told_by_name() {
    let job = job("gitmistakes");
    let said = async |source: Value| errored(job.check(&resource("git", source), None).await);
    assert!(
        said(json!({"uri": "/x", "git_config": []}))
            .await
            .contains("`git_config`")
    );
    assert!(said(json!({})).await.contains("source.uri"));
    assert!(
        said(json!({"uri": "ext::sh -c id"}))
            .await
            .contains("source.uri")
    );
    assert!(
        said(json!({"uri": "/x", "branch": "--upload-pack=id"}))
            .await
            .contains("source.branch")
    );
    let missing = job
        .check(
            &resource("git", json!({"uri": "/nowhere/at/all", "branch": "main"})),
            None,
        )
        .await;
    assert!(matches!(missing, Err(Stop::Failed { .. })), "{missing:?}");
    assert!(job.log().await.contains("/nowhere/at/all"));
    let remote = Remote::new();
    remote.commit("a", "one");
    let none = job
        .check(&remote.source(json!({"branch": "none"})), None)
        .await;
    assert!(matches!(none, Err(Stop::Failed { .. })), "{none:?}");
    assert!(job.log().await.contains("branch none not found"));
    let none = job
        .check(
            &remote.source(json!({"branch": "none"})),
            Some(&at(&remote.at("main"))),
        )
        .await;
    assert!(errored(none).contains("no branch \"none\""));
}

#[tokio::test]
async fn the_agents_disk_is_for_pipelines_that_have_the_machine_anyway() {
    let remote = Remote::new();
    remote.commit("a", "one");
    let driver: Arc<dyn Driver> = docker();
    let shared = cache(&driver, "gitlocal", 1);
    let job = Job::with(driver, shared, "gitlocal", Vec::new(), false);
    let said = errored(job.check(&remote.source(json!({})), None).await);
    assert!(said.contains("--allow-privileged"), "{said}");
}

#[tokio::test]
async fn a_stopped_git_leaves_nothing() {
    let job = job("gitstop");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}/a.git", listener.local_addr().unwrap());
    let resources = job.resources.clone();
    let io = job.io.clone();
    let source = resource("git", json!({"uri": uri, "branch": "main"}));
    let checking = tokio::spawn(async move { resources.check(&source, None, &io).await });
    // It is connected and waits for an answer that never comes.
    let (mut stream, _) = listener.accept().await.unwrap();
    job.io.stop.cancel();
    assert_eq!(checking.await.unwrap(), Err(Stop::Stopped));
    // Its end of the connection is closed once it is killed.
    let mut rest = Vec::new();
    let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut rest).await;
}
