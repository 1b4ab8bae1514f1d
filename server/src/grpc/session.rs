//! The Session stream of one agent: hands out jobs, stores reports, renews leases, passes on cancels.
//!
//! One task owns the session; everything that waits for the store is a future in its select, so a slow commit never
//! holds up pings, and reports of one attempt keep their order because `submit` takes their place at once.

use super::adopt::adopt;
use super::convert::{Ref, assign, attempt_ref, broken, duration_ms, report};
use super::{Link, OUTBOUND_MESSAGES, PING_EVERY, SILENCE_LIMIT, store_status};
use crate::model::agent::Registration;
use crate::model::pipeline::Labels;
use crate::model::transition::{Applied, Change, Report};
use crate::model::{BootId, JobId, RunId, SessionId, TokenId};
use crate::runs::dispatch::{Reservation, SessionEntry};
use crate::store::{AGE_STEP, ClaimRequest, Claimed, Registered, StoreError};
use futures_util::StreamExt;
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::FuturesUnordered;
use pb::agent_message::Kind as FromAgent;
use pb::server_message::Kind as ToAgent;
use pocketci_proto::agent as pb;
use pocketci_proto::api::Driver;
use pocketci_proto::{PROTOCOL_MAX, PROTOCOL_MIN, YAML_LABEL};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

/// Reports being stored at once for one agent; more wait in the stream.
const IN_FLIGHT: usize = 1024;
/// How often a session checks its clock: pings and silence.
const TICK: Duration = Duration::from_secs(5);
/// How often a session that holds jobs looks for cancels without a hint; every hint may be lost.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long an agent that refused a job is offered none: what it refused is another's meanwhile, or comes again.
const REFUSAL_PAUSE: Duration = Duration::from_secs(1);
/// How long a new connection may take to say Hello.
const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// When agents of a stopping server come back: spread over this time.
const GO_AWAY_SPREAD_MS: u64 = 1000;

/// The protocol of which agents know jobs of YAML pipelines.
const YAML_SINCE: u32 = 3;

type Outbound = mpsc::Sender<Result<pb::ServerMessage, Status>>;

/// Reads Hello, registers the agent and starts the session's task.
pub(super) async fn open(
    link: Link,
    token_id: TokenId,
    mut inbound: Streaming<pb::AgentMessage>,
) -> Result<ReceiverStream<Result<pb::ServerMessage, Status>>, Status> {
    let hello = tokio::time::timeout(HELLO_WITHIN, inbound.message())
        .await
        .map_err(|_| broken("no Hello in time"))??;
    let Some(FromAgent::Hello(hello)) = hello.and_then(|message| message.kind) else {
        return Err(broken("the first message must be Hello"));
    };
    let protocol = agree(&hello)?;
    let registration = registration(&hello, token_id, protocol)?;
    let store = link.runs().store().clone();
    let registered = store.register(registration.clone(), SILENCE_LIMIT).await;
    let agent_id = match registered.map_err(|error| store_status(&error))? {
        Registered::As(agent_id) => agent_id,
        Registered::NameTaken => {
            return Err(Status::already_exists(format!(
                "an agent named {:?} is connected already; give this one another --name",
                registration.name
            )));
        }
    };
    let (entry, deliveries) = SessionEntry::new(&registration, agent_id);
    let held = adopt(&link, &entry, hello.held).await?;
    let (outbound, stream) = mpsc::channel(OUTBOUND_MESSAGES);
    let welcome = ToAgent::Welcome(pb::Welcome {
        session_id: entry.session_id.to_vec().into(),
        protocol,
        server_version: env!("CARGO_PKG_VERSION").to_owned(),
        lease_ms: duration_ms(link.runs().settings().lease),
        ping_every_ms: duration_ms(PING_EVERY),
        held,
        packed_logs: true,
        notes_sends: true,
    });
    let session = Session {
        link,
        entry,
        outbound,
        reports: FuturesUnordered::new(),
        claim: None,
        heard: Instant::now(),
        looked: Instant::now(),
        offer_at: None,
        nonce: 0,
    };
    session.send(welcome)?;
    // Owned by its stream: the task ends when the agent, the server or the connection does.
    tokio::spawn(session.run(inbound, deliveries));
    Ok(ReceiverStream::new(stream))
}

