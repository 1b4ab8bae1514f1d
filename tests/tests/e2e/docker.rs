//! Containers on a remote agent, with a real Docker engine.

use pocketci_tests::{Server, ServerOptions, required};
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
