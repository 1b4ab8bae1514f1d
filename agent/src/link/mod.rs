//! The agent's life: connect, serve, connect again; drain when told to.
//!
//! The truth about attempts is on the server; this side holds what it works on and stops its own work before the
//! server's lease can run out, so that a job is never worked on twice.

mod archives;
mod backoff;
mod calls;
mod connection;
mod fetch;
mod output;
mod resume;
mod session;
mod terminal;
mod wire;

use crate::attempt::{Attempt, StopReason, Workshop};
use crate::config::AgentConfig;
use crate::container::Driver;
use crate::js::Program;
use crate::log::{AttemptLog, Buffers, Source};
use crate::state::{Saved, StateDir};
use backoff::Backoff;
use bytes::Bytes;
use connection::Connection;
use pocketci_proto::agent as pb;
use pocketci_proto::ids::BootId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use terminal::MAX_TERMINALS;
use tokio::sync::{Notify, OnceCell, Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Code;
use wire::Wire;

/// How often leases are looked at.
const LEASE_CHECK_EVERY: Duration = Duration::from_millis(100);
/// How long the last reports may take when the agent is told to leave now.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);
/// Programs kept; when full, all are forgotten and fetched again.
const MAX_PROGRAMS: usize = 64;

/// Why an agent gave up.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The configuration cannot work.
    #[error("{0}")]
    Config(String),
    /// The server refuses for good.
    #[error("the server at {server} refuses this agent: {message}")]
    Refused {
        /// Where.
        server: String,
        /// The server's words.
        message: String,
    },
}

/// How an agent is told to stop.
#[derive(Clone, Default)]
pub struct Shutdown {
    /// Take nothing more, finish what is held, leave.
    pub drain: CancellationToken,
    /// Stop what is held and leave.
    pub now: CancellationToken,
}

/// Runs an agent until it is told to stop, or the server refuses it for good.
pub async fn run(
    config: AgentConfig,
    drivers: Vec<Arc<dyn Driver>>,
    shutdown: Shutdown,
) -> Result<(), AgentError> {
    let state = match &config.state_dir {
        Some(path) => {
            let opened = StateDir::open(path);
            Some(opened.map_err(|error| AgentError::Config(error.to_string()))?)
        }
        None => None,
    };
    let agent = Arc::new(Agent::new(config, drivers, shutdown, state));
    let leases = tokio::spawn(watch_leases(agent.clone()));
    let reaping = tokio::spawn({
        let workshop = agent.workshop.clone();
        async move { workshop.shelf.reap().await }
    });
    let ended = connect_for_ever(&agent).await;
    leases.abort();
    reaping.abort();
    // Work that is still held has no link any more; its processes must not outlive the agent.
    for attempt in agent.attempts() {
        attempt.lose();
    }
    agent.jobs.close();
    let _ = tokio::time::timeout(LEAVE_WITHIN, agent.jobs.wait()).await;
    if agent.state.is_none() {
        // No next process is this agent again.
        let clearing = agent.workshop.shelf.clear();
        let _ = tokio::time::timeout(LEAVE_WITHIN, clearing).await;
    }
    ended
}

