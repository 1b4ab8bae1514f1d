//! Waiting: every queued job says why, fair turns, concurrency groups, deadlines, time limits.

use pocketci_tests::process::run;
use pocketci_tests::{Client, Server, ServerOptions, until};
use reqwest::Method;
use serde_json::{Value, json};

const SLEEPS: &str = "export default async () => {
  console.log('begun');
  await runtime.run({ command: { path: 'sleep', args: ['600'] } });
};";
const QUICK: &str = "export default () => console.log('done');";

async fn trigger(client: &Client, id: &str) -> String {
    let path = format!("/api/pipelines/{id}/trigger");
    let (status, answer) = client.post(&path, &json!({})).await.unwrap();
    assert_eq!(status, 202, "{answer}");
    answer["run_id"].as_str().unwrap().to_owned()
}

async fn of_branch(client: &Client, id: &str, branch: &str) -> String {
    let path = format!("/api/pipelines/{id}/trigger");
    let webhook = json!({ "webhook": { "body": json!({ "ref": branch }).to_string() } });
    let (status, answer) = client.post(&path, &webhook).await.unwrap();
    assert_eq!(status, 202, "{answer}");
    answer["run_id"].as_str().unwrap().to_owned()
}

async fn status(client: &Client, run: &str, wanted: &str) {
    until(&format!("run {run} is {wanted}"), || async {
        let (_, run) = client.get(&format!("/api/runs/{run}")).await.ok()?;
        (run["status"] == wanted).then_some(())
    })
    .await;
}

/// Why a run's job waits, once it says `reason`.
async fn waits(client: &Client, run: &str, reason: &str) -> String {
    let what = format!("run {run} waits for {reason}");
    until(&what, || async {
        let (_, run) = client.get(&format!("/api/runs/{run}")).await.ok()?;
        let wait = &run["jobs"][0]["wait"];
        (wait["reason"] == reason).then(|| wait["message"].as_str().unwrap().to_owned())
    })
    .await
}

async fn stop(client: &Client, run: &str) {
    let path = format!("/api/runs/{run}/stop");
    let (status, answer) = client.post(&path, &json!({ "by": "ada" })).await.unwrap();
    assert_eq!(status, 200, "{answer}");
}

