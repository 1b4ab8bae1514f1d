//! What one server sends, another takes in: deliveries of runs as webhooks of a pipeline, through every fault between.

use pocketci_tests::{Relay, Server, ServerOptions, TestDatabase, Twist, until};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const SECRET: &str = "a secret of both ways";
const SOURCE: &str = "export default () => {};";
/// Keeps what it was told where the test finds it.
const TARGET: &str = "export default () => {
  const req = http.request();
  console.log('TOLD ' + JSON.stringify({ id: req.payload.id, type: req.eventType, provider: req.provider, verified: req.verified }));
  http.respond({ status: 200, body: 'thanks' });
};";
/// A schedule that a test can wait for.
const QUICK: [&str; 4] = [
    "--delivery-allow",
    "127.0.0.1",
    "--delivery-schedule",
    "200ms,200ms,200ms,200ms,200ms,200ms,200ms,200ms",
];

/// Two servers of one database: one sends, the other takes in.
struct BothWays {
    sender: Server,
    taker: Server,
    _database: TestDatabase,
    source: String,
    target: String,
    relay: Relay,
}

impl BothWays {
    async fn start(twists: Vec<Twist>) -> Self {
        let database = TestDatabase::create().await;
        let options = |flags: &[&'static str]| ServerOptions {
            storage: Some(database.url.clone()),
            local_agent: false,
            flags: [&["--lease", "2s", "--accept-timeout", "1s"], flags].concat(),
        };
        let sender = Server::start(options(&QUICK)).await;
        let taker = Server::start(options(&["--no-deliveries"])).await;
        let client = taker.client();
        let webhook = json!({ "webhook_secret": SECRET, "settings": { "webhook": { "provider": "circleci" } } });
        let target = client.set("target", TARGET, webhook).await;
        let source = client.set("source", SOURCE, json!({})).await;
        let relay = Relay::start(&format!("{}/api/webhooks/{target}", taker.url), twists).await;
        let subscription = json!({
            "url": relay.url, "pipeline": source, "events": ["workflow-completed"], "secret": SECRET,
        });
        let put = client.request(Method::PUT, "/api/subscriptions/to-the-other");
        let answer = put.json(&subscription).send().await.unwrap();
        let status = answer.status();
        assert!(
            status.is_success(),
            "{status} {}",
            answer.text().await.unwrap()
        );
        Self {
            sender,
            taker,
            _database: database,
            source,
            target,
            relay,
        }
    }

    /// Runs the source so often, each to its end.
    async fn run_source(&self, times: usize) -> BTreeSet<String> {
        let client = self.taker.client();
        let mut runs = BTreeSet::new();
        for _ in 0..times {
            let path = format!("/api/pipelines/{}/trigger", self.source);
            let (status, answer) = client.post(&path, &json!({})).await.unwrap();
            assert_eq!(status, 202, "{answer}");
            let run = answer["run_id"].as_str().unwrap().to_owned();
            client.finished(&run).await;
            runs.insert(run);
        }
        runs
    }

    /// The deliveries, once all of them are over.
    async fn delivered(&self, count: usize) -> Vec<Value> {
        let client = self.taker.client();
        until("all deliveries are over", || async {
            let (_, page) = client.get("/api/deliveries?limit=200").await.ok()?;
            let items = page["items"].as_array()?.clone();
            let over = items.iter().filter(|item| item["state"] == "delivered");
            (over.count() == count && items.len() == count).then_some(items)
        })
        .await
    }

    /// What the target's runs were told, by event id.
    async fn told(&self) -> Vec<Value> {
        let client = self.taker.client();
        let path = format!("/api/runs?pipeline={}&limit=200", self.target);
        let (_, page) = client.get(&path).await.unwrap();
        let mut told = Vec::new();
        for run in page["items"].as_array().unwrap() {
            let id = run["id"].as_str().unwrap();
            client.finished(id).await;
            let logs = client.logs(id).await;
            let line = logs.lines().find_map(|line| line.split_once("TOLD "));
            told.push(serde_json::from_str(line.unwrap_or_else(|| panic!("{logs}")).1).unwrap());
        }
        told
    }
}

