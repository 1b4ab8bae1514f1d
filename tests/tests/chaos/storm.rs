//! Mixed pipelines under a schedule of faults: nothing is lost, nothing counts twice, nothing is left.

use pocketci_tests::chaos::load::{self, Pipelines, Pressure};
use pocketci_tests::chaos::verdict::{self, Verdict};
use pocketci_tests::chaos::{
    Cluster, ClusterOptions, Figures, Plan, invariants, is_long, postgres, say, schedule, storm,
    within,
};
use pocketci_tests::{TestDatabase, required};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Leases in the storm, as flags and as the schedule knows them.
const LEASE: Duration = Duration::from_secs(3);
const SERVER_FLAGS: [&str; 6] = [
    "--lease",
    "3s",
    "--accept-timeout",
    "1s",
    "--webhook-timeout",
    "4s",
];
/// How long everything may take to settle once all faults are healed: a restarted agent whose server died without a word
/// is welcome again after 40 s, and a job may need three leases.
const SETTLE_WITHIN: Duration = Duration::from_secs(120);

/// How long containers and processes of lost attempts may stay once every run is over.
const GONE_WITHIN: Duration = Duration::from_secs(30);

struct Form {
    plan: Plan,
    deliveries: usize,
}

fn form() -> Form {
    let (span, cut, deliveries) = if is_long() {
        (Duration::from_secs(330), Duration::from_secs(30), 500)
    } else {
        (Duration::from_secs(20), Duration::from_secs(5), 60)
    };
    Form {
        plan: Plan {
            servers: 2,
            agents: 3,
            span,
            pace: Duration::from_secs(2),
            lease: LEASE,
            longest_cut: cut,
        },
        deliveries,
    }
}

/// Container starts as the engine tells them, until dropped.
struct Starts {
    process: Child,
    file: tempfile::NamedTempFile,
}

impl Starts {
    fn watch() -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        let process = Command::new("docker")
            .args(["-H", &required("POCKETCI_TEST_DOCKER_HOST"), "events"])
            .args(["--filter", "type=container", "--filter", "event=start"])
            .args(["--filter", "label=pocketci.agent"])
            .args(["--format", "{{json .Actor.Attributes}}"])
            .stdout(file.reopen().unwrap())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { process, file }
    }

    /// How many there were of these agents; a fault for each attempt's step that started twice.
    fn check(&self, agents: &[String], verdict: &mut Verdict) -> usize {
        let text = std::fs::read_to_string(self.file.path()).unwrap();
        let mut keys: Vec<String> = text
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .filter(|labels| {
                agents
                    .iter()
                    .any(|agent| labels["pocketci.agent"] == **agent)
            })
            .map(|labels| {
                let of = |name: &str| labels[name].as_str().unwrap_or("?").to_owned();
                format!(
                    "job {} attempt {} step {}",
                    of("pocketci.job"),
                    of("pocketci.attempt"),
                    of("pocketci.step")
                )
            })
            .collect();
        let all = keys.len();
        keys.sort_unstable();
        for pair in keys.windows(2).filter(|pair| pair[0] == pair[1]) {
            verdict
                .faults
                .push(format!("two containers of {}", pair[0]));
        }
        all
    }
}

