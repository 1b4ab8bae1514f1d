//! What both begin with: a run, a hand-out, the messages of an attempt.

use bytes::Bytes;
use pocketci_server::model::pipeline::Labels;
use pocketci_server::model::run::{
    CancelReason, Cancelled, End, Job, JobState, Lease, LogData, LogPiece, LogStream, Outcome,
    QueueTerms, Reply, ReplyBy, Run, RunState, Trigger, TriggerKind,
};
use pocketci_server::model::transition::{
    Aggregate, Applied, Change, Effects, Holder, Report, apply,
};
use pocketci_server::model::{AgentId, JobId, PipelineId, RevisionId, RunId, SessionId};
use std::time::Duration;
use time::OffsetDateTime;

pub const LEASE: Duration = Duration::from_secs(30);

pub fn start() -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH
}

pub fn aggregate(jobs: usize) -> Aggregate {
    let run_id = RunId::new();
    let job = |number: usize| Job {
        id: JobId::new(),
        run_id,
        name: format!("job-{number}"),
        build: None,
        state: JobState::Queued,
        end: None,
        attempt: 0,
        lost: 0,
        lease: None,
        agent_id: None,
        labels: Labels::new(),
        driver: None,
        terms: QueueTerms::default(),
        hold: None,
        queue_until: None,
        report_seq: 0,
        log_seq: 0,
        queued_at: start(),
        started_at: None,
        finished_at: None,
    };
    Aggregate {
        run: Run {
            id: run_id,
            pipeline_id: PipelineId::new(),
            revision_id: RevisionId::new(),
            state: RunState::Queued,
            end: None,
            trigger: Trigger::new(TriggerKind::Webhook),
            receipt_id: None,
            wants_reply: true,
            replied: false,
            event_seq: 0,
            cancel: None,
            group: None,
            created_at: start(),
            started_at: None,
            finished_at: None,
        },
        jobs: (0..jobs).map(job).collect(),
    }
}

/// What a storage's claim does.
pub fn hand_out(job: &mut Job, agent_id: AgentId, session_id: SessionId, now: OffsetDateTime) {
    job.state = JobState::Assigned;
    job.attempt += 1;
    job.agent_id = Some(agent_id);
    job.lease = Some(Lease {
        agent_id,
        session_id,
        until: now + LEASE,
    });
}

/// A run whose first job is handed out, and its holder.
pub fn handed_out() -> (Aggregate, Holder) {
    let mut aggregate = aggregate(1);
    let session_id = SessionId::new();
    hand_out(&mut aggregate.jobs[0], AgentId::new(), session_id, start());
    let holder = Holder {
        attempt: 1,
        session_id,
    };
    (aggregate, holder)
}

pub fn change(
    aggregate: &mut Aggregate,
    change: Change,
    now: OffsetDateTime,
) -> (Applied, Effects) {
    let mut effects = Effects::default();
    let applied = apply(aggregate, change, now, &mut effects);
    (applied, effects)
}

pub fn report(aggregate: &Aggregate, holder: Holder, seq: i32, report: Report) -> Change {
    Change::Report {
        job_id: aggregate.jobs[0].id,
        holder,
        seq,
        report,
    }
}

pub fn accepted() -> Report {
    Report::Accepted {
        agent_name: "ann".into(),
        lease: LEASE,
    }
}

pub fn end(outcome: Outcome, reason: &str) -> Report {
    Report::Finished {
        end: End {
            outcome,
            reason: reason.into(),
            actor: String::new(),
            message: String::new(),
        },
        final_log_seq: 0,
    }
}

pub fn reply() -> Report {
    Report::Respond(Reply {
        by: ReplyBy::Pipeline,
        status: 200,
        headers: vec![],
        body: Bytes::new(),
    })
}

pub fn pieces(first: i64, count: i64) -> Vec<(i64, LogPiece)> {
    let piece = |seq| LogPiece {
        step: 0,
        stream: LogStream::Stdout,
        offset: seq,
        data: LogData::Raw(Bytes::from_static(b"x")),
    };
    (first..first + count)
        .map(|seq| (seq, piece(seq)))
        .collect()
}

/// Somebody asks to stop a run.
pub fn cancel_by(actor: &str) -> Change {
    Change::Cancel(Cancelled {
        actor: actor.into(),
        reason: CancelReason::User,
    })
}
