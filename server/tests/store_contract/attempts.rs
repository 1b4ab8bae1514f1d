//! Rules of reports: order, fencing, one reply, and an end that stays.

use crate::story::*;
use pocketci_proto::api::{RunEventKind, RunStatus};
use pocketci_server::model::run::{JobState, Outcome, ReplyBy, RunState, TriggerKind};
use pocketci_server::model::transition::{Applied, Change, Holder, Report};
use pocketci_server::model::{JobId, RunId, SessionId};

fn step() -> Report {
    Report::Step(RunEventKind::StepStarted {
        step: 1,
        name: "compile".into(),
        kind: "run".into(),
        image: "alpine".into(),
    })
}

pub async fn a_run_from_accept_to_finish(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    enqueue(&store, webhook(&build)).await;
    let claimed = ann.claim(&store, 1).await.remove(0);
    let mut attempt = Attempt::of(&store, &ann, &claimed);
    attempt.accept(LONG).await;
    let found = view(&store, attempt.run).await;
    assert_eq!(found.run.state, RunState::Running);
    assert!(found.run.started_at.is_some());
    assert_eq!(found.jobs[0].0.state, JobState::Running);
    assert_eq!(
        attempt.report(Report::Respond(reply(201))).await,
        Applied::Done
    );
    assert_eq!(attempt.report(step()).await, Applied::Done);
    attempt.finish(Outcome::Succeeded).await;

    let found = view(&store, attempt.run).await;
    assert_eq!(found.run.state, RunState::Finished);
    assert_eq!(found.run.end.clone().unwrap().outcome, Outcome::Succeeded);
    assert_eq!(found.run.end.unwrap().message, "the end");
    assert!(found.run.finished_at.is_some() && found.run.replied);
    assert!(found.reply == Some(reply(201)), "the reply byte by byte");
    let (job, agent) = &found.jobs[0];
    assert_eq!((job.state, job.report_seq), (JobState::Finished, 4));
    assert!(job.lease.is_none() && job.finished_at.is_some());
    assert_eq!(agent.as_deref(), Some("ann"));
    assert_eq!(
        event_words(&store, attempt.run).await,
        [
            "started",
            "replied",
            "step_started",
            "job_finished",
            "run_finished"
        ]
    );
    let stored = events(&store, attempt.run).await;
    assert_eq!(stored[0].job_id, Some(attempt.job));
    assert_eq!(stored[0].attempt, Some(1));
    assert_eq!(stored[4].job_id, None);
}

pub async fn submits_of_a_run_keep_the_order_of_the_calls(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    for _ in 0..10 {
        let attempt = assigned(&store, &build, &ann).await;
        let reports = [
            accepted(LONG),
            Report::Respond(reply(200)),
            step(),
            finished(Outcome::Succeeded, 0),
        ];
        let calls: Vec<_> = (1..)
            .zip(reports)
            .map(|(seq, report)| store.submit(attempt.run, attempt.change(seq, report)))
            .collect();
        // The answers may be awaited in any order.
        for call in calls.into_iter().rev() {
            assert_eq!(call.await.unwrap(), Applied::Done);
        }
        assert_eq!(
            view(&store, attempt.run).await.run.state,
            RunState::Finished
        );
    }
}

pub async fn a_second_respond_is_ignored_with_an_event(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let mut attempt = running(&store, &build, &ann).await;
    attempt.report(Report::Respond(reply(200))).await;
    assert_eq!(
        attempt.report(Report::Respond(reply(500))).await,
        Applied::Done
    );
    assert_eq!(view(&store, attempt.run).await.reply.unwrap().status, 200);
    assert_eq!(
        event_words(&store, attempt.run).await,
        ["started", "replied", "reply_ignored"]
    );
}

pub async fn respond_after_close_reply_is_late(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let mut attempt = running(&store, &build, &ann).await;
    assert_eq!(attempt.submit(Change::CloseReply).await, Applied::Done);
    assert_eq!(attempt.submit(Change::CloseReply).await, Applied::Duplicate);
    attempt.report(Report::Respond(reply(200))).await;
    let stored = view(&store, attempt.run).await.reply.unwrap();
    assert_eq!((stored.by, stored.status), (ReplyBy::Server, 202));
    assert_eq!(
        event_words(&store, attempt.run).await,
        ["started", "reply_ignored"]
    );
}

