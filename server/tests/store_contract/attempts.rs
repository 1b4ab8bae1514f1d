//! Jobs in agents' hands: claims, fencing, leases, replies, logs.

use super::harness::*;
use bytes::Bytes;
use pocketci_proto::api::{Driver, RunStatus};
use pocketci_server::model::pipeline::Labels;
use pocketci_server::model::run::{
    EventBody, JobState, LogPiece, LogStream, Outcome, ReplyBy, RunState,
};
use pocketci_server::model::transition::{Applied, Change, Holder};
use pocketci_server::model::{AgentId, JobId, SessionId};
use pocketci_server::store::{ClaimRequest, HandOff, NewJob, NewRun};
use std::collections::HashSet;
use std::time::Duration;

const SHORT: Duration = Duration::from_millis(1);

pub async fn a_job_lives_from_claim_to_finish_with_events_in_order(db: Db) {
    let held = running(&db).await;
    held.report(&db, 2, respond(200)).await;
    assert_eq!(
        held.report(&db, 3, finished(Outcome::Failed, "why", 0))
            .await,
        Applied::Done
    );
    let view = db.run(held.run_id).await.unwrap().unwrap();
    assert_eq!(
        (view.run.state, view.jobs[0].0.state),
        (RunState::Finished, JobState::Finished)
    );
    let end = view.run.end.unwrap();
    assert_eq!(
        (end.outcome, end.reason.as_str(), end.message.as_str()),
        (Outcome::Failed, "why", "m")
    );
    assert_eq!(end.outcome.status(), RunStatus::Failed);
    assert!(view.run.started_at.is_some() && view.run.finished_at >= view.run.started_at);
    assert_eq!(
        events(&db, held.run_id).await,
        ["started", "replied", "job_finished", "run_finished"]
    );
    let later = db.events(held.run_id, 2, 1).await.unwrap().unwrap();
    assert_eq!(later[0].seq, 3);
}

pub async fn a_handed_out_job_is_assigned_at_once(db: Db) {
    let pipeline = pipeline(&db, "p").await;
    let mut run = new_run(&pipeline);
    let (agent_id, session_id) = (AgentId::new(), SessionId::new());
    run.jobs[0].hand_to = Some(HandOff {
        agent_id,
        session_id,
        accept_within: LEASE,
    });
    db.enqueue(NewRun {
        max_queue: 0,
        ..run.clone()
    })
    .await
    .unwrap();
    assert!(
        db.claim(claim_request(AgentId::new()))
            .await
            .unwrap()
            .is_empty()
    );
    let held = Held {
        run_id: run.id,
        job_id: run.jobs[0].id,
        agent_id,
        holder: Holder {
            attempt: 1,
            session_id,
        },
    };
    assert_eq!(held.report(&db, 1, accepted()).await, Applied::Done);
}

pub async fn claims_respect_labels_drivers_and_age(db: Db) {
    let pipeline = pipeline(&db, "p").await;
    let label = |key: &str, value: &str| Labels::from([(key.to_owned(), value.to_owned())]);
    let wants = [
        (Labels::new(), None),
        (label("gpu", "a\"b"), None),
        (Labels::new(), Some(Driver::Docker)),
        (label("gpu", "no"), None),
        (Labels::new(), None),
    ];
    let mut jobs: Vec<JobId> = Vec::new();
    for (labels, driver) in wants {
        let mut run = new_run(&pipeline);
        run.jobs = vec![NewJob {
            labels,
            driver,
            ..run.jobs[0].clone()
        }];
        jobs.push(run.jobs[0].id);
        db.enqueue(run).await.unwrap();
    }
    let request = ClaimRequest {
        labels: Labels::from([
            ("gpu".to_owned(), "a\"b".to_owned()),
            ("x".to_owned(), "y".to_owned()),
        ]),
        drivers: vec![Driver::Native],
        max: 2,
        ..claim_request(AgentId::new())
    };
    let ids = async |request: ClaimRequest| -> Vec<JobId> {
        let claimed = db.claim(request).await.unwrap();
        claimed.into_iter().map(|claimed| claimed.job.id).collect()
    };
    assert_eq!(
        ids(request.clone()).await,
        [jobs[0], jobs[1]],
        "oldest first, at most two"
    );
    assert_eq!(ids(request.clone()).await, [jobs[4]]);
    assert_eq!(
        ids(ClaimRequest {
            drivers: vec![Driver::Docker],
            ..request
        })
        .await,
        [jobs[2]]
    );
    assert_eq!(db.queued_jobs().await.unwrap(), 1);
}