/// The tries of a delivery: number and outcome, in the order recorded.
async fn tries(both: &BothWays, delivery: &Value) -> Vec<Value> {
    let path = format!("/api/deliveries/{}", delivery["id"].as_str().unwrap());
    let (_, shown) = both.taker.client().get(&path).await.unwrap();
    shown["log"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_receiver_spoils_arrives_once_with_the_same_id() {
    let stranger = pocketci_tests::Sink::start().await;
    let both = BothWays::start(vec![
        Twist::Status(500),
        Twist::Disconnect,
        // Nobody allowed this address.
        Twist::Redirect("http://169.254.169.254/latest/meta-data".into()),
        Twist::Redirect(format!("{}/elsewhere", stranger.url)),
        Twist::Drip,
        // The receiver has it, the sender does not know.
        Twist::ForwardAndDisconnect,
    ])
    .await;
    let _agent = both.taker.agent("a", &[]);
    both.taker.agents_connected(1).await;
    both.run_source(1).await;
    let deliveries = both.delivered(1).await;
    let seen = both.relay.seen();
    assert_eq!(seen.len(), 7, "one try for each twist, then it works");
    let ids: BTreeSet<_> = seen.iter().map(|one| &one.headers["webhook-id"]).collect();
    let bodies: BTreeSet<_> = seen.iter().map(|one| &one.body).collect();
    assert_eq!((ids.len(), bodies.len()), (1, 1), "every try is the same");
    let tries = tries(&both, &deliveries[0]).await;
    let numbers: Vec<_> = tries.iter().map(|one| one["number"].as_i64()).collect();
    assert_eq!(numbers, (1..=7).map(Some).collect::<Vec<_>>());
    assert_eq!(tries[0]["response"]["status"], 500);
    assert_eq!(tries[2]["response"]["status"], 302);
    assert_eq!(tries[6]["response"]["status"], 200);
    assert!(stranger.seen().is_empty(), "redirects are not followed");
    // The sixth try was taken in, the seventh is known by its id.
    let told = both.told().await;
    assert_eq!(told.len(), 1);
    assert_eq!(
        told[0]["id"].as_str(),
        seen[0].headers.get("webhook-id").map(String::as_str)
    );
    assert_eq!(told[0]["type"], "workflow-completed");
    assert_eq!(told[0]["provider"], "circleci");
    assert_eq!(told[0]["verified"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_killed_between_send_and_record_sends_again_under_the_same_id() {
    let mut both = BothWays::start(vec![Twist::ForwardAndHold]).await;
    let _agent = both.taker.agent("a", &[]);
    both.taker.agents_connected(1).await;
    both.run_source(1).await;
    both.relay.holds().await;
    // The taker has stored it; the sender waits for the answer.
    both.sender.kill_and_restart().await;
    let deliveries = both.delivered(1).await;
    let seen = both.relay.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0].headers["webhook-id"], seen[1].headers["webhook-id"]);
    assert_eq!(seen[0].body, seen[1].body);
    let tries = tries(&both, &deliveries[0]).await;
    assert_eq!(tries.len(), 2, "{tries:?}");
    assert_eq!(tries[0]["state"], "unknown");
    assert_eq!(tries[1]["state"], "delivered");
    assert_eq!(both.told().await.len(), 1, "the second is a duplicate");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_killed_again_and_again_loses_nothing() {
    const RUNS: usize = 20;
    let mut both = BothWays::start(Vec::new()).await;
    let _agent = both.taker.agent("a", &[]);
    both.taker.agents_connected(1).await;
    for _ in 0..4 {
        both.run_source(RUNS / 4).await;
        both.sender.process.kill();
        both.sender.restart().await;
    }
    let deliveries = both.delivered(RUNS).await;
    let told = both.told().await;
    let ids: BTreeSet<_> = told.iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert_eq!(
        (told.len(), ids.len()),
        (RUNS, RUNS),
        "each event is taken in once"
    );
    let sent: BTreeSet<_> = deliveries
        .iter()
        .map(|one| one["event_id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, sent);
}
