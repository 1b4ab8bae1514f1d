//! Pulled plugs: nothing is lost, nothing counts twice, and the reason is told.

use nix::sys::signal::Signal;
use pocketci_tests::{Server, ServerOptions, TestDatabase, until};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

const QUICK: &str =
    "export default async () => { http.respond({ status: 200 }); console.log('done'); };";
const LEASES: [&str; 4] = ["--lease", "2s", "--accept-timeout", "1s"];

fn cluster(database: &TestDatabase) -> ServerOptions {
    ServerOptions {
        storage: Some(database.url.clone()),
        local_agent: false,
        flags: LEASES.to_vec(),
    }
}

/// A step that leaves a mark and waits for a file, so that a test decides when it ends.
fn waiting_pipeline(folder: &std::path::Path) -> String {
    let folder = folder.display();
    format!(
        "export default async () => {{
           const r = await runtime.run({{ name: 'wait', command: {{ path: 'sh', args: ['-c',
             'echo $$ > {folder}/attempt-$ATTEMPT; while [ ! -e {folder}/go ]; do sleep 0.05; done; echo finished'] }},
             env: {{ ATTEMPT: String(pipelineContext.attempt) }} }});
           if (r.code !== 0) throw new Error('code ' + r.code);
           console.log(r.stdout);
         }};"
    )
}

async fn trigger(client: &pocketci_tests::Client, id: &str) -> String {
    let (status, answer) = client
        .post(&format!("/api/pipelines/{id}/trigger"), &json!({}))
        .await
        .unwrap();
    assert_eq!(status, 202, "{answer}");
    answer["run_id"].as_str().unwrap().to_owned()
}

