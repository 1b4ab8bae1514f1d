//! Every example does what `examples/expect.json` says of it: on both drivers, in the server's own process, on a remote
//! agent, and without any server.

use pocketci_tests::process::run;
use pocketci_tests::{Client, Server, ServerOptions, Sink, required, until};
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Runs at once.
const AT_ONCE: usize = 4;
/// The one image of these tests; `scripts/with-docker.sh` makes it.
const IMAGE: &str = "busybox";

#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
struct Expect {
    #[serde(default)]
    webhook: Option<Webhook>,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    secrets: BTreeMap<String, String>,
    #[serde(default)]
    gate: Option<String>,
    outcome: String,
    #[serde(default)]
    log: Vec<String>,
    #[serde(default)]
    absent: Vec<String>,
    #[serde(default)]
    reply: Option<Reply>,
    #[serde(default)]
    error: Option<String>,
}

#[derive(Deserialize, Clone)]
struct Webhook {
    method: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    body: String,
}

#[derive(Deserialize, Clone)]
struct Reply {
    status: u16,
    #[serde(default)]
    body: Option<String>,
}

fn folder() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    root.join("examples")
}

fn expectations() -> BTreeMap<String, Expect> {
    let text = std::fs::read_to_string(folder().join("expect.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// A copy in which every image is the one there is.
fn with_local_images() -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    let from = format!("{}/.", folder().display());
    let status = Command::new("cp")
        .arg("-r")
        .arg(from)
        .arg(copy.path())
        .status()
        .unwrap();
    assert!(status.success());
    let file = copy.path().join("github-webhook.ts");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("debian:bookworm-slim", IMAGE)).unwrap();
    copy
}

#[test]
fn every_example_has_an_expectation_and_types() {
    let expected = expectations();
    let mut count = 0;
    for entry in std::fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".ts") {
            count += 1;
            assert!(
                expected.contains_key(&name),
                "{name} is not in examples/expect.json"
            );
        }
    }
    assert!(count >= 35, "{count} examples");
    let checked = Command::new("tsc")
        .args(["-p", &folder().display().to_string()])
        .output()
        .expect("tsc runs (scripts/prerequisites.sh test installs it)");
    let told = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(checked.status.success(), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn examples_run_in_the_servers_own_process() {
    let sink = Sink::start().await;
    let docker = required("POCKETCI_TEST_DOCKER_HOST");
    let server = Server::start(ServerOptions {
        flags: vec![
            "--docker-host",
            leaked(docker),
            "--slots",
            "8",
            "--fetch-allow",
            "127.0.0.1",
        ],
        ..ServerOptions::default()
    })
    .await;
    all_on(&server, &sink).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn examples_run_on_a_remote_agent() {
    let sink = Sink::start().await;
    required("POCKETCI_TEST_DOCKER_HOST");
    let server = Server::start(ServerOptions {
        local_agent: false,
        ..ServerOptions::default()
    })
    .await;
    let _agent = server.agent("remote", &["--slots", "8", "--fetch-allow", "127.0.0.1"]);
    server.agents_connected(1).await;
    all_on(&server, &sink).await;
}

/// Flags live as long as the test.
fn leaked(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

async fn all_on(server: &Server, sink: &Sink) {
    let copy = with_local_images();
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut running = JoinSet::new();
    for (file, expect) in expectations() {
        for driver in ["native", "docker"] {
            let place = Place {
                client: server.client(),
                url: server.url.clone(),
                path: copy.path().join(&file),
                name: format!(
                    "{driver}-{}",
                    file.trim_end_matches(".ts").replace('/', "-")
                ),
                driver,
                sink: (sink.url.clone(), sink.smtp.clone()),
            };
            let (expect, room) = (expect.clone(), room.clone());
            running.spawn(async move {
                let _permit = room.acquire_owned().await.unwrap();
                place.holds(expect).await
            });
        }
    }
    let mut faults = Vec::new();
    while let Some(ended) = running.join_next().await {
        faults.extend(ended.expect("no panic"));
    }
    faults.sort();
    assert!(faults.is_empty(), "\n{}", faults.join("\n\n"));
}

struct Place {
    client: Client,
    url: String,
    path: PathBuf,
    name: String,
    driver: &'static str,
    sink: (String, String),
}

impl Place {
    /// What is not as expected.
    async fn holds(self, expect: Expect) -> Vec<String> {
        let mut faults = Vec::new();
        let id = self.set(&expect).await;
        let run = match &expect.webhook {
            Some(webhook) => self.call(&id, webhook, &expect, &mut faults).await,
            None => self.trigger(&id, &expect).await,
        };
        if let Some(verdict) = &expect.gate {
            self.decide(&run, verdict).await;
        }
        let ended = self.client.finished(&run).await;
        let log = self.client.logs(&run).await;
        let wanted = if expect.outcome == "succeeded" {
            "success"
        } else {
            "failed"
        };
        if ended["status"] != wanted {
            faults.push(format!(
                "status {} instead of {wanted}: {}",
                ended["status"], ended["message"]
            ));
        }
        for text in expect.log.iter().filter(|text| !log.contains(*text)) {
            faults.push(format!("{text:?} is not in the log"));
        }
        for text in expect.absent.iter().filter(|text| log.contains(*text)) {
            faults.push(format!("{text:?} is in the log"));
        }
        let message = ended["message"].as_str().unwrap_or_default();
        for text in expect.error.iter().filter(|text| !message.contains(*text)) {
            faults.push(format!("{text:?} is not in the error {message:?}"));
        }
        if !faults.is_empty() {
            faults.push(format!("log:\n{log}"));
        }
        faults
            .into_iter()
            .map(|fault| format!("{}: {fault}", self.name))
            .collect()
    }

    async fn set(&self, expect: &Expect) -> String {
        let path = self.path.display().to_string();
        let (url, name, driver) = (self.url.clone(), self.name.clone(), self.driver);
        let set = tokio::task::spawn_blocking(move || {
            run(&[
                "set-pipeline",
                &path,
                "--name",
                &name,
                "--driver",
                driver,
                // Their webhooks are not signed.
                "--webhook",
                // Some answer questions of Slack themselves.
                r#"{"run_as": "pipeline", "handshake": "pipeline"}"#,
                "--server",
                &url,
                "--json",
            ])
        });
        let set = set.await.unwrap();
        assert!(
            set.status.success(),
            "{}: {}",
            self.name,
            String::from_utf8_lossy(&set.stderr)
        );
        let answer: serde_json::Value = serde_json::from_slice(&set.stdout).unwrap();
        for (name, value) in &expect.secrets {
            let request = self
                .client
                .request(Method::PUT, &format!("/api/secrets/{name}"));
            let answer = request
                .json(&json!({ "value": value, "pipeline": self.name }))
                .send()
                .await
                .unwrap();
            assert!(answer.status().is_success(), "{}", answer.status());
        }
        answer["pipeline"]["id"].as_str().unwrap().to_owned()
    }

    async fn call(
        &self,
        id: &str,
        webhook: &Webhook,
        expect: &Expect,
        faults: &mut Vec<String>,
    ) -> String {
        let method = Method::from_bytes(webhook.method.as_bytes()).unwrap();
        let mut request = self.client.request(method, &format!("/api/webhooks/{id}"));
        for (name, value) in &webhook.headers {
            request = request.header(name, value);
        }
        let answer = request.body(webhook.body.clone()).send().await.unwrap();
        let (status, body) = (answer.status().as_u16(), answer.bytes().await.unwrap());
        if let Some(reply) = &expect.reply {
            let body = String::from_utf8_lossy(&body);
            let as_expected = reply.body.as_deref().is_none_or(|wanted| wanted == body);
            if status != reply.status || !as_expected {
                faults.push(format!("reply {status} {body:?}"));
            }
        }
        let (_, page) = self
            .client
            .get(&format!("/api/runs?pipeline={id}&limit=1"))
            .await
            .unwrap();
        page["items"][0]["id"].as_str().unwrap().to_owned()
    }

    async fn trigger(&self, id: &str, expect: &Expect) -> String {
        let (sink, smtp) = &self.sink;
        let args: Vec<String> = expect
            .args
            .iter()
            .map(|arg| arg.replace("{sink}", sink).replace("{smtp}", smtp))
            .collect();
        let path = format!("/api/pipelines/{id}/trigger");
        let (status, answer) = self
            .client
            .post(&path, &json!({ "args": args }))
            .await
            .unwrap();
        assert_eq!(status, 202, "{answer}");
        answer["run_id"].as_str().unwrap().to_owned()
    }

    async fn decide(&self, run: &str, verdict: &str) {
        let gate = until(&format!("{} waits at a gate", self.name), || async {
            let (_, gates) = self
                .client
                .get(&format!("/api/gates?run={run}"))
                .await
                .ok()?;
            gates[0]["id"].as_str().map(str::to_owned)
        })
        .await;
        let path = format!("/api/gates/{gate}/{verdict}");
        let body = json!({ "by": "tester", "comment": "seen" });
        let (status, answer) = self.client.post(&path, &body).await.unwrap();
        assert_eq!(status, 200, "{answer}");
        assert_eq!(answer["decided_by"], "tester");
        let (status, answer) = self.client.post(&path, &body).await.unwrap();
        assert_eq!(
            (status, answer["error"]["code"].as_str()),
            (409, Some("gate_closed"))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn examples_run_without_a_server() {
    let sink = Sink::start().await;
    let mut faults = Vec::new();
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut running = JoinSet::new();
    for (file, expect) in expectations() {
        if file == "trigger-downstream.ts" {
            continue; // it is about two pipelines of a server
        }
        let (url, smtp) = (sink.url.clone(), sink.smtp.clone());
        let room = room.clone();
        running.spawn(async move {
            let _permit = room.acquire_owned().await.unwrap();
            tokio::task::spawn_blocking(move || run_locally(&file, &expect, &url, &smtp))
                .await
                .unwrap()
        });
    }
    while let Some(ended) = running.join_next().await {
        faults.extend(ended.expect("no panic"));
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n\n"));
}

fn run_locally(file: &str, expect: &Expect, sink: &str, smtp: &str) -> Vec<String> {
    let path = folder().join(file).display().to_string();
    let mut flags = vec!["run".to_owned(), path, "--driver".into(), "native".into()];
    flags.extend(["--fetch-allow".into(), "127.0.0.1".into()]);
    if expect.gate.as_deref() == Some("approve") {
        flags.push("--approve".into());
    }
    for (name, value) in &expect.secrets {
        flags.extend(["--secret".into(), format!("{name}={value}")]);
    }
    if let Some(webhook) = &expect.webhook {
        flags.extend(["--webhook-method".into(), webhook.method.clone()]);
        flags.extend(["--webhook-body".into(), webhook.body.clone()]);
        for (name, value) in &webhook.headers {
            flags.extend(["--webhook-header".into(), format!("{name}={value}")]);
        }
    }
    let args = expect.args.iter();
    flags.extend(args.map(|arg| arg.replace("{sink}", sink).replace("{smtp}", smtp)));
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let ran = run(&flags);
    let out = String::from_utf8_lossy(&ran.stdout).into_owned();
    let wanted = i32::from(expect.outcome != "succeeded");
    let mut faults = Vec::new();
    if ran.status.code() != Some(wanted) {
        faults.push(format!(
            "{file}: exit {:?} instead of {wanted}",
            ran.status.code()
        ));
    }
    for text in expect.log.iter().filter(|text| !out.contains(*text)) {
        faults.push(format!("{file}: {text:?} is not printed"));
    }
    for text in expect.absent.iter().filter(|text| out.contains(*text)) {
        faults.push(format!("{file}: {text:?} is printed"));
    }
    if let Some(reply) = &expect.reply
        && !out.contains(&format!("reply {}", reply.status))
    {
        faults.push(format!("{file}: no reply {}", reply.status));
    }
    if !faults.is_empty() {
        faults.push(format!("{out}{}", String::from_utf8_lossy(&ran.stderr)));
    }
    faults
}
