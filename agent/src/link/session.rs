//! One connection: Session and Logs, until either side ends it.

use super::backoff::Backoff;
use super::calls::Remote;
use super::connection::Connection;
use super::{Agent, fetch, lock, output, terminal};
use crate::attempt::{Attempt, Outlet, ReplyUpload, Reports, StopReason, carry_out};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use pb::agent_message::Kind as ToServer;
use pb::held_verdict::Action;
use pb::report::Kind;
use pb::server_message::Kind as FromServer;
use pocketci_proto::agent as pb;
use pocketci_proto::{PROTOCOL_MAX, PROTOCOL_MIN};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

/// How long the server may take to welcome.
const WELCOME_WITHIN: Duration = Duration::from_secs(10);
/// A server that said nothing for this many ping intervals is taken for dead.
const SILENCE_PINGS: f64 = 2.5;
/// How often the clock of pings and renewals is looked at.
const TICK: Duration = Duration::from_millis(100);
/// A lease is renewed this many times before it runs out.
const RENEWALS_PER_LEASE: u32 = 3;
/// Part of the lease that the agent leaves unused, for its work to stop in: a sixth.
const LEASE_MARGIN: u32 = 6;
/// Renewals whose answer is awaited.
const MAX_RENEWALS: usize = 16;

pub(super) struct Session {
    pub(super) agent: Arc<Agent>,
    connection: Connection,
    pub(super) outlet: Outlet,
    /// The server understands packed chunks and gaps.
    packed_logs: bool,
    lease: Duration,
    /// How long the attempts that were held when connecting are, at least.
    pub(super) held_until: Instant,
    heard: Instant,
    renewals: VecDeque<(u64, Instant)>,
    nonce: u64,
    /// The server goes; when to connect again.
    away: Option<Duration>,
    /// Ends what lives no longer than this connection: terminals.
    gone: CancellationToken,
}

/// Connects and serves until the connection ends; `Ok` if it had been welcomed.
pub(super) async fn serve(
    agent: &Arc<Agent>,
    mut connection: Connection,
    backoff: &mut Backoff,
) -> Result<(), Status> {
    let (to_server, outbound) = mpsc::unbounded_channel();
    let held = agent.attempts();
    // The server's leases begin after this, however late its answer comes.
    let asked = Instant::now();
    send(&to_server, ToServer::Hello(hello(agent, &held)));
    let request = connection.request(UnboundedReceiverStream::new(outbound));
    let opening = async {
        let mut inbound = connection.client.session(request).await?.into_inner();
        let first = inbound.message().await?;
        Ok::<_, Status>((first, inbound))
    };
    let (first, inbound) = tokio::time::timeout(WELCOME_WITHIN, opening)
        .await
        .map_err(|_| Status::deadline_exceeded("no welcome in time"))??;
    let Some(FromServer::Welcome(welcome)) = first.and_then(|message| message.kind) else {
        return Err(Status::internal("the server's first message is no Welcome"));
    };
    backoff.reset();
    tracing::info!(server = %agent.config().server_url, "connected");
    connection.bind(&welcome.session_id)?;
    connection.notes_sends = welcome.notes_sends;
    agent.wire.connect(connection.clone());
    let lease = Duration::from_millis(u64::from(welcome.lease_ms));
    let (uploads, uploading) = mpsc::unbounded_channel();
    let mut session = Session {
        agent: agent.clone(),
        connection,
        outlet: Outlet {
            session: to_server,
            uploads,
        },
        packed_logs: welcome.packed_logs,
        lease,
        held_until: asked + usable(lease),
        heard: Instant::now(),
        renewals: VecDeque::new(),
        nonce: 0,
        away: None,
        gone: CancellationToken::new(),
    };
    session.settle(held, &welcome.held);
    session.restore(&welcome.held);
    let ping_every = Duration::from_millis(u64::from(welcome.ping_every_ms.max(100)));
    let _gone = session.gone.clone().drop_guard();
    let ended = session.run(inbound, uploading, ping_every).await;
    if let Some(wait) = session.away {
        backoff.asked(wait);
    }
    agent.wire.disconnect();
    for attempt in agent.attempts() {
        attempt.reports.disconnect();
    }
    match ended {
        Ok(()) => tracing::info!("connection ended"),
        Err(status) => tracing::warn!(reason = status.message(), "connection lost"),
    }
    Ok(())
}

