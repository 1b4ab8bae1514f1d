//! More of what is told: filters, gates, rotations, replays; and on PostgreSQL as well.

use super::delivery::OK;
use super::{delivery, ran, send, server, server_with, subscribe};
use pocketci_tests::{Receiver, TestDatabase, client, until};
use reqwest::Method;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn what_a_filter_is_false_for_is_kept_and_not_sent() {
    let server = server().await;
    let client = server.client();
    let receiver = Receiver::start(OK).await;
    let filter = json!({ "filter": "payload.workflow.status == \"failed\"" });
    subscribe(&client, "failures", &receiver, filter).await;
    let (_, good) = ran(&client, "good", "").await;
    delivery(&client, &format!("run={good}"), "filtered").await;
    let (_, bad) = ran(&client, "bad", "throw 1;").await;
    delivery(&client, &format!("run={bad}"), "delivered").await;
    assert_eq!(receiver.taken().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_waits_is_told_with_where_to_decide() {
    let server = server().await;
    let client = server.client();
    let receiver = Receiver::start(OK).await;
    subscribe(
        &client,
        "gates",
        &receiver,
        json!({ "events": ["gate-waiting"] }),
    )
    .await;
    let program = "export default async () => { await gate('production', { message: 'ship it?', timeout: '1h' }); };";
    let id = client.set("ship", program, json!({})).await;
    let path = format!("/api/pipelines/{id}/trigger");
    let (_, triggered) = client.post(&path, &json!({})).await.unwrap();
    let told = receiver.until(1).await[0].json();
    assert_eq!(
        (&told["gate"]["name"], &told["gate"]["message"]),
        (&json!("production"), &json!("ship it?"))
    );
    let approve = told["gate"]["approve_url"].as_str().unwrap();
    let (status, decided) = send(&client, Method::POST, approve, &json!({ "by": "a bot" })).await;
    assert_eq!((status, &decided["decided_by"]), (200, &json!("a bot")));
    let run = client.finished(triggered["run_id"].as_str().unwrap()).await;
    assert_eq!(run["status"], "success");
}

#[tokio::test(flavor = "multi_thread")]
async fn during_a_rotation_both_secrets_sign() {
    let server = server().await;
    let client = server.client();
    let receiver = Receiver::start(OK).await;
    subscribe(&client, "rotated", &receiver, json!({})).await;
    let rotate = "/api/subscriptions/rotated/rotate";
    let ping = "/api/subscriptions/rotated/ping";
    let steps = [
        (json!({ "secret": "newer", "stage": true }), "hunter2", 2),
        (json!({ "cut_over": true }), "newer", 2),
        (
            json!({ "secret": "newest", "overlap_seconds": 0 }),
            "newest",
            1,
        ),
    ];
    for (at, (wish, current, entries)) in steps.iter().enumerate() {
        let (status, told) = send(&client, Method::POST, rotate, wish).await;
        assert_eq!(status, 200, "{told}");
        send(&client, Method::POST, ping, &json!({})).await;
        let taken = receiver.until(at + 1).await;
        let signature = format!("v1={}", client::sign(current, &taken[at].body));
        assert_eq!(taken[at].header("circleci-signature"), signature);
        let signed = taken[at].header("webhook-signature");
        assert_eq!(signed.split(' ').count(), *entries, "{signed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_counts_first_and_sends_what_was_missed_or_failed() {
    for postgres in [false, true] {
        let database = match postgres {
            true => Some(TestDatabase::create().await),
            false => None,
        };
        let server = server_with(database.as_ref().map(|database| database.url.clone()), &[]).await;
        let client = server.client();
        let (early, late) = (Receiver::start(OK).await, Receiver::start(OK).await);
        subscribe(&client, "early", &early, json!({})).await;
        ran(&client, "told", "").await;
        let first = early.until(1).await[0].clone();
        delivery(&client, "subscription=early", "delivered").await;
        // Younger than the event, of which it was never told.
        subscribe(&client, "late", &late, json!({})).await;
        let path = "/api/deliveries/replay";
        let mut wish = json!({ "subscription": "late", "which": "missing", "since": "2020-01-01T00:00:00Z",
            "dry_run": true });
        let (status, counted) = send(&client, Method::POST, path, &wish).await;
        assert_eq!(
            (status, &counted["expected"]),
            (200, &json!(1)),
            "{counted}"
        );
        assert!(counted.get("id").is_none());
        assert!(late.taken().is_empty());
        wish["dry_run"] = json!(false);
        let (status, begun) = send(&client, Method::POST, path, &wish).await;
        assert_eq!((status, &begun["expected"]), (202, &json!(1)), "{begun}");
        let again = late.until(1).await[0].clone();
        assert_eq!(again.header("webhook-id"), first.header("webhook-id"));
        let one = format!("{path}/{}", begun["id"].as_str().unwrap());
        until("the replay is done", || async {
            let (_, replay) = client.get(&one).await.ok()?;
            (replay["done"] == true && replay["created"] == 1).then_some(())
        })
        .await;
        let kept = delivery(&client, "origin=replay", "delivered").await;
        assert_eq!(kept["replay_id"], begun["id"]);
        let (_, counted) = send(
            &client,
            Method::POST,
            path,
            &json!({ "subscription": "late", "which": "missing",
            "since": "2020-01-01T00:00:00Z", "dry_run": true }),
        )
        .await;
        assert_eq!(counted["expected"], 0, "nothing is missing any more");

        // A ping to it, and its whole log, on either storage.
        let ping = "/api/subscriptions/late/ping?event=job-completed";
        let (status, _) = send(&client, Method::POST, ping, &json!({})).await;
        assert_eq!(status, 202);
        let sample = late.until(2).await[1].clone();
        assert_eq!(sample.header("circleci-event-type"), "job-completed");
        let (_, page) = client.get("/api/deliveries?limit=2").await.unwrap();
        let next = page["next"].as_str().unwrap();
        let (_, rest) = client
            .get(&format!("/api/deliveries?limit=2&after={next}"))
            .await
            .unwrap();
        let count = |page: &serde_json::Value| page["items"].as_array().unwrap().len();
        assert_eq!((count(&page), count(&rest)), (2, 1));
        let refused = json!({ "subscription": "late", "since": "2999-01-01T00:00:00Z" });
        assert_eq!(send(&client, Method::POST, path, &refused).await.0, 400);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_is_told_with_its_commit() {
    let server = server().await;
    let client = server.client();
    let receiver = Receiver::start(OK).await;
    subscribe(&client, "pushes", &receiver, json!({})).await;
    let id = client
        .set("site", "export default () => {};", json!({}))
        .await;
    let push = json!({ "ref": "refs/tags/v1", "after": "1dc6aa69429bff4806ad6afe58d3d8f57e25973e",
        "repository": { "html_url": "https://github.com/octo/site" },
        "head_commit": { "id": "1dc6aa69429bff4806ad6afe58d3d8f57e25973e", "message": "one\n\ntwo" } });
    let request = client.webhook(&id).header("x-github-event", "push");
    request.json(&push).send().await.unwrap();
    let told = receiver.until(1).await[0].json();
    assert_eq!(told["pipeline"]["trigger"]["type"], "webhook");
    assert_eq!(
        told["pipeline"]["vcs"],
        json!({ "provider_name": "github", "origin_repository_url": "https://github.com/octo/site",
            "target_repository_url": "https://github.com/octo/site", "tag": "v1",
            "revision": "1dc6aa69429bff4806ad6afe58d3d8f57e25973e", "commit": { "subject": "one", "body": "two" } })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_pipeline_sends_is_in_the_same_log() {
    let server = server_with(None, &["--fetch-allow", "127.0.0.1"]).await;
    let client = server.client();
    let receiver = Receiver::start(&["503 Service Unavailable\r\nretry-after: 0", "200 OK"]).await;
    let program = format!(
        "await webhook.send({{ url: '{}?key=top-secret', body: {{ a: 1 }}, secret: 'hunter2', retries: 2 }});",
        receiver.url
    );
    let (pipeline, run) = ran(&client, "sender", &program).await;
    let kept = delivery(&client, &format!("origin=send&run={run}"), "delivered").await;
    let taken = receiver.taken();
    assert_eq!(taken.len(), 2);
    assert_eq!(kept["webhook_id"], taken[0].header("webhook-id"));
    assert_eq!(
        (&kept["pipeline_id"], &kept["receiver"]),
        (&json!(pipeline), &json!(receiver.url))
    );
    let statuses: Vec<_> = kept["log"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tried| tried["response"]["status"].clone())
        .collect();
    assert_eq!(statuses, [json!(503), json!(200)]);
    let said = kept.to_string();
    assert!(
        !said.contains("top-secret") && !said.contains("hunter2"),
        "{said}"
    );
    // It is the pipeline's own: nobody sends it again for it.
    let path = format!("/api/deliveries/{}/resend", kept["id"].as_str().unwrap());
    assert_eq!(send(&client, Method::POST, &path, &json!({})).await.0, 404);
}
