//! One job from Assign to Finished.
//!
//! Order of the end: the engine returns, so every step has ended and is cleaned up; the log is acknowledged to its
//! last chunk; Finished is reported, last of all; the slot is free when that is acknowledged.

mod backend;
mod capture;
mod execute;
mod files;
pub(crate) mod gate;
mod holdings;
mod host;
mod journal;
mod labels;
mod logged;
mod numbers;
mod output;
mod reports;
pub(crate) mod secrets;
mod steps;
mod workshop;

pub use backend::{Archive, Backend, GateState, NewPipeline, Pieces, PipelineSet};
pub(crate) use execute::time_limit;
pub(crate) use labels::{SERVER_LABEL, labels};
pub(crate) use logged::{Began, Logged, StepEnd};
pub(crate) use numbers::Numbers;
pub use reports::{Outlet, ReplyUpload, Reports};
pub(crate) use steps::told;
pub use workshop::Workshop;

use crate::container::Groups;
use crate::js::Program;
use crate::log::redact::Redactor;
use crate::log::{AttemptLog, Source};
use crate::state::{AttemptFile, BegunStep, Saved};
use crate::webhook_body::WebhookBody;
use bytes::Bytes;
use pb::report::Kind;
use pocketci_proto::agent as pb;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Why a job was told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// A user wants it.
    User,
    /// This agent is going down; another one may try again.
    AgentStopped,
    /// The job took longer than this agent allows.
    TimedOut,
    /// The job took longer than its pipeline allows.
    PipelineTimedOut,
    /// This agent's earlier process began something that nothing is left of: only another attempt may do it again.
    Interrupted,
}