fn send(to_server: &mpsc::UnboundedSender<pb::AgentMessage>, kind: ToServer) {
    // A closed channel means that the connection has ended, which its reader notices.
    let _ = to_server.send(pb::AgentMessage { kind: Some(kind) });
}

fn hello(agent: &Agent, held: &[Arc<Attempt>]) -> pb::Hello {
    let config = agent.config();
    pb::Hello {
        name: config.name.clone(),
        boot_id: agent.boot_id.to_vec().into(),
        protocol_min: PROTOCOL_MIN,
        protocol_max: PROTOCOL_MAX,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        labels: config.labels.clone().into_iter().collect(),
        slots: config.slots,
        drivers: agent
            .workshop
            .drivers
            .iter()
            .map(|driver| driver.name().as_str().to_owned())
            .collect(),
        held: held
            .iter()
            .map(|attempt| pb::Held {
                r#ref: Some(attempt.reference.clone()),
                restarted: false,
            })
            .chain(lock(&agent.saved).iter().map(|saved| pb::Held {
                r#ref: saved.assign.r#ref.clone(),
                restarted: true,
            }))
            .collect(),
    }
}

/// The part of the lease in which work may go on.
fn usable(lease: Duration) -> Duration {
    lease - lease / LEASE_MARGIN
}

impl Session {
    /// What the server says of the attempts that were held when connecting.
    fn settle(&self, held: Vec<Arc<Attempt>>, verdicts: &[pb::HeldVerdict]) {
        for attempt in held {
            let verdict = verdicts
                .iter()
                .find(|verdict| verdict.r#ref.as_ref() == Some(&attempt.reference));
            match verdict.map(|verdict| (verdict.action(), verdict)) {
                Some((action @ (Action::Continue | Action::Cancel), verdict))
                    if Instant::now() < attempt.lease_until() =>
                {
                    attempt.extend_lease(self.held_until);
                    attempt.log.rewind(verdict.log_seq);
                    attempt
                        .reports
                        .connect(self.outlet.clone(), verdict.report_seq);
                    if action == Action::Cancel {
                        attempt.stop(StopReason::User);
                    }
                    self.forget_if_over(&attempt);
                }
                _ => self.lose(&attempt),
            }
        }
    }

    /// The part of the lease in which work may go on.
    fn usable_lease(&self) -> Duration {
        usable(self.lease)
    }

    fn lose(&self, attempt: &Arc<Attempt>) {
        self.agent.lose(attempt);
    }

    async fn run(
        &mut self,
        mut inbound: Streaming<pb::ServerMessage>,
        mut uploading: mpsc::UnboundedReceiver<ReplyUpload>,
        ping_every: Duration,
    ) -> Result<(), Status> {
        let logs = output::serve(
            self.agent.clone(),
            self.connection.clone(),
            self.packed_logs,
        );
        tokio::pin!(logs);
        let mut uploads = FuturesUnordered::new();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut pinged, mut renewed) = (Instant::now(), Instant::now());
        let drain = self.agent.shutdown.drain.clone();
        let mut draining = false;
        loop {
            tokio::select! {
                message = inbound.message() => match message? {
                    Some(message) => {
                        if self.hear(message)? {
                            return Ok(());
                        }
                    }
                    None => return Err(Status::unavailable("the server ended the session")),
                },
                Some(upload) = uploading.recv() => {
                    uploads.push(fetch::upload(self.connection.clone(), upload));
                }
                Some(uploaded) = uploads.next() => {
                    let (reference, seq) = uploaded?;
                    self.acknowledged(&reference, seq);
                }
                ended = &mut logs => return ended,
                () = drain.cancelled(), if !draining => {
                    draining = true;
                    send(&self.outlet.session, ToServer::Draining(pb::Draining {}));
                }
                _ = tick.tick() => {
                    if self.heard.elapsed() > ping_every.mul_f64(SILENCE_PINGS) {
                        return Err(Status::deadline_exceeded("the server was silent for too long"));
                    }
                    if self.renewal_is_late() {
                        return Err(Status::deadline_exceeded("a renewal was not answered in time"));
                    }
                    if pinged.elapsed() >= ping_every {
                        pinged = Instant::now();
                        self.nonce += 1;
                        send(&self.outlet.session, ToServer::Ping(pb::Ping { nonce: self.nonce }));
                    }
                    if renewed.elapsed() >= self.lease / RENEWALS_PER_LEASE {
                        renewed = Instant::now();
                        self.renew();
                    }
                }
            }
        }
    }

