//! Approvals survive crashes; what a job asked for once is done once, however often the job is attempted.

use pocketci_tests::process::run;
use pocketci_tests::{Client, Server, ServerOptions, TestDatabase, until};
use serde_json::{Value, json};

const WAITING: &str = "export default async () => {
  const decision = await gate('production', { message: 'ship it?', timeout: '1h' });
  console.log('decided', JSON.stringify(decision));
};";

async fn trigger(client: &Client, id: &str) -> String {
    let path = format!("/api/pipelines/{id}/trigger");
    let (_, answer) = client.post(&path, &json!({})).await.unwrap();
    answer["run_id"].as_str().unwrap().to_owned()
}

async fn open_gate(client: &Client, run: &str) -> Value {
    until("a gate is open", || async {
        let (_, gates) = client.get(&format!("/api/gates?run={run}")).await.ok()?;
        gates.get(0).cloned()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_outlives_its_server_and_remembers_who_and_when() {
    for postgres in [false, true] {
        let database = if postgres {
            Some(TestDatabase::create().await)
        } else {
            None
        };
        let mut server = Server::start(ServerOptions {
            storage: database.as_ref().map(|database| database.url.clone()),
            local_agent: false,
            ..ServerOptions::default()
        })
        .await;
        let _agent = server.agent("a", &[]);
        server.agents_connected(1).await;
        let client = server.client();
        let id = client.set("ship", WAITING, json!({})).await;
        let run_id = trigger(&client, &id).await;
        let gate = open_gate(&client, &run_id).await;
        assert_eq!(
            (&gate["message"], &gate["pipeline"]),
            (&json!("ship it?"), &json!("ship"))
        );
        server.kill_and_restart().await;
        let client = server.client();
        let gate_id = gate["id"].as_str().unwrap();
        let listed = run(&["gates", "ls", "--server", &server.url]);
        assert!(String::from_utf8_lossy(&listed.stdout).contains(gate_id));
        let approved = run(&[
            "gates",
            "approve",
            gate_id,
            "--by",
            "ada",
            "-m",
            "looks good",
            "--server",
            &server.url,
        ]);
        assert!(
            approved.status.success(),
            "{}",
            String::from_utf8_lossy(&approved.stderr)
        );
        let again = run(&["gates", "reject", gate_id, "--server", &server.url]);
        assert_eq!(again.status.code(), Some(3));
        assert!(String::from_utf8_lossy(&again.stderr).contains("it was approved by ada"));
        let ended = client.finished(&run_id).await;
        assert_eq!(ended["status"], "success", "{}", client.logs(&run_id).await);
        let log = client.logs(&run_id).await;
        assert!(
            log.contains("\"by\":\"ada\"") && log.contains("\"comment\":\"looks good\""),
            "{log}"
        );
        let (_, all) = client
            .get(&format!("/api/gates?all=true&run={run_id}"))
            .await
            .unwrap();
        assert_eq!(all[0]["decided_by"], "ada");
        assert!(all[0]["decided_at"].is_string());
        let kinds: Vec<Value> = client
            .events(&run_id)
            .await
            .iter()
            .map(|event| event["event"].clone())
            .collect();
        assert!(
            kinds.contains(&json!("gate_opened")) && kinds.contains(&json!("gate_decided")),
            "{kinds:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_job_asked_for_is_done_once_though_its_agent_was_lost() {
    let server = Server::start(ServerOptions {
        local_agent: false,
        flags: vec!["--lease", "2s", "--accept-timeout", "1s"],
        ..ServerOptions::default()
    })
    .await;
    let mut first = server.agent("first", &[]);
    server.agents_connected(1).await;
    let client = server.client();
    client
        .set(
            "child",
            "export default () => console.log('child');",
            json!({}),
        )
        .await;
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("mark").display().to_string();
    let source = format!(
        "export default async () => {{
           const duplicate = webhookDedup('\"the key\"');
           const {{ runID }} = await triggerPipeline('child');
           storage.set('attempts', {{ ['a' + pipelineContext.attempt]: duplicate }});
           console.log('child', runID, 'duplicate', duplicate);
           if (pipelineContext.attempt === 1) await runtime.run({{ command: {{ path: 'sh', args: ['-c', 'touch {mark}; sleep 600'] }} }});
           console.log('attempts', JSON.stringify(storage.get('attempts')));
         }};"
    );
    let id = client.set("parent", &source, json!({})).await;
    let answering = tokio::spawn(client.webhook(&id).body("x").send());
    until("the first attempt is under way", || async {
        std::path::Path::new(&mark).exists().then_some(())
    })
    .await;
    first.process.kill();
    let _second = server.agent("second", &[]);
    answering.await.unwrap().unwrap();
    let (_, page) = client
        .get(&format!("/api/runs?pipeline={id}"))
        .await
        .unwrap();
    let run_id = page["items"][0]["id"].as_str().unwrap().to_owned();
    let ended = client.finished(&run_id).await;
    let log = client.logs(&run_id).await;
    assert_eq!(ended["status"], "success", "{log}");
    assert!(
        log.contains("attempts {\"a1\":false,\"a2\":false}"),
        "{log}"
    );
    let children: Vec<&str> = log
        .lines()
        .filter_map(|line| line.strip_prefix("child "))
        .collect();
    assert_eq!(children.len(), 2, "{log}");
    assert_eq!(children[0], children[1]);
    let (_, runs) = client.get("/api/runs?pipeline=child").await.unwrap();
    assert_eq!(runs["items"].as_array().unwrap().len(), 1, "{runs}");
}