/// What the parts of the link share.
struct Agent {
    boot_id: BootId,
    workshop: Arc<Workshop>,
    attempts: Mutex<HashMap<Bytes, Arc<Attempt>>>,
    programs: Mutex<HashMap<Bytes, Arc<OnceCell<Arc<Program>>>>>,
    /// Where output waits for its acknowledgement.
    buffers: Arc<Buffers>,
    /// Attempts whose log has something to send, for the current connection.
    log_ready: mpsc::UnboundedSender<pb::AttemptRef>,
    log_waiting: Mutex<Option<mpsc::UnboundedReceiver<pb::AttemptRef>>>,
    /// The connection that jobs' calls go over.
    wire: Arc<Wire>,
    /// Told when an attempt has left.
    freed: Notify,
    jobs: TaskTracker,
    /// Places for terminals.
    terminals: Arc<Semaphore>,
    shutdown: Shutdown,
    /// Where what is held is remembered.
    state: Option<StateDir>,
    /// What an earlier process of this agent held, until the server has said what becomes of it.
    saved: Mutex<Vec<Arc<Saved>>>,
    /// What earlier processes left behind was removed.
    swept: Mutex<bool>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Agent {
    fn new(
        config: AgentConfig,
        drivers: Vec<Arc<dyn Driver>>,
        shutdown: Shutdown,
        state: Option<StateDir>,
    ) -> Self {
        let saved = state.as_ref().map(StateDir::saved).unwrap_or_default();
        let (log_ready, log_waiting) = mpsc::unbounded_channel();
        let buffers = Arc::new(Buffers::new(&config.spool));
        Self {
            boot_id: BootId::new(),
            workshop: Arc::new(Workshop::new(config, drivers)),
            wire: Arc::default(),
            attempts: Mutex::default(),
            programs: Mutex::default(),
            buffers,
            log_ready,
            log_waiting: Mutex::new(Some(log_waiting)),
            freed: Notify::new(),
            jobs: TaskTracker::new(),
            terminals: Arc::new(Semaphore::new(MAX_TERMINALS)),
            shutdown,
            state,
            saved: Mutex::new(saved.into_iter().map(Arc::new).collect()),
            swept: Mutex::new(false),
        }
    }

    fn config(&self) -> &AgentConfig {
        &self.workshop.config
    }

    fn attempts(&self) -> Vec<Arc<Attempt>> {
        lock(&self.attempts).values().cloned().collect()
    }

    /// The attempt with this reference, if it is the one held for its job.
    fn attempt(&self, reference: &pb::AttemptRef) -> Option<Arc<Attempt>> {
        lock(&self.attempts)
            .get(&reference.job_id)
            .filter(|held| held.reference.attempt == reference.attempt)
            .cloned()
    }

    fn held(&self) -> usize {
        lock(&self.attempts).len()
    }

    fn new_log(&self, reference: &pb::AttemptRef) -> Arc<AttemptLog> {
        let (buffers, ready) = (self.buffers.clone(), self.log_ready.clone());
        Arc::new(AttemptLog::new(reference.clone(), buffers, ready))
    }

    /// The log of an attempt that an earlier process began.
    fn resumed_log(
        &self,
        reference: &pb::AttemptRef,
        verdict: &pb::HeldVerdict,
    ) -> Arc<AttemptLog> {
        let log = self.new_log(reference);
        let ends = verdict.log_ends.iter().map(|end| {
            let source = Source {
                step: end.step,
                stream: end.stream(),
            };
            (source, end.offset)
        });
        log.resume(verdict.log_seq, ends);
        log
    }

    /// The attempt is no longer ours. Its slot is free once its work has ended: at once if that is so already (only its
    /// last report was under way), else when the job's task sees it.
    fn lose(&self, attempt: &Arc<Attempt>) {
        attempt.lose();
        if attempt.has_worked() {
            self.forget(attempt);
        }
    }

    /// Forgets an attempt that has nothing more to tell.
    fn forget(&self, attempt: &Arc<Attempt>) {
        let mut attempts = lock(&self.attempts);
        let held = attempts.get(&attempt.reference.job_id);
        if held.is_some_and(|held| Arc::ptr_eq(held, attempt)) {
            attempts.remove(&attempt.reference.job_id);
        }
        drop(attempts);
        attempt.forget_file();
        self.freed.notify_waiters();
    }

    /// The cell of a program; whoever comes first fetches.
    fn program(&self, revision_id: &Bytes) -> Arc<OnceCell<Arc<Program>>> {
        let mut programs = lock(&self.programs);
        if programs.len() >= MAX_PROGRAMS && !programs.contains_key(revision_id) {
            programs.clear();
        }
        programs.entry(revision_id.clone()).or_default().clone()
    }
}

/// Stops work whose lease was not renewed, before the server can give it to somebody else.
async fn watch_leases(agent: Arc<Agent>) {
    let mut tick = tokio::time::interval(LEASE_CHECK_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let now = Instant::now();
        for attempt in agent.attempts() {
            if !attempt.is_lost() && now >= attempt.lease_until() {
                tracing::warn!(
                    job = %hex::encode(&attempt.reference.job_id),
                    "the lease was not renewed in time; stopping the job here, as another agent may get it"
                );
                agent.lose(&attempt);
            }
        }
    }
}

async fn connect_for_ever(agent: &Arc<Agent>) -> Result<(), AgentError> {
    let mut backoff = Backoff::default();
    let mut complained = false;
    let leaving = leave(agent);
    tokio::pin!(leaving);
    loop {
        // A channel of its own: one that a silent network swallowed would stay half open and take the next session too.
        let channel = connection::channel(agent.config())?;
        let connection = Connection::new(channel, agent.config())?;
        let served = tokio::select! {
            served = session::serve(agent, connection, &mut backoff) => served,
            () = &mut leaving => return Ok(()),
        };
        let server = &agent.config().server_url;
        match served {
            Ok(()) => complained = false,
            Err(status) if is_final(&status) => {
                return Err(AgentError::Refused {
                    server: server.clone(),
                    message: status.message().to_owned(),
                });
            }
            Err(status) if complained => {
                tracing::debug!(%server, reason = status.message(), "still no connection")
            }
            Err(status) => {
                complained = true;
                tracing::warn!(%server, reason = status.message(), "no connection to the server; trying again");
            }
        }
        if agent.shutdown.drain.is_cancelled() && agent.held() == 0 {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.next(rand::random())) => {}
            () = &mut leaving => return Ok(()),
        }
    }
}

