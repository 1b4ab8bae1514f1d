//! Wake-ups across servers: LISTEN/NOTIFY on one channel, after the commit, coalesced.
//!
//! NOTIFY takes an instance-wide lock at commit, so it is never part of a hot transaction, and everything that waits
//! goes into one payload. Its loss is harmless: there is a timer behind every wait, and a reconnect wakes everybody.

use super::super::wake::{Wake, WakeBus};
use super::{connect, pool_error, sql_error};
use crate::model::{PipelineId, RunId, SessionId};
use deadpool_postgres::Pool;
use futures_util::StreamExt;
use futures_util::stream;
use std::collections::HashSet;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_postgres::{AsyncMessage, Client, Config, Connection, NoTls};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const CHANNEL: &str = "pocketci";
/// PostgreSQL refuses payloads of 8000 bytes and more.
const MAX_PAYLOAD_BYTES: usize = 7900;
/// At most one NOTIFY in this time; the first after a pause goes out at once.
const MIN_PAUSE: Duration = Duration::from_millis(5);
/// Output of a run is told at most once in this time; who follows it here is told at once.
const OUTPUT_PAUSE: Duration = Duration::from_millis(100);
/// Hints waiting to be sent; more are dropped, as hints may be.
const MAX_WAITING: usize = 8192;
/// Pause before listening again after a failure; doubles up to [`MAX_RETRY`].
const FIRST_RETRY: Duration = Duration::from_millis(100);
/// See [`FIRST_RETRY`].
const MAX_RETRY: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Hint {
    JobQueued,
    Cancel(SessionId),
    Schedule(PipelineId),
    Deliveries,
    Run(RunId),
    /// Only output.
    Output(RunId),
    Finished(RunId),
}

/// Sends hints to the other servers.
#[derive(Clone)]
pub(super) struct Notifier {
    hints: mpsc::Sender<Hint>,
    stop: CancellationToken,
}

impl Notifier {
    /// Starts sending and listening.
    pub(super) fn start(
        config: Config,
        pool: Pool,
        wakes: Arc<WakeBus>,
    ) -> (Self, Vec<JoinHandle<()>>) {
        let (hints, waiting) = mpsc::channel(MAX_WAITING);
        let stop = CancellationToken::new();
        let origin = Uuid::new_v4().simple().to_string();
        let sending = tokio::spawn(send(pool, origin.clone(), waiting, stop.clone()));
        let listening = tokio::spawn(listen(config, origin, wakes, stop.clone()));
        (Self { hints, stop }, vec![sending, listening])
    }

    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    pub(super) fn wake(&self, wake: Wake) {
        match wake {
            Wake::JobQueued => self.hint(Hint::JobQueued),
            Wake::Cancel(session) => self.hint(Hint::Cancel(session)),
            // Whoever ended the run looks after its group; should it die, every server looks now and then.
            Wake::Group(..) | Wake::Replays | Wake::Lost => {}
            Wake::Schedule(pipeline) => self.hint(Hint::Schedule(pipeline)),
            Wake::Deliveries => self.hint(Hint::Deliveries),
        }
    }

    pub(super) fn run(&self, run: RunId, finished: bool) {
        self.hint(if finished {
            Hint::Finished(run)
        } else {
            Hint::Run(run)
        });
    }

    pub(super) fn output(&self, run: RunId) {
        self.hint(Hint::Output(run));
    }

    fn hint(&self, hint: Hint) {
        // A full queue means that the database is slow; the timers of the others will do.
        let _ = self.hints.try_send(hint);
    }
}

async fn send(
    pool: Pool,
    origin: String,
    mut waiting: mpsc::Receiver<Hint>,
    stop: CancellationToken,
) {
    let mut group = Vec::new();
    let mut outputs = Outputs::default();
    loop {
        tokio::select! {
            received = waiting.recv_many(&mut group, MAX_WAITING) => if received == 0 { return },
            () = outputs.due() => {}
            () = stop.cancelled() => return,
        }
        outputs.sort(&mut group);
        if group.is_empty() {
            continue;
        }
        for payload in payloads(&origin, &group) {
            if let Err(error) = notify(&pool, &payload).await {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "cannot notify other servers"
                );
                break;
            }
        }
        group.clear();
        tokio::time::sleep(MIN_PAUSE).await;
    }
}

/// Hints about output, which wait for each other: a run that prints all the time is told ten times a second.
#[derive(Default)]
struct Outputs {
    waiting: HashSet<RunId>,
    told: Option<Instant>,
}

