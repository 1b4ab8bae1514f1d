//! A server goes, by signal or by force: its agents, its callers' runs and its watchers go on with another one.

use super::{PATIENCE, appears, effects, event, house, trigger, waiting_step};
use futures_util::StreamExt;
use pocketci_tests::Client;
use pocketci_tests::chaos::within;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_at_one_server_gets_its_reply_though_the_agents_server_is_killed() {
    let house = house(2, 1, &["--lease", "10s", "--webhook-timeout", "60s"]).await;
    let folder = tempfile::tempdir().unwrap();
    // Agent 0 is at server 0; the caller waits at server 1.
    let caller = house.cluster.client(1);
    let content = format!(
        "export default async () => {{ {} http.respond({{ status: 201, body: 'attempt ' + pipelineContext.attempt }}); }};",
        waiting_step(folder.path())
    );
    let id = caller.set("late", &content, json!({})).await;
    let waiting = {
        let (caller, id) = (caller.clone(), id.clone());
        tokio::spawn(async move {
            let answer = caller.webhook(&id).send().await.unwrap();
            (answer.status().as_u16(), answer.text().await.unwrap())
        })
    };
    appears(&folder.path().join("effects")).await;
    house.cluster.servers[0].member.kill();
    std::fs::write(folder.path().join("go"), "").unwrap();
    assert_eq!(waiting.await.unwrap(), (201, "attempt 1".to_owned()));
    let run = caller.newest_run().await;
    let ended = caller.finished(&run).await;
    assert_eq!(
        (&ended["status"], &ended["reply"]["status"]),
        (&json!("success"), &json!(201)),
        "{ended}"
    );
    assert_eq!(effects(folder.path()), "attempt 1\n");
}

/// Ids and kinds of a run's events from `after` on, until the stream ends, or `enough` came.
async fn watch(client: &Client, run: &str, after: u64, enough: usize) -> Vec<(u64, Value)> {
    let request = client
        .request(reqwest::Method::GET, &format!("/api/runs/{run}/events"))
        .header("Last-Event-ID", after.to_string());
    let mut stream = request.send().await.unwrap().bytes_stream();
    let (mut text, mut seen) = (String::new(), Vec::new());
    // A killed server breaks the stream: what came whole before counts.
    while let Some(Ok(bytes)) = stream.next().await {
        text.push_str(std::str::from_utf8(&bytes).unwrap());
        while let Some(end) = text.find("\n\n") {
            let message: String = text.drain(..end + 2).collect();
            let field = |name: &str| message.lines().find_map(|line| line.strip_prefix(name));
            if let (Some(id), Some(data)) = (field("id: "), field("data: ")) {
                seen.push((id.parse().unwrap(), serde_json::from_str(data).unwrap()));
            }
        }
        if seen.len() >= enough {
            break;
        }
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_of_a_killed_server_goes_on_at_another_without_hole_or_repeat() {
    let house = house(2, 2, &["--lease", "10s"]).await;
    let content = "export default async () => {
        for (let i = 0; i < 60; i++) { console.log('line ' + i); await new Promise((r) => setTimeout(r, 50)); } };";
    let id = house.cluster.client(1).set("p", content, json!({})).await;
    let run = trigger(&house.cluster.client(1), &id).await;
    event(&house.cluster.client(1), &run, "started").await;
    let client = house.cluster.client(0);
    let watched = run.clone();
    let watching = tokio::spawn(async move { watch(&client, &watched, 0, usize::MAX).await });
    // It is the server that ends this stream, in its middle.
    within(PATIENCE, "the run is in its middle", || async {
        let said = house.cluster.client(1).logs(&run).await;
        said.contains("line 20").then_some(())
    })
    .await;
    house.cluster.servers[0].member.kill();
    let first = watching.await.unwrap();
    let last = first.last().map_or(0, |(id, _)| *id);
    let rest = watch(&house.cluster.client(1), &run, last, usize::MAX).await;
    assert!(
        last > 5 && !rest.is_empty(),
        "{last} and {} events",
        rest.len()
    );
    let ids: Vec<u64> = first.iter().chain(&rest).map(|(id, _)| *id).collect();
    let count = u64::try_from(ids.len()).unwrap();
    assert_eq!(ids, (1..=count).collect::<Vec<_>>());
    assert_eq!(rest.last().unwrap().1["event"], "run_finished");
    let text: String = first
        .iter()
        .chain(&rest)
        .filter_map(|(_, event)| event["text"].as_str())
        .collect();
    let expected: String = (0..60).map(|line| format!("line {line}\n")).collect();
    assert_eq!(text, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_of_a_server_that_is_told_to_stop_go_to_another_with_their_work() {
    let house = house(2, 3, &["--lease", "10s"]).await;
    let (first, second) = (&house.cluster.servers[0], house.cluster.client(1));
    let folder = tempfile::tempdir().unwrap();
    let content = format!(
        "export default async () => {{ {} }};",
        waiting_step(folder.path())
    );
    let id = second.set("p", &content, json!({})).await;
    let mut runs = Vec::new();
    for _ in 0..6 {
        runs.push(trigger(&second, &id).await);
    }
    within(PATIENCE, "all six run", || async {
        (effects(folder.path()).lines().count() == 6).then_some(())
    })
    .await;
    // Agents 0 and 2 are at server 0, agent 1 is at server 1.
    first.member.terminate();
    let ended = within(PATIENCE, "the server ends", || async {
        first.member.ended()
    })
    .await;
    assert!(ended.success(), "{ended}");
    within(PATIENCE, "all agents are at the other server", || async {
        let (_, agents) = second.get("/api/agents").await.ok()?;
        let agents = agents.as_array()?;
        let connected = agents.iter().filter(|agent| agent["status"] == "connected");
        (connected.count() == 3).then_some(())
    })
    .await;
    std::fs::write(folder.path().join("go"), "").unwrap();
    let mut agents = BTreeSet::new();
    for run in &runs {
        let ended = second.finished(run).await;
        assert_eq!(
            (&ended["status"], &ended["jobs"][0]["attempt"]),
            (&json!("success"), &json!(1)),
            "{ended}"
        );
        agents.insert(ended["jobs"][0]["agent"].as_str().unwrap().to_owned());
    }
    assert_eq!(agents.len(), 3, "each agent had two of them");
    assert_eq!(effects(folder.path()), "attempt 1\n".repeat(6));
}

#[tokio::test(flavor = "multi_thread")]
async fn go_away_is_spread_over_time() {
    let house = house(1, 0, &[]).await;
    let grpc = house.cluster.servers[0].grpc.to_string();
    let mut peers = Vec::new();
    for number in 0..12 {
        peers.push(super::liar::Peer::connect(&grpc, &format!("scripted-{number}"), 1).await);
    }
    house.cluster.servers[0].member.terminate();
    let mut delays = BTreeSet::new();
    for mut peer in peers {
        let told = tokio::time::timeout(Duration::from_secs(20), peer.go_away()).await;
        delays.insert(told.unwrap());
    }
    assert!(delays.len() >= 6, "spread over time: {delays:?}");
    assert!(delays.iter().all(|ms| *ms < 1000), "{delays:?}");
}
