//! PostgreSQL loses its power, and its network: accepted means committed, callers are told 503, everything goes on by itself.

use pocketci_tests::chaos::load::{self, Pipelines, Pressure, Try};
use pocketci_tests::chaos::verdict::{self, Verdict};
use pocketci_tests::chaos::{
    Cluster, ClusterOptions, Mode, Postgres, Target, invariants, is_long, postgres, say, within,
};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long everything may take to settle.
const SETTLE_WITHIN: Duration = Duration::from_secs(90);

/// An outage as callers saw it.
struct Outage {
    what: &'static str,
    began: Instant,
    over: Instant,
}

impl Outage {
    /// Tries that were answered while it lasted.
    fn answers<'a>(&self, tries: &'a [Try]) -> impl Iterator<Item = &'a Try> + use<'a> {
        let (began, over) = (self.began, self.over);
        tries
            .iter()
            .filter(move |one| one.at > began && one.at < over)
    }

    fn print(&self, tries: &[Try]) {
        let count = |status: u16| {
            let with = self.answers(tries);
            with.filter(|one| matches!(one.answer, Ok((told, _)) if told == status))
                .count()
        };
        let next = tries
            .iter()
            .filter(|one| one.accepted() && one.at > self.over)
            .map(|one| one.at)
            .min();
        say(&format!(
            "  {} for {:.1?}: {} answers 503, the first webhook accepted {:.1?} after",
            self.what,
            self.over - self.began,
            count(503),
            next.map(|next| next - self.over).unwrap_or_default()
        ));
    }
}

async fn crash(database: &Arc<Postgres>, away: Duration) -> Outage {
    let (crashed, restarted) = (database.clone(), database.clone());
    let began = Instant::now();
    tokio::task::spawn_blocking(move || crashed.crash())
        .await
        .unwrap();
    tokio::time::sleep(away).await;
    tokio::task::spawn_blocking(move || restarted.restart())
        .await
        .unwrap();
    Outage {
        what: "power lost",
        began,
        over: Instant::now(),
    }
}

async fn cut_off(cluster: &Cluster, away: Duration) -> Outage {
    let began = Instant::now();
    for server in &cluster.servers {
        server.database.set(Mode::BlackHole);
    }
    tokio::time::sleep(away).await;
    for server in &cluster.servers {
        server.database.set(Mode::Open);
    }
    Outage {
        what: "cut off",
        began,
        over: Instant::now(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_is_committed_though_postgres_lost_its_power_and_its_network() {
    let (calm, away, cut) = if is_long() {
        (
            Duration::from_secs(5),
            Duration::from_secs(3),
            Duration::from_secs(20),
        )
    } else {
        (
            Duration::from_secs(2),
            Duration::from_millis(500),
            Duration::from_secs(6),
        )
    };
    let database = tokio::task::spawn_blocking(Postgres::start).await.unwrap();
    let database = Arc::new(database);
    let folder = tempfile::tempdir().unwrap();
    let effects = folder.path().join("effects");
    let cluster = Cluster::start(ClusterOptions {
        storage: database.url(),
        servers: 2,
        agents: 2,
        server_flags: vec![
            "--lease",
            "5s",
            "--accept-timeout",
            "2s",
            "--webhook-timeout",
            "3s",
        ],
        agent_flags: vec!["--slots", "6"],
    })
    .await;
    let pipelines = Arc::new(Pipelines::set(&cluster.client(0), &effects).await);
    let span = calm * 3 + away + cut;
    let pressure = Pressure {
        deliveries: if is_long() { 200 } else { 60 },
        span,
        seed: 4,
    };
    let clients = vec![cluster.client(0), cluster.client(1)];
    let faults = async {
        tokio::time::sleep(calm).await;
        let crash = crash(&database, away).await;
        tokio::time::sleep(calm).await;
        [crash, cut_off(&cluster, cut).await]
    };
    let (tries, outages) = tokio::join!(load::call(clients, pipelines, &pressure), faults);
    let store = postgres::connect(&database.url()).await;
    within(SETTLE_WITHIN, "every run is over", || async {
        let sql = "SELECT count(*) FROM runs WHERE state <> 'finished'";
        let left: i64 = store.query_one(sql, &[]).await.unwrap().get(0);
        (left == 0).then_some(())
    })
    .await;
    let settled = outages[1].over.elapsed();
    let runs = verdict::runs(&store, &cluster.client(0)).await;
    let mut verdict = Verdict::default();
    verdict.one_end(&runs);
    verdict.accepted_is_stored(&runs, &tries);
    let hidden: Vec<(Instant, Instant)> = outages
        .iter()
        .map(|outage| (outage.began, outage.over))
        .collect();
    verdict.replies(&runs, &tries, &hidden);
    verdict.logs(&runs, &tries);
    verdict.effects(&runs, &tries, &effects);
    verdict.children(&runs, &tries);
    verdict.values(&runs, &tries, &store).await;
    verdict.faults.extend(invariants::broken(&store).await);
    for at in 0..2 {
        for target in [Target::Server(at), Target::Agent(at)] {
            let member = cluster.member(target);
            if member.own_ends() > 0 || member.log().contains("panicked") {
                verdict
                    .faults
                    .push(format!("{} did not live through it", member.name));
            }
        }
    }
    say(&format!(
        "\ndatabase: {} runs, settled {settled:.1?} after the last outage",
        runs.len()
    ));
    for outage in &outages {
        outage.print(&tries);
    }
    assert!(verdict.faults.is_empty(), "{}", verdict.faults.join("\n"));
    let refused = outages[1]
        .answers(&tries)
        .filter(|one| matches!(one.answer, Ok((503, _))));
    assert!(
        refused.count() > 0,
        "nobody was told 503 while the database was away"
    );
}
