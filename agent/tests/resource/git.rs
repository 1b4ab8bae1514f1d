//! `git` against repositories on this disk.

use super::support::*;
use pocketci_agent::container::Driver;
use pocketci_agent::resource::{ResourceSpec, Stop, Version};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use tempfile::TempDir;

/// A repository that others push to and fetch from.
pub(crate) struct Remote(TempDir);

pub(crate) fn git(dir: &Path, args: &[&str]) -> String {
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
    pub(crate) fn new() -> Self {
        let remote = Self(tempfile::tempdir().unwrap());
        git(remote.0.path(), &["init", "-q", "-b", "main", "work"]);
        git(
            &remote.work(),
            &["config", "receive.denyCurrentBranch", "ignore"],
        );
        remote
    }

    pub(crate) fn work(&self) -> PathBuf {
        self.0.path().join("work")
    }

    pub(crate) fn uri(&self) -> String {
        self.work().to_string_lossy().into_owned()
    }

    /// Commits a file; the commit.
    pub(crate) fn commit(&self, file: &str, message: &str) -> String {
        let path = self.work().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let before = std::fs::read_to_string(&path).unwrap_or_default();
        std::fs::write(&path, format!("{before}{message}\n")).unwrap();
        git(&self.work(), &["add", "-A"]);
        git(&self.work(), &["commit", "-q", "-m", message]);
        self.at("HEAD")
    }

    pub(crate) fn at(&self, name: &str) -> String {
        git(&self.work(), &["rev-parse", name])
    }

    pub(crate) fn source(&self, more: Value) -> ResourceSpec {
        let mut source = map(json!({"uri": self.uri(), "branch": "main"}));
        source.extend(map(more));
        resource("git", Value::Object(source))
    }
}

pub(crate) fn refs(found: &[Version]) -> Vec<&str> {
    found
        .iter()
        .map(|version| version["ref"].as_str())
        .collect()
}

pub(crate) fn at(commit: &str) -> Version {
    version(&[("ref", commit)])
}

pub(crate) fn job(test: &str) -> Job {
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