fn agree(hello: &pb::Hello) -> Result<u32, Status> {
    let newest = hello.protocol_max.min(PROTOCOL_MAX);
    if newest < hello.protocol_min.max(PROTOCOL_MIN) {
        return Err(Status::failed_precondition(format!(
            "the agent speaks protocol {}..={}, this server {PROTOCOL_MIN}..={PROTOCOL_MAX}; upgrade the older side",
            hello.protocol_min, hello.protocol_max
        )));
    }
    Ok(newest)
}

fn registration(
    hello: &pb::Hello,
    token_id: TokenId,
    protocol: u32,
) -> Result<Registration, Status> {
    if hello.name.is_empty() || hello.name.len() > 128 || hello.name.contains(char::is_control) {
        return Err(broken("agent name must have 1 to 128 printable characters"));
    }
    let slots = i32::try_from(hello.slots)
        .ok()
        .filter(|slots| (1..=1024).contains(slots))
        .ok_or_else(|| broken("slots must be 1..=1024"))?;
    let mut labels: Labels = hello.labels.clone().into_iter().collect();
    let (yaml, value) = YAML_LABEL;
    labels.remove(yaml);
    if protocol >= YAML_SINCE {
        labels.insert(yaml.to_owned(), value.to_owned());
    }
    Ok(Registration {
        name: hello.name.clone(),
        boot_id: BootId::from_wire(&hello.boot_id).map_err(|_| broken("boot id"))?,
        succeeds: hello.held.iter().any(|held| held.restarted),
        session_id: SessionId::new(),
        token_id,
        slots,
        labels,
        drivers: hello
            .drivers
            .iter()
            .filter_map(|name| Driver::parse(name))
            .collect(),
        version: hello.version.clone(),
    })
}

/// A report on its way through the store.
struct Stored {
    attempt: Ref,
    seq: u32,
    /// The job has left the agent's hands if this is stored.
    last: bool,
    /// The agent did not take the job.
    refused: bool,
    applied: Result<Applied, StoreError>,
}

type Claim = BoxFuture<'static, (Reservation, Result<Vec<Claimed>, StoreError>)>;

