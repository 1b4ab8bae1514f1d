//! A network between a sender of webhooks and their receiver, with faults in the order that a test wants.

use crate::sink::{Seen, request};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Between two bytes of [`Twist::Drip`].
const DRIP_EVERY: Duration = Duration::from_millis(500);

/// What happens to one request instead of being passed on and answered.
#[derive(Debug, Clone)]
pub enum Twist {
    /// Answered with this status, not passed on.
    Status(u16),
    /// The connection ends without an answer; not passed on.
    Disconnect,
    /// Answered with 302 to there; not passed on.
    Redirect(String),
    /// Answered a byte at a time, without an end; not passed on.
    Drip,
    /// Passed on, the answer is lost.
    ForwardAndDisconnect,
    /// Passed on, and never answered.
    ForwardAndHold,
}

/// See the module; ends when dropped.
pub struct Relay {
    /// `http://127.0.0.1:PORT/relayed`.
    pub url: String,
    shared: Arc<Shared>,
    _task: JoinSet<()>,
}

struct Shared {
    to: String,
    http: reqwest::Client,
    twists: Mutex<VecDeque<Twist>>,
    seen: Mutex<Vec<Seen>>,
    holding: watch::Sender<bool>,
}

impl Relay {
    /// Passes requests on to the URL `to` after the twists, one for each of the first requests.
    pub async fn start(to: &str, twists: Vec<Twist>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!(
            "http://{}/relayed",
            listener.local_addr().expect("an address")
        );
        let shared = Arc::new(Shared {
            to: to.to_owned(),
            http: reqwest::Client::new(),
            twists: Mutex::new(twists.into()),
            seen: Mutex::default(),
            holding: watch::Sender::new(false),
        });
        let mut task = JoinSet::new();
        let serving = shared.clone();
        task.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let shared = serving.clone();
                open.spawn(async move { shared.serve(BufReader::new(stream)).await });
            }
        });
        Self {
            url,
            shared,
            _task: task,
        }
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().expect("no panic").clone()
    }

    /// Waits until a request was passed on and is held ([`Twist::ForwardAndHold`]).
    pub async fn holds(&self) {
        let mut holding = self.shared.holding.subscribe();
        let held = holding.wait_for(|held| *held);
        tokio::time::timeout(Duration::from_secs(60), held)
            .await
            .expect("a request comes")
            .expect("the relay lives");
    }
}

impl Shared {
    async fn serve(&self, mut stream: BufReader<TcpStream>) {
        while let Some(seen) = request(&mut stream).await {
            self.seen.lock().expect("no panic").push(seen.clone());
            let twist = self.twists.lock().expect("no panic").pop_front();
            if self.answer(&mut stream, &seen, twist).await.is_none() {
                return;
            }
        }
    }

    /// `None` ends the connection.
    async fn answer(
        &self,
        stream: &mut BufReader<TcpStream>,
        seen: &Seen,
        twist: Option<Twist>,
    ) -> Option<()> {
        let (status, more, body) = match twist {
            Some(Twist::Status(status)) => (status, String::new(), String::new()),
            Some(Twist::Disconnect) => return None,
            Some(Twist::Redirect(to)) => (302, format!("location: {to}\r\n"), String::new()),
            Some(Twist::Drip) => {
                stream
                    .write_all(b"HTTP/1.1 200 OK\r\nx-drip: ")
                    .await
                    .ok()?;
                loop {
                    stream.write_all(b"x").await.ok()?;
                    tokio::time::sleep(DRIP_EVERY).await;
                }
            }
            Some(Twist::ForwardAndDisconnect) => {
                self.forward(seen).await?;
                return None;
            }
            Some(Twist::ForwardAndHold) => {
                self.forward(seen).await?;
                self.holding.send_replace(true);
                std::future::pending().await
            }
            None => {
                let (status, body) = self.forward(seen).await?;
                (status, String::new(), body)
            }
        };
        let answer = format!(
            "HTTP/1.1 {status} Told\r\ncontent-length: {}\r\n{more}\r\n{body}",
            body.len()
        );
        stream.write_all(answer.as_bytes()).await.ok()
    }

    async fn forward(&self, seen: &Seen) -> Option<(u16, String)> {
        let mut request = self.http.post(&self.to).body(seen.body.clone());
        for (name, value) in &seen.headers {
            if !matches!(name.as_str(), "host" | "content-length" | "connection") {
                request = request.header(name, value);
            }
        }
        let answer = request.send().await.ok()?;
        Some((answer.status().as_u16(), answer.text().await.ok()?))
    }
}
