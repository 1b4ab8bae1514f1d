//! What happens in a run, as watchers see it.

use super::RunStatus;
use crate::ids::GateId;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

/// One entry of a run's ordered event log; also the `data:` of an SSE message.
///
/// `seq` is the SSE id: it grows by one from 1 and is stable, so `Last-Event-ID` resumes on any server.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RunEvent {
    /// Position in the run, from 1.
    pub seq: i64,
    /// When the server stored it.
    #[serde(with = "time::serde::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub at: OffsetDateTime,
    /// The job, where it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// Its attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<i32>,
    /// What happened.
    #[serde(flatten)]
    pub kind: RunEventKind,
}

/// See [`RunEvent`]. The tag is also the SSE event name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum RunEventKind {
    /// An agent accepted the job.
    Started {
        /// Its name.
        agent: String,
    },
    /// The job went back to the queue.
    Requeued {
        /// Why, for example `agent_lost`.
        reason: String,
    },
    /// The pipeline answered the caller.
    Replied {
        /// HTTP status.
        status: u16,
    },
    /// `http.respond` came after the caller had been answered.
    ReplyIgnored {
        /// HTTP status it wanted.
        status: u16,
    },
    /// A step began.
    StepStarted {
        /// Number in its attempt, from 1.
        step: i32,
        /// The author's name for it.
        name: String,
        /// `run`.
        kind: String,
        /// Container image, may be empty.
        image: String,
    },
    /// A step ended.
    StepFinished {
        /// Number in its attempt.
        step: i32,
        /// `complete`, `abort` or `error`.
        status: String,
        /// Of the process.
        exit_code: i32,
        /// For people.
        message: String,
        /// What it left is kept for so many milliseconds, for terminals.
        #[serde(default, skip_serializing_if = "is_zero")]
        kept_ms: i64,
    },
    /// `event.emit`.
    Emitted {
        /// The author's name for it.
        name: String,
        /// Any JSON value.
        #[schema(value_type = Object)]
        payload: serde_json::Value,
    },
    /// The run waits for an approval.
    GateOpened {
        /// The gate's id.
        gate_id: GateId,
        /// The author's name for it.
        name: String,
        /// For those who decide.
        message: String,
    },
    /// The run waits no longer.
    GateDecided {
        /// The gate's id.
        gate_id: GateId,
        /// The author's name for it.
        name: String,
        /// `approved`, `rejected` or `timed_out`.
        status: String,
        /// Who decided.
        by: String,
    },
    /// Output. Bytes that are not UTF-8 come as `base64` instead of `text`.
    Log {
        /// 0 is the job itself.
        step: i32,
        /// `stdout`, `stderr` or `system`.
        stream: String,
        /// Of the first byte in this step's stream.
        offset: i64,
        /// The output.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        text: Option<String>,
        /// The output, if it is not UTF-8.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        base64: Option<String>,
        /// Set where output is lost: `text` is then a line that says so, and no output.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        gap: Option<LogGap>,
    },
    /// The run is to stop.
    CancelRequested {
        /// Who wants it.
        actor: String,
        /// `user` or `superseded`.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    /// The job ended.
    JobFinished {
        /// Its end.
        status: RunStatus,
        /// Why.
        reason: String,
        /// For people.
        message: String,
    },
    /// The run ended; no event follows.
    RunFinished {
        /// Its end.
        status: RunStatus,
        /// Why.
        reason: String,
        /// For people.
        message: String,
    },
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// Output that is missing for good, from the event's `offset` on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogGap {
    /// How many bytes.
    pub bytes: i64,
    /// `spool_full`, `spool_failed` or `limit`.
    pub reason: String,
}
