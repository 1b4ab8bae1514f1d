//! `pocketci intercept`: what is seen in a step, through pipes and through a terminal.

use super::Stack;
use crate::restart::Engine;
use pocketci_tests::process::{pocketci, run, run_with_input};
use pocketci_tests::until;
use pty_process::{OwnedReadPty, Size};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::process::Output;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A task that fails after it has changed everything that it may.
pub(super) const FAILING: &str = r#"
jobs:
- name: build
  plan:
  - task: words
    config:
      platform: linux
      image_resource: {type: registry-image, source: {repository: busybox}}
      outputs: [{name: words}]
      run: {path: sh, args: [-c, "echo original > words/file"]}
  - task: break
    config:
      platform: linux
      image_resource: {type: registry-image, source: {repository: busybox}}
      inputs: [{name: words}]
      outputs: [{name: made}]
      params: {WHO: ann}
      run:
        path: sh
        args: [-c, "echo half > made/file; echo spoilt > words/file; echo mine > /own; exit 3"]
    ensure:
      task: afterwards
      config:
        platform: linux
        image_resource: {type: registry-image, source: {repository: busybox}}
        inputs: [{name: words}]
        run: {path: cat, args: [words/file]}
"#;

/// The command's own arguments follow.
pub(super) fn args<'a>(stack: &'a Stack, target: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["intercept", target, "--server", &stack.server.url];
    args.extend(more);
    args
}

pub(super) fn intercept(stack: &Stack, target: &str, more: &[&str]) -> Output {
    run(&args(stack, target, more))
}

