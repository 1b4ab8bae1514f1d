//! What receivers get, once, signed, and again after failures; and what the log keeps of it.

use super::{delivery, ran, send, server, subscribe};
use pocketci_tests::receiver::Taken;
use pocketci_tests::{Receiver, client, until};
use reqwest::Method;
use serde_json::{Value, json};

pub(super) const OK: &[&str] = &["200 OK"];

/// Waits until no delivery waits any more, so that whatever would come twice has come.
async fn quiet(client: &pocketci_tests::Client) {
    until("all deliveries are over", || async {
        for state in ["pending", "sending"] {
            let path = format!("/api/deliveries?state={state}");
            let (_, page) = client.get(&path).await.ok()?;
            if !page["items"].as_array()?.is_empty() {
                return None;
            }
        }
        Some(())
    })
    .await;
}

fn of<'a>(taken: &'a [Taken], kind: &str) -> &'a Taken {
    let mut found = taken
        .iter()
        .filter(|one| one.header("circleci-event-type") == kind);
    let first = found.next().unwrap_or_else(|| panic!("no {kind}"));
    assert!(found.next().is_none(), "{kind} came twice");
    first
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_ends_is_told_once_and_signed() {
    let server = server().await;
    let client = server.client();
    let receiver = Receiver::start(OK).await;
    let events = json!({ "events": ["workflow-completed", "job-completed", "run-started"],
        "headers": { "X-Api-Key": "top-secret" } });
    let subscription = subscribe(&client, "all", &receiver, events).await;
    let (pipeline, run) = ran(&client, "told", "throw new Error('no');").await;
    receiver.until(3).await;
    quiet(&client).await;
    let taken = receiver.taken();
    assert_eq!(taken.len(), 3);
    for one in &taken {
        assert_eq!(one.line, "POST /hook HTTP/1.1");
        let signature = format!("v1={}", client::sign("hunter2", &one.body));
        assert_eq!(one.header("circleci-signature"), signature);
        assert_eq!(one.header("content-type"), "application/json");
        assert_eq!(one.header("x-api-key"), "top-secret");
        let body = one.json();
        assert_eq!(body["id"], one.header("webhook-id"));
        assert_eq!(body["type"], one.header("circleci-event-type"));
        assert_eq!(
            body["webhook"],
            json!({ "id": subscription["id"], "name": "all" })
        );
        assert_eq!(body["project"]["id"], json!(pipeline));
        assert_eq!(body["pipeline"]["id"], json!(run));
        assert_eq!(body["pipeline"]["trigger"], json!({ "type": "api" }));
    }
    let workflow = of(&taken, "workflow-completed").json();
    assert_eq!(workflow["workflow"]["status"], "failed");
    let job = of(&taken, "job-completed").json();
    assert_eq!(
        (&job["job"]["status"], job["workflow"].get("status")),
        (&json!("failed"), None)
    );
    let started = of(&taken, "run-started").json();
    assert_eq!(started["workflow"]["status"], "running");

    let kept = delivery(&client, "event=job-completed", "delivered").await;
    assert_eq!(kept["run_id"], json!(run));
    assert_eq!(
        kept["body"].as_str().unwrap().as_bytes(),
        of(&taken, "job-completed").body
    );
    let tried = &kept["log"][0];
    assert_eq!(
        (&tried["number"], &tried["response"]["status"]),
        (&json!(1), &json!(200))
    );
    assert_eq!(tried["response"]["body"], "ok");
    assert_eq!(tried["peer"], json!(receiver.address));
    assert!(tried["duration_ms"].is_u64());
    let said = format!("{kept}{}", server.process.log());
    assert!(
        !said.contains("top-secret") && !said.contains("hunter2"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_recovers_gets_the_same_bytes_under_the_same_id() {
    let server = server().await;
    let client = server.client();
    let receiver = Receiver::start(&["503 Service Unavailable", "", "200 OK"]).await;
    subscribe(&client, "flaky", &receiver, json!({})).await;
    ran(&client, "told", "").await;
    let kept = delivery(&client, "subscription=flaky", "delivered").await;
    let taken = receiver.taken();
    assert_eq!(taken.len(), 3);
    let attempts: Vec<&str> = taken
        .iter()
        .map(|one| one.header("webhook-attempt"))
        .collect();
    assert_eq!(attempts, ["1", "2", "3"]);
    for one in &taken {
        assert_eq!(
            one.header("webhook-id"),
            kept["webhook_id"].as_str().unwrap()
        );
        assert_eq!(one.body, taken[0].body);
    }
    let log = kept["log"].as_array().unwrap();
    let states: Vec<&Value> = log.iter().map(|tried| &tried["state"]).collect();
    assert_eq!(states, ["failed", "failed", "delivered"]);
    assert_eq!(log[0]["response"]["status"], 503);
    assert!(
        log[1].get("response").is_none() && log[1]["error"] != "",
        "{}",
        log[1]
    );
    let (_, shown) = client.get("/api/subscriptions/flaky").await.unwrap();
    assert_eq!(
        (&shown["state"], &shown["failures"]),
        (&json!("active"), &json!(0))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_a_redirect_nor_a_url_leads_to_a_private_address() {
    let server = server().await;
    let client = server.client();
    let inside = Receiver::start(OK).await;
    let found = format!("302 Found\r\nlocation: {}", inside.url);
    let receiver = Receiver::start(&[&found]).await;
    let once = json!({ "schedule_seconds": [] });
    subscribe(&client, "redirects", &receiver, once.clone()).await;
    // This machine too, but not what the operator allowed.
    let mut other = once;
    other["url"] = json!(inside.url.replace("127.0.0.1", "127.0.0.2"));
    subscribe(&client, "private", &receiver, other).await;
    ran(&client, "told", "").await;
    let kept = delivery(&client, "subscription=redirects", "failed").await;
    assert_eq!(kept["log"][0]["response"]["status"], 302);
    let blocked = delivery(&client, "subscription=private", "failed").await;
    assert!(
        blocked["reason"]
            .as_str()
            .unwrap()
            .contains("--delivery-allow"),
        "{blocked}"
    );
    assert_eq!((receiver.taken().len(), inside.taken().len()), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn pings_are_bare_or_samples_and_go_to_one_receiver_only() {
    let server = server().await;
    let client = server.client();
    let (receiver, other) = (Receiver::start(OK).await, Receiver::start(OK).await);
    let subscription = subscribe(&client, "pinged", &receiver, json!({})).await;
    subscribe(&client, "other", &other, json!({})).await;
    let path = "/api/subscriptions/pinged/ping";
    let (status, sending) = send(&client, Method::POST, path, &json!({ "by": "ann" })).await;
    assert_eq!(status, 202, "{sending}");
    let bare = receiver.until(1).await[0].json();
    assert_eq!(
        (&bare["type"], &bare["ping"]),
        (&json!("ping"), &json!({ "by": "ann" }))
    );
    assert_eq!(bare["webhook"]["id"], subscription["id"]);
    for (at, event) in [
        "workflow-completed",
        "job-completed",
        "gate-waiting",
        "run-started",
        "subscription-disabled",
    ]
    .iter()
    .enumerate()
    {
        let (status, _) = send(
            &client,
            Method::POST,
            &format!("{path}?event={event}"),
            &json!({}),
        )
        .await;
        assert_eq!(status, 202, "{event}");
        let taken = receiver.until(at + 2).await;
        let sample = &taken[at + 1];
        assert_eq!(sample.header("circleci-event-type"), *event);
        assert_eq!(sample.json()["ping"], json!({ "by": "api" }));
        let signature = format!("v1={}", client::sign("hunter2", &sample.body));
        assert_eq!(sample.header("circleci-signature"), signature);
    }
    let (status, _) = send(
        &client,
        Method::POST,
        &format!("{path}?event=nothing"),
        &json!({}),
    )
    .await;
    assert_eq!(status, 400);
    assert!(other.taken().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_is_sent_again_with_its_id() {
    let server = server().await;
    let client = server.client();
    let receiver = Receiver::start(OK).await;
    subscribe(&client, "again", &receiver, json!({})).await;
    ran(&client, "told", "").await;
    let kept = delivery(&client, "subscription=again", "delivered").await;
    let id = kept["id"].as_str().unwrap();
    let path = format!("/api/deliveries/{id}/resend");
    let (status, sending) = send(&client, Method::POST, &path, &json!({})).await;
    assert_eq!(status, 202, "{sending}");
    let taken = receiver.until(2).await;
    assert_eq!(taken[0].body, taken[1].body);
    assert_eq!(taken[0].header("webhook-id"), taken[1].header("webhook-id"));
    let again = delivery(&client, "origin=resend", "delivered").await;
    assert_eq!(
        (&again["id"], &again["resend_of"]),
        (&sending["delivery_id"], &json!(id))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_gone_is_left_alone_and_others_are_told() {
    let server = server().await;
    let client = server.client();
    let (gone, watcher) = (
        Receiver::start(&["410 Gone"]).await,
        Receiver::start(OK).await,
    );
    let secret = format!("{}?key=top-secret", gone.url);
    let url = json!({ "url": secret });
    let subscription = subscribe(&client, "gone", &gone, url).await;
    let events = json!({ "events": ["subscription-disabled"] });
    subscribe(&client, "watcher", &watcher, events).await;
    ran(&client, "told", "").await;
    let told = watcher.until(1).await[0].json();
    let about = &told["subscription"];
    assert_eq!(
        (&about["id"], &about["reason"]),
        (&subscription["id"], &json!("gone"))
    );
    // The path may be a secret.
    assert_eq!(about["url"], json!(format!("http://{}", gone.address)));
    let (_, shown) = client.get("/api/subscriptions/gone").await.unwrap();
    assert_eq!(
        (&shown["state"], &shown["disabled_reason"]),
        (&json!("disabled"), &json!("gone"))
    );
    ran(&client, "told", "").await;
    quiet(&client).await;
    assert_eq!(gone.taken().len(), 1);
}
