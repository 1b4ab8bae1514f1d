//! The load generator: keep-alive HTTP/1.1 connections, closed loop (as fast as answers come) or open loop (at a rate).

use anyhow::{Context, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

/// What is sent again and again.
#[derive(Clone)]
pub struct Shot {
    /// `host:port`.
    pub address: String,
    /// Path with query.
    pub path: String,
    /// Header lines.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
    /// The expected status.
    pub status: u16,
    /// A header that says something else in every request.
    pub unique: Option<&'static str>,
}

/// How long each answer took, in the order of their ends.
#[derive(Default)]
pub struct Times {
    all: Vec<Duration>,
    /// Wall time of the measurement.
    pub took: Duration,
}

impl Times {
    /// Answers in a second.
    pub fn rate(&self) -> f64 {
        self.all.len() as f64 / self.took.as_secs_f64()
    }

    /// The quantile, in milliseconds.
    pub fn quantile_ms(&mut self, quantile: f64) -> f64 {
        self.all.sort_unstable();
        let at = ((self.all.len() as f64 - 1.0) * quantile).round() as usize;
        self.all
            .get(at)
            .map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0)
    }
}

async fn connect(shot: &Shot) -> anyhow::Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(&shot.address).await.context("connect")?;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    // Ends with its sender.
    tokio::spawn(connection);
    Ok(sender)
}

/// Sends one request; its answer's body.
async fn fire(sender: &mut SendRequest<Full<Bytes>>, shot: &Shot) -> anyhow::Result<Bytes> {
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(&shot.path)
        .header("host", &shot.address);
    for (name, value) in &shot.headers {
        request = request.header(name, value);
    }
    if let Some(name) = shot.unique {
        request = request.header(name, uuid::Uuid::new_v4().to_string());
    }
    sender.ready().await?;
    let response = sender
        .send_request(request.body(Full::new(shot.body.clone()))?)
        .await?;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await?.to_bytes();
    if status != shot.status {
        bail!("answered {status}: {}", String::from_utf8_lossy(&body));
    }
    Ok(body)
}

/// `connections` send as fast as they are answered, for `lasting`.
pub async fn closed_loop(
    shot: &Shot,
    connections: usize,
    lasting: Duration,
) -> anyhow::Result<Times> {
    let started = Instant::now();
    let end = started + lasting;
    let workers: Vec<_> = (0..connections)
        .map(|_| {
            let shot = shot.clone();
            tokio::spawn(async move {
                let mut sender = connect(&shot).await?;
                let mut times = Vec::new();
                while Instant::now() < end {
                    let sent = Instant::now();
                    fire(&mut sender, &shot).await?;
                    times.push(sent.elapsed());
                }
                anyhow::Ok(times)
            })
        })
        .collect();
    gather(workers, started).await
}

/// Requests start at fixed instants whatever becomes of earlier ones; a late start counts as waiting (no coordinated
/// omission).
pub async fn open_loop(
    shot: &Shot,
    rate: f64,
    connections: usize,
    lasting: Duration,
) -> anyhow::Result<Times> {
    let started = Instant::now();
    let workers: Vec<_> = (0..connections)
        .map(|worker| {
            let shot = shot.clone();
            let step = Duration::from_secs_f64(connections as f64 / rate);
            let first = started + step.mul_f64(worker as f64 / connections as f64);
            tokio::spawn(async move {
                let mut sender = connect(&shot).await?;
                let mut times = Vec::new();
                let mut due = first;
                while due < started + lasting {
                    tokio::time::sleep_until(due.into()).await;
                    fire(&mut sender, &shot).await?;
                    times.push(due.elapsed());
                    due += step;
                }
                anyhow::Ok(times)
            })
        })
        .collect();
    gather(workers, started).await
}

async fn gather(
    workers: Vec<tokio::task::JoinHandle<anyhow::Result<Vec<Duration>>>>,
    started: Instant,
) -> anyhow::Result<Times> {
    let mut times = Times::default();
    for worker in workers {
        times.all.extend(worker.await??);
    }
    times.took = started.elapsed();
    Ok(times)
}

/// `count` requests one after the other; their answers' bodies.
pub async fn answers(shot: &Shot, count: usize) -> anyhow::Result<Vec<Bytes>> {
    let mut sender = connect(shot).await?;
    let mut bodies = Vec::with_capacity(count);
    for _ in 0..count {
        bodies.push(fire(&mut sender, shot).await?);
    }
    Ok(bodies)
}