/// Whether trying again cannot help.
fn is_final(status: &tonic::Status) -> bool {
    match status.code() {
        Code::Unauthenticated | Code::InvalidArgument | Code::Unimplemented => true,
        Code::FailedPrecondition => status.message().contains("protocol"),
        _ => false,
    }
}

/// Returns when the agent is to leave: drained, or told to leave now and everything stopped and told.
async fn leave(agent: &Arc<Agent>) {
    let shutdown = &agent.shutdown;
    tokio::select! {
        () = shutdown.drain.cancelled() => {}
        () = shutdown.now.cancelled() => {}
    }
    let drained = async {
        loop {
            let freed = agent.freed.notified();
            if agent.held() == 0 {
                return;
            }
            freed.await;
        }
    };
    tokio::pin!(drained);
    tokio::select! {
        () = &mut drained => return,
        () = shutdown.now.cancelled() => {}
        () = tokio::time::sleep(agent.config().drain_timeout) => {
            tracing::warn!("held jobs did not end within the drain timeout; stopping them");
        }
    }
    for attempt in agent.attempts() {
        attempt.stop(StopReason::AgentStopped);
    }
    let grace = agent.config().limits.stop_grace + LEAVE_WITHIN;
    let _ = tokio::time::timeout(grace, drained).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attempt::Reports;
    use crate::js::Limits;
    use crate::{AgentConfig, Token};

    pub(super) fn config() -> AgentConfig {
        AgentConfig {
            server_url: "http://127.0.0.1:1".into(),
            token: Token::new("t"),
            name: "a".into(),
            labels: Default::default(),
            slots: 1,
            default_driver: pocketci_proto::api::Driver::Native,
            tls_ca: None,
            allow_privileged: false,
            limits: Limits::default(),
            outside: Default::default(),
            spool: Default::default(),
            drain_timeout: Duration::ZERO,
            keep_failed: Duration::ZERO,
            state_dir: None,
        }
    }

    pub(super) fn agent() -> Agent {
        Agent::new(config(), Vec::new(), Shutdown::default(), None)
    }

    pub(super) fn held(agent: &Agent) -> Arc<Attempt> {
        let reference = pb::AttemptRef {
            job_id: Bytes::from_static(b"job"),
            attempt: 1,
            ..Default::default()
        };
        let attempt = Arc::new(Attempt::new(
            reference.clone(),
            Reports::new(reference.clone(), None),
            agent.new_log(&reference),
            Duration::from_secs(1),
            1,
        ));
        lock(&agent.attempts).insert(reference.job_id, attempt.clone());
        attempt
    }

    /// A server that was killed after it stored the last report, before it acknowledged it, says "not yours" afterwards.
    #[tokio::test]
    async fn a_lost_attempt_whose_work_has_ended_leaves_its_slot() {
        let agent = agent();
        let attempt = held(&agent);
        attempt.end_work();
        agent.lose(&attempt);
        assert_eq!(agent.held(), 0);
    }

    #[tokio::test]
    async fn a_lost_attempt_that_still_works_keeps_its_slot_until_it_has_stopped() {
        let agent = agent();
        let attempt = held(&agent);
        agent.lose(&attempt);
        assert_eq!(agent.held(), 1);
    }
}
