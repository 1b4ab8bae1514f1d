//! Runs and jobs: what is stored of an execution.

use super::pipeline::Labels;
use super::settings::DEFAULT_ATTEMPTS;
pub use super::trigger::{CheckTrigger, Trigger, TriggerKind};
use super::{AgentId, JobId, PipelineId, ReceiptId, RevisionId, RunId, SessionId};
use bytes::Bytes;
use pocketci_proto::api::{Driver, LogGap, RunEventKind, RunStatus};
use pocketci_proto::log;
use std::fmt;
use std::time::Duration;
use time::OffsetDateTime;

/// Where a run stands. Finished ⇔ an outcome is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunState {
    /// No agent has accepted any job of it.
    Queued,
    /// Some job was accepted.
    Running,
    /// Over.
    Finished,
}

/// Where a job stands. Assigned or running ⇔ a lease is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobState {
    /// Waits for an agent.
    Queued,
    /// Handed to a session that has not accepted yet.
    Assigned,
    /// Accepted.
    Running,
    /// Over.
    Finished,
}

/// How a run or job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Well.
    Succeeded,
    /// The pipeline's own failure.
    Failed,
    /// PocketCI could not carry it out.
    Errored,
    /// Stopped.
    Aborted,
    /// Nothing to do.
    Skipped,
}

macro_rules! words {
    ($type:ident { $($variant:ident = $word:literal),* $(,)? }) => {
        impl $type {
            /// The word in the database and the agent protocol.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }

            /// Reads what [`Self::as_str`] wrote.
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($word => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

words!(RunState { Queued = "queued", Running = "running", Finished = "finished" });
words!(JobState { Queued = "queued", Assigned = "assigned", Running = "running", Finished = "finished" });
words!(Outcome {
    Succeeded = "succeeded",
    Failed = "failed",
    Errored = "errored",
    Aborted = "aborted",
    Skipped = "skipped",
});

impl Outcome {
    /// In the words of the public API.
    pub fn status(self) -> RunStatus {
        match self {
            Self::Succeeded => RunStatus::Success,
            Self::Failed => RunStatus::Failed,
            Self::Errored => RunStatus::Errored,
            Self::Aborted => RunStatus::Aborted,
            Self::Skipped => RunStatus::Skipped,
        }
    }
}

/// The actor of an end that the server decided.
pub const BY_SERVER: &str = "server";
/// The actor of an end that an agent decided: limits, or that it could not carry the job out.
pub const BY_AGENT: &str = "agent";

/// How, why, through whom and with which words a run or job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// How.
    pub outcome: Outcome,
    /// Why: a stable word (`agent_lost`, `user`, `timed_out`, `limit`…), empty if there is nothing to say.
    pub reason: String,
    /// Who caused it: who stopped it, `run <id>`, [`BY_SERVER`], [`BY_AGENT`]; empty for the pipeline's own end.
    pub actor: String,
    /// For people.
    pub message: String,
}

/// One execution of a pipeline.
#[derive(Debug, Clone)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// Of which pipeline.
    pub pipeline_id: PipelineId,
    /// Which program.
    pub revision_id: RevisionId,
    /// Where it stands.
    pub state: RunState,
    /// Set ⇔ finished.
    pub end: Option<End>,
    /// What started it.
    pub trigger: Trigger,
    /// The stored request that started it.
    pub receipt_id: Option<ReceiptId>,
    /// Whether somebody waited for a reply when it was stored.
    pub wants_reply: bool,
    /// Whether its one reply (the pipeline's, or the server's 202) is stored.
    pub replied: bool,
    /// Number of the last event stored; events have no holes.
    pub event_seq: i64,
    /// Who asked to stop it, and why.
    pub cancel: Option<Cancelled>,
    /// The concurrency group it was put in.
    pub group: Option<String>,
    /// Stored.
    pub created_at: OffsetDateTime,
    /// First accepted by an agent.
    pub started_at: Option<OffsetDateTime>,
    /// Ended.
    pub finished_at: Option<OffsetDateTime>,
}

/// A wish to stop a run: a fact that stays until every job has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cancelled {
    /// Who wants it.
    pub actor: String,
    /// Why.
    pub reason: CancelReason,
}

/// See [`Cancelled`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelReason {
    /// Somebody asked.
    User,
    /// A newer run of its concurrency group takes its place.
    Superseded,
}

words!(CancelReason { User = "user", Superseded = "superseded" });

/// Why a queued job may not be handed out yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// Its concurrency group is full, or was not looked at yet.
    Group,
    /// Its pipeline is paused.
    Paused,
    /// The jobs before it are not over, its inputs are not determined, or its place among running ones is taken.
    Inputs,
}

words!(Hold { Group = "group", Paused = "paused", Inputs = "inputs" });

/// How a job waits and is tried again; decided when its run is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueTerms {
    /// Higher ones are handed out first.
    pub priority: i32,
    /// How long it may be queued.
    pub timeout: Option<Duration>,
    /// Attempts at most.
    pub attempts: i32,
}

impl Default for QueueTerms {
    fn default() -> Self {
        Self {
            priority: 0,
            timeout: None,
            attempts: DEFAULT_ATTEMPTS,
        }
    }
}

/// Who holds a job, until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The agent.
    pub agent_id: AgentId,
    /// Its connection.
    pub session_id: SessionId,
    /// After this instant (store's clock) the job may be taken away.
    pub until: OffsetDateTime,
}

/// The number of a build, within the jobs of one name of its pipeline: `3`, or `3.1` for the first rerun of 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BuildNumber {
    /// From 1; a rerun has the number of the build it repeats.
    pub number: i32,
    /// From 1 for reruns, else 0.
    pub rerun: i32,
    /// The build it repeats, never a rerun itself; set ⇔ `rerun` > 0.
    pub rerun_of: Option<JobId>,
}

