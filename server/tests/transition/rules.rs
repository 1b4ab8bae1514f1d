//! Single rules of how a run may change.

use crate::story::*;
use pocketci_server::model::run::{Outcome, RunState};
use pocketci_server::model::transition::{Applied, Change, Holder, Report};
use pocketci_server::model::{AgentId, JobId, SessionId};
use std::time::Duration;

#[test]
fn accepting_prolongs_the_lease_from_now() {
    let (mut run, holder) = handed_out();
    let later = start() + Duration::from_secs(5);
    let accept = report(&run, holder, 1, accepted());
    assert_eq!(change(&mut run, accept, later).0, Applied::Done);
    assert_eq!(run.jobs[0].lease.as_ref().unwrap().until, later + LEASE);
    assert_eq!(run.jobs[0].started_at, Some(later));
    assert_eq!(run.run.started_at, Some(later));
}

#[test]
fn a_lease_ends_after_its_last_instant() {
    let (mut run, _) = handed_out();
    let expire = || Change::Expire {
        job_id: JobId::new(),
    };
    let of_job = Change::Expire {
        job_id: run.jobs[0].id,
    };
    assert_eq!(change(&mut run, expire(), start()).0, Applied::Stale);
    let last = start() + LEASE;
    assert_eq!(change(&mut run, of_job.clone(), last).0, Applied::Stale);
    let beyond = last + Duration::from_micros(1);
    let (applied, effects) = change(&mut run, of_job, beyond);
    assert_eq!(applied, Applied::Done);
    assert!(effects.job_queued && effects.lost.is_empty());
}

#[test]
fn an_outrun_lease_counts_until_somebody_takes_the_job_away() {
    let (mut run, holder) = handed_out();
    let late = start() + LEASE * 2;
    let accept = report(&run, holder, 1, accepted());
    assert_eq!(change(&mut run, accept, late).0, Applied::Done);
}

#[test]
fn a_loss_while_cancelling_ends_the_job() {
    let (mut run, holder) = handed_out();
    let accept = report(&run, holder, 1, accepted());
    change(&mut run, accept, start());
    let cancel = cancel_by("eve");
    let (_, effects) = change(&mut run, cancel, start());
    assert_eq!(effects.cancel, [holder.session_id]);
    let expire = Change::Expire {
        job_id: run.jobs[0].id,
    };
    let (_, effects) = change(&mut run, expire, start() + LEASE * 2);
    assert!(!effects.job_queued);
    assert_eq!(effects.lost.len(), 1);
    assert_eq!(run.run.end.unwrap().outcome, Outcome::Aborted);
    assert_eq!(effects.reply.unwrap().status, 202);
}

#[test]
fn rejecting_while_cancelling_ends_the_job() {
    let (mut run, holder) = handed_out();
    let cancel = cancel_by("eve");
    change(&mut run, cancel, start());
    let rejected = Report::Rejected {
        reason: "full".into(),
    };
    let rejected = report(&run, holder, 1, rejected);
    let (applied, effects) = change(&mut run, rejected, start());
    assert_eq!(applied, Applied::Done);
    assert!(!effects.job_queued && effects.lost.is_empty());
    assert_eq!(run.run.end.unwrap().outcome, Outcome::Aborted);
}

#[test]
fn an_agents_stop_is_a_loss_unless_the_run_is_cancelled() {
    let (mut run, holder) = handed_out();
    let accept = report(&run, holder, 1, accepted());
    change(&mut run, accept, start());
    let mut cancelled = run.clone();
    let stopped = report(&run, holder, 2, end(Outcome::Errored, "agent_stopped"));
    let (_, effects) = change(&mut run, stopped.clone(), start());
    assert!(effects.job_queued);
    assert_eq!(effects.lost[0].reason, "agent_stopped");
    let cancel = cancel_by("eve");
    change(&mut cancelled, cancel, start());
    change(&mut cancelled, stopped, start());
    assert_eq!(cancelled.run.state, RunState::Finished);
}

#[test]
fn the_worst_job_decides_how_the_run_ends() {
    let order = [
        Outcome::Skipped,
        Outcome::Succeeded,
        Outcome::Failed,
        Outcome::Errored,
        Outcome::Aborted,
    ];
    for (better, worse) in order.iter().zip(&order[1..]) {
        let mut run = aggregate(2);
        let session_id = SessionId::new();
        for (at, outcome) in [worse, better].into_iter().enumerate() {
            hand_out(&mut run.jobs[at], AgentId::new(), session_id, start());
            let holder = Holder {
                attempt: 1,
                session_id,
            };
            for (seq, report) in [(1, accepted()), (2, end(*outcome, ""))] {
                let told = Change::Report {
                    job_id: run.jobs[at].id,
                    holder,
                    seq,
                    report,
                };
                change(&mut run, told, start());
            }
        }
        assert_eq!(run.run.end.unwrap().outcome, *worse);
    }
}

#[test]
fn an_attempt_is_opened_once_and_before_anything_else() {
    let (mut run, holder) = handed_out();
    let reject = || Report::Rejected {
        reason: "no".into(),
    };
    let early = report(&run, holder, 1, end(Outcome::Succeeded, ""));
    assert_eq!(change(&mut run, early, start()).0, Applied::Gap);
    let open = report(&run, holder, 1, accepted());
    assert_eq!(change(&mut run, open, start()).0, Applied::Done);
    for again in [accepted(), reject()] {
        let again = report(&run, holder, 2, again);
        assert_eq!(change(&mut run, again, start()).0, Applied::Gap);
    }
    assert_eq!((run.run.event_seq, run.jobs[0].report_seq), (1, 1));
}

#[test]
fn a_change_that_says_nothing_changed_changed_nothing() {
    let (mut run, holder) = handed_out();
    let accept = report(&run, holder, 1, accepted());
    change(&mut run, accept.clone(), start());
    let before = format!("{run:?}");
    let ahead = report(&run, holder, 5, reply());
    for (message, expected) in [(accept, Applied::Duplicate), (ahead, Applied::Gap)] {
        let (applied, effects) = change(&mut run, message, start());
        assert_eq!(applied, expected);
        assert!(!effects.changed && effects.events.is_empty());
        assert_eq!(format!("{run:?}"), before);
    }
}
