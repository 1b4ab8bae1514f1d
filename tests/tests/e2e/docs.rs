//! The documents tell the truth: their pipelines run, their commands exist, no flag is left out.

use pocketci_tests::process::run;
use pocketci_tests::{Server, ServerOptions};
use serde_json::json;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

pub(crate) fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap()
}

/// The fenced blocks of a language.
pub(crate) fn blocks(text: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    text.split(&fence)
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_pipeline_in_the_documents_runs() {
    let server = Server::start(ServerOptions::default()).await;
    let client = server.client();
    let secret = client.request(reqwest::Method::PUT, "/api/secrets/DEPLOY_TOKEN");
    let secret = secret.json(&json!({ "value": "a secret" })).send().await;
    assert_eq!(secret.unwrap().status(), 201);
    let mut programs: Vec<(String, String)> = Vec::new();
    for document in ["README.md", "docs/pipelines.md", "docs/durable.md"] {
        for (at, block) in blocks(&read(document), "ts").into_iter().enumerate() {
            programs.push((format!("{}-{at}", document.replace(['/', '.'], "-")), block));
        }
    }
    assert!(programs.len() >= 6, "the blocks were not found");
    let body = read("examples/payloads/github-push.json");
    for (name, content) in programs {
        // Their webhooks are not signed.
        let lent = json!({"settings": {"webhook": {"run_as": "pipeline"}}});
        let id = client.set(&name, &content, lent).await;
        let response = client
            .webhook(&id)
            .header("X-GitHub-Event", "push")
            .header("X-GitHub-Delivery", name.as_str())
            .body(body.clone())
            .send()
            .await
            .unwrap();
        assert!(
            [200, 202].contains(&response.status().as_u16()),
            "{name}: {}",
            response.status()
        );
        let run = client.newest_run().await;
        let ended = client.finished(&run).await;
        assert_eq!(
            ended["status"],
            "success",
            "{name}: {ended}\n{}",
            client.logs(&run).await
        );
    }
}

/// The seed's own examples, with programs that this machine has in place of its containers' (image and toolchain).
#[tokio::test(flavor = "multi_thread")]
async fn the_seeds_examples_run() {
    let server = Server::start(ServerOptions::default()).await;
    let client = server.client();
    let minimal = "const pipeline = async () => { const req = http.request();
        if (req) { http.respond({ status: 200, body: 'ok' }); } };\nexport { pipeline };";
    let data = "const pipeline = async () => { const req = http.request();
        if (req) { const data = JSON.parse(req.body);
          http.respond({ status: 200, body: JSON.stringify({ received: true, keys: Object.keys(data) }),
            headers: { 'Content-Type': 'application/json' } }); }
        await runtime.run({ name: 'process', image: 'alpine', command: { path: 'echo', args: ['processing webhook'] } }); };
        export { pipeline };";
    let slack = "const pipeline = async () => { const req = http.request(); if (!req) return;
        if (req.eventType === 'url_verification') { const { challenge } = JSON.parse(req.body);
          http.respond({ status: 200, body: JSON.stringify({ challenge }), headers: { 'Content-Type': 'application/json' } });
          return; }
        http.respond({ status: 200, body: 'ok' });
        const payload = JSON.parse(req.body); console.log('Slack event:', payload.event?.type); };\nexport { pipeline };";
    let both = "const pipeline = async () => { const req = http.request();
        if (req) { http.respond({ status: 200, body: 'acknowledged' });
          console.log(`Webhook: ${req.method} from ${req.headers['User-Agent']}`); }
        else { console.log('Manual trigger'); }
        console.log(pipelineContext.triggeredBy);
        await runtime.run({ name: 'test', image: 'golang:1.22', command: { path: 'true', args: ['test', './...'] } }); };
        export { pipeline };";
    let challenge = r#"{"type":"url_verification","challenge":"abc"}"#;
    let mention = r#"{"type":"event_callback","event":{"type":"app_mention"}}"#;
    for (name, content, slack_header, body, answer, output) in [
        ("minimal", minimal, false, "", "ok", ""),
        (
            "data",
            data,
            false,
            r#"{"a":1,"b":2}"#,
            r#"{"received":true,"keys":["a","b"]}"#,
            "processing webhook\n",
        ),
        (
            "challenge",
            slack,
            true,
            challenge,
            r#"{"challenge":"abc"}"#,
            "",
        ),
        (
            "mention",
            slack,
            true,
            mention,
            "ok",
            "Slack event: app_mention\n",
        ),
        (
            "both",
            both,
            false,
            "",
            "acknowledged",
            "Webhook: POST from Seed/1\nwebhook\n",
        ),
    ] {
        // The program answers Slack's question itself.
        let own = json!({"settings": {"webhook": {"handshake": "pipeline"}}});
        let id = client.set(name, content, own).await;
        let mut request = client.webhook(&id).header("User-Agent", "Seed/1");
        if slack_header {
            request = request.header("X-Slack-Signature", "v0=unchecked-without-a-secret");
        }
        let response = request.body(body).send().await.unwrap();
        assert_eq!(response.text().await.unwrap(), answer, "{name}");
        let run = client.newest_run().await;
        assert_eq!(client.finished(&run).await["status"], "success", "{name}");
        assert_eq!(client.logs(&run).await, output, "{name}");
    }
    let (_, started) = client
        .post("/api/pipelines/both/trigger", &json!({}))
        .await
        .unwrap();
    let run = started["run_id"].as_str().unwrap();
    client.finished(run).await;
    assert_eq!(client.logs(run).await, "Manual trigger\nmanual\n");
}