pub async fn close_reply_after_respond_is_a_duplicate(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let mut attempt = running(&store, &build, &ann).await;
    attempt.report(Report::Respond(reply(418))).await;
    assert_eq!(attempt.submit(Change::CloseReply).await, Applied::Duplicate);
    assert_eq!(view(&store, attempt.run).await.reply.unwrap().status, 418);
}

pub async fn finish_without_respond_stores_the_servers_reply(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let mut attempt = running(&store, &build, &ann).await;
    attempt.finish(Outcome::Failed).await;
    let stored = view(&store, attempt.run).await.reply.unwrap();
    assert_eq!((stored.by, stored.status), (ReplyBy::Server, 202));
    assert_eq!(
        stored.body,
        format!("{{\"run_id\":\"{}\"}}", attempt.run).into_bytes()
    );
}

pub async fn a_manual_run_has_no_reply(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let mut manual = webhook(&build);
    manual.trigger.kind = TriggerKind::Manual;
    manual.receipt = None;
    manual.wants_reply = false;
    enqueue(&store, manual).await;
    let claimed = ann.claim(&store, 1).await.remove(0);
    assert!(claimed.receipt.is_none());
    let mut attempt = Attempt::of(&store, &ann, &claimed);
    attempt.accept(LONG).await;
    assert_eq!(
        attempt.report(Report::Respond(reply(200))).await,
        Applied::Done
    );
    attempt.finish(Outcome::Succeeded).await;
    assert!(view(&store, attempt.run).await.reply.is_none());
    assert_eq!(
        event_words(&store, attempt.run).await,
        ["started", "job_finished", "run_finished"]
    );
}

pub async fn a_repeated_report_is_a_duplicate(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let mut attempt = running(&store, &build, &ann).await;
    attempt.report(Report::Respond(reply(200))).await;
    let before = picture(&store, attempt.run).await;
    for seq in [1, 2] {
        let again = attempt.change(seq, Report::Respond(reply(500)));
        assert_eq!(attempt.submit(again).await, Applied::Duplicate);
    }
    assert_eq!(picture(&store, attempt.run).await, before);
    attempt.finish(Outcome::Succeeded).await;
    let before = picture(&store, attempt.run).await;
    let again = attempt.change(3, finished(Outcome::Succeeded, 0));
    assert_eq!(attempt.submit(again).await, Applied::Duplicate);
    assert_eq!(picture(&store, attempt.run).await, before);
}

pub async fn a_report_after_a_hole_is_a_gap(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let attempt = running(&store, &build, &ann).await;
    let before = picture(&store, attempt.run).await;
    let ahead = attempt.change(3, Report::Respond(reply(200)));
    assert_eq!(attempt.submit(ahead).await, Applied::Gap);
    assert_eq!(picture(&store, attempt.run).await, before);
}

/// Every message that an attempt can send, each with the number that would be next.
fn every_message(attempt: &Attempt, holder: Holder, seq: i32) -> Vec<Change> {
    let mut liar = attempt.clone();
    liar.holder = holder;
    let rejected = Report::Rejected {
        reason: "full".into(),
    };
    let reports = [
        accepted(LONG),
        rejected,
        Report::Respond(reply(200)),
        step(),
        finished(Outcome::Succeeded, 0),
    ];
    let mut messages: Vec<_> = reports
        .into_iter()
        .map(|report| liar.change(seq, report))
        .collect();
    messages.push(Change::Logs {
        job_id: attempt.job,
        holder,
        pieces: vec![(1, piece(b"lie"))],
    });
    messages.push(Change::Release {
        job_id: attempt.job,
        holder,
    });
    messages
}

async fn all_stale(attempt: &Attempt, messages: Vec<Change>) {
    let before = picture(&attempt.store, attempt.run).await;
    for message in messages {
        assert_eq!(attempt.submit(message).await, Applied::Stale);
    }
    assert_eq!(picture(&attempt.store, attempt.run).await, before);
}

