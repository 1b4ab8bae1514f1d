//! What a fault run measured, for people.

use super::load::Try;
use super::say;
use super::schedule::FaultKind;
use super::storm::Done;
use super::verdict::{RunRecord, Verdict};
use std::collections::BTreeMap;
use std::time::Duration;

/// Everything that is printed at the end.
pub struct Figures<'a> {
    /// What replays it.
    pub seed: u64,
    /// From the first caller until everything had settled.
    pub took: Duration,
    /// From the last healed fault until every run was over.
    pub settled: Duration,
    /// Carried out.
    pub faults: &'a [Done],
    /// All.
    pub runs: &'a [RunRecord],
    /// All answers.
    pub tries: &'a [Try],
    /// With its notes.
    pub verdict: &'a Verdict,
    /// Times a process ended by itself.
    pub own_ends: usize,
    /// Containers that ran.
    pub containers: usize,
}

impl Figures<'_> {
    /// Says all.
    pub fn print(&self, title: &str) {
        say(&format!(
            "\n{title}: seed {} · {:.1?} in all · settled {:.1?} after the last fault",
            self.seed, self.took, self.settled
        ));
        say(&format!("  faults: {}", self.faults_by_kind()));
        let mut attempts: BTreeMap<i32, usize> = BTreeMap::new();
        for run in self.runs {
            *attempts.entry(run.attempts).or_default() += 1;
        }
        let attempts: Vec<String> = attempts
            .iter()
            .map(|(attempts, jobs)| format!("{attempts}: {jobs}"))
            .collect();
        let lost: i32 = self.runs.iter().map(|run| run.lost).sum();
        let succeeded = self.runs.iter().filter(|run| run.outcome == "succeeded");
        say(&format!(
            "  runs: {}, {} succeeded · jobs by attempts {{{}}} · {lost} attempts lost · {} containers",
            self.runs.len(),
            succeeded.count(),
            attempts.join(", "),
            self.containers
        ));
        let accepted = self.tries.iter().filter(|one| one.accepted()).count();
        let took = self
            .tries
            .iter()
            .filter(|one| one.accepted())
            .map(|one| one.took);
        say(&format!(
            "  callers: {} tries, {accepted} accepted, {} tried again · answered in {}",
            self.tries.len(),
            self.tries.len() - accepted,
            spread(took.collect())
        ));
        for (what, count) in &self.verdict.notes {
            say(&format!("  {what}: {count}"));
        }
        for kind in [
            FaultKind::Kill,
            FaultKind::Pause,
            FaultKind::Cut,
            FaultKind::BlackHole,
        ] {
            let times = self.faults.iter().filter(|done| done.fault.kind == kind);
            let times: Vec<Duration> = times.filter_map(|done| done.recovered).collect();
            if !times.is_empty() {
                say(&format!("  worked again after {kind:?}: {}", spread(times)));
            }
        }
        if self.own_ends > 0 {
            say(&format!(
                "  starts that found no database: {}",
                self.own_ends
            ));
        }
    }

    fn faults_by_kind(&self) -> String {
        let mut kinds: BTreeMap<FaultKind, usize> = BTreeMap::new();
        for done in self.faults {
            *kinds.entry(done.fault.kind).or_default() += 1;
        }
        let kinds: Vec<String> = kinds
            .iter()
            .map(|(kind, count)| format!("{kind:?} {count}"))
            .collect();
        format!("{} ({})", self.faults.len(), kinds.join(", "))
    }
}

/// Median, 95th percentile and longest.
fn spread(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |part: usize| {
        times
            .get((times.len().max(1) - 1) * part / 100)
            .copied()
            .unwrap_or_default()
    };
    format!("p50 {:.0?} p95 {:.0?} max {:.0?}", at(50), at(95), at(100))
}
