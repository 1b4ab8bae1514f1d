//! A stop is a stop: within two seconds, whatever the pipeline does, and nothing of it stays behind.

use pocketci_tests::{Client, Server, ServerOptions, Sink, required, until};
use serde_json::{Value, json};
use std::process::Command;
use std::time::{Duration, Instant};

/// What the issue allows.
const WITHIN: Duration = Duration::from_secs(2);
/// What a machine with all tests at work may add.
const BUSY: Duration = Duration::from_secs(3);

async fn stopped(client: &Client, driver: &str, source: &str, ready: &str) -> (Duration, Value) {
    let name = format!("stop-{}", uuid::Uuid::new_v4().simple());
    let id = client.set(&name, source, json!({ "driver": driver })).await;
    let (_, answer) = client
        .post(&format!("/api/pipelines/{id}/trigger"), &json!({}))
        .await
        .unwrap();
    let run = answer["run_id"].as_str().unwrap().to_owned();
    until(&format!("{name} says {ready:?}"), || async {
        client.logs(&run).await.contains(ready).then_some(())
    })
    .await;
    let asked = Instant::now();
    let (status, _) = client
        .post(&format!("/api/runs/{run}/stop"), &json!({}))
        .await
        .unwrap();
    assert!(status < 300, "{status}");
    let ended = client.finished(&run).await;
    (asked.elapsed(), ended)
}

fn containers(label: &str) -> String {
    let host = required("POCKETCI_TEST_DOCKER_HOST");
    let filter = format!("label={label}");
    let listed = Command::new("docker")
        .args(["-H", &host, "ps", "-aq", "--filter", &filter])
        .output()
        .unwrap();
    let volumes = Command::new("docker")
        .args(["-H", &host, "volume", "ls", "-q", "--filter", &filter])
        .output()
        .unwrap();
    format!(
        "{}{}",
        String::from_utf8_lossy(&listed.stdout),
        String::from_utf8_lossy(&volumes.stdout)
    )
}

fn processes(mark: &str) -> usize {
    let listed = Command::new("pgrep").args(["-f", mark]).output().unwrap();
    String::from_utf8_lossy(&listed.stdout).lines().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_stops_within_two_seconds_and_leaves_nothing_behind() {
    let sink = Sink::start().await;
    let server = Server::start(ServerOptions {
        local_agent: false,
        ..ServerOptions::default()
    })
    .await;
    let _agent = server.agent("stopper", &["--fetch-allow", "127.0.0.1"]);
    server.agents_connected(1).await;
    let client = server.client();
    // A number of seconds that no other process on this machine sleeps.
    let nap = 800_000 + u64::from(std::process::id());
    let stubborn = format!("trap '' TERM; echo ready; sleep {nap} & sleep {nap}");
    let slow = format!("{}/slow", sink.url);
    let step = |image: &str| {
        format!(
            "export default async () => {{
               const v = await volumes.create();
               await runtime.run({{ image: '{image}', command: {{ path: 'sh', args: ['-c', `{stubborn}`] }}, mounts: {{ v }} }});
               console.log('must not be reached');
             }};"
        )
    };
    let sandbox = format!(
        "export default async () => {{
           const box = await runtime.startSandbox({{ image: 'busybox' }});
           await box.exec({{ command: {{ path: 'sh', args: ['-c', `{stubborn}`] }} }});
         }};"
    );
    let cases = [
        ("native", step(""), "native step"),
        ("docker", step("busybox"), "docker step"),
        ("native", sandbox.clone(), "native sandbox"),
        ("docker", sandbox, "docker sandbox"),
        ("native", format!("export default async () => {{ console.log('ready'); await fetch('{slow}'); }};"), "fetch"),
        ("native", "export default async () => { await gate('ready'); };".to_owned(), "gate"),
        ("native", "export default async () => { console.log('ready'); for (;;); };".to_owned(), "CPU loop"),
        ("native", "export default async () => { console.log('ready'); await new Promise((r) => setTimeout(r, 1e9)); };".to_owned(), "timer"),
        ("native", format!("export default async () => {{ console.log('ready'); await webhook.send({{ url: '{slow}' }}); }};"), "webhook.send"),
    ];
    for (driver, source, what) in cases {
        let (took, ended) = stopped(&client, driver, &source, "ready").await;
        assert_eq!(ended["status"], "aborted", "{what}: {ended}");
        assert!(took < WITHIN + BUSY, "{what} took {took:?}");
        println!("{what}: stopped in {took:?}");
        assert_eq!(containers("pocketci.agent=stopper"), "", "{what}");
        assert_eq!(processes(&format!("sleep {nap}")), 0, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_named_with_the_way_to_raise_them() {
    let server = Server::start(ServerOptions {
        flags: vec![
            "--job-timeout",
            "1s",
            "--max-steps",
            "2",
            "--max-output",
            "1",
        ],
        ..ServerOptions::default()
    })
    .await;
    let client = server.client();
    let run = |name: &'static str, body: &'static str| {
        let client = client.clone();
        async move {
            let id = client
                .set(
                    name,
                    &format!("export default async () => {{ {body} }};"),
                    json!({}),
                )
                .await;
            let (_, answer) = client
                .post(&format!("/api/pipelines/{id}/trigger"), &json!({}))
                .await
                .unwrap();
            let run = answer["run_id"].as_str().unwrap().to_owned();
            let ended = client.finished(&run).await;
            (ended, client.logs(&run).await)
        }
    };
    let (ended, _) = run("long", "await new Promise((r) => setTimeout(r, 60000));").await;
    assert_eq!(
        (&ended["status"], &ended["reason"]),
        (&json!("errored"), &json!("timed_out"))
    );
    assert!(
        ended["message"].as_str().unwrap().contains("--job-timeout"),
        "{ended}"
    );
    let (ended, log) = run("loud", "const r = await runtime.run({ command: { path: 'sh', args: ['-c', 'yes | head -c 3000000'] } }); console.log(r.stdout.length);").await;
    assert_eq!(ended["status"], "success", "{ended}");
    assert!(log.len() < 1_100_000, "{} bytes", log.len());
    let events = serde_json::to_string(&client.events(&client.newest_run().await).await).unwrap();
    assert!(events.contains("--max-output"), "the limit is told");
    let (ended, log) = run(
        "boxes",
        "const boxes = await Promise.allSettled([1, 2, 3].map(() => runtime.startSandbox({}))); console.log(boxes.map((b) => b.status).sort().join(), boxes.find((b) => b.reason).reason.message);",
    )
    .await;
    assert_eq!(ended["status"], "success", "{ended}");
    assert!(
        log.contains("fulfilled,fulfilled,rejected") && log.contains("--max-steps"),
        "{log}"
    );
    let (ended, log) = run(
        "many",
        "const start = Date.now(); const all = await Promise.all([1, 2, 3, 4].map(() => runtime.run({ command: { path: 'sleep', args: ['0.15'] } }))); console.log(all.map((r) => r.code).join(), Date.now() - start >= 300);",
    )
    .await;
    assert_eq!(ended["status"], "success", "{ended}");
    assert!(log.contains("0,0,0,0 true"), "{log}");
}