/// One attempt that this agent holds.
pub struct Attempt {
    /// Its identity in every message.
    pub reference: pb::AttemptRef,
    /// What it tells, until acknowledged.
    pub reports: Reports,
    /// What it prints, until acknowledged.
    pub log: Arc<AttemptLog>,
    /// What must not be seen in either.
    pub redactor: Arc<Redactor>,
    steps: AtomicU32,
    /// Another process of this agent began it.
    resumed: bool,
    /// What that process had begun, by call.
    begun: Mutex<BTreeMap<u32, BegunStep>>,
    /// Highest report that was stored when this process took over.
    reported: u32,
    /// What the next process will know.
    file: Option<Arc<AttemptFile>>,
    /// Bytes of output that may still be kept.
    output_left: AtomicU64,
    /// Whether the log says that it is full.
    told_full: AtomicBool,
    /// Graceful: the pipeline stops, steps get their grace, the end is reported.
    stop: CancellationToken,
    stop_reason: Mutex<Option<StopReason>>,
    /// The attempt is no longer ours: everything ends at once, nothing is reported.
    lost: CancellationToken,
    /// Its work has ended; what is left is to tell the server.
    worked: AtomicBool,
    lease: Mutex<Instant>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Attempt {
    /// A new attempt whose lease (until it is accepted) runs `accept_within` from now.
    pub fn new(
        reference: pb::AttemptRef,
        reports: Reports,
        log: Arc<AttemptLog>,
        accept_within: Duration,
        max_output_bytes: u64,
    ) -> Self {
        Self {
            reference,
            reports,
            log,
            redactor: Arc::default(),
            steps: AtomicU32::new(0),
            resumed: false,
            begun: Mutex::default(),
            reported: 0,
            file: None,
            output_left: AtomicU64::new(max_output_bytes),
            told_full: AtomicBool::new(false),
            stop: CancellationToken::new(),
            stop_reason: Mutex::new(None),
            lost: CancellationToken::new(),
            worked: AtomicBool::new(false),
            lease: Mutex::new(Instant::now() + accept_within),
        }
    }

    /// Remembers on disk what the next process of this agent must know.
    pub(crate) fn kept_in(mut self, file: AttemptFile) -> Self {
        self.file = Some(Arc::new(file));
        self
    }

    /// Another process of this agent began it; reports up to `reported` are stored.
    pub(crate) fn resumed(mut self, saved: &Saved, reported: u32) -> Self {
        self.resumed = true;
        self.reported = reported;
        self.count_steps_from(saved.last_step);
        self.begun = Mutex::new(saved.steps.clone());
        self.file = Some(saved.file.clone());
        self
    }

    /// What an earlier process had begun for this call; asked once.
    fn begun(&self, call: u32) -> Option<BegunStep> {
        lock(&self.begun).remove(&call)
    }

    /// Remembers process groups, if anything does.
    pub(crate) fn groups(&self) -> Option<Arc<dyn Groups>> {
        let file = self.file.clone()?;
        Some(file)
    }

    /// Nothing of this attempt needs to be remembered any more.
    pub(crate) fn forget_file(&self) {
        if let Some(file) = &self.file {
            file.remove();
        }
    }

    /// Asks the job to stop gracefully; the first reason counts.
    pub fn stop(&self, reason: StopReason) {
        lock(&self.stop_reason).get_or_insert(reason);
        self.stop.cancel();
    }

    /// Whether it was asked to stop.
    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    async fn stopping(&self) {
        self.stop.cancelled().await;
    }

    /// Whether it was asked to stop because this agent is going down.
    pub(crate) fn is_handed_back(&self) -> bool {
        *lock(&self.stop_reason) == Some(StopReason::AgentStopped)
    }

    pub(crate) async fn lost(&self) {
        self.lost.cancelled().await;
    }

    pub(crate) fn stop_token(&self) -> &CancellationToken {
        &self.stop
    }

    /// Numbers steps, from 1.
    fn next_step(&self) -> u32 {
        self.steps.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Steps up to this number are known: from the journal, an earlier process's file, or the log.
    pub(crate) fn count_steps_from(&self, last: u32) {
        self.steps.fetch_max(last, Ordering::Relaxed);
    }

    /// Tells a fact about the run.
    pub(crate) fn note(&self, kind: pb::noted::Kind) {
        self.reports
            .add(Kind::Noted(pb::Noted { kind: Some(kind) }));
    }

    /// Prints output, up to the limit of the job; what is beyond it is read and not kept.
    async fn print(&self, source: Source, mut bytes: Bytes) {
        let size = bytes.len() as u64;
        let before = self
            .output_left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                Some(left.saturating_sub(size))
            })
            .unwrap_or_default();
        if before >= size {
            return self.log.append(source, bytes).await;
        }
        if before > 0 {
            bytes.truncate(usize::try_from(before).unwrap_or(usize::MAX));
            self.log.append(source, bytes).await;
        }
        // Also when the piece before this one ended exactly at the limit.
        if !self.told_full.swap(true, Ordering::Relaxed) {
            let said = "\nthe job printed more than its log may hold; what follows is not kept. The agent's operator may \
                        raise --max-output\n";
            self.log
                .append(SYSTEM, Bytes::from_static(said.as_bytes()))
                .await;
        }
    }

    /// The attempt is no longer ours.
    pub fn lose(&self) {
        self.lost.cancel();
        self.stop.cancel();
        self.log.close();
        self.reports.close();
    }

    /// Its work has ended.
    pub fn end_work(&self) {
        self.worked.store(true, Ordering::SeqCst);
    }

    /// Whether [`Attempt::end_work`] was called.
    pub fn has_worked(&self) -> bool {
        self.worked.load(Ordering::SeqCst)
    }

    /// Whether [`Attempt::lose`] was called.
    pub fn is_lost(&self) -> bool {
        self.lost.is_cancelled()
    }

    /// The server holds the lease at least until `until` (this machine's monotonic clock). A lease that has run out stays
    /// so: another agent may have the job.
    pub fn extend_lease(&self, until: Instant) {
        let mut lease = lock(&self.lease);
        if Instant::now() < *lease {
            *lease = (*lease).max(until);
        }
    }

    /// When the server may give the job to another agent.
    pub fn lease_until(&self) -> Instant {
        *lock(&self.lease)
    }