#[test]
fn every_command_and_flag_is_documented_and_exists() {
    let document = read("docs/cli.md");
    let mut commands = 0;
    for section in document.split("\n## pocketci ").skip(1) {
        commands += 1;
        let command = section.lines().next().unwrap();
        let mut args: Vec<&str> = command.split(' ').collect();
        args.push("--help");
        let output = run(&args);
        assert!(output.status.success(), "pocketci {command} does not exist");
        let help = String::from_utf8(output.stdout).unwrap();
        let flags = |text: &str| -> Vec<String> {
            text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
                .filter(|word| word.starts_with("--") && word.len() > 2)
                .map(str::to_owned)
                .collect()
        };
        for flag in flags(&help) {
            assert!(
                flag == "--help" || section.contains(&flag),
                "pocketci {command}: {flag} is not in docs/cli.md"
            );
        }
        for row in section.lines().filter(|line| line.starts_with("| `")) {
            for flag in flags(row.split("` |").next().unwrap()) {
                assert!(
                    help.contains(&flag),
                    "pocketci {command}: {flag} is in docs/cli.md but does not exist"
                );
            }
        }
    }
    assert!(commands > 15, "the sections were not found");
}

/// What docs/queue.md says of `set-pipeline` is accepted and stored.
#[tokio::test(flavor = "multi_thread")]
async fn the_settings_of_the_queue_page_can_be_set() {
    let server = Server::start(ServerOptions::default()).await;
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("deploy.ts");
    std::fs::write(&file, "export default () => {};").unwrap();
    let mut commands = 0;
    for line in blocks(&read("docs/queue.md"), "sh")[0].lines() {
        let words: Vec<String> = line
            .split_whitespace()
            .skip(1)
            .map(|word| {
                word.trim_matches('\'')
                    .replace("deploy.ts", file.to_str().unwrap())
            })
            .collect();
        let mut args: Vec<&str> = words.iter().map(String::as_str).collect();
        args.extend(["--server", &server.url]);
        let done = run(&args);
        assert!(
            done.status.success(),
            "{line}: {}",
            String::from_utf8_lossy(&done.stderr)
        );
        commands += 1;
    }
    assert_eq!(commands, 2);
    let (_, pipeline) = server.client().get("/api/pipelines/deploy").await.unwrap();
    let expected = json!({
        "priority": 5, "queue_timeout_seconds": 600, "timeout_seconds": 1800, "attempts": 2,
        "concurrency": { "limit": 1, "group": "payload.ref", "on_conflict": "cancel-running" },
    });
    assert_eq!(
        pipeline["settings"], expected,
        "the second put keeps what the first one set"
    );
}

/// Every file below a folder that is a Rust source.
fn sources(folder: &Path, into: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            into.push_str(&std::fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn every_test_that_the_protocols_promises_name_exists() {
    let mut text = String::new();
    for folder in ["server", "agent", "proto", "tests"] {
        sources(&root().join(folder), &mut text);
    }
    let page = read("docs/PROTOCOL.md");
    let rows = page.split("| promise | test |").nth(1).unwrap();
    let named: Vec<&str> = rows
        .split('`')
        .skip(1)
        .step_by(2)
        .filter_map(|name| name.split("::").last())
        .filter(|name| name.matches('_').count() >= 3)
        .collect();
    assert!(named.len() > 40, "the promises were not found");
    for name in named {
        assert!(
            text.contains(&format!("fn {name}(")),
            "docs/PROTOCOL.md names the test {name}, which does not exist"
        );
    }
}
