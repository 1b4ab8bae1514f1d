//! Which plug is pulled when: all of it follows from one seed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Variable with the seed; without it the clock gives one. It is printed always.
const SEED_VARIABLE: &str = "POCKETCI_CHAOS_SEED";

/// The seed asked for, or a new one.
pub fn seed() -> u64 {
    match std::env::var(SEED_VARIABLE) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{SEED_VARIABLE} is {text:?}; expected a whole number")),
        Err(_) => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            u64::from(now.expect("after 1970").subsec_nanos())
        }
    }
}

/// Numbers that follow from a seed: SplitMix64 (Steele, Lea, Flood 2014).
pub struct Dice(u64);

impl Dice {
    /// The same seed throws the same numbers.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// Below `limit`, which is at least 1. The bias of the remainder does not matter here.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// Between both, in steps of a millisecond.
    pub fn between(&mut self, shortest: Duration, longest: Duration) -> Duration {
        let spread = longest.saturating_sub(shortest).as_millis();
        let spread = u64::try_from(spread).expect("far less than for ever");
        shortest + Duration::from_millis(self.below(spread + 1))
    }
}

/// A process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// By its number.
    Server(usize),
    /// By its number.
    Agent(usize),
}

/// What happens to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// kill -9; it is started again afterwards.
    Kill,
    /// SIGSTOP, longer than a lease; SIGCONT afterwards.
    Pause,
    /// Its connections are reset, new ones too.
    Cut,
    /// Nothing arrives, and nobody is told.
    BlackHole,
    /// Every piece comes late.
    Slow,
    /// Few bytes a second.
    Narrow,
}

/// One pulled plug.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// After the beginning.
    pub at: Duration,
    /// Whose.
    pub target: Target,
    /// Which.
    pub kind: FaultKind,
    /// How long.
    pub lasts: Duration,
}

/// What schedules are made of.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Servers.
    pub servers: usize,
    /// Agents.
    pub agents: usize,
    /// The last fault begins before this.
    pub span: Duration,
    /// From one fault to the next, give or take a quarter.
    pub pace: Duration,
    /// Leases; a pause is longer.
    pub lease: Duration,
    /// Longest time without a network.
    pub longest_cut: Duration,
}

/// The faults, by time. A process has one at a time.
pub fn schedule(seed: u64, plan: &Plan) -> Vec<Fault> {
    let mut dice = Dice::new(seed);
    let targets: Vec<Target> = (0..plan.servers)
        .map(Target::Server)
        .chain((0..plan.agents).map(Target::Agent))
        .collect();
    let mut free_at = vec![Duration::ZERO; targets.len()];
    let mut faults = Vec::new();
    let mut at = plan.pace / 2;
    while at < plan.span {
        let free: Vec<usize> = (0..targets.len()).filter(|n| free_at[*n] <= at).collect();
        if !free.is_empty() {
            let chosen = free[usize::try_from(dice.below(free.len() as u64)).expect("small")];
            let (kind, lasts) = what(&mut dice, plan);
            // A moment to recover, so that a fault meets a process that works.
            free_at[chosen] = at + lasts + plan.pace / 2;
            faults.push(Fault {
                at,
                target: targets[chosen],
                kind,
                lasts,
            });
        }
        at += dice.between(plan.pace * 3 / 4, plan.pace * 5 / 4);
    }
    faults
}

fn what(dice: &mut Dice, plan: &Plan) -> (FaultKind, Duration) {
    let cut = (
        Duration::from_secs(1).min(plan.longest_cut),
        plan.longest_cut,
    );
    let (kind, (shortest, longest)) = match dice.below(8) {
        0 | 1 => (
            FaultKind::Kill,
            (Duration::from_millis(200), Duration::from_secs(2)),
        ),
        2 | 3 => (FaultKind::Pause, (plan.lease * 5 / 4, plan.lease * 2)),
        4 => (FaultKind::Cut, cut),
        5 => (FaultKind::BlackHole, cut),
        6 => (FaultKind::Slow, cut),
        _ => (FaultKind::Narrow, cut),
    };
    (kind, dice.between(shortest, longest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan {
            servers: 2,
            agents: 3,
            span: Duration::from_secs(300),
            pace: Duration::from_secs(2),
            lease: Duration::from_secs(3),
            longest_cut: Duration::from_secs(30),
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_schedule_and_another_one_another() {
        assert_eq!(schedule(7, &plan()), schedule(7, &plan()));
        assert_ne!(schedule(7, &plan()), schedule(8, &plan()));
    }

    #[test]
    fn every_kind_meets_every_process_and_none_has_two_faults_at_once() {
        let faults = schedule(1, &plan());
        let mut met: Vec<(Target, FaultKind)> = faults
            .iter()
            .map(|fault| (fault.target, fault.kind))
            .collect();
        met.sort_unstable();
        met.dedup();
        assert!(met.len() > 24, "{met:?}");
        for (at, fault) in faults.iter().enumerate() {
            let overlapping = faults[..at].iter().find(|earlier| {
                earlier.target == fault.target && earlier.at + earlier.lasts > fault.at
            });
            assert_eq!(overlapping, None);
        }
    }
}
