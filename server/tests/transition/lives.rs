//! Seeded random lives of a run: whatever comes in whatever order, the invariants hold.

use crate::story::*;
use pocketci_proto::api::RunEventKind;
use pocketci_server::model::run::{End, EventBody, Job, JobState, Outcome, RunState, TriggerKind};
use pocketci_server::model::settings::DEFAULT_ATTEMPTS;
use pocketci_server::model::transition::{Aggregate, Applied, Change, Effects, Holder, Report};
use pocketci_server::model::{AgentId, SessionId};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::time::Duration;
use time::OffsetDateTime;

/// A random life of a run, watched from outside.
struct Life {
    random: StdRng,
    now: OffsetDateTime,
    aggregate: Aggregate,
    agents: Vec<(AgentId, SessionId)>,
    events: i64,
    replies: usize,
    log: Vec<String>,
}

impl Life {
    fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let mut aggregate = aggregate(random.random_range(1..=3));
        aggregate.run.wants_reply = random.random_bool(0.8);
        if random.random_bool(0.2) {
            aggregate.run.trigger.kind = TriggerKind::Manual;
            aggregate.run.wants_reply = false;
        }
        Self {
            random,
            now: start(),
            aggregate,
            agents: (0..2).map(|_| (AgentId::new(), SessionId::new())).collect(),
            events: 0,
            replies: 0,
            log: vec![],
        }
    }

    /// Mostly the true holder, sometimes a liar or one of the past.
    fn holder(&mut self, at: usize) -> Holder {
        let job = &self.aggregate.jobs[at];
        let any = self.agents[self.random.random_range(0..self.agents.len())].1;
        let session_id = match &job.lease {
            Some(lease) if self.random.random_bool(0.85) => lease.session_id,
            _ => any,
        };
        let past = i32::from(self.random.random_bool(0.1));
        Holder {
            attempt: job.attempt - past,
            session_id,
        }
    }

    fn report(&mut self, at: usize) -> Change {
        let holder = self.holder(at);
        let job = &self.aggregate.jobs[at];
        let next = job.report_seq + 1;
        let seq = (next + self.random.random_range(-3..=3) / 3).max(1);
        let stored = job.log_seq;
        let outcome = [Outcome::Succeeded, Outcome::Failed, Outcome::Errored];
        let report = match self.random.random_range(0..10) {
            _ if job.state == JobState::Assigned && seq == 1 => accepted(),
            0 => Report::Rejected {
                reason: "full".into(),
            },
            1..4 => reply(),
            4..8 => Report::Step(RunEventKind::StepStarted {
                step: 1,
                name: "s".into(),
                kind: "run".into(),
                image: String::new(),
            }),
            8 => end(Outcome::Errored, "agent_stopped"),
            _ => Report::Finished {
                end: End {
                    outcome: outcome[self.random.random_range(0..3)],
                    reason: String::new(),
                    actor: String::new(),
                    message: String::new(),
                },
                final_log_seq: stored + self.random.random_range(0..=1),
            },
        };
        Change::Report {
            job_id: self.aggregate.jobs[at].id,
            holder,
            seq,
            report,
        }
    }

    fn next_change(&mut self) -> Change {
        let at = self.random.random_range(0..self.aggregate.jobs.len());
        let job_id = self.aggregate.jobs[at].id;
        match self.random.random_range(0..100) {
            0..50 => self.report(at),
            50..70 => {
                let stored = self.aggregate.jobs[at].log_seq;
                let first = (stored + self.random.random_range(-1..=2)).max(1);
                Change::Logs {
                    job_id,
                    holder: self.holder(at),
                    pieces: pieces(first, self.random.random_range(1..=3)),
                }
            }
            70..80 => Change::Expire { job_id },
            80..86 => Change::Release {
                job_id,
                holder: self.holder(at),
            },
            86..94 => {
                let (agent_id, _) = self.agents[self.random.random_range(0..2)];
                let session_id = SessionId::new();
                self.agents.push((agent_id, session_id));
                Change::Adopt {
                    job_id,
                    attempt: self.aggregate.jobs[at].attempt,
                    agent_id,
                    session_id,
                    lease: LEASE,
                }
            }
            94..96 => Change::CloseReply,
            96 => Change::Skip {
                for_run: self.aggregate.run.id,
            },
            97 => Change::Overdue {
                job_id,
                waited_for: "ann".into(),
            },
            _ => cancel_by("eve"),
        }
    }

    fn claim_something(&mut self) {
        let (agent_id, session_id) = self.agents[self.random.random_range(0..2)];
        let now = self.now;
        let queued = |job: &&mut Job| job.state == JobState::Queued;
        if let Some(job) = self.aggregate.jobs.iter_mut().find(queued) {
            hand_out(job, agent_id, session_id, now);
        }
    }

    fn step(&mut self) {
        self.now += Duration::from_millis(self.random.random_range(1..20_000));
        if self.random.random_bool(0.4) {
            self.claim_something();
        }
        let before = self.aggregate.clone();
        let change_ = self.next_change();
        let (applied, effects) = change(&mut self.aggregate, change_, self.now);
        self.log.push(format!("{applied:?}"));
        self.check_effects(&before, applied, &effects);
        self.check_state();
    }

    fn check_effects(&mut self, before: &Aggregate, applied: Applied, effects: &Effects) {
        for event in &effects.events {
            self.events += 1;
            assert_eq!(event.seq, self.events, "events have no holes");
            assert_eq!(event.job_id.is_some(), event.attempt.is_some());
            if let EventBody::Log(_) = event.body {
                assert!(event.job_id.is_some(), "output has a job");
            }
        }
        assert_eq!(self.aggregate.run.event_seq, self.events);
        self.replies += usize::from(effects.reply.is_some());
        assert!(self.replies <= 1, "one reply");
        assert_eq!(self.replies == 1, self.aggregate.run.replied);
        let same = format!("{before:?}") == format!("{:?}", self.aggregate);
        assert!(effects.changed || same, "a change is announced");
        if matches!(applied, Applied::Stale | Applied::Duplicate) {
            assert!(same && !effects.changed, "{applied:?} changes nothing");
        }
        if before.run.state == RunState::Finished {
            let (old, new) = (&before.run, &self.aggregate.run);
            assert_eq!((&old.end, old.event_seq), (&new.end, new.event_seq));
            assert_eq!(old.finished_at, new.finished_at);
        }
        for (old, new) in before.jobs.iter().zip(&self.aggregate.jobs) {
            if old.state == JobState::Finished {
                assert_eq!(format!("{old:?}"), format!("{new:?}"), "the end is the end");
            }
            assert!(new.lost >= old.lost && new.attempt == old.attempt);
        }
    }

    fn check_state(&self) {
        let run = &self.aggregate.run;
        let over = run.state == RunState::Finished;
        assert_eq!((over, over), (run.end.is_some(), run.finished_at.is_some()));
        assert!(!over || !run.wants_reply || run.replied, "the caller hears");
        let mut all_over = true;
        for job in &self.aggregate.jobs {
            let held = matches!(job.state, JobState::Assigned | JobState::Running);
            assert_eq!(held, job.lease.is_some(), "lease ⇔ state");
            let over = job.state == JobState::Finished;
            assert_eq!((over, over), (job.end.is_some(), job.finished_at.is_some()));
            assert!(job.lost <= DEFAULT_ATTEMPTS && job.lost <= job.attempt);
            let cancelled = run.cancel.is_some();
            assert!(!(cancelled && job.state == JobState::Queued), "no way back");
            all_over &= over;
        }
        assert_eq!(over, all_over, "a run is over with its last job");
    }
}

#[test]
fn random_lives_never_break_an_invariant() {
    const LIVES: u64 = 700;
    const STEPS: usize = 80;
    let (mut ended, mut replied, mut done) = (0, 0, 0);
    for seed in 0..LIVES {
        let mut life = Life::new(seed);
        for _ in 0..STEPS {
            life.step();
        }
        ended += usize::from(life.aggregate.run.state == RunState::Finished);
        replied += life.replies;
        done += life.log.iter().filter(|word| *word == "Done").count();
    }
    // The lives are worth something only if much happens in them.
    assert!(
        ended > 150 && replied > 150 && done > 10_000,
        "{ended} {replied} {done}"
    );
}