pub async fn two_claimers_never_get_the_same_job(db: Db) {
    let pipeline = pipeline(&db, "p").await;
    for _ in 0..60 {
        db.enqueue(new_run(&pipeline)).await.unwrap();
    }
    let claims = (0..20).map(|_| async {
        let mut mine = Vec::new();
        for _ in 0..10 {
            let request = ClaimRequest {
                max: 3,
                ..claim_request(AgentId::new())
            };
            mine.extend(
                db.claim(request)
                    .await
                    .unwrap()
                    .into_iter()
                    .map(|claimed| claimed.job.id),
            );
        }
        mine
    });
    let all: Vec<JobId> = futures_util::future::join_all(claims).await.concat();
    let distinct: HashSet<JobId> = all.iter().copied().collect();
    assert_eq!((all.len(), distinct.len()), (60, 60));
}

pub async fn only_the_first_answer_counts(db: Db) {
    let held = running(&db).await;
    held.report(&db, 2, respond(200)).await;
    held.report(&db, 3, respond(500)).await;
    let replies = db.replies(&[held.run_id]).await.unwrap();
    assert_eq!(
        (replies.len(), replies[0].1.status, replies[0].1.by),
        (1, 200, ReplyBy::Pipeline)
    );
    assert_eq!(replies[0].1.body.as_ref(), b"\x00\xffok");
    assert_eq!(
        replies[0].1.headers,
        [("x-a".into(), "é".to_owned()), ("x-a".into(), "2".into())]
    );
    assert_eq!(
        events(&db, held.run_id).await,
        ["started", "replied", "reply_ignored"]
    );
    assert_eq!(
        held.change(&db, Change::CloseReply).await,
        Applied::Duplicate
    );
}

pub async fn a_late_answer_is_refused_and_the_202_stands(db: Db) {
    let held = running(&db).await;
    assert_eq!(held.change(&db, Change::CloseReply).await, Applied::Done);
    held.report(&db, 2, respond(200)).await;
    let replies = db.replies(&[held.run_id]).await.unwrap();
    assert_eq!(
        (replies[0].1.status, replies[0].1.by),
        (202, ReplyBy::Server)
    );
    let body: serde_json::Value = serde_json::from_slice(&replies[0].1.body).unwrap();
    assert_eq!(
        body,
        serde_json::json!({ "run_id": held.run_id.to_string() })
    );
}

pub async fn a_run_that_ends_silently_is_answered_202(db: Db) {
    let held = running(&db).await;
    held.report(&db, 2, finished(Outcome::Failed, "", 0)).await;
    let view = db.run(held.run_id).await.unwrap().unwrap();
    assert!(view.run.replied);
    assert_eq!(view.reply.unwrap().status, 202);
}

pub async fn repeated_reports_change_nothing_and_gaps_are_told(db: Db) {
    let held = running(&db).await;
    assert_eq!(held.report(&db, 1, accepted()).await, Applied::Duplicate);
    assert_eq!(held.report(&db, 3, respond(200)).await, Applied::Gap);
    assert_eq!(
        held.report(&db, 2, finished(Outcome::Succeeded, "", 0))
            .await,
        Applied::Done
    );
    assert_eq!(
        held.report(&db, 2, finished(Outcome::Succeeded, "", 0))
            .await,
        Applied::Duplicate
    );
    assert_eq!(held.report(&db, 3, respond(200)).await, Applied::Stale);
    assert_eq!(
        events(&db, held.run_id).await,
        ["started", "job_finished", "run_finished"]
    );
}

pub async fn a_stale_attempt_changes_nothing(db: Db) {
    let held = running(&db).await;
    let before = events(&db, held.run_id).await;
    let strangers = [
        Holder {
            attempt: held.holder.attempt + 1,
            ..held.holder
        },
        Holder {
            attempt: 0,
            ..held.holder
        },
        Holder {
            session_id: SessionId::new(),
            ..held.holder
        },
    ];
    for holder in strangers {
        let stranger = Held { holder, ..held };
        for report in [
            accepted(),
            respond(200),
            finished(Outcome::Succeeded, "", 0),
        ] {
            assert_eq!(stranger.report(&db, 2, report).await, Applied::Stale);
        }
        let logs = Change::Logs {
            job_id: held.job_id,
            holder,
            pieces: vec![(1, piece(0, b"x"))],
        };
        assert_eq!(stranger.change(&db, logs).await, Applied::Stale);
        let release = Change::Release {
            job_id: held.job_id,
            holder,
        };
        assert_eq!(stranger.change(&db, release).await, Applied::Stale);
    }
    assert_eq!(events(&db, held.run_id).await, before);
    assert!(db.replies(&[held.run_id]).await.unwrap().is_empty());
}

fn piece(offset: i64, bytes: &[u8]) -> LogPiece {
    LogPiece {
        step: 1,
        stream: LogStream::Stderr,
        offset,
        bytes: Bytes::copy_from_slice(bytes),
    }
}

