//! Webhooks that are meant for some jobs, for all, for none.

use super::{Stack, output_of, statuses};
use serde_json::{Value, json};

async fn deliver(stack: &Stack, id: &str, event: Option<&str>, body: &Value) -> String {
    let mut request = stack.client.webhook(id).json(body);
    if let Some(event) = event {
        request = request.header("X-GitHub-Event", event);
    }
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 202);
    let answer: Value = response.json().await.unwrap();
    answer["run_id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filtered_job_is_skipped_and_those_after_it_go_on() {
    let stack = Stack::plain().await;
    let id = stack.set("webhook-trigger").await;
    let push = json!({ "ref": "refs/heads/main" });
    let run = deliver(&stack, &id, Some("push"), &push).await;
    let ended = stack.client.finished(&run).await;
    let all = [
        ("build-on-push", "success"),
        ("test-on-pr", "skipped"),
        ("notify", "success"),
    ];
    assert_eq!(statuses(&ended), all, "{ended}");
    assert_eq!(ended["jobs"][1]["reason"], "webhook_filter");
    assert_eq!(ended["status"], "success");

    let request = json!({ "pull_request": { "head": { "sha": "abc", "ref": "fix" } } });
    let run = deliver(&stack, &id, Some("pull_request"), &request).await;
    let ended = stack.client.finished(&run).await;
    let all = [
        ("build-on-push", "skipped"),
        ("test-on-pr", "success"),
        ("notify", "success"),
    ];
    assert_eq!(statuses(&ended), all, "{ended}");
    let events = stack.client.events(&run).await;
    assert!(
        output_of(&events, "test-on-pr").contains("testing fix"),
        "params of the webhook"
    );
    // The same commit again.
    let run = deliver(&stack, &id, Some("pull_request"), &request).await;
    let ended = stack.client.finished(&run).await;
    assert_eq!(ended["jobs"][1]["reason"], "webhook_duplicate");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_by_hand_ignores_filters() {
    let stack = Stack::plain().await;
    stack.set("webhook-trigger").await;
    let run = stack.run("webhook-trigger", &[]).await;
    let all = [
        ("build-on-push", "success"),
        ("test-on-pr", "success"),
        ("notify", "success"),
    ];
    assert_eq!(statuses(&run), all, "{run}");
    let output = stack.client.logs(run["id"].as_str().unwrap()).await;
    assert!(output.contains("testing by hand"), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_for_nobody_is_answered_at_once_and_bothers_no_agent() {
    let stack = Stack::new(&[]).await;
    let id = stack.set("webhook-trigger").await;
    // There is no agent at all, and nobody waits for the five seconds of a reply.
    let begun = std::time::Instant::now();
    let response = stack.client.webhook(&id).json(&json!({})).send().await;
    let response = response.unwrap();
    assert!(begun.elapsed().as_secs() < 4, "{:?}", begun.elapsed());
    assert_eq!(response.status(), 200);
    let told: Value = response.json().await.unwrap();
    assert_eq!(told["filtered"], true);
    let (_, runs) = stack.client.get("/api/runs").await.unwrap();
    assert!(runs["items"].as_array().unwrap().is_empty(), "{runs}");
}