impl fmt::Display for BuildNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rerun {
            0 => write!(f, "{}", self.number),
            rerun => write!(f, "{}.{rerun}", self.number),
        }
    }
}

/// One job of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// Of which run.
    pub run_id: RunId,
    /// `pipeline` for a JavaScript pipeline.
    pub name: String,
    /// Its number, if it is a build of a YAML pipeline's job.
    pub build: Option<BuildNumber>,
    /// Where it stands.
    pub state: JobState,
    /// Set ⇔ finished.
    pub end: Option<End>,
    /// Fencing token: number of the current or last hand-out, 0 before the first.
    pub attempt: i32,
    /// Accepted attempts that were lost.
    pub lost: i32,
    /// Set ⇔ assigned or running.
    pub lease: Option<Lease>,
    /// The agent that has it or had it last.
    pub agent_id: Option<AgentId>,
    /// Labels that an agent must have.
    pub labels: Labels,
    /// Driver that the agent must offer.
    pub driver: Option<Driver>,
    /// How it waits.
    pub terms: QueueTerms,
    /// Set: queued, but not to be handed out yet.
    pub hold: Option<Hold>,
    /// When waiting becomes an error; set while queued, if `terms.timeout` is.
    pub queue_until: Option<OffsetDateTime>,
    /// Highest stored report of the current attempt.
    pub report_seq: i32,
    /// Highest stored log chunk of the current attempt.
    pub log_seq: i64,
    /// When it last became queued.
    pub queued_at: OffsetDateTime,
    /// When the current attempt was accepted.
    pub started_at: Option<OffsetDateTime>,
    /// Ended.
    pub finished_at: Option<OffsetDateTime>,
}

/// Who answered the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyBy {
    /// `http.respond`.
    Pipeline,
    /// The server's 202.
    Server,
}

words!(ReplyBy { Pipeline = "pipeline", Server = "server" });

/// The one answer to a run's caller. The body may be secret: no Debug.
#[derive(Clone, PartialEq, Eq)]
pub struct Reply {
    /// Whose.
    pub by: ReplyBy,
    /// HTTP status, 200..=599.
    pub status: u16,
    /// In order.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

/// A header value as it goes over the wire: each character is the byte with its number (latin-1, as in JavaScript's
/// fetch); `None` if there is no such byte or HTTP forbids it.
pub fn header_value(text: &str) -> Option<http::HeaderValue> {
    let bytes: Option<Vec<u8>> = text
        .chars()
        .map(|c| u8::try_from(u32::from(c)).ok())
        .collect();
    http::HeaderValue::from_bytes(&bytes?).ok()
}

/// One entry of a run's ordered event log, as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Position in the run, from 1, without holes.
    pub seq: i64,
    /// Stored (store's clock).
    pub at: OffsetDateTime,
    /// The job, where it is about one.
    pub job_id: Option<JobId>,
    /// Its attempt.
    pub attempt: Option<i32>,
    /// What happened.
    pub body: EventBody,
}

/// Facts are small JSON; log output stays bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventBody {
    /// Anything but output.
    Fact(RunEventKind),
    /// Output.
    Log(LogPiece),
}

/// Where output came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LogStream {
    /// Standard output, `console.log`.
    Stdout,
    /// Standard error, `console.error`.
    Stderr,
    /// PocketCI's own words.
    System,
}

words!(LogStream { Stdout = "stdout", Stderr = "stderr", System = "system" });

/// A piece of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPiece {
    /// 0 is the job itself.
    pub step: i32,
    /// Where it came from.
    pub stream: LogStream,
    /// Of the first byte in this step's stream.
    pub offset: i64,
    /// What is there of it.
    pub data: LogData,
}

/// See [`LogPiece`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogData {
    /// The output, 1..=64 KiB.
    Raw(Bytes),
    /// A frame of [`pocketci_proto::log::pack`].
    Packed {
        /// As it came.
        frame: Bytes,
        /// Bytes of output in it, 1..=64 KiB.
        size: i64,
    },
    /// Output that is lost.
    Gap {
        /// How much, at least 1.
        bytes: i64,
        /// A stable word: `spool_full`, `spool_failed`, `limit`.
        reason: String,
    },
}

impl LogPiece {
    /// Bytes of output that it stands for.
    pub fn size(&self) -> i64 {
        match &self.data {
            LogData::Raw(bytes) => i64::try_from(bytes.len()).unwrap_or(i64::MAX),
            LogData::Packed { size, .. } => *size,
            LogData::Gap { bytes, .. } => *bytes,
        }
    }

    /// What watchers see: the output, or a line about the gap and the gap. A frame that cannot be read (it was checked
    /// when it came) is a gap as well.
    pub fn shown(&self) -> (Bytes, Option<LogGap>) {
        let gap = match &self.data {
            LogData::Raw(bytes) => return (bytes.clone(), None),
            LogData::Packed { frame, size } => {
                match log::unpack(frame, u64::try_from(*size).unwrap_or(0)) {
                    Ok(bytes) => return (bytes.into(), None),
                    Err(error) => {
                        tracing::error!(%error, "stored output cannot be read");
                        LogGap {
                            bytes: *size,
                            reason: "unreadable".into(),
                        }
                    }
                }
            }
            LogData::Gap { bytes, reason } => LogGap {
                bytes: *bytes,
                reason: reason.clone(),
            },
        };
        let line = log::gap_line(u64::try_from(gap.bytes).unwrap_or(0), &gap.reason);
        (line.into(), Some(gap))
    }
}
