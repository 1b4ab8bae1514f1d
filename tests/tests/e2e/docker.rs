//! Containers on a remote agent, with a real Docker engine.

use pocketci_tests::{Server, ServerOptions, Sink, required, until};
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
        .set(
            "private",
            &content,
            // The webhook is not signed, and the run needs a secret.
            json!({ "driver": "docker", "settings": { "webhook": { "run_as": "pipeline" } } }),
        )
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

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_servers_own_containers_are_removed_at_its_next_start() {
    let host = required("POCKETCI_TEST_DOCKER_HOST");
    let docker: &'static str = Box::leak(host.clone().into_boxed_str());
    let mut server = Server::start(ServerOptions {
        flags: vec!["--docker-host", docker],
        ..ServerOptions::default()
    })
    .await;
    let client = server.client();
    let content = "export default async () => {
        const v = await volumes.create();
        await runtime.run({ image: 'busybox', command: { path: 'sh', args: ['-c', 'echo ready; sleep 600'] }, mounts: { v } });
    };";
    let id = client
        .set("long", content, json!({ "driver": "docker" }))
        .await;
    let (_, started) = client
        .post(&format!("/api/pipelines/{id}/trigger"), &json!({}))
        .await
        .unwrap();
    let run = started["run_id"].as_str().unwrap().to_owned();
    until("the container runs", || async {
        client.logs(&run).await.contains("ready").then_some(())
    })
    .await;
    let left = || {
        let listed = |what: &[&str]| {
            let filter = format!("label=pocketci.run={run}");
            let mut command = std::process::Command::new("docker");
            command
                .args(["-H", &host])
                .args(what)
                .args(["-q", "--filter", &filter]);
            String::from_utf8_lossy(&command.output().unwrap().stdout)
                .lines()
                .count()
        };
        (listed(&["ps", "-a"]), listed(&["volume", "ls"]))
    };
    assert_eq!(left(), (1, 1));
    server.process.kill();
    assert_eq!(left(), (1, 1));
    server.restart().await;
    // The server answers before it has cleaned up. The lease of the lost attempt is half a minute: the next one begins
    // after that.
    until("what was left is removed", || async {
        (left() == (0, 0)).then_some(())
    })
    .await;
}