async fn appears(file: std::path::PathBuf) {
    until(&format!("{} appears", file.display()), || async {
        file.exists().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_loses_no_accepted_webhook() {
    for postgres in [false, true] {
        let database = if postgres {
            Some(TestDatabase::create().await)
        } else {
            None
        };
        let options = ServerOptions {
            storage: database.as_ref().map(|database| database.url.clone()),
            local_agent: false,
            flags: LEASES.to_vec(),
        };
        let mut server = Server::start(options).await;
        // One slot: one that is not given back after a kill is missed soon.
        let agent = server.agent("a", &["--slots", "1"]);
        server.agents_connected(1).await;
        let client = server.client();
        let id = client.set("quick", QUICK, json!({})).await;
        let mut accepted = 0;
        for _ in 0..5 {
            until("the agent is back", || async {
                let answer = client.webhook(&id).send().await.ok()?;
                (answer.status() == 200).then_some(())
            })
            .await;
            // Callers that keep calling while the server dies under them.
            let answered = Arc::new(AtomicU32::new(0));
            let callers: Vec<_> = (0..8)
                .map(|_| {
                    let (client, id, answered) = (client.clone(), id.clone(), answered.clone());
                    tokio::spawn(async move {
                        while let Ok(response) = client.webhook(&id).send().await {
                            assert!(
                                matches!(response.status().as_u16(), 200 | 202 | 503),
                                "{}",
                                response.status()
                            );
                            let accepted = response.status().as_u16() != 503;
                            answered.fetch_add(u32::from(accepted), Ordering::Relaxed);
                        }
                    })
                })
                .collect();
            until("webhooks are under way", || async {
                (answered.load(Ordering::Relaxed) >= 8).then_some(())
            })
            .await;
            server.process.kill();
            for caller in callers {
                caller.await.unwrap();
            }
            accepted += answered.load(Ordering::Relaxed);
            server.restart().await;
        }
        let runs = until("every stored run ends", || async {
            let mut runs = Vec::new();
            let mut after = String::new();
            loop {
                let (_, page) = client
                    .get(&format!("/api/runs?limit=200{after}"))
                    .await
                    .ok()?;
                runs.extend(page["items"].as_array()?.clone());
                match page["next"].as_str() {
                    Some(next) => after = format!("&after={next}"),
                    None => break,
                }
            }
            runs.iter()
                .all(|run: &Value| run["finished_at"].is_string())
                .then_some(runs)
        })
        .await;
        assert!(
            runs.len() >= accepted as usize,
            "{} runs for {accepted} answers",
            runs.len()
        );
        for run in &runs {
            assert_eq!(run["status"], "success", "{run}");
        }
        drop(agent);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_goes_on_while_its_server_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(ServerOptions {
        local_agent: false,
        ..ServerOptions::default()
    })
    .await;
    let _agent = server.agent("a", &[]);
    server.agents_connected(1).await;
    let client = server.client();
    let id = client
        .set("wait", &waiting_pipeline(folder.path()), json!({}))
        .await;
    let run = trigger(&client, &id).await;
    appears(folder.path().join("attempt-1")).await;
    server.process.kill();
    std::fs::write(folder.path().join("go"), "").unwrap();
    server.restart().await;
    let ended = client.finished(&run).await;
    assert_eq!(
        (&ended["status"], &ended["jobs"][0]["attempt"]),
        (&json!("success"), &json!(1)),
        "{ended}"
    );
    assert_eq!(
        client.logs(&run).await.matches("finished").count(),
        2,
        "the step's and the console's, once each"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_agents_job_is_attempted_on_another_and_its_ghost_is_ignored() {
    let database = TestDatabase::create().await;
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(cluster(&database)).await;
    let client = server.client();
    let mut first = server.agent("first", &[]);
    server.agents_connected(1).await;
    let id = client
        .set("wait", &waiting_pipeline(folder.path()), json!({}))
        .await;
    let run = trigger(&client, &id).await;
    appears(folder.path().join("attempt-1")).await;
    let _second = server.agent("second", &[]);
    first.process.kill();
    appears(folder.path().join("attempt-2")).await;
    std::fs::write(folder.path().join("go"), "").unwrap();
    let ended = client.finished(&run).await;
    assert_eq!(ended["status"], "success", "{ended}");
    assert_eq!(
        (&ended["jobs"][0]["attempt"], &ended["jobs"][0]["agent"]),
        (&json!(2), &json!("second"))
    );
    let events = client.events(&run).await;
    let requeued: Vec<&Value> = events
        .iter()
        .filter(|event| event["event"] == "requeued")
        .collect();
    assert_eq!(
        (requeued.len(), &requeued[0]["reason"]),
        (1, &json!("agent_lost"))
    );
    let after = requeued[0]["seq"].as_i64().unwrap();
    let late = events
        .iter()
        .filter(|event| event["seq"].as_i64() > Some(after) && event["attempt"] == 1);
    assert_eq!(late.filter(|event| event["event"] == "log").count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_agent_stops_its_own_work_and_nothing_of_it_counts() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(ServerOptions {
        local_agent: false,
        flags: LEASES.to_vec(),
        ..ServerOptions::default()
    })
    .await;
    let client = server.client();
    let first = server.agent("first", &[]);
    server.agents_connected(1).await;
    let id = client
        .set("wait", &waiting_pipeline(folder.path()), json!({}))
        .await;
    let run = trigger(&client, &id).await;
    appears(folder.path().join("attempt-1")).await;
    first.process.signal(Signal::SIGSTOP);
    let _second = server.agent("second", &[]);
    appears(folder.path().join("attempt-2")).await;
    let pid: i32 = std::fs::read_to_string(folder.path().join("attempt-1"))
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    first.process.signal(Signal::SIGCONT);
    until("the first attempt's process is gone", || async {
        (!std::path::Path::new(&format!("/proc/{pid}")).exists()).then_some(())
    })
    .await;
    std::fs::write(folder.path().join("go"), "").unwrap();
    let ended = client.finished(&run).await;
    assert_eq!(
        (&ended["status"], &ended["jobs"][0]["attempt"]),
        (&json!("success"), &json!(2)),
        "{ended}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_third_lost_attempt_ends_the_job_as_agent_lost() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(ServerOptions {
        local_agent: false,
        flags: LEASES.to_vec(),
        ..ServerOptions::default()
    })
    .await;
    let client = server.client();
    let id = client
        .set("wait", &waiting_pipeline(folder.path()), json!({}))
        .await;
    let run = trigger(&client, &id).await;
    for attempt in 1..=3 {
        let mut agent = server.agent(&format!("agent-{attempt}"), &[]);
        appears(folder.path().join(format!("attempt-{attempt}"))).await;
        agent.process.kill();
    }
    let ended = client.finished(&run).await;
    assert_eq!(
        (&ended["status"], &ended["reason"]),
        (&json!("errored"), &json!("agent_lost")),
        "{ended}"
    );
    // The killed agents could not stop their processes; let them end.
    std::fs::write(folder.path().join("go"), "").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_at_one_server_is_answered_by_an_agent_of_another() {
    let database = TestDatabase::create().await;
    let (a, b) = (
        Server::start(cluster(&database)).await,
        Server::start(cluster(&database)).await,
    );
    let _agent = b.agent("only-at-b", &["--slots", "8"]);
    b.agents_connected(1).await;
    let client = a.client();
    let content =
        "export default async () => { http.respond({ status: 201, body: http.request().body }); };";
    let id = client.set("echo", content, json!({})).await;
    for round in 0..5 {
        let response = client
            .webhook(&id)
            .body(format!("round {round}"))
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 201);
        assert_eq!(response.text().await.unwrap(), format!("round {round}"));
    }
    let run = b.client().newest_run().await;
    assert_eq!(
        a.client().finished(&run).await["jobs"][0]["agent"],
        "only-at-b"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_database_is_gone_callers_get_503_and_afterwards_all_is_well() {
    let database = TestDatabase::create().await;
    let server = Server::start(cluster(&database)).await;
    let _agent = server.agent("a", &[]);
    server.agents_connected(1).await;
    let client = server.client();
    let id = client.set("quick", QUICK, json!({})).await;
    assert_eq!(client.webhook(&id).send().await.unwrap().status(), 200);
    let gate = |open: bool| {
        format!(
            "ALTER DATABASE {} WITH ALLOW_CONNECTIONS {open}",
            database.name()
        )
    };
    database.admin(&gate(false)).await;
    let cut = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'",
        database.name()
    );
    database.admin(&cut).await;
    let refused = client.webhook(&id).send().await.unwrap();
    assert_eq!(
        (
            refused.status().as_u16(),
            refused.headers()["retry-after"].to_str().unwrap()
        ),
        (503, "1")
    );
    let told = refused.text().await.unwrap();
    assert!(
        told.contains("database") && !told.contains("postgres"),
        "no internal text: {told}"
    );
    assert_eq!(client.get("/readyz").await.unwrap().0, 503);
    assert_eq!(client.get("/healthz").await.unwrap().0, 200);
    database.admin(&gate(true)).await;
    until("webhooks are answered again", || async {
        let response = client.webhook(&id).send().await.ok()?;
        (response.status() == 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_agent_finishes_what_it_has_and_a_second_signal_hands_it_back() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(ServerOptions {
        local_agent: false,
        ..ServerOptions::default()
    })
    .await;
    let client = server.client();
    let id = client
        .set("wait", &waiting_pipeline(folder.path()), json!({}))
        .await;
    let mut first = server.agent("first", &[]);
    server.agents_connected(1).await;
    let run = trigger(&client, &id).await;
    appears(folder.path().join("attempt-1")).await;
    first.process.signal(Signal::SIGTERM);
    until("the agent says that it drains", || async {
        first.process.log().contains("stopping:").then_some(())
    })
    .await;
    // It takes nothing more …
    let second = server.agent("second", &[]);
    server.agents_connected(2).await;
    let quick = client.set("quick", QUICK, json!({})).await;
    let other = trigger(&client, &quick).await;
    assert_eq!(client.finished(&other).await["jobs"][0]["agent"], "second");
    // … and a second signal hands the job back at once.
    first.process.signal(Signal::SIGTERM);
    appears(folder.path().join("attempt-2")).await;
    assert_eq!(first.process.wait(), Some(0));
    std::fs::write(folder.path().join("go"), "").unwrap();
    assert_eq!(client.finished(&run).await["status"], "success");
    let agents: BTreeSet<String> = client
        .events(&run)
        .await
        .iter()
        .filter_map(|event| event["agent"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(
        agents,
        BTreeSet::from(["first".to_owned(), "second".to_owned()])
    );
    drop(second);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_run_ends_soon_even_in_an_endless_loop() {
    let server = Server::start(ServerOptions::default()).await;
    let client = server.client();
    let folder = tempfile::tempdir().unwrap();
    let spin = "export default async () => { console.log('spinning'); for (;;) {} };";
    for (name, content) in [
        ("spin", spin.to_owned()),
        ("wait", waiting_pipeline(folder.path())),
    ] {
        let id = client.set(name, &content, json!({})).await;
        let run = trigger(&client, &id).await;
        until("it runs", || async {
            let (_, found) = client.get(&format!("/api/runs/{run}")).await.ok()?;
            (found["status"] == "running").then_some(())
        })
        .await;
        client
            .post(&format!("/api/runs/{run}/stop"), &json!({}))
            .await
            .unwrap();
        let ended = client.finished(&run).await;
        assert_eq!(
            (&ended["status"], &ended["reason"]),
            (&json!("aborted"), &json!("user")),
            "{name}: {ended}"
        );
    }
}
