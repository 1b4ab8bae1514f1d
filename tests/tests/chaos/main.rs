//! The fault suite: pulled plugs by schedule and one by one. The short form is part of `make test`, `make chaos` is the long one.
#![allow(clippy::unwrap_used, missing_docs)] // a test fails by panicking

mod cancels;
mod database;
mod handover;
mod liar;
mod storm;
mod wires;

use pocketci_tests::chaos::{Cluster, ClusterOptions, within};
use pocketci_tests::{Client, TestDatabase};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// How long a single condition may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A cluster on a database of its own; the database goes last.
struct House {
    cluster: Cluster,
    store: TestDatabase,
}

/// So many servers and agents with these flags of the servers; each agent has two slots.
async fn house(servers: usize, agents: usize, server_flags: &[&'static str]) -> House {
    let store = TestDatabase::create().await;
    let options = options(&store, servers, agents, server_flags);
    let cluster = Cluster::start(options).await;
    House { cluster, store }
}

fn options(
    store: &TestDatabase,
    servers: usize,
    agents: usize,
    server_flags: &[&'static str],
) -> ClusterOptions {
    ClusterOptions {
        storage: store.url.clone(),
        servers,
        agents,
        server_flags: server_flags.to_vec(),
        agent_flags: vec!["--slots", "2"],
    }
}

async fn trigger(client: &Client, id: &str) -> String {
    let path = format!("/api/pipelines/{id}/trigger");
    let (status, answer) = client.post(&path, &json!({})).await.unwrap();
    assert_eq!(status, 202, "{answer}");
    answer["run_id"].as_str().unwrap().to_owned()
}

/// Waits for an event of a run; it.
async fn event(client: &Client, run: &str, name: &str) -> Value {
    within(PATIENCE, &format!("{name} of run {run}"), || async {
        let path = format!("/api/runs/{run}/events?follow=0");
        let (_, events) = client.get(&path).await.ok()?;
        let found = events
            .as_array()?
            .iter()
            .find(|event| event["event"] == name);
        found.cloned()
    })
    .await
}

async fn appears(file: &Path) {
    within(PATIENCE, &format!("{} appears", file.display()), || async {
        file.exists().then_some(())
    })
    .await;
}

/// A native step that appends its attempt to `FOLDER/effects` and waits for `FOLDER/go`.
fn waiting_step(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "await runtime.run({{ name: 'wait', failOnError: true, command: {{ path: 'sh', args: ['-c',
           'echo attempt $ATTEMPT >> {folder}/effects; while [ ! -e {folder}/go ]; do sleep 0.05; done; echo finished'] }},
           env: {{ ATTEMPT: String(pipelineContext.attempt) }} }});"
    )
}

fn effects(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("effects")).unwrap_or_default()
}

/// Ids of containers with the label of this run and attempt.
fn containers(run: &str, attempt: u32) -> Vec<String> {
    let output = std::process::Command::new("docker")
        .args(["-H", &pocketci_tests::required("POCKETCI_TEST_DOCKER_HOST")])
        .args([
            "ps",
            "-aq",
            "--filter",
            &format!("label=pocketci.run={run}"),
        ])
        .args(["--filter", &format!("label=pocketci.attempt={attempt}")])
        .output()
        .unwrap();
    let listed = String::from_utf8_lossy(&output.stdout);
    listed.lines().map(str::to_owned).collect()
}

async fn container_runs(client: &Client, run: &str, attempt: i64) {
    within(PATIENCE, "the container says ready", || async {
        let path = format!("/api/runs/{run}/events?follow=0");
        let (_, events) = client.get(&path).await.ok()?;
        events
            .as_array()?
            .iter()
            .any(|event| {
                event["attempt"] == attempt
                    && event["text"]
                        .as_str()
                        .is_some_and(|text| text.contains("ready"))
            })
            .then_some(())
    })
    .await;
}

async fn no_container(run: &str, attempt: u32) {
    within(PATIENCE, "the container is gone", || async {
        containers(run, attempt).is_empty().then_some(())
    })
    .await;
}