impl Outputs {
    fn next(&self) -> Option<Instant> {
        self.told.map(|told| told + OUTPUT_PAUSE)
    }

    /// Until what waits may be told; for ever if nothing waits.
    async fn due(&self) {
        match self.next() {
            _ if self.waiting.is_empty() => std::future::pending().await,
            Some(next) => tokio::time::sleep_until(next).await,
            None => {}
        }
    }

    /// Takes the hints about output out of a group, and puts those in that may be told now.
    fn sort(&mut self, group: &mut Vec<Hint>) {
        group.retain(|hint| match hint {
            Hint::Output(run) => {
                self.waiting.insert(*run);
                false
            }
            Hint::JobQueued
            | Hint::Cancel(_)
            | Hint::Schedule(_)
            | Hint::Deliveries
            | Hint::Run(_)
            | Hint::Finished(_) => true,
        });
        let now = Instant::now();
        if !self.waiting.is_empty() && self.next().is_none_or(|next| next <= now) {
            self.told = Some(now);
            group.extend(self.waiting.drain().map(Hint::Run));
        }
    }
}

async fn notify(pool: &Pool, payload: &str) -> super::Result<()> {
    let client = pool.get().await.map_err(pool_error)?;
    let statement = client
        .prepare_cached("SELECT pg_notify($1, $2)")
        .await
        .map_err(sql_error)?;
    client
        .execute(&statement, &[&CHANNEL, &payload])
        .await
        .map_err(sql_error)?;
    Ok(())
}

/// The hints without repetitions, a line each, in payloads that PostgreSQL accepts; the first line is the origin.
fn payloads(origin: &str, hints: &[Hint]) -> Vec<String> {
    let mut all = Vec::new();
    let mut payload = origin.to_owned();
    let mut seen = HashSet::new();
    for hint in hints {
        if !seen.insert(hint) {
            continue;
        }
        if payload.len() + 40 > MAX_PAYLOAD_BYTES {
            all.push(std::mem::replace(&mut payload, origin.to_owned()));
        }
        // Writing to a String cannot fail.
        let _ = match hint {
            Hint::JobQueued => write!(payload, "\nj"),
            Hint::Cancel(session) => write!(payload, "\nc{}", session.0.simple()),
            Hint::Schedule(pipeline) => write!(payload, "\ns{}", pipeline.0.simple()),
            Hint::Deliveries => write!(payload, "\nd"),
            Hint::Run(run) | Hint::Output(run) => write!(payload, "\nr{}", run.0.simple()),
            Hint::Finished(run) => write!(payload, "\nf{}", run.0.simple()),
        };
    }
    all.push(payload);
    all
}

/// Publishes what other servers said; what this one said itself, or nobody understands, changes nothing.
fn hear(origin: &str, wakes: &WakeBus, payload: &str) {
    let mut lines = payload.lines();
    if lines.next() == Some(origin) {
        return;
    }
    for line in lines {
        let Some((kind, id)) = line.split_at_checked(1) else {
            continue;
        };
        match (kind, Uuid::parse_str(id)) {
            ("j", _) => wakes.publish(Wake::JobQueued),
            ("d", _) => wakes.publish(Wake::Deliveries),
            ("c", Ok(id)) => wakes.publish(Wake::Cancel(SessionId(id))),
            ("s", Ok(id)) => wakes.publish(Wake::Schedule(PipelineId(id))),
            ("r", Ok(id)) => drop(wakes.publish_run(RunId(id), None, false)),
            ("f", Ok(id)) => drop(wakes.publish_run(RunId(id), None, true)),
            _ => {}
        }
    }
}

async fn listen(config: Config, origin: String, wakes: Arc<WakeBus>, stop: CancellationToken) {
    let mut retry = FIRST_RETRY;
    loop {
        let once = async {
            let listened = listen_once(&config, &origin, &wakes, &mut retry).await;
            if let Err(error) = listened {
                tracing::debug!(error = &error as &dyn std::error::Error, "listening ended");
            }
        };
        tokio::select! {
            () = once => {}
            () = stop.cancelled() => return,
        }
        tracing::warn!("lost the connection that listens for wake-ups; trying again");
        tokio::select! {
            () = tokio::time::sleep(retry) => {}
            () = stop.cancelled() => return,
        }
        retry = (retry * 2).min(MAX_RETRY);
    }
}

