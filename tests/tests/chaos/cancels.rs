//! A cancel is a fact of the store: it reaches the agent however long that takes, and a stopped agent stops nothing else.

use super::{container_runs, containers, house, no_container, trigger};
use nix::sys::signal::Signal;
use pocketci_tests::chaos::Mode;
use serde_json::json;

const LONG: &str =
    "export default async () => { await runtime.run({ name: 'long', image: 'busybox',
    command: { path: 'sh', args: ['-c', 'echo ready; sleep 600'] } }); };";

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_reaches_an_agent_that_was_cut_off_though_the_server_was_killed_meanwhile() {
    for kill_the_server in [false, true] {
        // The lease outlives the cut on a busy machine, so the agent comes back with its work.
        let house = house(1, 1, &["--lease", "30s"]).await;
        let (client, server, agent) = (
            house.cluster.client(0),
            &house.cluster.servers[0],
            &house.cluster.agents[0],
        );
        let id = client
            .set("long", LONG, json!({ "driver": "docker" }))
            .await;
        let run = trigger(&client, &id).await;
        container_runs(&client, &run, 1).await;
        agent.servers.set(Mode::Cut);
        let path = format!("/api/runs/{run}/stop");
        let (status, _) = client.post(&path, &json!({})).await.unwrap();
        assert!(status < 300, "{status}");
        if kill_the_server {
            server.member.kill();
            server.member.start();
            house.cluster.server_ready(0).await;
        }
        let (_, asked) = client.get(&format!("/api/runs/{run}")).await.unwrap();
        assert_eq!(
            asked["status"], "running",
            "nobody has confirmed it yet: {asked}"
        );
        assert_eq!(containers(&run, 1).len(), 1);
        agent.servers.set(Mode::Open);
        let ended = client.finished(&run).await;
        assert_eq!(
            (
                &ended["status"],
                &ended["reason"],
                &ended["jobs"][0]["attempt"]
            ),
            (&json!("aborted"), &json!("user"), &json!(1)),
            "{ended}"
        );
        no_container(&run, 1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_slept_past_its_lease_kills_its_container_and_nothing_of_it_counts() {
    let house = house(1, 2, &["--lease", "2s", "--accept-timeout", "1s"]).await;
    let client = house.cluster.client(0);
    // Attempt 1 would answer as soon as it is awake; attempt 2 answers when it is told to.
    let content = "export default async () => {
        const attempt = pipelineContext.attempt;
        const nap = attempt === 1 ? 600 : 8;
        await runtime.run({ name: 'c', image: 'busybox', command: { path: 'sh', args: ['-c', `echo ready; sleep ${nap}`] } });
        console.log('attempt ' + attempt + ' goes on');
    };";
    let id = client
        .set("sleepy", content, json!({ "driver": "docker" }))
        .await;
    let run = trigger(&client, &id).await;
    container_runs(&client, &run, 1).await;
    let (_, started) = client.get(&format!("/api/runs/{run}")).await.unwrap();
    let holder = started["jobs"][0]["agent"].as_str().unwrap();
    let agent = house
        .cluster
        .agents
        .iter()
        .find(|agent| agent.name == holder);
    let agent = agent.unwrap();
    agent.member.signal(Signal::SIGSTOP);
    container_runs(&client, &run, 2).await;
    assert_eq!(containers(&run, 1).len(), 1, "its owner sleeps");
    agent.member.signal(Signal::SIGCONT);
    no_container(&run, 1).await;
    let ended = client.finished(&run).await;
    assert_eq!(
        (&ended["status"], &ended["jobs"][0]["attempt"]),
        (&json!("success"), &json!(2)),
        "{ended}"
    );
    let events = client.events(&run).await;
    let requeued = events
        .iter()
        .position(|event| event["event"] == "requeued")
        .unwrap();
    let late: Vec<_> = events[requeued + 1..]
        .iter()
        .filter(|event| event["attempt"] == 1)
        .collect();
    assert!(late.is_empty(), "{late:?}");
}
