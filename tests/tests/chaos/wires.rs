//! Faults of one link: an assignment that is lost on the way, and a link that flaps.

use super::{PATIENCE, effects, house, options, trigger};
use pocketci_tests::TestDatabase;
use pocketci_tests::chaos::{Cluster, Mode, is_long, postgres, verdict, within};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn an_assignment_lost_on_the_wire_goes_back_to_the_queue_without_penalty() {
    let store = TestDatabase::create().await;
    let flags = ["--lease", "3s", "--accept-timeout", "1s"];
    let cluster = Cluster::prepare(options(&store, 1, 2, &flags)).await;
    cluster.servers[0].member.start();
    cluster.server_ready(0).await;
    let (deaf, good) = (&cluster.agents[0], &cluster.agents[1]);
    deaf.member.start();
    let client = cluster.client(0);
    within(PATIENCE, "the first agent is connected", || async {
        let (_, agents) = client.get("/api/agents").await.ok()?;
        (agents[0]["status"] == "connected").then_some(())
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("go"), "").unwrap();
    let content = format!(
        "export default async () => {{ {} }};",
        super::waiting_step(folder.path())
    );
    let id = client.set("p", &content, json!({})).await;
    // From here on nothing reaches the agent, while the server still hears it.
    deaf.servers.set(Mode::Deaf);
    let run = trigger(&client, &id).await;
    let requeued = super::event(&client, &run, "requeued").await;
    assert_eq!(requeued["reason"], "not accepted in time");
    assert_eq!(effects(folder.path()), "", "the agent was never told");
    good.member.start();
    let ended = client.finished(&run).await;
    let attempt = ended["jobs"][0]["attempt"].as_i64().unwrap();
    assert_eq!(
        (&ended["status"], ended["jobs"][0]["agent"].as_str()),
        (&json!("success"), Some(good.name.as_str())),
        "{ended}"
    );
    assert!(attempt >= 2, "{ended}");
    assert_eq!(effects(folder.path()), format!("attempt {attempt}\n"));
    let database = postgres::connect(&store.url).await;
    let sql = "SELECT (SELECT sum(lost)::bigint FROM jobs), (SELECT count(*) FROM lost_attempts)";
    let row = database.query_one(sql, &[]).await.unwrap();
    assert_eq!(
        (row.get::<_, i64>(0), row.get::<_, i64>(1)),
        (0, 0),
        "no penalty"
    );
    // The old assignments arrive at last: the run is over and stays as it is.
    let before = client.events(&run).await;
    deaf.servers.set(Mode::Open);
    within(
        PATIENCE,
        "the agent is told that its attempts are stale",
        || async {
            deaf.member
                .log()
                .contains("no longer this agent's")
                .then_some(())
        },
    )
    .await;
    assert_eq!(client.events(&run).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_over_a_flapping_link_ends_once_with_its_whole_log() {
    // The lease outlives some unlucky tries to connect: they double their waits.
    let house = house(1, 1, &["--lease", "20s"]).await;
    let (client, agent) = (house.cluster.client(0), &house.cluster.agents[0]);
    let span = Duration::from_secs(if is_long() { 20 } else { 8 });
    let lines = span.as_millis() / 20;
    let content = format!(
        "export default async () => {{ await runtime.run({{ name: 's', failOnError: true,
           command: {{ path: 'sh', args: ['-c', 'i=0; while [ $i -lt {lines} ]; do echo line $i; i=$((i+1)); sleep 0.02; done'] }} }}); }};"
    );
    let id = client.set("p", &content, json!({})).await;
    let run = trigger(&client, &id).await;
    super::event(&client, &run, "started").await;
    let began = Instant::now();
    let mut cuts = 0;
    while began.elapsed() < span {
        agent.servers.set(Mode::Cut);
        cuts += 1;
        tokio::time::sleep(Duration::from_secs(1)).await;
        agent.servers.set(Mode::Open);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let ended = client.finished(&run).await;
    assert_eq!(
        (&ended["status"], &ended["jobs"][0]["attempt"]),
        (&json!("success"), &json!(1)),
        "{ended}"
    );
    assert!(
        agent.servers.links[0].opened() > cuts / 2,
        "the link did flap"
    );
    let events = verdict::events(&client, &run).await;
    let ends = events
        .iter()
        .filter(|event| event["event"] == "run_finished");
    assert_eq!(ends.count(), 1);
    let text: String = events
        .iter()
        .filter(|event| event["step"] == 1)
        .filter_map(|event: &Value| event["text"].as_str())
        .collect();
    let expected: String = (0..lines).map(|line| format!("line {line}\n")).collect();
    assert_eq!(text.len(), expected.len());
    assert!(text == expected, "other bytes than the step wrote");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_whose_connection_was_swallowed_in_silence_opens_another_one_and_keeps_its_work() {
    let house = house(1, 1, &["--lease", "9s"]).await;
    let (client, agent) = (house.cluster.client(0), &house.cluster.agents[0]);
    let folder = tempfile::tempdir().unwrap();
    let content = format!(
        "export default async () => {{ {} }};",
        super::waiting_step(folder.path())
    );
    let id = client.set("p", &content, json!({})).await;
    let run = trigger(&client, &id).await;
    super::event(&client, &run, "step_started").await;
    // Neither side is told: the agent misses the answer to its next renewal.
    agent.servers.links[0].forget();
    within(PATIENCE, "another connection is opened", || async {
        (agent.servers.links[0].opened() == 2).then_some(())
    })
    .await;
    std::fs::write(folder.path().join("go"), "").unwrap();
    let ended = client.finished(&run).await;
    assert_eq!(
        (&ended["status"], &ended["jobs"][0]["attempt"]),
        (&json!("success"), &json!(1)),
        "{ended}"
    );
}