pub async fn a_stale_attempt_or_session_changes_nothing(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let attempt = running(&store, &build, &ann).await;
    let held = attempt.holder;
    let liars = [
        Holder { attempt: 0, ..held },
        Holder { attempt: 2, ..held },
        Holder {
            session_id: SessionId::new(),
            ..held
        },
    ];
    for liar in liars {
        all_stale(&attempt, every_message(&attempt, liar, 2)).await;
    }
    let mut other_job = attempt.clone();
    other_job.job = JobId::new();
    all_stale(&attempt, every_message(&other_job, held, 2)).await;
}

pub async fn nothing_of_attempt_one_counts_after_attempt_two(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let bob = peer(&store, "bob").await;
    let mut first = assigned(&store, &build, &ann).await;
    first.accept(std::time::Duration::ZERO).await;
    first.expire().await;
    all_stale(&first, every_message(&first, first.holder, 2)).await;
    let claimed = bob.claim(&store, 1).await.remove(0);
    let mut second = Attempt::of(&store, &bob, &claimed);
    assert_eq!((second.job, second.holder.attempt), (first.job, 2));
    for seq in [1, 2] {
        all_stale(&first, every_message(&first, first.holder, seq)).await;
    }
    second.accept(LONG).await;
    all_stale(&first, every_message(&first, first.holder, 2)).await;
    second.finish(Outcome::Succeeded).await;
    all_stale(&first, every_message(&first, first.holder, 2)).await;
}

pub async fn a_finished_run_never_changes(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let mut attempt = running(&store, &build, &ann).await;
    attempt.finish(Outcome::Succeeded).await;
    let before = picture(&store, attempt.run).await;
    let mut messages = every_message(&attempt, attempt.holder, 3);
    messages.push(Change::Expire {
        job_id: attempt.job,
    });
    messages.push(cancel_by("eve"));
    messages.push(Change::CloseReply);
    for message in messages {
        assert_ne!(attempt.submit(message).await, Applied::Done);
    }
    assert_eq!(picture(&store, attempt.run).await, before);
    assert!(ann.claim(&store, 1).await.is_empty());
}

pub async fn a_change_to_an_unknown_run_is_stale(store: Shared) {
    let changes = [
        Change::CloseReply,
        cancel_by("eve"),
        Change::Expire {
            job_id: JobId::new(),
        },
    ];
    for change in changes {
        let applied = store.submit(RunId::new(), change).await.unwrap();
        assert_eq!(applied, Applied::Stale);
    }
}

pub async fn a_rejected_job_is_queued_again_without_penalty(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let mut attempt = assigned(&store, &build, &ann).await;
    let rejected = Report::Rejected {
        reason: "full".into(),
    };
    assert_eq!(attempt.report(rejected).await, Applied::Done);
    let job = view(&store, attempt.run).await.jobs.remove(0).0;
    assert_eq!(
        (job.state, job.lost, job.report_seq),
        (JobState::Queued, 0, 0)
    );
    assert_eq!(event_words(&store, attempt.run).await, ["requeued"]);
    let claimed = ann.claim(&store, 1).await.remove(0);
    assert_eq!(
        claimed.job.attempt, 2,
        "no loss, no waiting for another agent"
    );
}

pub async fn a_run_is_over_with_its_last_job(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let mut new = webhook(&build);
    new.jobs = ["one", "two"].map(job).to_vec();
    let id = enqueue(&store, new).await;
    let claimed = ann.claim(&store, 2).await;
    let mut attempts = claimed
        .iter()
        .map(|claimed| Attempt::of(&store, &ann, claimed));
    let (mut one, mut two) = (attempts.next().unwrap(), attempts.next().unwrap());
    one.accept(LONG).await;
    two.accept(LONG).await;
    one.finish(Outcome::Failed).await;
    assert_eq!(view(&store, id).await.run.state, RunState::Running);
    two.finish(Outcome::Succeeded).await;
    let end = view(&store, id).await.run.end.unwrap();
    assert_eq!(end.outcome.status(), RunStatus::Failed);
}