    pub(crate) fn end_of_abort(&self) -> pb::Finished {
        match *lock(&self.stop_reason) {
            Some(StopReason::AgentStopped) => {
                finished("errored", "agent_stopped", "the agent was stopped")
            }
            Some(StopReason::TimedOut) => finished(
                "errored",
                "timed_out",
                "the job ran longer than this agent allows; make it shorter, or have the agent's operator raise --job-timeout",
            ),
            Some(StopReason::PipelineTimedOut) => finished(
                "errored",
                "timed_out",
                "the job ran longer than its pipeline allows (timeout_seconds, set-pipeline --timeout)",
            ),
            Some(StopReason::Interrupted) => finished(
                "errored",
                "agent_lost",
                "its agent was restarted while a step ran, and nothing was left of the step",
            ),
            Some(StopReason::User) | None => finished("aborted", "user", "stopped"),
        }
    }
}

pub(crate) fn finished(outcome: &str, reason: &str, message: impl Into<String>) -> pb::Finished {
    pb::Finished {
        outcome: outcome.to_owned(),
        reason: reason.to_owned(),
        message: message.into(),
        final_log_seq: 0,
    }
}

/// What an attempt works on, once fetched.
pub struct Work {
    /// As assigned.
    pub assign: pb::Assign,
    /// The program.
    pub program: Arc<Program>,
    /// The webhook's body.
    pub body: WebhookBody,
}

/// Carries out a job whose Accepted is reported already; `fetch` gets program and body. Returns when Finished is
/// reported, or the attempt is lost.
pub async fn carry_out(
    workshop: Arc<Workshop>,
    attempt: Arc<Attempt>,
    backend: Arc<dyn Backend>,
    fetch: impl Future<Output = Result<Work, String>>,
) {
    let fetched = tokio::select! {
        fetched = fetch => fetched,
        () = attempt.stop.cancelled() => Err(String::new()),
    };
    let mut end = match fetched {
        Ok(work) => execute::execute(&workshop, &attempt, backend, work).await,
        Err(_) if attempt.stop.is_cancelled() => attempt.end_of_abort(),
        Err(message) => finished("errored", "fetch_failed", message),
    };
    if attempt.resumed {
        // What the earlier process had begun, and the program did not come back to.
        execute::remove_of(&workshop, &attempt, None).await;
    }
    tokio::select! {
        seq = attempt.log.flushed() => end.final_log_seq = seq,
        () = attempt.lost.cancelled() => return,
    }
    attempt.reports.add(Kind::Finished(end));
}

/// PocketCI's own words about the job.
pub(crate) const SYSTEM: Source = Source {
    step: 0,
    stream: pb::log_chunk::Stream::System,
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Buffers;
    use tokio::sync::mpsc;

    fn attempt(lease: Duration, max_output_bytes: u64) -> Attempt {
        let (ready, _) = mpsc::unbounded_channel();
        let buffers = Arc::new(Buffers::in_memory());
        let log = Arc::new(AttemptLog::new(pb::AttemptRef::default(), buffers, ready));
        let reference = pb::AttemptRef::default();
        let reports = Reports::new(reference.clone(), None);
        Attempt::new(reference, reports, log, lease, max_output_bytes)
    }

    #[tokio::test]
    async fn a_log_that_is_full_to_the_byte_still_says_that_more_came() {
        let attempt = attempt(Duration::from_secs(60), 4);
        for text in ["ab", "cd"] {
            attempt.print(SYSTEM, text.into()).await;
        }
        assert_eq!(printed(&attempt).await, "abcd");
        for text in ["e", "f"] {
            attempt.print(SYSTEM, text.into()).await;
        }
        let said = printed(&attempt).await;
        assert_eq!(said.matches("--max-output").count(), 1, "{said}");
        assert!(said.starts_with("\nthe job printed more"), "{said}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_has_run_out_is_not_extended() {
        let attempt = attempt(Duration::from_secs(1), u64::MAX);
        attempt.extend_lease(Instant::now() + Duration::from_secs(3));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(Instant::now() < attempt.lease_until());
        tokio::time::advance(Duration::from_secs(1)).await;
        attempt.extend_lease(Instant::now() + Duration::from_secs(3));
        assert!(Instant::now() >= attempt.lease_until());
    }

    async fn printed(attempt: &Attempt) -> String {
        attempt.log.flush().await;
        let taken = attempt.log.take(false).await;
        let bytes: Vec<u8> = taken.chunks.iter().flat_map(|c| c.data.to_vec()).collect();
        String::from_utf8(bytes).unwrap()
    }
}
