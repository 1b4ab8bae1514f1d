//! An approval that a run waits for.

use super::{GateId, JobId, RunId};
use std::time::Duration;
use time::OffsetDateTime;

/// Where a gate stands. Decided ⇔ an actor and a time are set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateStatus {
    /// Nobody has decided.
    Pending,
    /// The run goes on.
    Approved,
    /// The run does not go on.
    Rejected,
    /// Nobody decided in time.
    TimedOut,
}

impl GateStatus {
    /// The word in the database, the API and the agent protocol.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::TimedOut => "timed_out",
        }
    }

    /// Reads what [`Self::as_str`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        [
            Self::Pending,
            Self::Approved,
            Self::Rejected,
            Self::TimedOut,
        ]
        .into_iter()
        .find(|status| status.as_str() == text)
    }
}

/// A gate to open.
#[derive(Debug, Clone)]
pub struct NewGate {
    /// Its id, unless the call has opened one already.
    pub id: GateId,
    /// Of which run.
    pub run_id: RunId,
    /// Of which job.
    pub job_id: JobId,
    /// Numbers the job's gates: the same for the same gate in every attempt.
    pub call: i32,
    /// The author's name for it.
    pub name: String,
    /// For those who decide.
    pub message: String,
    /// How long it stays open.
    pub timeout: Duration,
}

/// A stored gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gate {
    /// Its id.
    pub id: GateId,
    /// Of which run.
    pub run_id: RunId,
    /// The author's name for it.
    pub name: String,
    /// For those who decide.
    pub message: String,
    /// Where it stands.
    pub status: GateStatus,
    /// Who decided; empty while pending.
    pub actor: String,
    /// What they said.
    pub comment: String,
    /// Since when it waits.
    pub opened_at: OffsetDateTime,
    /// Until when it can be decided.
    pub expires_at: OffsetDateTime,
    /// When it was decided.
    pub decided_at: Option<OffsetDateTime>,
}

/// A decision; only the first one counts.
#[derive(Debug, Clone)]
pub struct Decision {
    /// Approved, rejected or timed out; the last only once the gate has expired, the others only before.
    pub status: GateStatus,
    /// Who.
    pub actor: String,
    /// What they said.
    pub comment: String,
}
