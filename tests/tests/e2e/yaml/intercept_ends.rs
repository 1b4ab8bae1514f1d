//! What ends a terminal, and what ends the time for which a step is kept: nothing is left of either.

use super::Stack;
use super::intercept::{FAILING, args, intercept, no_terminals, stderr, stdout};
use crate::restart::Engine;
use pocketci_tests::until;
use reqwest::Method;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A terminal that goes on, its output in a file.
struct Open {
    child: Child,
    out: std::path::PathBuf,
    _home: tempfile::TempDir,
}

impl Open {
    /// Waits until its command runs.
    async fn new(stack: &Stack, target: &str, script: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let out = home.path().join("out");
        let file = std::fs::File::create(&out).unwrap();
        let child = Command::new(pocketci_tests::pocketci())
            .args(args(stack, target, &["--", "sh", "-c", script]))
            .stdin(Stdio::piped())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        let open = Self {
            child,
            out,
            _home: home,
        };
        open.says("begun").await;
        open
    }

    fn output(&self) -> String {
        std::fs::read_to_string(&self.out).unwrap()
    }

    async fn says(&self, text: &str) {
        until(&format!("it says {text:?}"), || async {
            self.output().contains(text).then_some(())
        })
        .await;
    }

    /// Its exit code and what it printed.
    async fn ended(&mut self) -> (Option<i32>, String) {
        let code = until("the terminal ends", || {
            let ended = self.child.try_wait().unwrap();
            async move { ended.map(|ended| ended.code()) }
        })
        .await;
        (code, self.output())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Begins, and goes on for ever.
const ENDLESS: &str = "echo begun; while true; do sleep 1; done";

async fn failed(flags: &[&str]) -> (Stack, String) {
    let stack = Stack::with_agent(&[&["--driver", "docker"], flags].concat(), &[]).await;
    stack.set_content("fails", FAILING).await;
    let ended = stack.run("fails", &[]).await;
    assert_eq!(ended["status"], "failed", "{ended}");
    let id = ended["id"].as_str().unwrap().to_owned();
    (stack, id)
}

/// Waits until the engine has nothing of the run.
pub(super) async fn nothing_left(engine: &Engine, run: &str) {
    let label = format!("label=pocketci.run={run}");
    until("nothing of the run is left", || async {
        let containers = engine.run(&["ps", "-a", "-q", "--filter", &label]);
        let volumes = engine.run(&["volume", "ls", "-q", "--filter", &label]);
        let images = engine.run(&["images", "-q", "--filter", &label]);
        (containers.is_empty() && volumes.is_empty() && images.is_empty()).then_some(())
    })
    .await;
}

fn kept(engine: &Engine, run: &str) -> usize {
    engine.labelled(&format!("pocketci.run={run}")).len()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_goes_when_its_time_has_come() {
    let engine = Engine::new();
    let (stack, run) = failed(&["--keep-failed", "3s"]).await;
    nothing_left(&engine, &run).await;
    let late = intercept(&stack, "fails/build", &["--", "true"]);
    assert_eq!(late.status.code(), Some(3));
    assert!(stderr(&late).contains("nothing"), "{}", stderr(&late));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_goes_with_its_pipeline() {
    let engine = Engine::new();
    let (stack, run) = failed(&[]).await;
    assert_eq!(kept(&engine, &run), 1);
    let removed = stack.client.request(Method::DELETE, "/api/pipelines/fails");
    assert_eq!(removed.send().await.unwrap().status(), 204);
    nothing_left(&engine, &run).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_agent_still_has_what_was_kept_and_removes_it_in_time() {
    let engine = Engine::new();
    let (mut stack, run) = failed(&["--keep-failed", "40s"]).await;
    stack.agents[0].kill_and_restart();
    let seen = until("the agent is back", || async {
        let seen = intercept(
            &stack,
            "fails/build",
            &["--", "cat", "made/file", "words/file"],
        );
        (seen.status.code() == Some(0)).then_some(seen)
    })
    .await;
    assert_eq!(stdout(&seen), "half\nspoilt\n");
    nothing_left(&engine, &run).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_killed_ends_its_terminals_and_leaves_nothing_of_them() {
    let engine = Engine::new();
    let (mut stack, run) = failed(&[]).await;
    let mut open = Open::new(&stack, "fails/build", ENDLESS).await;
    stack.agents[0].kill_and_restart();
    let (code, said) = open.ended().await;
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("connection to the agent ended"), "{said}");
    no_terminals(&engine, &stack).await;
    assert_eq!(kept(&engine, &run), 1, "what was kept still is");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_is_gone_leaves_no_process_behind() {
    let engine = Engine::new();
    let (stack, _) = failed(&[]).await;
    let mut open = Open::new(&stack, "fails/build", ENDLESS).await;
    open.child.kill().unwrap();
    no_terminals(&engine, &stack).await;

    // Neither in a step that goes on.
    let content = "jobs:\n- name: long\n  plan:\n  - task: waits\n    config:\n      platform: linux\n      \
        image_resource: {type: registry-image, source: {repository: busybox}}\n      run: {path: sh, args: [-c, 'echo ready; sleep 1000']}\n";
    stack.set_content("long", content).await;
    let running = stack.start("long", &[]).await;
    until("the step runs", || async {
        stack
            .client
            .logs(&running)
            .await
            .contains("ready")
            .then_some(())
    })
    .await;
    let mut open = Open::new(&stack, "long/long", "echo begun; exec sleep 12345").await;
    let container = engine
        .labelled(&format!("pocketci.run={running}"))
        .remove(0);
    let runs = |processes: Vec<String>| processes.iter().any(|line| line.contains("12345"));
    assert!(runs(engine.run(&["top", &container])));
    open.child.kill().unwrap();
    until("the command is gone", || async {
        (!runs(engine.run(&["top", &container]))).then_some(())
    })
    .await;
    let still = stack.status(&format!("/api/runs/{running}")).await;
    assert_eq!(still["status"], "running");
    let stopped = format!("/api/runs/{running}/stop");
    stack
        .client
        .post(&stopped, &serde_json::json!({}))
        .await
        .unwrap();
    stack.client.finished(&running).await;
    // An aborted step is kept like a failed one.
    let seen = intercept(&stack, "long/long", &["--", "echo", "here"]);
    assert_eq!(stdout(&seen), "here\n", "{}", stderr(&seen));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_takes_no_output_holds_up_nobody_else() {
    let (stack, _) = failed(&[]).await;
    let mut floods = Vec::new();
    for _ in 0..3 {
        let open = Open::new(&stack, "fails/build", "echo begun; exec yes").await;
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(open.child.id().try_into().unwrap()),
            nix::sys::signal::Signal::SIGSTOP,
        )
        .unwrap();
        floods.push(open);
    }
    // Reports, logs and another terminal go over the same connection.
    let ended = stack.run("fails", &[]).await;
    assert_eq!(ended["status"], "failed");
    let seen = intercept(&stack, "fails/build", &["--", "cat", "made/file"]);
    assert_eq!(stdout(&seen), "half\n", "{}", stderr(&seen));
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_may_forbid_it_and_a_token_is_needed() {
    let server = ["--no-intercept", "--auth-token", "hunter2"];
    let stack = Stack::with_agent(&["--driver", "native", "--keep-failed", "0"], &[]).await;
    let content = "jobs:\n- name: build\n  plan:\n  - task: break\n    config: {platform: linux, run: {path: 'false'}}\n";
    let more = serde_json::json!({ "content_type": "yaml", "driver": "native" });
    stack.client.set("fails", content, more).await;
    let ended = stack.run("fails", &[]).await;
    assert_eq!(ended["status"], "failed", "{ended}");
    let nothing = intercept(&stack, "fails/build", &["--", "true"]);
    assert_eq!(nothing.status.code(), Some(3));
    assert!(stderr(&nothing).contains("nothing of a failed one is kept"));

    let mut stack = stack;
    let run = ended["id"].as_str().unwrap().to_owned();
    stack.server.process.kill();
    let mut refused = Vec::new();
    // The client of the harness presents no token, so readiness is asked of the process alone.
    stack.server.restart_with(&server).await;
    for more in [&["--auth-token", "wrong"][..], &["--auth-token", "hunter2"]] {
        let seen = intercept(&stack, &run, &[more, &["--", "true"]].concat());
        assert_eq!(seen.status.code(), Some(3));
        refused.push(stderr(&seen));
    }
    let page = stack
        .client
        .request(Method::GET, &format!("/api/runs/{run}/terminal"));
    let page = page.header("origin", "http://evil.example");
    let page = page.bearer_auth("hunter2").send().await.unwrap();
    assert_eq!(page.status(), 403);
    assert!(refused[0].contains("token"), "{refused:?}");
    assert!(refused[1].contains("--no-intercept"), "{refused:?}");
    assert!(Path::new(stack.server.home()).is_dir());
}
