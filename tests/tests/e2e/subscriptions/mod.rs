//! Others are told what happens: subscriptions, what receivers get, and what the log keeps of it.

mod api;
mod circleci;
mod delivery;
mod guide;
mod told;

use pocketci_tests::{Client, Receiver, Server, ServerOptions};
use reqwest::Method;
use serde_json::{Value, json};

/// A server that may deliver to this machine.
async fn server() -> Server {
    server_with(None, &[]).await
}

/// The same over this storage and with more flags.
async fn server_with(storage: Option<String>, more: &[&'static str]) -> Server {
    let mut flags = vec!["--delivery-allow", "127.0.0.1"];
    flags.extend(more);
    Server::start(ServerOptions {
        storage,
        flags,
        ..ServerOptions::default()
    })
    .await
}

/// Status and JSON of a request with a JSON body.
async fn send(client: &Client, method: Method, path: &str, body: &Value) -> (u16, Value) {
    let response = client
        .request(method, path)
        .json(body)
        .send()
        .await
        .unwrap();
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (
        status,
        serde_json::from_str(&text).unwrap_or(Value::String(text)),
    )
}

/// Subscribes the receiver to these events, with secret `hunter2` and a schedule without long waits.
async fn subscribe(client: &Client, name: &str, receiver: &Receiver, more: Value) -> Value {
    let mut body = json!({ "url": receiver.url, "events": ["workflow-completed"], "secret": "hunter2",
        "schedule_seconds": [0.1, 0.1, 0.1] });
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    let path = format!("/api/subscriptions/{name}");
    let (status, answer) = send(client, Method::PUT, &path, &body).await;
    assert_eq!(status, 200, "{answer}");
    answer["subscription"].clone()
}

/// Sets a pipeline, runs it to its end; pipeline and run.
async fn ran(client: &Client, name: &str, body: &str) -> (String, String) {
    let program = format!("export default async () => {{ {body} }};");
    let pipeline = client.set(name, &program, json!({})).await;
    let (status, answer) = client
        .post(&format!("/api/pipelines/{pipeline}/trigger"), &json!({}))
        .await
        .unwrap();
    assert_eq!(status, 202, "{answer}");
    let run = answer["run_id"].as_str().unwrap().to_owned();
    client.finished(&run).await;
    (pipeline, run)
}

/// The newest delivery that fits the query, once it is in this state, with its tries.
async fn delivery(client: &Client, query: &str, state: &str) -> Value {
    pocketci_tests::until(&format!("a delivery {query} is {state}"), || async {
        let (_, page) = client.get(&format!("/api/deliveries?{query}")).await.ok()?;
        let newest = page["items"].get(0)?.clone();
        if newest["state"] != state {
            return None;
        }
        let path = format!("/api/deliveries/{}", newest["id"].as_str()?);
        Some(client.get(&path).await.ok()?.1)
    })
    .await
}