    /// `true` if the server asks to connect again.
    fn hear(&mut self, message: pb::ServerMessage) -> Result<bool, Status> {
        self.heard = Instant::now();
        match message.kind {
            Some(FromServer::Assign(assign)) => self.assign(assign),
            Some(FromServer::ReportAck(ack)) => {
                if let Some(reference) = &ack.r#ref {
                    self.acknowledged(reference, ack.seq);
                }
            }
            Some(FromServer::LeaseLost(lost)) => {
                if let Some(attempt) = lost
                    .r#ref
                    .as_ref()
                    .and_then(|reference| self.agent.attempt(reference))
                {
                    tracing::warn!(job = %hex::encode(&attempt.reference.job_id), "the job is no longer this agent's");
                    self.lose(&attempt);
                }
            }
            Some(FromServer::Cancel(cancel)) => {
                if let Some(attempt) = cancel
                    .r#ref
                    .as_ref()
                    .and_then(|reference| self.agent.attempt(reference))
                {
                    attempt.stop(StopReason::User);
                }
            }
            Some(FromServer::OpenTerminal(asked)) => {
                let (agent, connection) = (self.agent.clone(), self.connection.clone());
                let serving = terminal::serve(agent, connection, asked, self.gone.clone());
                self.agent.jobs.spawn(serving);
            }
            Some(FromServer::DropKept(dropped)) => {
                let workshop = self.agent.workshop.clone();
                let dropping =
                    async move { workshop.shelf.drop_pipeline(&dropped.pipeline_id).await };
                self.agent.jobs.spawn(dropping);
            }
            Some(FromServer::RenewAck(ack)) => self.renewed(&ack),
            Some(FromServer::Ping(ping)) => {
                send(
                    &self.outlet.session,
                    ToServer::Pong(pb::Pong { nonce: ping.nonce }),
                );
            }
            Some(FromServer::GoAway(told)) => {
                self.away = Some(Duration::from_millis(told.reconnect_after_ms.into()));
                return Ok(true);
            }
            Some(FromServer::Pong(_)) | None => {}
            Some(FromServer::Welcome(_)) => return Err(Status::internal("a second Welcome")),
        }
        Ok(false)
    }

    fn assign(&self, assign: pb::Assign) {
        let Some(reference) = assign.r#ref.clone() else {
            return;
        };
        if self.agent.attempt(&reference).is_some() {
            return; // the same assignment twice
        }
        let reports = Reports::new(reference.clone(), Some(self.outlet.clone()));
        let refusal = self.refusal();
        if let Some(reason) = refusal {
            reports.add(Kind::Rejected(pb::Rejected { reason }));
            return;
        }
        let attempt = Attempt::new(
            reference.clone(),
            reports,
            self.agent.new_log(&reference),
            Duration::from_millis(u64::from(assign.accept_within_ms)),
            self.agent.config().limits.max_output_bytes,
        );
        let attempt = Arc::new(match &self.agent.state {
            Some(state) => attempt.kept_in(state.file(&assign)),
            None => attempt,
        });
        let older = lock(&self.agent.attempts).insert(reference.job_id, attempt.clone());
        if let Some(older) = older {
            // The server hands the job out anew, so the attempt that was held is over.
            older.lose();
        }
        attempt.reports.add(Kind::Accepted(pb::Accepted {}));
        self.work(attempt, assign);
    }

    /// Carries the job out, in a task of its own.
    pub(super) fn work(&self, attempt: Arc<Attempt>, assign: pb::Assign) {
        let agent = self.agent.clone();
        let fetching = fetch::work(agent.clone(), assign);
        self.agent.jobs.spawn(async move {
            let backend = Arc::new(Remote::new(agent.wire.clone(), attempt.reference.clone()));
            let work = carry_out(agent.workshop.clone(), attempt.clone(), backend, fetching);
            if let Err(panic) = std::panic::AssertUnwindSafe(work).catch_unwind().await {
                drop(panic);
                tracing::error!("a job's task panicked");
                attempt.reports.add(Kind::Finished(pb::Finished {
                    outcome: "errored".into(),
                    reason: "internal".into(),
                    message: "internal error of the agent; see its log".into(),
                    final_log_seq: 0,
                }));
            }
            attempt.end_work();
            if attempt.is_lost() || attempt.reports.is_over() {
                agent.forget(&attempt);
            }
        });
    }

    /// Why no job can be taken now.
    fn refusal(&self) -> Option<String> {
        let shutdown = &self.agent.shutdown;
        if shutdown.drain.is_cancelled() || shutdown.now.is_cancelled() {
            return Some("the agent is draining".into());
        }
        let slots = self.agent.config().slots as usize;
        (self.agent.held() >= slots).then(|| format!("all {slots} slots are taken"))
    }

    fn acknowledged(&self, reference: &pb::AttemptRef, seq: u32) {
        let Some(attempt) = self.agent.attempt(reference) else {
            return;
        };
        attempt.reports.acknowledge(seq);
        if let Some(sent) = attempt.reports.accepted_sent() {
            // The server's lease began when it stored Accepted, which was after it was sent.
            attempt.extend_lease(sent + self.usable_lease());
        }
        self.forget_if_over(&attempt);
    }

    fn forget_if_over(&self, attempt: &Arc<Attempt>) {
        if attempt.reports.is_over() {
            self.agent.forget(attempt);
        }
    }

    fn renew(&mut self) {
        let held: Vec<pb::AttemptRef> = self
            .agent
            .attempts()
            .iter()
            .filter(|attempt| !attempt.is_lost())
            .map(|attempt| attempt.reference.clone())
            .collect();
        if held.is_empty() {
            return;
        }
        self.nonce += 1;
        if self.renewals.len() >= MAX_RENEWALS {
            self.renewals.pop_front();
        }
        self.renewals.push_back((self.nonce, Instant::now()));
        let nonce = self.nonce;
        send(
            &self.outlet.session,
            ToServer::Renew(pb::Renew { held, nonce }),
        );
    }

    /// Whether the server is silent where work depends on it. Another connection is tried while the leases still run: the
    /// silence that [`SILENCE_PINGS`] waits for may be longer than they are.
    fn renewal_is_late(&self) -> bool {
        let answer_within = self.lease / RENEWALS_PER_LEASE;
        let oldest = self.renewals.front();
        oldest.is_some_and(|(_, sent)| sent.elapsed() > answer_within)
    }

    /// The leases run from the moment the renewal was sent, not from now.
    fn renewed(&mut self, ack: &pb::RenewAck) {
        let Some(at) = self
            .renewals
            .iter()
            .position(|(nonce, _)| *nonce == ack.nonce)
        else {
            return;
        };
        let Some((_, sent)) = self.renewals.remove(at) else {
            return;
        };
        for reference in &ack.held {
            if let Some(attempt) = self.agent.attempt(reference) {
                attempt.extend_lease(sent + self.usable_lease());
            }
        }
    }
}