struct Session {
    link: Link,
    entry: Arc<SessionEntry>,
    outbound: Outbound,
    reports: FuturesUnordered<BoxFuture<'static, Stored>>,
    claim: Option<Claim>,
    heard: Instant,
    looked: Instant,
    /// When an agent that refused a job is offered jobs again.
    offer_at: Option<Instant>,
    nonce: u64,
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

impl Session {
    async fn run(
        mut self,
        inbound: Streaming<pb::AgentMessage>,
        deliveries: mpsc::UnboundedReceiver<Claimed>,
    ) {
        let (session_id, name) = (self.entry.session_id, self.entry.agent_name.clone());
        tracing::info!(agent = %name, session = %session_id, "agent connected");
        self.link.runs().dispatch().add(self.entry.clone());
        let ended = self.serve(inbound, deliveries).await;
        self.link.runs().dispatch().remove(session_id);
        match &ended {
            Ok(()) => tracing::info!(agent = %name, "agent disconnected"),
            Err(status) => {
                tracing::info!(agent = %name, reason = status.message(), "agent session ended");
                // A full or closed channel means that nobody reads the reason.
                let _ = self.outbound.try_send(Err(status.clone()));
            }
        }
        if let Err(error) = self.link.runs().store().disconnect(session_id).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot record the end of a session"
            );
        }
    }

    fn send(&self, kind: ToAgent) -> Result<(), Status> {
        self.outbound
            .try_send(Ok(pb::ServerMessage { kind: Some(kind) }))
            .map_err(|_| Status::cancelled("the agent does not read, or has gone"))
    }

    async fn serve(
        &mut self,
        mut inbound: Streaming<pb::AgentMessage>,
        mut deliveries: mpsc::UnboundedReceiver<Claimed>,
    ) -> Result<(), Status> {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut pinged = Instant::now();
        let outbound = self.outbound.clone();
        let shutdown = self.link.inner.shutdown.clone();
        let entry = self.entry.clone();
        loop {
            self.look_for_work();
            tokio::select! {
                message = inbound.message(), if self.reports.len() < IN_FLIGHT => match message? {
                    Some(message) => self.hear(message).await?,
                    None => return Ok(()),
                },
                Some(claimed) = deliveries.recv() => self.assign(claimed)?,
                Some(stored) = self.reports.next() => self.stored(stored)?,
                (reservation, claimed) = wait(&mut self.claim) => self.claimed(reservation, claimed),
                () = entry.poked() => self.poked().await?,
                () = at(self.offer_at) => {
                    self.offer_at = None;
                    entry.offer_again();
                }
                _ = tick.tick() => {
                    if pinged.elapsed() >= PING_EVERY {
                        pinged = Instant::now();
                        self.nonce += 1;
                        self.send(ToAgent::Ping(pb::Ping { nonce: self.nonce }))?;
                    }
                    self.tick().await?;
                }
                () = outbound.closed() => return Ok(()),
                () = shutdown.cancelled() => return self.go_away(),
            }
        }
    }

    fn go_away(&self) -> Result<(), Status> {
        let reconnect_after_ms =
            u32::try_from(rand::random_range(0..GO_AWAY_SPREAD_MS)).unwrap_or(0);
        self.send(ToAgent::GoAway(pb::GoAway { reconnect_after_ms }))
    }

    async fn hear(&mut self, message: pb::AgentMessage) -> Result<(), Status> {
        self.heard = Instant::now();
        match message.kind.ok_or_else(|| broken("empty message"))? {
            FromAgent::Hello(_) => Err(broken("a second Hello")),
            FromAgent::Report(wire) => self.report(wire),
            FromAgent::Renew(renew) => self.renew(renew).await,
            FromAgent::Ping(ping) => self.send(ToAgent::Pong(pb::Pong { nonce: ping.nonce })),
            FromAgent::Pong(_) => Ok(()),
            FromAgent::Draining(_) => {
                self.entry.drain();
                Ok(())
            }
        }
    }

    fn report(&mut self, wire: pb::Report) -> Result<(), Status> {
        let attempt = attempt_ref(wire.r#ref)?;
        let lease = self.link.runs().settings().lease;
        let report = report(wire.kind, &self.entry.agent_name, lease)?;
        let refused = matches!(report, Report::Rejected { .. });
        let last = refused || matches!(report, Report::Finished { .. });
        let change = Change::Report {
            job_id: attempt.job_id,
            holder: attempt.holder(self.entry.session_id),
            seq: i32::try_from(wire.seq).map_err(|_| broken("report sequence"))?,
            report,
        };
        let submitted = self.link.runs().store().submit(attempt.run_id, change);
        let seq = wire.seq;
        self.reports.push(
            submitted
                .map(move |applied| Stored {
                    attempt,
                    seq,
                    last,
                    refused,
                    applied,
                })
                .boxed(),
        );
        Ok(())
    }

    fn stored(&mut self, stored: Stored) -> Result<(), Status> {
        let attempt = stored.attempt;
        match stored.applied.map_err(|error| store_status(&error))? {
            Applied::Done | Applied::Duplicate => {
                if stored.refused {
                    self.entry.refused();
                    self.offer_at = Some(Instant::now() + REFUSAL_PAUSE);
                }
                if stored.last {
                    self.entry.release(attempt.job_id);
                    self.slot_is_free();
                }
                self.send(ToAgent::ReportAck(pb::ReportAck {
                    r#ref: Some(attempt.to_wire()),
                    seq: stored.seq,
                }))
            }
            Applied::Stale | Applied::Adopted { .. } => self.lease_lost(attempt),
            Applied::Gap => Err(Status::aborted(
                "reports are missing; connect again and resend",
            )),
        }
    }

    /// Under a global limit a free slot here may be room for a job that another agent waits to take.
    fn slot_is_free(&self) {
        if self.link.runs().settings().max_running.is_some() {
            self.link.runs().store().nudge();
        }
    }

    fn lease_lost(&self, attempt: Ref) -> Result<(), Status> {
        self.entry.release(attempt.job_id);
        self.send(ToAgent::LeaseLost(pb::LeaseLost {
            r#ref: Some(attempt.to_wire()),
        }))
    }

    async fn renew(&mut self, renew: pb::Renew) -> Result<(), Status> {
        let lease = self.link.runs().settings().lease;
        let asked = renew
            .held
            .into_iter()
            .map(|held| attempt_ref(Some(held)))
            .collect::<Result<Vec<_>, _>>()?;
        let wanted = asked
            .iter()
            .map(|held| (held.job_id, held.attempt))
            .collect();
        let renewed = self
            .link
            .runs()
            .store()
            .renew(self.entry.session_id, wanted, lease)
            .await
            .map_err(|error| store_status(&error))?;
        let (kept, lost): (Vec<Ref>, Vec<Ref>) = asked
            .into_iter()
            .partition(|held| renewed.contains(&(held.job_id, held.attempt)));
        for attempt in lost {
            self.lease_lost(attempt)?;
        }
        self.send(ToAgent::RenewAck(pb::RenewAck {
            held: kept.into_iter().map(Ref::to_wire).collect(),
            nonce: renew.nonce,
            lease_ms: duration_ms(lease),
        }))
    }

    fn assign(&mut self, claimed: Claimed) -> Result<(), Status> {
        let settings = self.link.runs().settings();
        let message = assign(
            claimed,
            settings.accept_within,
            settings.lease,
            self.link.inner.reply_within,
        );
        self.outbound
            .try_send(Ok(message))
            .map_err(|_| Status::cancelled("the agent does not read, or has gone"))
    }

    /// Starts a claim if there may be work, a free slot and no claim under way.
    fn look_for_work(&mut self) {
        if !self.entry.should_look() || self.claim.is_some() {
            return;
        }
        let Some(reservation) = self.entry.reserve_free() else {
            return;
        };
        // Before the claim: what is queued during it is looked for again.
        self.entry.set_look(false);
        let request = ClaimRequest {
            agent_id: self.entry.agent_id,
            session_id: self.entry.session_id,
            labels: self.entry.labels.clone(),
            drivers: self.entry.drivers.clone(),
            max: reservation.count() as i64,
            accept_within: self.link.runs().settings().accept_within,
            age_step: AGE_STEP,
            max_running: self.link.runs().settings().max_running,
        };
        let runs = self.link.runs().clone();
        self.claim = Some(
            async move {
                let claimed = runs.claim(request).await;
                (reservation, claimed)
            }
            .boxed(),
        );
    }

    fn claimed(&mut self, mut slots: Reservation, claimed: Result<Vec<Claimed>, StoreError>) {
        match claimed {
            Ok(jobs) => {
                if jobs.len() == slots.count() {
                    self.entry.set_look(true);
                }
                for job in jobs {
                    slots.deliver(job);
                }
            }
            Err(error) => {
                // The tick looks again.
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "cannot claim jobs"
                );
            }
        }
    }

    /// There may be work, which the loop looks for anyway, or something to cancel.
    async fn poked(&mut self) -> Result<(), Status> {
        for told in self.entry.take_told() {
            self.send(told)?;
        }
        if self.entry.take_cancels() {
            self.pass_on_cancels().await?;
        }
        Ok(())
    }

    async fn tick(&mut self) -> Result<(), Status> {
        if self.heard.elapsed() > SILENCE_LIMIT {
            return Err(Status::deadline_exceeded(
                "the agent was silent for too long",
            ));
        }
        if self.looked.elapsed() >= LOOK_EVERY {
            self.looked = Instant::now();
            if self.entry.held() > 0 {
                self.pass_on_cancels().await?;
            }
        }
        Ok(())
    }

    /// A cancel is a fact in the store, told again until the agent has confirmed it by finishing.
    async fn pass_on_cancels(&mut self) -> Result<(), Status> {
        let cancelled: Vec<(RunId, JobId, i32)> = self
            .link
            .runs()
            .store()
            .cancelled(self.entry.session_id)
            .await
            .map_err(|error| store_status(&error))?;
        for (run_id, job_id, attempt) in cancelled {
            let attempt = Ref {
                run_id,
                job_id,
                attempt,
            };
            self.send(ToAgent::Cancel(pb::Cancel {
                r#ref: Some(attempt.to_wire()),
                reason: "user".into(),
            }))?;
        }
        Ok(())
    }
}

/// The running claim's result; waits for ever while there is none.
async fn wait(claim: &mut Option<Claim>) -> (Reservation, Result<Vec<Claimed>, StoreError>) {
    match claim {
        Some(running) => {
            let result = running.await;
            *claim = None;
            result
        }
        None => std::future::pending().await,
    }
}