pub async fn logs_are_stored_once_in_order_byte_for_byte(db: Db) {
    let held = running(&db).await;
    let all: Vec<u8> = (0..=255).cycle().take(1000).collect();
    let pieces: Vec<(i64, LogPiece)> = (1..)
        .zip(all.chunks(100))
        .map(|(seq, bytes)| (seq, piece((seq - 1) * 100, bytes)))
        .collect();
    let logs = |range: std::ops::Range<usize>| Change::Logs {
        job_id: held.job_id,
        holder: held.holder,
        pieces: pieces[range].to_vec(),
    };
    assert_eq!(held.change(&db, logs(0..4)).await, Applied::Done);
    assert_eq!(held.change(&db, logs(0..4)).await, Applied::Duplicate);
    assert_eq!(held.change(&db, logs(6..8)).await, Applied::Gap);
    assert_eq!(held.change(&db, logs(2..10)).await, Applied::Done);
    let stored: Vec<u8> = db
        .events(held.run_id, 0, 100)
        .await
        .unwrap()
        .unwrap()
        .into_iter()
        .filter_map(|event| match event.body {
            EventBody::Log(piece) => Some(piece.bytes.to_vec()),
            EventBody::Fact(_) => None,
        })
        .flatten()
        .collect();
    assert_eq!(stored, all);
}

pub async fn finished_waits_for_its_last_log_chunk(db: Db) {
    let held = running(&db).await;
    assert_eq!(
        held.report(&db, 2, finished(Outcome::Succeeded, "", 1))
            .await,
        Applied::Gap
    );
    let logs = Change::Logs {
        job_id: held.job_id,
        holder: held.holder,
        pieces: vec![(1, piece(0, b"x"))],
    };
    held.change(&db, logs).await;
    assert_eq!(
        held.report(&db, 2, finished(Outcome::Succeeded, "", 1))
            .await,
        Applied::Done
    );
}

pub async fn an_unaccepted_job_goes_back_without_penalty(db: Db) {
    queued(&db).await;
    for _ in 0..5 {
        let request = ClaimRequest {
            accept_within: SHORT,
            ..claim_request(AgentId::new())
        };
        let job = db.claim(request).await.unwrap().remove(0).job;
        until_expired(&db).await;
        let change = Change::Expire { job_id: job.id };
        assert_eq!(db.submit(job.run_id, change).await.unwrap(), Applied::Done);
    }
    let held = claim(&db).await;
    assert_eq!(held.holder.attempt, 6);
    let release = Change::Release {
        job_id: held.job_id,
        holder: held.holder,
    };
    assert_eq!(held.change(&db, release).await, Applied::Done);
    assert_eq!(
        db.run(held.run_id).await.unwrap().unwrap().jobs[0].0.lost,
        0
    );
}

async fn lose(db: &Db) -> Held {
    let held = claim(db).await;
    held.report(db, 1, accepted_for(SHORT)).await;
    until_expired(db).await;
    assert_eq!(held.expire(db).await, Applied::Done);
    assert_eq!(held.expire(db).await, Applied::Stale);
    held
}

pub async fn a_lost_agent_costs_an_attempt_and_the_third_ends_the_job(db: Db) {
    queued(&db).await;
    let first = lose(&db).await;
    let second = lose(&db).await;
    assert_eq!(second.holder.attempt, 2);
    assert_eq!(
        first.report(&db, 2, respond(200)).await,
        Applied::Stale,
        "back from the dead"
    );
    let third = lose(&db).await;
    let view = db.run(third.run_id).await.unwrap().unwrap();
    let end = view.run.end.unwrap();
    assert_eq!(
        (end.outcome, end.reason.as_str(), view.jobs[0].0.lost),
        (Outcome::Errored, "agent_lost", 3)
    );
    let told = events(&db, third.run_id).await;
    assert_eq!(
        told,
        [
            "started",
            "requeued",
            "started",
            "requeued",
            "started",
            "job_finished",
            "run_finished"
        ]
    );
}

pub async fn a_job_prefers_another_agent_after_a_loss(db: Db) {
    queued(&db).await;
    let held = lose(&db).await;
    assert!(
        db.claim(claim_request(held.agent_id))
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        db.claim(claim_request(AgentId::new())).await.unwrap().len(),
        1
    );
}

pub async fn a_stopped_agent_hands_its_job_back(db: Db) {
    let held = running(&db).await;
    held.report(&db, 2, finished(Outcome::Errored, "agent_stopped", 0))
        .await;
    assert_eq!(claim(&db).await.holder.attempt, 2);
}

