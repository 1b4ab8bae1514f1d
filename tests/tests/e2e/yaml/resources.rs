//! Resources: types of one's own, checks, pins, versions that may not be used, tokens.

use super::{Stack, examples};
use pocketci_tests::{required, until};
use serde_json::{Value, json};
use std::process::Command;

/// Builds the image of the example's resource type.
fn build_counter_resource() {
    let host = required("POCKETCI_TEST_DOCKER_HOST");
    let built = Command::new("docker")
        .args([
            "-H",
            &host,
            "build",
            "-q",
            "-t",
            "example/counter-resource",
            "counter-resource",
        ])
        .env("DOCKER_BUILDKIT", "0")
        .current_dir(examples())
        .output()
        .unwrap();
    assert!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_type_of_ones_own_is_checked_fetched_and_put() {
    build_counter_resource();
    let stack = Stack::plain().await;
    stack.set("custom-type").await;
    let run = stack.run("custom-type", &["next"]).await;
    let output = stack.client.logs(run["id"].as_str().unwrap()).await;
    assert_eq!(run["status"], "success", "{run} {output}");
    assert!(output.contains("fetched 40"), "{output}");
    let show = until("show runs with what next has put", || async {
        let path = "/api/pipelines/custom-type/jobs/show/builds?limit=1";
        let (_, page) = stack.client.get(path).await.ok()?;
        let build = page["items"][0].clone();
        (build["status"] == "success").then_some(build)
    })
    .await;
    assert!(stack.output(&show).await.contains("the number is 42"));
    let versions = stack
        .status("/api/pipelines/custom-type/resources/number/versions")
        .await;
    let newest = &versions["items"][0];
    assert_eq!(newest["version"]["number"], "42", "{versions}");
    assert_eq!(
        newest["metadata"],
        json!([{ "name": "parity", "value": "0" }])
    );
}

/// A pipeline whose resource has these versions: the mock looks for one at a time.
async fn with_versions(stack: &Stack, name: &str, versions: &[&str]) {
    let content = |version: &str| {
        format!(
            "
resources:
- name: app
  type: mock
  check_every: never
  webhook_token: ((token))
  source: {{force_version: \"{version}\"}}
jobs:
- name: use
  plan:
  - get: app
  - task: say
    config:
      platform: linux
      image_resource: {{type: registry-image, source: {{repository: busybox}}}}
      inputs: [{{name: app}}]
      run: {{path: sh, args: [-c, 'echo \"using $(cat app/version)\"']}}
"
        )
    };
    stack.set_content(name, &content(versions[0])).await;
    for version in versions {
        let path = format!("/api/pipelines/{name}/resources/app/check");
        let from = json!({ "from": { "version": version } });
        let (status, answer) = stack.client.post(&path, &from).await.unwrap();
        assert_eq!(status, 202, "{answer}");
        let run = answer["run_id"].as_str().unwrap();
        assert_eq!(stack.client.finished(run).await["status"], "success");
    }
}

async fn used(stack: &Stack, name: &str) -> String {
    let run = stack.run(name, &[]).await;
    assert_eq!(run["status"], "success", "{run}");
    let output = stack.client.logs(run["id"].as_str().unwrap()).await;
    let said = output.split("using ").nth(1).unwrap();
    said.split_whitespace().next().unwrap().to_owned()
}

async fn put(stack: &Stack, path: &str, body: &Value) -> (u16, Value) {
    let request = stack.client.request(reqwest::Method::PUT, path).json(body);
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn pins_and_disabled_versions_decide_what_jobs_get() {
    let stack = Stack::plain().await;
    with_versions(&stack, "pins", &["3"]).await;
    let resource = "/api/pipelines/pins/resources/app";
    assert_eq!(used(&stack, "pins").await, "3");
    let wrong = json!({ "version": { "version": "9" } });
    let (status, answer) = put(&stack, &format!("{resource}/pin"), &wrong).await;
    assert_eq!(status, 404, "{answer}");
    let right = json!({ "version": { "version": "3" }, "comment": "good", "by": "ann" });
    let (status, pinned) = put(&stack, &format!("{resource}/pin"), &right).await;
    assert_eq!(status, 200, "{pinned}");
    assert_eq!(pinned["pin"]["by"], "ann");
    assert_eq!(used(&stack, "pins").await, "3");
    let unpin = stack
        .client
        .request(reqwest::Method::DELETE, &format!("{resource}/pin"));
    assert_eq!(unpin.send().await.unwrap().status(), 200);
    // Without a version that may be used a build waits, and goes on when there is one.
    let disable = json!({ "version": { "version": "3" } });
    let (status, _) = stack
        .client
        .post(&format!("{resource}/disable"), &disable)
        .await
        .unwrap();
    assert_eq!(status, 200);
    let run = stack.start("pins", &[]).await;
    let wait = until("it says what it waits for", || async {
        let run = stack.status(&format!("/api/runs/{run}")).await;
        let wait = run["jobs"][0]["wait"].clone();
        (wait["reason"] == "inputs").then_some(wait)
    })
    .await;
    assert!(wait["message"].as_str().unwrap().contains("app"), "{wait}");
    let (status, _) = stack
        .client
        .post(&format!("{resource}/enable"), &disable)
        .await
        .unwrap();
    assert_eq!(status, 200);
    assert_eq!(stack.client.finished(&run).await["status"], "success");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_by_webhook_needs_the_resources_token() {
    let stack = Stack::plain().await;
    with_versions(&stack, "hooked", &["1"]).await;
    let request = stack
        .client
        .request(reqwest::Method::PUT, "/api/secrets/token?pipeline=hooked")
        .json(&json!({ "value": "sesame" }));
    assert!(request.send().await.unwrap().status().is_success());
    let path = "/api/pipelines/hooked/resources/app/check/webhook";
    let ask = |query: &str| {
        let path = format!("{path}{query}");
        let client = &stack.client;
        async move { client.post(&path, &json!({})).await.unwrap() }
    };
    assert_eq!(ask("").await.0, 400);
    assert_eq!(ask("?webhook_token=wrong").await.0, 401);
    assert_eq!(ask("?webhook_token=((token))").await.0, 401);
    let (status, answer) = ask("?webhook_token=sesame").await;
    assert_eq!(status, 202, "{answer}");
    let run = answer["run_id"].as_str().unwrap();
    assert_eq!(stack.client.finished(run).await["status"], "success");
    let nothing = "/api/pipelines/nothing/resources/app/check/webhook?webhook_token=x";
    assert_eq!(stack.client.post(nothing, &json!({})).await.unwrap().0, 401);
}
