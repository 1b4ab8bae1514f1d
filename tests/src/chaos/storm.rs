//! Carries out a schedule of faults, heals everything, and measures how long each process took to work again.

use super::cluster::Cluster;
use super::link::Mode;
use super::postgres;
use super::schedule::{Fault, FaultKind, Target};
use nix::sys::signal::Signal;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// How late each piece comes over a slow link.
const SLOW: Duration = Duration::from_millis(120);
/// What a narrow link carries, in bytes a second: less than the steps here print.
const NARROW: u32 = 24 * 1024;
/// How often a healed process is asked whether it works.
const ASK_EVERY: Duration = Duration::from_millis(50);
/// A healed process that does not work for so long is left to the checks at the end.
const RECOVER_WITHIN: Duration = Duration::from_secs(60);

/// A fault that was carried out.
#[derive(Debug, Clone)]
pub struct Done {
    /// Which.
    pub fault: Fault,
    /// When it began.
    pub began: Instant,
    /// When it ended.
    pub healed: Instant,
    /// From its end until the process worked; `None` if the next fault or the end came first.
    pub recovered: Option<Duration>,
}

impl Done {
    /// When it kept a server from its database or the other way round; `None` if it did not.
    pub fn hid_a_store(&self) -> Option<(Instant, Instant)> {
        let server = matches!(self.fault.target, Target::Server(_));
        let over = self.healed + self.recovered.unwrap_or(RECOVER_WITHIN);
        (server && self.fault.kind != FaultKind::Kill).then_some((self.began, over))
    }
}

/// Carries out all faults; returns when the last one is healed.
pub async fn run(cluster: &Arc<Cluster>, faults: Vec<Fault>) -> Vec<Done> {
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for (number, fault) in faults.iter().enumerate() {
        let next = faults[number + 1..]
            .iter()
            .find(|later| later.target == fault.target);
        let until = next.map_or(fault.at + fault.lasts + RECOVER_WITHIN, |next| next.at);
        let (cluster, fault) = (cluster.clone(), fault.clone());
        tasks.spawn(async move {
            tokio::time::sleep_until((began + fault.at).into()).await;
            carry_out(&cluster, fault, began + until).await
        });
    }
    let mut done = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        done.push(ended.expect("a fault does not panic"));
    }
    done.sort_by_key(|done| done.began);
    done
}

async fn carry_out(cluster: &Cluster, fault: Fault, until: Instant) -> Done {
    let member = cluster.member(fault.target);
    let began = Instant::now();
    let links = |mode| cluster.set_links(fault.target, mode);
    match fault.kind {
        FaultKind::Kill => member.kill(),
        FaultKind::Pause => member.signal(Signal::SIGSTOP),
        FaultKind::Cut => links(Mode::Cut),
        FaultKind::BlackHole => links(Mode::BlackHole),
        FaultKind::Slow => links(Mode::Delay(SLOW)),
        FaultKind::Narrow => links(Mode::Throttle(NARROW)),
    }
    tokio::time::sleep(fault.lasts).await;
    match fault.kind {
        FaultKind::Kill => member.start(),
        FaultKind::Pause => member.signal(Signal::SIGCONT),
        FaultKind::Cut | FaultKind::BlackHole | FaultKind::Slow | FaultKind::Narrow => {
            links(Mode::Open);
        }
    }
    let healed = Instant::now();
    let recovered = tokio::time::timeout_at(until.into(), works(cluster, fault.target)).await;
    Done {
        fault,
        began,
        healed,
        recovered: recovered.is_ok().then(|| healed.elapsed()),
    }
}

/// Returns when a server answers that it is ready, or the store says that an agent is connected.
async fn works(cluster: &Cluster, target: Target) {
    match target {
        Target::Server(at) => {
            let client = cluster.client(at);
            loop {
                let asked = client
                    .request(reqwest::Method::GET, "/readyz")
                    .timeout(Duration::from_secs(2))
                    .send()
                    .await;
                if asked.is_ok_and(|answer| answer.status() == 200) {
                    return;
                }
                tokio::time::sleep(ASK_EVERY).await;
            }
        }
        Target::Agent(at) => {
            let database = postgres::connect(&cluster.storage).await;
            let sql = "SELECT count(*) FROM agents WHERE name = $1 AND connected
                AND seen_at > clock_timestamp() - interval '6 seconds'";
            loop {
                let name = &cluster.agents[at].name;
                let row = database.query_one(sql, &[name]).await;
                if row.is_ok_and(|row| row.get::<_, i64>(0) == 1) {
                    return;
                }
                tokio::time::sleep(ASK_EVERY).await;
            }
        }
    }
}
