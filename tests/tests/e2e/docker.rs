//! Containers on a remote agent, with a real Docker engine.

use pocketci_tests::{Server, ServerOptions, Sink, required};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_container_runs_on_a_remote_agent_and_its_output_is_told_apart() {
    let image = required("POCKETCI_TEST_IMAGE");
    required("POCKETCI_TEST_DOCKER_HOST");
    let server = Server::start(ServerOptions {
        local_agent: false,
        ..ServerOptions::default()
    })
    .await;
    let _agent = server.agent("docker", &[]);
    server.agents_connected(1).await;
    let client = server.client();
    let content = format!(
        "export default async () => {{
           const r = await runtime.run({{ name: 'c', image: '{image}', stdin: 'from stdin',
             command: {{ path: 'sh', args: ['-c', 'cat; echo out $A; echo err >&2; exit 3'] }}, env: {{ A: 'b' }} }});
           http.respond({{ body: JSON.stringify(r) }});
         }};"
    );
    let id = client
        .set("c", &content, json!({ "driver": "docker" }))
        .await;
    let response = client.webhook(&id).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let result: serde_json::Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
    assert_eq!(result["code"], 3);
    assert_eq!(
        (&result["stdout"], &result["stderr"]),
        (&json!("from stdinout b\n"), &json!("err\n"))
    );
    let run = client.newest_run().await;
    client.finished(&run).await;
    let (_, steps) = client.get(&format!("/api/runs/{run}/tasks")).await.unwrap();
    assert_eq!(
        (
            &steps[0]["status"],
            &steps[0]["exit_code"],
            &steps[0]["image"]
        ),
        (&json!("complete"), &json!(3), &json!(image))
    );
    let streams: Vec<_> = client
        .events(&run)
        .await
        .into_iter()
        .filter(|event| event["event"] == "log" && event["step"] == 1)
        .map(|event| event["stream"].as_str().unwrap().to_owned())
        .collect();
    assert!(
        streams.contains(&"stdout".into()) && streams.contains(&"stderr".into()),
        "{streams:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_cannot_be_had_is_told_with_its_name() {
    required("POCKETCI_TEST_DOCKER_HOST");
    let server = Server::start(ServerOptions {
        local_agent: false,
        ..ServerOptions::default()
    })
    .await;
    let _agent = server.agent("docker", &[]);
    server.agents_connected(1).await;
    let client = server.client();
    let content = "export default async () => { await runtime.run({ image: '127.0.0.1:1/nothing:9', command: { path: 'x' } }); };";
    let id = client
        .set("c", content, json!({ "driver": "docker" }))
        .await;
    client.webhook(&id).send().await.unwrap();
    let ended = client.finished(&client.newest_run().await).await;
    assert_eq!(ended["status"], "failed");
    let message = ended["message"].as_str().unwrap();
    assert!(
        message.contains("127.0.0.1:1/nothing:9") && message.contains("cannot be pulled"),
        "{message}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_image_is_asked_for_with_the_secret_password() {
    let sink = Sink::start().await;
    let docker: &'static str = Box::leak(required("POCKETCI_TEST_DOCKER_HOST").into_boxed_str());
    let server = Server::start(ServerOptions {
        flags: vec!["--docker-host", docker],
        ..ServerOptions::default()
    })
    .await;
    let client = server.client();
    let secret = client.request(reqwest::Method::PUT, "/api/secrets/REGISTRY");
    let set = secret
        .json(&json!({ "value": "registry-passw0rd" }))
        .send()
        .await;
    assert_eq!(set.unwrap().status(), 201);
    let registry = sink.url.trim_start_matches("http://");
    let content = format!(
        "export default async () => {{
           const image = '{registry}/private/image:1';
           const registryAuth = {{ username: 'robot', password: 'secret:REGISTRY' }};
           await runtime.run({{ image, registryAuth, command: {{ path: 'true' }} }}).catch((e) => console.log(e.message));
           await runtime.run({{ image, pull: 'never', command: {{ path: 'true' }} }}).catch((e) => console.log(e.message));
         }};"
    );
    let id = client
        .set("private", &content, json!({ "driver": "docker" }))
        .await;
    client.webhook(&id).send().await.unwrap();
    let run = client.newest_run().await;
    assert_eq!(client.finished(&run).await["status"], "success");
    let log = client.logs(&run).await;
    assert!(log.contains("cannot be pulled"), "{log}");
    assert!(log.contains("pull is \"never\""), "{log}");
    assert!(!log.contains("registry-passw0rd"), "{log}");
    // base64 of robot:registry-passw0rd
    let asked: Vec<String> = sink
        .seen()
        .into_iter()
        .filter_map(|seen| seen.headers.get("authorization").cloned())
        .collect();
    assert!(
        asked.contains(&"Basic cm9ib3Q6cmVnaXN0cnktcGFzc3cwcmQ=".to_owned()),
        "{asked:?}"
    );
}
