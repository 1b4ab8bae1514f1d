//! Events: one message, a run for each listener, by settings, program and YAML; PIPEFORCE's way to send one.

use pocketci_tests::{Server, ServerOptions};
use reqwest::Method;
use serde_json::{Value, json};

const LISTENER: &str = r#"
const message = event.listen("webhook.orders", { filter: "payload.total > 10" });
export const pipeline = async () => { http.respond({ status: 200, body: JSON.stringify({ total: message.body.length }) }); };
"#;
const SILENT: &str = r#"export const pipeline = async () => {};"#;

async fn send(server: &Server, path: &str, body: &'static str) -> (u16, Value) {
    let request = server.client().request(Method::POST, path);
    let response = request.body(body).send().await.unwrap();
    let status = response.status().as_u16();
    (
        status,
        serde_json::from_slice(&response.bytes().await.unwrap()).unwrap(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_reaches_every_listener_and_the_first_answer_wins() {
    let server = Server::start(ServerOptions::default()).await;
    let client = server.client();
    let put = client.request(Method::PUT, "/api/endpoints/orders");
    let body = json!({"event": "webhook.orders", "settings": {"provider": "token"}});
    let saved = put.json(&body).send().await.unwrap();
    let saved: Value = serde_json::from_slice(&saved.bytes().await.unwrap()).unwrap();
    let uuid = saved["uuid"].as_str().unwrap().to_owned();
    let path = format!("/api/v3/command/webhook.receive?uuid={uuid}");
    assert_eq!(saved["path"], json!(path));
    let (status, told) = send(&server, &format!("/api/webhooks/{uuid}"), "{}").await;
    assert_eq!(
        (status, &told["unrouted"]),
        (202, &json!(true)),
        "nobody listens"
    );
    client.set("js", LISTENER, json!({})).await;
    client
        .set(
            "quiet",
            SILENT,
            json!({"settings": {"on": {"event": "webhook.orders"}}}),
        )
        .await;
    let (status, told) = send(&server, &path, r#"{"total": 11}"#).await;
    assert_eq!(status, 200, "{told}");
    assert_eq!(
        (&told["status"], &told["value"]["total"]),
        (&json!("ok"), &json!(13))
    );
    let (_, runs) = client.get("/api/runs").await.unwrap();
    assert_eq!(
        runs["items"].as_array().unwrap().len(),
        2,
        "one for each listener"
    );
    let (status, told) = send(&server, &path, r#"{"total": 1}"#).await;
    assert_eq!(
        (status, &told["status"]),
        (200, &json!("processing")),
        "{told}"
    );
    let (_, runs) = client.get("/api/runs").await.unwrap();
    assert_eq!(
        runs["items"].as_array().unwrap().len(),
        3,
        "the filter said no to one"
    );
    let unknown = "/api/v3/command/webhook.receive?uuid=00000000-0000-4000-8000-000000000000";
    assert_eq!(send(&server, unknown, "{}").await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_cannot_be_read_is_refused_when_it_is_set() {
    let server = Server::start(ServerOptions::default()).await;
    let client = server.client();
    let program = "const k = String(1); event.listen(k); export const pipeline = async () => {};";
    let put = client.request(Method::PUT, "/api/pipelines/p");
    let refused = put.json(&json!({"content": program})).send().await.unwrap();
    assert_eq!(refused.status(), 422);
    let text = refused.text().await.unwrap();
    assert!(text.contains("event.listen"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_listener_gets_its_run_when_it_goes_on() {
    let server = Server::start(ServerOptions::default()).await;
    let client = server.client();
    let id = client
        .set("one", SILENT, json!({"settings": {"on": [{"event": "a"}]}}))
        .await;
    let put = client.request(Method::PUT, "/api/endpoints/in");
    let body = json!({"event": "a", "settings": {"auth": "none"}});
    let saved = put.json(&body).send().await.unwrap();
    let saved: Value = serde_json::from_slice(&saved.bytes().await.unwrap()).unwrap();
    client
        .post(&format!("/api/pipelines/{id}/pause"), &json!({}))
        .await
        .unwrap();
    let (status, told) = send(&server, saved["path"].as_str().unwrap(), "{}").await;
    assert_eq!(status, 202, "{told}");
    assert_eq!(told["runs"][0]["state"], "pending");
    let run = told["runs"][0]["run_id"].as_str().unwrap().to_owned();
    client
        .post(&format!("/api/pipelines/{id}/unpause"), &json!({}))
        .await
        .unwrap();
    client.finished(&run).await;
}
