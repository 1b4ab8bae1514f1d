//! Jobs of one run on several agents, versions through several jobs.

use super::{Stack, output_of, statuses};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn hello_says_hello() {
    let stack = Stack::plain().await;
    stack.set("hello").await;
    let run = stack.run("hello", &[]).await;
    assert_eq!(run["status"], "success", "{run}");
    let output = stack.client.logs(run["id"].as_str().unwrap()).await;
    assert!(output.contains("hello, world"), "{output}");
    // Nothing is left behind.
    let jobs = stack.status("/api/pipelines/hello/jobs").await;
    assert_eq!(jobs[0]["last"]["number"], "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_fan_out_over_two_agents_and_in_again() {
    let stack = Stack::new(&[&["role=test"], &["role=lint"]]).await;
    stack.set("fan-out-fan-in").await;
    // The version that is there starts the first two, and when both have passed it on, the third.
    let deploy = stack.build("fan-out-fan-in", "deploy", "1").await;
    assert_eq!(deploy["status"], "success", "{deploy}");
    assert_eq!(deploy["triggered_by"], "version");
    assert_eq!(deploy["inputs"][0]["version"], json!({ "version": "1" }));
    let (unit, lint) = (
        stack.build("fan-out-fan-in", "unit", "1").await,
        stack.build("fan-out-fan-in", "lint", "1").await,
    );
    assert_eq!(
        (&unit["agent"], &lint["agent"]),
        (&json!("agent-0"), &json!("agent-1"))
    );
    assert_eq!(unit["run_id"], lint["run_id"], "one change, one run");
    assert!(stack.output(&deploy).await.contains("deploying 1"));
    // A run by hand has all three, in their order.
    let run = stack.run("fan-out-fan-in", &[]).await;
    let all = [
        ("unit", "success"),
        ("lint", "success"),
        ("deploy", "success"),
    ];
    assert_eq!(statuses(&run), all);
    let events = stack.client.events(run["id"].as_str().unwrap()).await;
    let at = |job: &str, event: &str| {
        let found = events
            .iter()
            .position(|e| e["job"] == job && e["event"] == event);
        found.unwrap_or_else(|| panic!("{job} {event}: {events:?}"))
    };
    for job in ["unit", "lint"] {
        assert!(at(job, "job_finished") < at("deploy", "started"));
        assert!(output_of(&events, job).contains("ing 1"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_after_a_failed_one_is_skipped_and_says_why() {
    let stack = Stack::plain().await;
    let content = super::example("fan-out-fan-in")
        .replace("  tags: [role=test]\n", "")
        .replace("  tags: [role=lint]\n", "")
        .replace("echo \"linting", "exit 9; echo \"linting")
        .replace("trigger: true", "trigger: false");
    stack.set_content("broken", &content).await;
    let run = stack.run("broken", &[]).await;
    assert_eq!(run["status"], "failed");
    let all = [
        ("unit", "success"),
        ("lint", "failed"),
        ("deploy", "skipped"),
    ];
    assert_eq!(statuses(&run), all);
    assert_eq!(run["jobs"][2]["reason"], "upstream_not_passed");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_has_passed_a_job_reaches_the_next() {
    let stack = Stack::plain().await;
    stack.set("version-flow").await;
    // Nothing was built yet: it waits, and says for what.
    let waiting = stack.start("version-flow", &["ship"]).await;
    let wait = pocketci_tests::until("the wait is told", || async {
        let run = stack.status(&format!("/api/runs/{waiting}")).await;
        let wait = run["jobs"][0]["wait"].clone();
        (wait["reason"] == "inputs").then_some(wait)
    })
    .await;
    let message = wait["message"].as_str().unwrap();
    assert!(
        message.contains("release") && message.contains("accept"),
        "{message}"
    );
    stack.run("version-flow", &["build"]).await;
    let accept = stack.build("version-flow", "accept", "1").await;
    assert_eq!(accept["inputs"][0]["version"]["version"], "7");
    // What had waited goes on now.
    let shipped = stack.client.finished(&waiting).await;
    assert_eq!(shipped["status"], "success");
    assert!(stack.client.logs(&waiting).await.contains("shipping 7"));
    let build = stack.build("version-flow", "build", "1").await;
    assert_eq!(build["outputs"][0]["version"]["version"], "7");
    // Once more with what it was given then.
    let (status, again) = stack
        .client
        .post(
            "/api/pipelines/version-flow/jobs/accept/builds/1/rerun",
            &json!({}),
        )
        .await
        .unwrap();
    assert_eq!(status, 202, "{again}");
    let rerun = stack.build("version-flow", "accept", "1.1").await;
    assert_eq!(rerun["inputs"], accept["inputs"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_serial_jobs_builds_go_one_after_the_other() {
    let stack = Stack::plain().await;
    let content = "
jobs:
- name: slow
  serial: true
  plan:
  - task: wait
    config:
      platform: linux
      image_resource: {type: registry-image, source: {repository: busybox}}
      run: {path: sleep, args: ['0.5']}
";
    stack.set_content("serial", content).await;
    let mut runs = Vec::new();
    for _ in 0..3 {
        runs.push(stack.start("serial", &[]).await);
    }
    let mut spans = Vec::new();
    for run in &runs {
        let ended = stack.client.finished(run).await;
        assert_eq!(ended["status"], "success");
        let events = stack.client.events(run).await;
        let at = |event: &str| {
            let found = events
                .iter()
                .find(|e| e["event"] == event && e["job"] == "slow");
            found.unwrap()["at"].as_str().unwrap().to_owned()
        };
        spans.push((at("started"), at("job_finished")));
    }
    for pair in spans.windows(2) {
        assert!(pair[0].1 <= pair[1].0, "{spans:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_dies_costs_a_job_an_attempt_and_not_the_run() {
    let mut stack = Stack::new(&[&[]]).await;
    let content = "
jobs:
- name: first
  plan:
  - task: wait
    config:
      platform: linux
      image_resource: {type: registry-image, source: {repository: busybox}}
      run: {path: sh, args: [-c, 'echo begun; sleep 2']}
- name: second
  depends_on: [first]
  plan:
  - task: say
    config:
      platform: linux
      image_resource: {type: registry-image, source: {repository: busybox}}
      run: {path: echo, args: [done]}
";
    stack.set_content("dying", content).await;
    let run = stack.start("dying", &[]).await;
    pocketci_tests::until("the first job runs", || async {
        let output = stack.client.logs(&run).await;
        output.contains("begun").then_some(())
    })
    .await;
    stack.agents[0].kill_and_restart();
    let ended = stack.client.finished(&run).await;
    assert_eq!(ended["status"], "success", "{ended}");
    assert_eq!(ended["jobs"][0]["attempt"], 2);
    assert_eq!(
        statuses(&ended),
        [("first", "success"), ("second", "success")]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_goes_on_with_what_waited() {
    let mut stack = Stack::plain().await;
    stack.set("fan-out-fan-in").await;
    let content = super::example("fan-out-fan-in")
        .replace("  tags: [role=test]\n", "")
        .replace("  tags: [role=lint]\n", "")
        .replace("echo \"testing", "sleep 2; echo \"testing");
    stack.set_content("dying", &content).await;
    let run = stack.start("dying", &[]).await;
    stack.server.kill_and_restart().await;
    stack.client = stack.server.client();
    let ended = stack.client.finished(&run).await;
    let all = [
        ("unit", "success"),
        ("lint", "success"),
        ("deploy", "success"),
    ];
    assert_eq!(statuses(&ended), all, "{ended}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clock_starts_a_job_and_those_that_follow_it() {
    let stack = Stack::plain().await;
    let content = "
jobs:
- name: nightly
  triggers: {schedule: {every: 1s}}
  plan: []
- name: report
  triggers: {passed: [nightly]}
  plan: []
- name: other
  plan: []
";
    let id = stack.set_content("clock", content).await;
    let report = stack.build("clock", "report", "1").await;
    assert_eq!(report["triggered_by"], "schedule");
    let other = stack.status("/api/pipelines/clock/jobs/other/builds").await;
    assert_eq!(other["items"], json!([]), "the clock asked for another job");
    // A webhook does not start what only the clock starts, nor what follows it.
    stack.client.webhook(&id).send().await.unwrap();
    let other = stack.build("clock", "other", "1").await;
    let run = stack
        .client
        .finished(other["run_id"].as_str().unwrap())
        .await;
    let all = [
        ("nightly", "skipped"),
        ("report", "skipped"),
        ("other", "success"),
    ];
    assert_eq!(statuses(&run), all);
    assert_eq!(run["jobs"][0]["reason"], "trigger_kind");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_of_one_lets_checks_through_and_starts_one_run_for_one_version() {
    let stack = Stack::plain().await;
    let content = super::example("fan-out-fan-in")
        .replace("  tags: [role=test]\n", "")
        .replace("  tags: [role=lint]\n", "");
    let settings = json!({ "concurrency": { "limit": 1 } });
    let more = json!({ "content_type": "yaml", "driver": "docker", "settings": settings });
    stack.client.set("alone", &content, more).await;
    let deploy = stack.build("alone", "deploy", "1").await;
    assert_eq!(deploy["status"], "success", "{deploy}");
    // By hand, with a look at the resource in between.
    let run = stack.run("alone", &[]).await;
    assert_eq!(run["status"], "success", "{run}");
    let all = stack.status("/api/pipelines/alone/jobs/unit/builds").await;
    assert_eq!(all["items"].as_array().unwrap().len(), 2, "{all}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_waits_for_a_resource_that_was_changed_says_so() {
    let stack = Stack::plain().await;
    let content = super::example("version-flow");
    stack.set_content("changing", &content).await;
    let waiting = stack.start("changing", &["ship"]).await;
    pocketci_tests::until("it waits for its input", || async {
        let run = stack.status(&format!("/api/runs/{waiting}")).await;
        (run["jobs"][0]["wait"]["reason"] == "inputs").then_some(())
    })
    .await;
    let other = content.replace("no_initial_version: true", "initial_version: \"1\"");
    stack.set_content("changing", &other).await;
    let ended = stack.client.finished(&waiting).await;
    assert_eq!(ended["status"], "skipped", "{ended}");
    assert_eq!(ended["jobs"][0]["reason"], "superseded_revision");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_ask_for_a_check_at_once_start_few() {
    let stack = Stack::new(&[]).await;
    stack.set("version-flow").await;
    let path = "/api/pipelines/version-flow/resources/release/check";
    let mut runs = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let (status, answer) = stack.client.post(path, &json!({})).await.unwrap();
        assert_eq!(status, 202, "{answer}");
        runs.insert(answer["run_id"].as_str().unwrap().to_owned());
    }
    // The clock may begin one of its own beside: nothing was known of the resource.
    assert!(runs.len() <= 2, "none of them has begun: {runs:?}");
}