pub(super) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(super) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Waits until nothing of this agent's terminals is left.
pub(super) async fn no_terminals(engine: &Engine, stack: &Stack) {
    let agent = Sha256::digest(format!("agent-0\n{}", stack.server.grpc).as_bytes());
    let agent = format!("label=pocketci.server={}", hex::encode(&agent[..8]));
    let terminal = ["--filter", "label=pocketci.terminal", "--filter", &agent];
    until("terminals are gone", || async {
        let left = engine.run(&[&["ps", "-a", "-q"][..], &terminal].concat());
        let volumes = engine.run(&[&["volume", "ls", "-q"][..], &terminal].concat());
        let images = engine.run(&[&["images", "-q"][..], &terminal].concat());
        (left.is_empty() && volumes.is_empty() && images.is_empty()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_failed_task_left_is_seen_in_a_shell() {
    let engine = Engine::new();
    let stack = Stack::plain().await;
    stack.set_content("fails", FAILING).await;
    let ended = stack.run("fails", &[]).await;
    assert_eq!(ended["status"], "failed", "{ended}");
    let path = format!("/api/runs/{}/terminals", ended["id"].as_str().unwrap());
    let steps = stack.status(&path).await;
    assert_eq!(steps.as_array().unwrap().len(), 1, "{steps}");
    assert_eq!(
        (&steps[0]["name"], &steps[0]["exit_code"]),
        (&json!("break"), &json!(3))
    );

    let seen = intercept(
        &stack,
        "fails/build",
        &[
            "--",
            "sh",
            "-c",
            "cat made/file words/file /own; echo $WHO; echo told >&2; exit 7",
        ],
    );
    assert_eq!(
        stdout(&seen),
        "half\nspoilt\nmine\nann\n",
        "{}",
        stderr(&seen)
    );
    assert_eq!(
        (stderr(&seen).as_str(), seen.status.code()),
        ("told\n", Some(7))
    );

    // Each begins with what the step left, and nobody else sees what it does.
    let change = "echo changed > made/file; echo changed > /own; cat made/file";
    let id = ended["id"].as_str().unwrap();
    let changed = intercept(&stack, id, &["-s", "break", "--", "sh", "-c", change]);
    assert_eq!(stdout(&changed), "changed\n", "{}", stderr(&changed));
    let again = intercept(&stack, id, &["--", "cat", "made/file", "/own"]);
    assert_eq!(stdout(&again), "half\nmine\n", "{}", stderr(&again));

    let missing = intercept(&stack, "fails/build", &["--", "no-such-program"]);
    assert_eq!(missing.status.code(), Some(127));
    assert!(
        stderr(&missing).contains("no-such-program"),
        "{}",
        stderr(&missing)
    );
    no_terminals(&engine, &stack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stdin_goes_to_the_command_byte_for_byte_and_ends_where_it_ends() {
    let stack = Stack::plain().await;
    stack.set_content("fails", FAILING).await;
    stack.run("fails", &[]).await;
    // More than the window of either direction.
    let text: String = (0..200_000).map(|line| format!("line {line}\n")).collect();
    let echoed = run_with_input(&args(&stack, "fails/build", &["--", "cat"]), &text);
    assert_eq!(echoed.status.code(), Some(0), "{}", stderr(&echoed));
    assert!(stdout(&echoed) == text, "{} bytes", echoed.stdout.len());
    // A shell reads its commands.
    let said = run_with_input(&args(&stack, "fails/build", &[]), "cat made/file\nexit 4\n");
    assert_eq!(
        (stdout(&said).as_str(), said.status.code()),
        ("half\n", Some(4))
    );
}

/// Reads until the text is there.
async fn expect(from: &mut OwnedReadPty, seen: &mut String, text: &str) {
    let reading = async {
        let mut buffer = [0; 4096];
        while !seen.contains(text) {
            let read = from.read(&mut buffer).await.unwrap_or(0);
            assert!(read > 0, "it ended without {text:?}: {seen}");
            seen.push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
    };
    let waited = tokio::time::timeout(pocketci_tests::wait::PATIENCE, reading).await;
    assert!(waited.is_ok(), "no {text:?} in {seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_has_a_terminal_of_the_users_size_and_leaves_the_users_own_as_it_was() {
    let engine = Engine::new();
    let stack = Stack::plain().await;
    stack.set_content("fails", FAILING).await;
    stack.run("fails", &[]).await;
    let (pty, pts) = pty_process::open().unwrap();
    pty.resize(Size::new(31, 97)).unwrap();
    // A shell of the user's, which sees the terminal before and after.
    let program = pocketci().display();
    let script = format!(
        "before=$(stty -g); {program} intercept fails/build --server {}; echo code-$?; \
         [ \"$before\" = \"$(stty -g)\" ] && echo restored",
        stack.server.url
    );
    let mut child = pty_process::Command::new("sh")
        .args(["-c", &script])
        .spawn(pts)
        .unwrap();
    let (mut from, mut into) = pty.into_split();
    let mut seen = String::new();
    into.write_all(b"test -t 0 && echo is-$((40+2))\r")
        .await
        .unwrap();
    expect(&mut from, &mut seen, "is-42").await;
    into.write_all(b"stty size\r").await.unwrap();
    expect(&mut from, &mut seen, "31 97").await;
    into.resize(Size::new(11, 55)).unwrap();
    // The new size follows the old one over the wire: asked until it is there.
    into.write_all(b"until stty size | grep '11 55'; do sleep 0.1; done\r")
        .await
        .unwrap();
    expect(&mut from, &mut seen, "\n11 55").await;
    // Ctrl-C goes to the command there, and ends neither the shell there nor the program here.
    into.write_all(b"echo begin-$((1+1)); sleep 1000\r")
        .await
        .unwrap();
    expect(&mut from, &mut seen, "begin-2").await;
    into.write_all(b"\x03").await.unwrap();
    into.write_all(b"echo alive-$((2+1))\r").await.unwrap();
    expect(&mut from, &mut seen, "alive-3").await;
    into.write_all(b"exit 9\r").await.unwrap();
    expect(&mut from, &mut seen, "code-9").await;
    expect(&mut from, &mut seen, "restored").await;
    child.wait().await.unwrap();
    no_terminals(&engine, &stack).await;
}

/// Its image is an artifact of the job, which the job's end removes.
const BROKEN_PUT: &str = r#"
resource_types: [{name: own, type: registry-image, source: {repository: busybox}}]
resources: [{name: target, type: own, source: {}, check_every: never}]
jobs:
- name: publish
  plan:
  - task: words
    config:
      platform: linux
      image_resource: {type: registry-image, source: {repository: busybox}}
      outputs: [{name: words}, {name: image}]
      run:
        path: sh
        args: [-c, "echo original > words/file; mkdir -p image/rootfs; cp -a /bin /etc image/rootfs/; echo '{}' > image/metadata.json"]
  - try:
      task: in-image
      image: image
      config: {platform: linux, run: {path: sh, args: [-c, "echo mine > /own; exit 1"]}}
  - put: target
    inputs: all
"#;

#[tokio::test(flavor = "multi_thread")]
async fn what_a_put_saw_and_what_an_image_of_the_jobs_own_left_is_seen_too() {
    let engine = Engine::new();
    let stack = Stack::plain().await;
    stack.set_content("broken", BROKEN_PUT).await;
    let ended = stack.run("broken", &[]).await;
    assert_eq!(ended["status"], "errored", "{ended}");
    let file = "/tmp/build/put/words/file";
    let put = intercept(
        &stack,
        "broken/publish",
        &["-s", "target", "--", "cat", file],
    );
    assert_eq!(stdout(&put), "original\n", "{}", stderr(&put));
    let own = intercept(
        &stack,
        "broken/publish",
        &["-s", "in-image", "--", "cat", "/own"],
    );
    assert_eq!(stdout(&own), "mine\n", "{}", stderr(&own));
    no_terminals(&engine, &stack).await;
    let run = ended["id"].as_str().unwrap();
    let removed = stack
        .client
        .request(reqwest::Method::DELETE, "/api/pipelines/broken");
    assert_eq!(removed.send().await.unwrap().status(), 204);
    super::intercept_ends::nothing_left(&engine, run).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_steps_are_listed_where_nobody_can_be_asked() {
    let stack = Stack::plain().await;
    let task = |name: &str| {
        format!(
            "  - try: {{task: {name}, config: {{platform: linux, image_resource: {{type: registry-image, source: {{repository: busybox}}}}, run: {{path: sh, args: [-c, 'echo {name} > /who; exit 1']}}}}}}\n"
        )
    };
    let content = format!(
        "jobs:\n- name: two\n  plan:\n{}{}",
        task("one"),
        task("other")
    );
    stack.set_content("two", &content).await;
    let ended = stack.run("two", &[]).await;
    assert_eq!(ended["status"], "success", "{ended}");
    let listed = intercept(&stack, "two/two", &["--", "cat", "/who"]);
    assert_eq!(listed.status.code(), Some(3));
    assert!(stdout(&listed).contains("task one") && stdout(&listed).contains("task other"));
    assert!(stderr(&listed).contains("-s"), "{}", stderr(&listed));
    let one = intercept(&stack, "two/two", &["-s", "other", "--", "cat", "/who"]);
    assert_eq!(stdout(&one), "other\n", "{}", stderr(&one));
    let none = intercept(&stack, "two/two", &["-s", "third"]);
    assert_eq!(none.status.code(), Some(3));
    assert!(stderr(&none).contains("no such step"), "{}", stderr(&none));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_runs_can_be_looked_into() {
    let stack = Stack::plain().await;
    let content = "jobs:\n- name: long\n  plan:\n  - task: waits\n    config:\n      platform: linux\n      \
        image_resource: {type: registry-image, source: {repository: busybox}}\n      outputs: [{name: made}]\n      run: {path: sh, args: [-c, 'echo begun > made/file; echo ready; until [ -e made/go ]; do sleep 0.1; done']}\n";
    stack.set_content("long", content).await;
    let run = stack.start("long", &[]).await;
    until("the step runs", || async {
        stack
            .client
            .logs(&run)
            .await
            .contains("ready")
            .then_some(())
    })
    .await;
    let seen = intercept(
        &stack,
        "long/long",
        &["--", "sh", "-c", "cat made/file; echo told >&2; exit 6"],
    );
    assert_eq!(stdout(&seen), "begun\n", "{}", stderr(&seen));
    assert_eq!(
        (stderr(&seen).as_str(), seen.status.code()),
        ("told\n", Some(6))
    );
    // It is the step's own container: what is done there is done.
    let done = intercept(&stack, "long/long", &["--", "touch", "made/go"]);
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    assert_eq!(stack.client.finished(&run).await["status"], "success");
    let over = intercept(&stack, "long/long", &["--", "true"]);
    assert_eq!(over.status.code(), Some(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_native_step_is_looked_into_in_its_directory() {
    let stack = Stack::with_agent(&["--driver", "native"], &[]).await;
    let content = "jobs:\n- name: build\n  plan:\n  - task: break\n    config:\n      platform: linux\n      \
        outputs: [{name: made}]\n      params: {WHO: ann}\n      run: {path: sh, args: [-c, 'echo half > made/file; pwd > own; exit 3']}\n";
    let more = json!({ "content_type": "yaml", "driver": "native" });
    stack.client.set("fails", content, more).await;
    let ended = stack.run("fails", &[]).await;
    assert_eq!(ended["status"], "failed", "{ended}");
    let script = "cat made/file; [ \"$(cat own)\" = \"$(pwd)\" ] && echo there; echo $WHO; exit 5";
    let seen = intercept(&stack, "fails/build", &["--", "sh", "-c", script]);
    assert_eq!(stdout(&seen), "half\nthere\nann\n", "{}", stderr(&seen));
    assert_eq!(seen.status.code(), Some(5));
    let said = run_with_input(&args(&stack, "fails/build", &[]), "cat made/file\n");
    assert_eq!(
        (stdout(&said).as_str(), said.status.code()),
        ("half\n", Some(0))
    );
    let directory = intercept(&stack, "fails/build", &["--", "cat", "own"]);
    let directory = stdout(&directory).trim().to_owned();
    assert!(std::path::Path::new(&directory).is_dir());
    // The shell's terminal is a real one here too.
    let (pty, pts) = pty_process::open().unwrap();
    pty.resize(Size::new(20, 71)).unwrap();
    let mut child = pty_process::Command::new(pocketci())
        .args(args(&stack, "fails/build", &[]))
        .spawn(pts)
        .unwrap();
    let (mut from, mut into) = pty.into_split();
    let mut seen = String::new();
    into.write_all(b"stty size; exit 8\r").await.unwrap();
    expect(&mut from, &mut seen, "20 71").await;
    assert_eq!(child.wait().await.unwrap().code(), Some(8));
    // What is kept goes with its pipeline.
    let gone = stack
        .client
        .request(reqwest::Method::DELETE, "/api/pipelines/fails");
    assert_eq!(gone.send().await.unwrap().status(), 204);
    until("the directory is gone", || async {
        (!std::path::Path::new(&directory).exists()).then_some(())
    })
    .await;
}