impl Drop for Starts {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Containers and volumes with the label of one of these agents.
fn left_in_docker(agents: &[String]) -> Vec<String> {
    let host = required("POCKETCI_TEST_DOCKER_HOST");
    let listed = |agent: &String, what: &[&str]| {
        let filter = format!("label=pocketci.agent={agent}");
        let output = Command::new("docker")
            .args(["-H", &host])
            .args(what)
            .args(["--filter", &filter, "--format", "{{json .}}"])
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    agents
        .iter()
        .flat_map(|agent| {
            [
                listed(agent, &["ps", "-a"]),
                listed(agent, &["volume", "ls"]),
            ]
            .concat()
        })
        .collect()
}

/// Processes whose command line names the file of effects: native steps of this test.
fn native_left(effects: &Path) -> usize {
    let name = effects.display().to_string();
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .filter(|line| String::from_utf8_lossy(line).contains(&name))
        .count()
}

/// What is left when nothing goes any more, or after a while.
async fn until_empty(look: impl Fn() -> Vec<String>) -> Vec<String> {
    let began = Instant::now();
    loop {
        let left = look();
        if left.is_empty() || began.elapsed() > GONE_WITHIN {
            return left;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn unfinished(database: &tokio_postgres::Client) -> i64 {
    let sql = "SELECT count(*) FROM runs WHERE state <> 'finished'";
    database.query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn pulled_plugs_lose_double_and_leave_nothing() {
    let seed = schedule::seed();
    let Form { plan, deliveries } = form();
    say(&format!(
        "storm: POCKETCI_CHAOS_SEED={seed} replays this schedule"
    ));
    let store = TestDatabase::create().await;
    let folder = tempfile::tempdir().unwrap();
    let effects = folder.path().join("effects");
    let starts = Starts::watch();
    let cluster = Arc::new(
        Cluster::start(ClusterOptions {
            storage: store.url.clone(),
            servers: plan.servers,
            agents: plan.agents,
            server_flags: SERVER_FLAGS.to_vec(),
            agent_flags: vec!["--slots", "6"],
        })
        .await,
    );
    let pipelines = Arc::new(Pipelines::set(&cluster.client(0), &effects).await);
    let clients = (0..plan.servers).map(|at| cluster.client(at)).collect();
    let began = Instant::now();
    let pressure = Pressure {
        deliveries,
        span: plan.span,
        seed,
    };
    let faults = schedule::schedule(seed, &plan);
    let (tries, done) = tokio::join!(
        load::call(clients, pipelines, &pressure),
        storm::run(&cluster, faults)
    );
    let healed = done.iter().map(|done| done.healed).max().unwrap();
    let database = postgres::connect(&store.url).await;
    within(
        SETTLE_WITHIN,
        &format!("every run is over (seed {seed})"),
        || async { (unfinished(&database).await == 0).then_some(()) },
    )
    .await;
    let settled = healed.elapsed();
    cluster.all_connected().await;
    let agents: Vec<String> = cluster
        .agents
        .iter()
        .map(|agent| agent.name.clone())
        .collect();
    let left = until_empty(|| left_in_docker(&agents)).await;
    assert!(left.is_empty(), "seed {seed}: left in docker: {left:#?}");
    within(
        SETTLE_WITHIN,
        &format!("no native process is left (seed {seed})"),
        || async { (native_left(&effects) == 0).then_some(()) },
    )
    .await;

    let runs = verdict::runs(&database, &cluster.client(0)).await;
    let mut verdict = Verdict::default();
    verdict.one_end(&runs);
    verdict.accepted_is_stored(&runs, &tries);
    let away: Vec<_> = done.iter().filter_map(|done| done.hid_a_store()).collect();
    verdict.replies(&runs, &tries, &away);
    verdict.logs(&runs, &tries);
    verdict.effects(&runs, &tries, &effects);
    verdict.children(&runs, &tries);
    verdict.values(&runs, &tries, &database).await;
    let containers = starts.check(&agents, &mut verdict);
    verdict.faults.extend(invariants::broken(&database).await);
    let members = cluster.servers.iter().map(|place| &place.member);
    let members = members.chain(cluster.agents.iter().map(|place| &place.member));
    for member in members
        .clone()
        .filter(|member| member.log().contains("panicked"))
    {
        verdict.faults.push(format!("{} panicked", member.name));
    }
    let figures = Figures {
        seed,
        took: began.elapsed(),
        settled,
        faults: &done,
        runs: &runs,
        tries: &tries,
        verdict: &verdict,
        own_ends: members.map(|member| member.own_ends()).sum(),
        containers,
    };
    figures.print("storm");
    assert!(
        verdict.faults.is_empty(),
        "seed {seed}: {} faults\n{}",
        verdict.faults.len(),
        verdict.faults.join("\n")
    );
}
