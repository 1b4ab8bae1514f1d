//! Steps that reach other machines: `notify`, and `uri` of tasks.

use crate::bench::{Bench, Server, Wanted};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// A peer that answers each request the same way, and what it was sent.
async fn peer(answer: &'static str) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let heard: Arc<Mutex<Vec<String>>> = Arc::default();
    let keeps = heard.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            // A request's head, and its body if there is one.
            loop {
                let mut piece = [0; 4096];
                let count = stream.read(&mut piece).await.unwrap();
                request.extend_from_slice(&piece[..count]);
                let text = String::from_utf8_lossy(&request).into_owned();
                let Some((head, body)) = text.split_once("\r\n\r\n") else {
                    continue;
                };
                let length = head.lines().find_map(|line| {
                    line.to_lowercase()
                        .strip_prefix("content-length: ")
                        .map(str::to_owned)
                });
                if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                    keeps.lock().unwrap().push(text);
                    break;
                }
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (address, heard)
}

const DONE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
const SORRY: &str = "HTTP/1.1 500 Sorry\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

fn yaml(address: &str, step: &str) -> String {
    format!(
        "notifications:\n  team: {{type: http, url: \"{address}/hook\", headers: {{x-token: secret:TOKEN, x-var: ((var))}}}}\n\
         jobs:\n- name: job\n  plan:\n{step}"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_goes_to_the_pipelines_notifications() {
    let (address, heard) = peer(DONE).await;
    let yaml = yaml(
        &address,
        "  - notify: team\n    message: '{{ .JobName }} is {{ .Status }}, ((var))'\n\
         \x20 - {task: t, config: {platform: linux, run: {path: 'false'}}, on_failure: {notify: [team], message: '{{ .Status }}', async: true}}\n",
    );
    let server = Arc::new(Server::with_secrets([
        ("TOKEN", "token-123"),
        ("var", "of-a-var"),
    ]));
    let bench = Bench::native_with_loopback();
    let ran = bench.run_at(&server, Wanted::of(&yaml)).await;
    assert_eq!(ran.message, "task \"t\": exit code 1", "{ran:#?}");
    let heard = heard.lock().unwrap().clone();
    assert_eq!(heard.len(), 2, "the job waited for the second message");
    assert!(
        heard[0].contains("job is running, of-a-var"),
        "{}",
        heard[0]
    );
    assert!(
        heard[0].contains("x-token: token-123") && heard[0].contains("x-var: of-a-var"),
        "{}",
        heard[0]
    );
    assert!(heard[1].contains("failed"), "{}", heard[1]);
    assert!(!format!("{ran:#?}").contains("token-123"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_not_taken_fails_its_step_unless_nobody_waits() {
    let (address, _) = peer(SORRY).await;
    let server = Arc::new(Server::with_secrets([
        ("TOKEN", "token-123"),
        ("var", "of-a-var"),
    ]));
    let bench = Bench::native_with_loopback();
    let waits = yaml(&address, "  - {notify: team, message: hello}\n");
    let ran = bench.run_at(&server, Wanted::of(&waits)).await;
    assert_eq!(ran.outcome, "failed", "{ran:#?}");
    assert!(
        ran.message.contains("notify \"team\"") && ran.message.contains("500"),
        "{}",
        ran.message
    );
    let goes_on = yaml(
        &address,
        "  - {notify: team, message: hello, async: true}\n",
    );
    let ran = bench
        .run_at(&server, Wanted::of(&goes_on))
        .await
        .succeeded();
    assert!(ran.system.contains("500"), "{ran:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tasks_configuration_may_be_behind_a_url() {
    const TASK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 76\r\nconnection: close\r\n\r\n\
                        platform: linux\nparams: {A: ((v))}\nrun: {path: sh, args: [-c, 'echo $A']}\n     ";
    let (address, _) = peer(TASK).await;
    let yaml = format!(
        "jobs:\n- name: job\n  plan:\n  - {{task: t, uri: \"{address}/t.yml\", vars: {{v: given}}}}\n"
    );
    let bench = Bench::native_with_loopback();
    assert_eq!(bench.run(&yaml).await.succeeded().stdout("t"), "given");
    let (address, _) = peer(SORRY).await;
    let yaml = format!("jobs:\n- name: job\n  plan:\n  - {{task: t, uri: \"{address}/t.yml\"}}\n");
    let ran = bench.run(&yaml).await;
    assert_eq!(ran.outcome, "errored");
    assert!(ran.message.ends_with("status 500"), "{}", ran.message);
}