async fn listen_once(
    config: &Config,
    origin: &str,
    wakes: &WakeBus,
    retry: &mut Duration,
) -> super::Result<()> {
    match connect::tls(config)? {
        None => {
            let (client, connection) = config.connect(NoTls).await.map_err(sql_error)?;
            attend(client, connection, origin, wakes, retry).await
        }
        Some(tls) => {
            let (client, connection) = config.connect(tls).await.map_err(sql_error)?;
            attend(client, connection, origin, wakes, retry).await
        }
    }
}

/// Listens until the connection ends.
async fn attend<S, T>(
    client: Client,
    mut connection: Connection<S, T>,
    origin: &str,
    wakes: &WakeBus,
    retry: &mut Duration,
) -> super::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    let messages = stream::poll_fn(move |context| connection.poll_message(context));
    let hearing = messages.for_each(|message| async move {
        if let Ok(AsyncMessage::Notification(notification)) = message {
            hear(origin, wakes, notification.payload());
        }
    });
    let started = async {
        client
            .batch_execute(&format!("LISTEN {CHANNEL}"))
            .await
            .map_err(sql_error)?;
        *retry = FIRST_RETRY;
        // What was said while nobody listened is lost.
        wakes.publish_all();
        std::future::pending::<super::Result<()>>().await
    };
    tokio::select! {
        () = hearing => Ok(()),
        result = started => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn hints_reach_others_once_and_not_oneself() {
        let (run, session, pipeline) = (RunId::new(), SessionId::new(), PipelineId::new());
        let hints = [
            Hint::JobQueued,
            Hint::JobQueued,
            Hint::Finished(run),
            Hint::Cancel(session),
            Hint::Schedule(pipeline),
            Hint::Deliveries,
        ];
        let payloads = payloads("me", &hints);
        assert_eq!(payloads.len(), 1);
        let wakes = WakeBus::default();
        let mut coarse = wakes.subscribe();
        let mut watch = wakes.watch_run(run);
        hear("me", &wakes, &payloads[0]);
        assert!(coarse.try_recv().is_err());
        hear("other", &wakes, &payloads[0]);
        assert_eq!(coarse.try_recv(), Ok(Wake::JobQueued));
        assert_eq!(coarse.try_recv(), Ok(Wake::Cancel(session)));
        assert_eq!(coarse.try_recv(), Ok(Wake::Schedule(pipeline)));
        assert_eq!(coarse.try_recv(), Ok(Wake::Deliveries));
        assert!(watch.changed().await.finished);
    }

    #[tokio::test(start_paused = true)]
    async fn output_is_told_once_in_its_pause_and_everything_else_at_once() {
        let (noisy, other) = (RunId::new(), RunId::new());
        let mut outputs = Outputs::default();
        let mut told = Vec::new();
        let started = Instant::now();
        // A second of commits with output, 5 ms apart.
        for _ in 0..200 {
            let mut group = vec![Hint::Output(noisy), Hint::Output(noisy), Hint::JobQueued];
            outputs.sort(&mut group);
            assert_eq!(group[0], Hint::JobQueued);
            told.extend(group.into_iter().skip(1));
            tokio::time::advance(Duration::from_millis(5)).await;
        }
        assert!((10..=11).contains(&told.len()), "{}", told.len());
        assert_eq!(told[0], Hint::Run(noisy), "the first at once");
        let mut group = vec![Hint::Output(other), Hint::Finished(noisy)];
        outputs.sort(&mut group);
        if !group.contains(&Hint::Run(other)) {
            outputs.due().await;
            outputs.sort(&mut group);
        }
        assert!(group.contains(&Hint::Run(other)) && group.contains(&Hint::Finished(noisy)));
        assert!(started.elapsed() < Duration::from_millis(1200));
        let nothing = tokio::time::timeout(Duration::from_secs(60), outputs.due());
        assert!(nothing.await.is_err(), "and then nothing");
    }

    #[test]
    fn many_hints_are_split_into_payloads_that_postgres_accepts() {
        let hints: Vec<Hint> = (0..1000).map(|_| Hint::Run(RunId::new())).collect();
        let payloads = payloads("0123456789abcdef0123456789abcdef", &hints);
        assert!(payloads.iter().all(|payload| payload.len() < 8000));
        let lines: usize = payloads
            .iter()
            .map(|payload| payload.lines().count() - 1)
            .sum();
        assert_eq!(lines, 1000);
    }

    #[test]
    fn a_stranger_on_the_channel_does_no_harm() {
        let wakes = WakeBus::default();
        for payload in ["", "x", "x\n", "x\nr", "x\nrnonsense", "x\né", "x\nz1"] {
            hear("me", &wakes, payload);
        }
    }
}
