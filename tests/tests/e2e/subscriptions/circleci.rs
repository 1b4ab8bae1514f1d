//! CircleCI's API v2 for webhooks, as its tools call it.

use super::{send, server};
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_are_managed_in_circlecis_shape() {
    let server = server().await;
    let client = server.client();
    let project = client
        .set("site", "export default () => {};", json!({}))
        .await;
    let list = format!("/api/v2/webhook?scope-id={project}&scope-type=project");
    let (status, empty) = client.get(&list).await.unwrap();
    assert_eq!(
        (status, empty),
        (200, json!({ "items": [], "next_page_token": null }))
    );

    let body = json!({ "name": "Sample Webhook", "url": "https://receiver.example/hook", "verify-tls": true,
        "events": ["workflow-completed", "job-completed"], "signing-secret": "super-secret-1234",
        "scope": { "id": project, "type": "project" } });
    let (status, made) = send(&client, Method::POST, "/api/v2/webhook", &body).await;
    assert_eq!(status, 201, "{made}");
    let mut keys: Vec<&String> = made.as_object().unwrap().keys().collect();
    keys.sort();
    assert_eq!(
        keys,
        [
            "created-at",
            "events",
            "id",
            "name",
            "scope",
            "signing-secret",
            "updated-at",
            "url",
            "verify-tls"
        ]
    );
    assert_eq!(made["signing-secret"], "****");
    assert_eq!(made["scope"], body["scope"]);
    let created = made["created-at"].as_str().unwrap();
    assert!(created.len() == 24 && created.ends_with('Z'), "{created}");

    let path = format!("/api/v2/webhook/{}", made["id"].as_str().unwrap());
    assert_eq!(client.get(&path).await.unwrap(), (200, made.clone()));
    let (_, listed) = client.get(&list).await.unwrap();
    assert_eq!(listed["items"], json!([made]));

    // What was shown may be sent back: the mask is no secret.
    let mut change = made.clone();
    change["name"] = json!("Renamed");
    change["events"] = json!(["job-completed"]);
    let fingerprint = |seen: &Value| seen["secrets"][0]["id"].clone();
    let own = format!("/api/subscriptions/{}", made["id"].as_str().unwrap());
    let before = fingerprint(&client.get(&own).await.unwrap().1);
    let (status, changed) = send(&client, Method::PUT, &path, &change).await;
    assert_eq!(
        (status, &changed["name"]),
        (200, &json!("Renamed")),
        "{changed}"
    );
    assert_eq!(changed["events"], json!(["job-completed"]));
    assert_eq!(fingerprint(&client.get(&own).await.unwrap().1), before);

    let gone = client.request(Method::DELETE, &path).send().await.unwrap();
    assert_eq!(gone.status(), 200);
    assert_eq!(client.get(&path).await.unwrap().0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_or_about_no_project_is_refused() {
    let server = server().await;
    let client = server.client();
    let project = client
        .set("site", "export default () => {};", json!({}))
        .await;
    let good = json!({ "name": "w", "url": "https://receiver.example/", "verify-tls": true, "events": ["job-completed"],
        "signing-secret": "x", "scope": { "id": project, "type": "project" } });
    for name in ["name", "url", "events", "scope"] {
        let mut body = good.clone();
        body.as_object_mut().unwrap().remove(name);
        let (status, told) = send(&client, Method::POST, "/api/v2/webhook", &body).await;
        assert_eq!(status, 400, "{name}: {told}");
        assert!(told.to_string().contains(name), "{told}");
    }
    let mut other = good.clone();
    other["scope"]["type"] = json!("organization");
    assert_eq!(
        send(&client, Method::POST, "/api/v2/webhook", &other)
            .await
            .0,
        400
    );
    other["scope"] = json!({ "id": "0190c6f0-0000-7000-8000-000000000000", "type": "project" });
    assert_eq!(
        send(&client, Method::POST, "/api/v2/webhook", &other)
            .await
            .0,
        404
    );
    for (query, status) in [
        ("", 400),
        ("?scope-id=x&scope-type=project", 400),
        (
            "?scope-id=0190c6f0-0000-7000-8000-000000000000&scope-type=project",
            404,
        ),
    ] {
        assert_eq!(
            client
                .get(&format!("/api/v2/webhook{query}"))
                .await
                .unwrap()
                .0,
            status,
            "{query}"
        );
    }
    // A subscription of all pipelines is no webhook of a project.
    let body = json!({ "url": "https://receiver.example/", "events": ["job-completed"] });
    let (_, all) = send(&client, Method::PUT, "/api/subscriptions/all", &body).await;
    let path = format!(
        "/api/v2/webhook/{}",
        all["subscription"]["id"].as_str().unwrap()
    );
    assert_eq!(client.get(&path).await.unwrap().0, 404);
}
