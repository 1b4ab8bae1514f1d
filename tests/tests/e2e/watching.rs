//! Watching a run: one ordered stream that resumes anywhere, on any server.

use futures_util::StreamExt;
use pocketci_tests::{Server, ServerOptions, TestDatabase};
use serde_json::{Value, json};

/// Reads SSE until the run ends or `limit` events came.
async fn watch(
    server: &Server,
    run: &str,
    last_id: Option<&str>,
    limit: usize,
) -> Vec<(String, String, Value)> {
    let mut request = server
        .client()
        .request(reqwest::Method::GET, &format!("/api/runs/{run}/events"));
    if let Some(id) = last_id {
        request = request.header("Last-Event-ID", id);
    }
    let response = request.send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut stream = response.bytes_stream();
    let (mut text, mut seen) = (String::new(), Vec::new());
    while let Some(Ok(bytes)) = stream.next().await {
        text.push_str(std::str::from_utf8(&bytes).unwrap());
        while let Some(end) = text.find("\n\n") {
            let message: String = text.drain(..end + 2).collect();
            let field = |name: &str| {
                message
                    .lines()
                    .find_map(|line| line.strip_prefix(name))
                    .map(str::to_owned)
            };
            if let (Some(id), Some(name), Some(data)) =
                (field("id: "), field("event: "), field("data: "))
            {
                seen.push((id, name, serde_json::from_str(&data).unwrap()));
                if seen.len() == limit {
                    return seen;
                }
            }
        }
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn events_resume_by_last_event_id_on_another_server() {
    let database = TestDatabase::create().await;
    let options = || ServerOptions {
        storage: Some(database.url.clone()),
        local_agent: false,
        flags: vec![],
    };
    let (a, b) = (
        Server::start(options()).await,
        Server::start(options()).await,
    );
    let _agent = a.agent("a", &[]);
    a.agents_connected(1).await;
    let content = "export default async () => {
        for (let i = 0; i < 5; i++) { console.log('line ' + i); await new Promise(r => setTimeout(r, 100)); }
        await runtime.run({ name: 's', command: { path: 'printf', args: ['\\\\377x'] } }); };";
    let id = a.client().set("p", content, json!({})).await;
    let (_, started) = a
        .client()
        .post(&format!("/api/pipelines/{id}/trigger"), &json!({}))
        .await
        .unwrap();
    let run = started["run_id"].as_str().unwrap();
    let first = watch(&a, run, None, 3).await;
    let rest = watch(&b, run, Some(&first[2].0), usize::MAX).await;
    let all: Vec<_> = first.into_iter().chain(rest).collect();
    for (at, (id, name, data)) in all.iter().enumerate() {
        assert_eq!(
            (
                id.parse::<usize>().unwrap(),
                data["seq"].as_u64().unwrap() as usize
            ),
            (at + 1, at + 1)
        );
        assert_eq!(data["event"], json!(name));
    }
    assert_eq!(all[0].1, "started");
    assert_eq!(all.last().unwrap().1, "run_finished");
    let text: String = all
        .iter()
        .filter_map(|(_, _, data)| data["text"].as_str())
        .collect();
    assert_eq!(text, "line 0\nline 1\nline 2\nline 3\nline 4\n");
    let binary: Vec<&Value> = all
        .iter()
        .filter(|(_, _, data)| data["base64"].is_string())
        .map(|(_, _, d)| d)
        .collect();
    assert_eq!(
        (binary.len(), &binary[0]["base64"], &binary[0]["step"]),
        (1, &json!("/3g="), &json!(1))
    );
    assert!(
        watch(&b, run, Some(&all.last().unwrap().0), usize::MAX)
            .await
            .is_empty(),
        "nothing after the end"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn much_output_arrives_byte_for_byte() {
    let server = Server::start(ServerOptions::default()).await;
    let client = server.client();
    let content = "export default async () => {
        await runtime.run({ name: 's', command: { path: 'sh', args: ['-c', 'seq 1 400000'] } }); };";
    let id = client.set("p", content, json!({})).await;
    let (_, started) = client
        .post(&format!("/api/pipelines/{id}/trigger"), &json!({}))
        .await
        .unwrap();
    let run = started["run_id"].as_str().unwrap();
    assert_eq!(client.finished(run).await["status"], "success");
    let expected: String = (1..=400_000).map(|n| format!("{n}\n")).collect();
    let request = client.request(
        reqwest::Method::GET,
        &format!("/api/runs/{run}/logs?follow=1"),
    );
    assert!(request.send().await.unwrap().text().await.unwrap() == expected);
}