pub async fn a_reconnected_agent_keeps_its_attempt(db: Db) {
    let held = running(&db).await;
    let adopt = |agent_id, attempt, session_id| Change::Adopt {
        job_id: held.job_id,
        attempt,
        agent_id,
        session_id,
        lease: LEASE,
    };
    let session_id = SessionId::new();
    assert_eq!(
        held.change(&db, adopt(AgentId::new(), 1, session_id)).await,
        Applied::Stale
    );
    assert_eq!(
        held.change(&db, adopt(held.agent_id, 2, session_id)).await,
        Applied::Stale
    );
    let adopted = Applied::Adopted {
        report_seq: 1,
        log_seq: 0,
        cancel: false,
    };
    assert_eq!(
        held.change(&db, adopt(held.agent_id, 1, session_id)).await,
        adopted
    );
    assert_eq!(
        held.report(&db, 2, respond(200)).await,
        Applied::Stale,
        "the old session"
    );
    let moved = Held {
        holder: Holder {
            attempt: 1,
            session_id,
        },
        ..held
    };
    assert_eq!(moved.report(&db, 2, respond(200)).await, Applied::Done);
    held.change(&db, Change::Cancel { actor: "me".into() })
        .await;
    let adopted = Applied::Adopted {
        report_seq: 2,
        log_seq: 0,
        cancel: true,
    };
    assert_eq!(
        moved
            .change(&db, adopt(held.agent_id, 1, SessionId::new()))
            .await,
        adopted
    );
}

pub async fn cancelling_ends_queued_jobs_and_tells_running_ones(db: Db) {
    let waiting = queued(&db).await;
    let cancel = || Change::Cancel { actor: "me".into() };
    assert_eq!(
        db.submit(waiting.id, cancel()).await.unwrap(),
        Applied::Done
    );
    assert_eq!(
        db.submit(waiting.id, cancel()).await.unwrap(),
        Applied::Duplicate
    );
    let end = db.run(waiting.id).await.unwrap().unwrap().run.end.unwrap();
    assert_eq!(
        (end.outcome, end.reason.as_str()),
        (Outcome::Aborted, "user")
    );
    let held = running(&db).await;
    held.change(&db, cancel()).await;
    let told = db.cancelled(held.holder.session_id).await.unwrap();
    assert_eq!(told, [(held.run_id, held.job_id, 1)]);
    held.report(&db, 2, finished(Outcome::Aborted, "user", 0))
        .await;
    assert!(
        db.cancelled(held.holder.session_id)
            .await
            .unwrap()
            .is_empty()
    );
    let lost = running(&db).await;
    lost.change(&db, cancel()).await;
    lost.change(&db, adopt_briefly(&lost)).await;
    until_expired(&db).await;
    lost.expire(&db).await;
    let end = db.run(lost.run_id).await.unwrap().unwrap().run.end.unwrap();
    assert_eq!(
        end.outcome,
        Outcome::Aborted,
        "a cancelled job is not tried again"
    );
}

fn adopt_briefly(held: &Held) -> Change {
    Change::Adopt {
        job_id: held.job_id,
        attempt: held.holder.attempt,
        agent_id: held.agent_id,
        session_id: held.holder.session_id,
        lease: SHORT,
    }
}

pub async fn a_renewal_counts_only_for_the_holder(db: Db) {
    let held = running(&db).await;
    held.change(&db, adopt_briefly(&held)).await;
    until_expired(&db).await;
    let mine = (held.job_id, 1);
    let foreign = (JobId::new(), 1);
    let renew =
        async |session, held: Vec<(JobId, i32)>| db.renew(session, held, LEASE).await.unwrap();
    assert!(renew(SessionId::new(), vec![mine]).await.is_empty());
    assert!(
        renew(held.holder.session_id, vec![(held.job_id, 2)])
            .await
            .is_empty()
    );
    assert_eq!(
        renew(held.holder.session_id, vec![mine, foreign]).await,
        [mine]
    );
    assert!(db.expired(10).await.unwrap().is_empty());
    assert_eq!(held.expire(&db).await, Applied::Stale, "renewed meanwhile");
}

pub async fn the_webhook_is_read_only_by_its_holder(db: Db) {
    let held = running(&db).await;
    let read = async |attempt, agent| db.held_receipt(held.job_id, attempt, agent).await.unwrap();
    assert_eq!(
        read(1, held.agent_id).await.unwrap().body.as_ref(),
        b"\x00\xffbody"
    );
    assert!(read(2, held.agent_id).await.is_none());
    assert!(read(1, AgentId::new()).await.is_none());
    held.report(&db, 2, finished(Outcome::Succeeded, "", 0))
        .await;
    assert!(read(1, held.agent_id).await.is_none());
}