async fn server(flags: Vec<&'static str>, local_agent: bool) -> Server {
    Server::start(ServerOptions {
        flags,
        local_agent,
        ..ServerOptions::default()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_queued_job_says_why_it_waits_in_the_api_and_the_cli() {
    let server = server(vec![], false).await;
    let client = server.client();
    let plain = client.set("plain", SLEEPS, json!({})).await;
    let labelled = json!({ "labels": { "gpu": "yes" } });
    let gpu = client.set("gpu", QUICK, labelled).await;
    let first = trigger(&client, &plain).await;
    assert_eq!(
        waits(&client, &first, "no_agent").await,
        "no agent is connected"
    );
    let _agent = server.agent("alone", &["--slots", "1"]);
    server.agents_connected(1).await;
    status(&client, &first, "running").await;
    let unmatched = trigger(&client, &gpu).await;
    let why = waits(&client, &unmatched, "no_match").await;
    assert_eq!(why, "no connected agent has the label gpu=yes");
    let second = trigger(&client, &plain).await;
    let why = waits(&client, &second, "busy").await;
    assert_eq!(why, "every slot (1) of the agents that fit is taken: alone");
    let paused = run(&[
        "pipeline",
        "pause",
        "plain",
        "--by",
        "eve",
        "--server",
        &server.url,
    ]);
    assert!(paused.status.success());
    let why = waits(&client, &second, "paused").await;
    assert_eq!(why, "the pipeline was paused by eve");
    let listed = run(&["queue", "--server", &server.url]);
    let text = String::from_utf8(listed.stdout).unwrap();
    assert!(text.starts_with("2 queued, 1 running, 1 slots"), "{text}");
    for word in [
        second.as_str(),
        "paused by eve",
        unmatched.as_str(),
        "gpu=yes",
    ] {
        assert!(text.contains(word), "{word} in {text}");
    }
    let shown = run(&["runs", "show", &unmatched, "--server", &server.url]);
    let text = String::from_utf8(shown.stdout).unwrap();
    assert!(
        text.contains("waits:    no connected agent has the label gpu=yes"),
        "{text}"
    );
    // What has begun is no matter of the pause; what is resumed goes on.
    stop(&client, &first).await;
    status(&client, &first, "aborted").await;
    let (_, ended) = client.get(&format!("/api/runs/{first}")).await.unwrap();
    assert_eq!(
        (&ended["reason"], &ended["actor"]),
        (&json!("user"), &json!("ada"))
    );
    waits(&client, &second, "paused").await;
    assert!(
        run(&["pipeline", "unpause", "plain", "--server", &server.url])
            .status
            .success()
    );
    status(&client, &second, "running").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_waits_for_an_approval_by_name() {
    let server = server(vec![], true).await;
    let client = server.client();
    let source = "export default async () => { await gate('production', { timeout: '1h' }); };";
    let id = client.set("ship", source, json!({})).await;
    let run = trigger(&client, &id).await;
    let why = waits(&client, &run, "approval").await;
    assert!(
        why.starts_with("waits for somebody to approve \"production\""),
        "{why}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_without_end_becomes_a_clear_failure() {
    let server = server(vec!["--queue-timeout", "1h"], true).await;
    let client = server.client();
    let more = json!({ "labels": { "os": "plan9" }, "settings": { "queue_timeout_seconds": 1 } });
    let id = client.set("nowhere", QUICK, more).await;
    let run = trigger(&client, &id).await;
    let ended = client.finished(&run).await;
    assert_eq!(
        (&ended["status"], &ended["reason"], &ended["actor"]),
        (&json!("errored"), &json!("queue_timeout"), &json!("server"))
    );
    let message = ended["message"].as_str().unwrap();
    assert!(
        message.contains("no connected agent has the label os=plan9"),
        "{message}"
    );
    // Its caller does not wait for ever either.
    let answer = client.webhook(&id).send().await.unwrap();
    assert_eq!(answer.status(), 202);
}

#[tokio::test(flavor = "multi_thread")]
async fn serial_runs_go_one_by_one_and_groups_beside_each_other() {
    let server = server(vec![], true).await;
    let client = server.client();
    let rule = json!({ "settings": { "concurrency": { "group": "payload.ref" } } });
    let id = client.set("deploy", SLEEPS, rule).await;
    let main = [
        of_branch(&client, &id, "main").await,
        of_branch(&client, &id, "main").await,
    ];
    let dev = of_branch(&client, &id, "dev").await;
    status(&client, &main[0], "running").await;
    status(&client, &dev, "running").await;
    let why = waits(&client, &main[1], "concurrency").await;
    assert!(
        why.contains("concurrency group \"main\"") && why.contains(&main[0]),
        "{why}"
    );
    stop(&client, &main[0]).await;
    status(&client, &main[1], "running").await;
    let (_, shown) = client.get(&format!("/api/runs/{}", main[1])).await.unwrap();
    assert_eq!(shown["group"], "main");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_run_supersedes_or_is_skipped_as_the_rule_says() {
    let server = server(vec![], true).await;
    let client = server.client();
    let file = tempfile::tempdir().unwrap();
    let path = file.path().join("deploy.ts");
    std::fs::write(&path, SLEEPS).unwrap();
    let set = |flags: &[&str]| {
        let mut args = vec!["set-pipeline", path.to_str().unwrap(), "--driver", "native"];
        args.extend(["--json", "--server", &server.url]);
        args.extend(flags);
        let done = run(&args);
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
        let answer: Value = serde_json::from_slice(&done.stdout).unwrap();
        answer["pipeline"].clone()
    };
    let pipeline = set(&["--serial", "--on-conflict", "cancel-queued"]);
    assert_eq!(
        pipeline["settings"]["concurrency"],
        json!({ "limit": 1, "on_conflict": "cancel-queued" })
    );
    let id = pipeline["id"].as_str().unwrap();
    let first = trigger(&client, id).await;
    status(&client, &first, "running").await;
    let second = trigger(&client, id).await;
    waits(&client, &second, "concurrency").await;
    let third = trigger(&client, id).await;
    let ended = client.finished(&second).await;
    assert_eq!(
        (&ended["status"], &ended["reason"], &ended["actor"]),
        (
            &json!("aborted"),
            &json!("superseded"),
            &json!(format!("run {third}"))
        )
    );
    set(&["--on-conflict", "cancel-running"]);
    let fourth = trigger(&client, id).await;
    for run in [&first, &third] {
        assert_eq!(client.finished(run).await["reason"], "superseded");
    }
    status(&client, &fourth, "running").await;
    set(&["--on-conflict", "skip"]);
    let answer = client.webhook(id).send().await.unwrap();
    assert_eq!(answer.status(), 202, "at once, not after the pipeline");
    let answer: Value = answer.json().await.unwrap();
    let skipped = client.finished(answer["run_id"].as_str().unwrap()).await;
    assert_eq!(
        (&skipped["status"], &skipped["reason"], &skipped["actor"]),
        (
            &json!("skipped"),
            &json!("already_running"),
            &json!(format!("run {fourth}"))
        )
    );
    set(&["--max-in-flight", "0"]);
    let free = trigger(&client, id).await;
    status(&client, &free, "running").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_leaves_no_group_stuck() {
    let mut server = server(vec![], false).await;
    let _agent = server.agent("a", &[]);
    server.agents_connected(1).await;
    let client = server.client();
    let rule = json!({ "settings": { "concurrency": {} } });
    let id = client.set("serial", QUICK, rule).await;
    let mut runs = Vec::new();
    for _ in 0..8 {
        runs.push(trigger(&client, &id).await);
    }
    server.kill_and_restart().await;
    let client = server.client();
    for run in &runs {
        assert_eq!(client.finished(run).await["status"], "success");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_jobs_run_than_the_server_allows_and_urgent_ones_go_first() {
    let server = server(vec!["--max-running", "1"], true).await;
    let client = server.client();
    let low = client.set("low", SLEEPS, json!({})).await;
    let urgent = json!({ "settings": { "priority": 7 } });
    let high = client.set("high", SLEEPS, urgent).await;
    let first = trigger(&client, &low).await;
    status(&client, &first, "running").await;
    let second = trigger(&client, &low).await;
    let third = trigger(&client, &high).await;
    let why = waits(&client, &third, "limit").await;
    assert!(why.contains("--max-running"), "{why}");
    stop(&client, &first).await;
    status(&client, &third, "running").await;
    stop(&client, &third).await;
    status(&client, &second, "running").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipelines_own_time_limit_stops_it_gracefully() {
    let server = server(vec![], true).await;
    let client = server.client();
    let limit = json!({ "settings": { "timeout_seconds": 1 } });
    let id = client.set("slow", SLEEPS, limit).await;
    let ended = client.finished(&trigger(&client, &id).await).await;
    assert_eq!(
        (&ended["status"], &ended["reason"], &ended["actor"]),
        (&json!("errored"), &json!("timed_out"), &json!("agent"))
    );
    assert_eq!(ended["jobs"][0]["attempt"], 1, "never tried again");
    assert!(ended["message"].as_str().unwrap().contains("--timeout"));
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_cannot_be_are_refused_by_name() {
    let server = server(vec![], false).await;
    let client = server.client();
    for (settings, named) in [
        (json!({ "priority": 99 }), "priority 99"),
        (
            json!({ "concurrency": { "group": "(((" } }),
            "concurrency.group",
        ),
        (json!({ "colour": "red" }), "colour"),
    ] {
        let answer = client
            .request(Method::PUT, "/api/pipelines/p")
            .json(&json!({ "content": QUICK, "settings": settings }))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 400);
        let text = answer.text().await.unwrap();
        assert!(text.contains(named), "{text}");
    }
}
