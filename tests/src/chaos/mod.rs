//! Pulled plugs: processes that are killed, stopped and cut off by a schedule, and what must hold afterwards.
//!
//! Every connection between two processes of a [`Cluster`] goes through a [`Link`] of its own, every process listens on a
//! loopback address of its own. A [`Fault`] schedule follows from its seed alone. tests/README.md tells how to use it.

pub mod address;
pub mod cluster;
pub mod figures;
pub mod invariants;
pub mod link;
pub mod load;
pub mod member;
pub mod postgres;
pub mod schedule;
pub mod storm;
pub mod traces;
pub mod verdict;

pub use cluster::{Cluster, ClusterOptions};
pub use figures::Figures;
pub use link::{Front, Link, Mode};
pub use postgres::Postgres;
pub use schedule::{Fault, FaultKind, Plan, Target};

use std::io::Write;
use std::time::{Duration, Instant};

/// A line that is shown though the test passes: the test runner keeps only what the print macros say.
pub fn say(line: &str) {
    // A closed stderr means that nobody reads.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Whether this is `make chaos`, not the short form of `make test`.
pub fn is_long() -> bool {
    std::env::var("POCKETCI_CHAOS").is_ok_and(|form| form == "long")
}

/// Asks until the condition gives a value; panics with `what` after `patience`.
pub async fn within<T, F, Fut>(patience: Duration, what: &str, mut condition: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let started = Instant::now();
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(
            started.elapsed() < patience,
            "waited {patience:?} for: {what}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
