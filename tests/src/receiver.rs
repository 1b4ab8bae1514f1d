//! A receiver of webhooks that answers as it is told, and keeps every request byte by byte.

use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Taken {
    /// `POST /path HTTP/1.1`.
    pub line: String,
    /// All header lines in order, names as they came.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Taken {
    /// The value of a header; empty if there is none.
    pub fn header(&self, name: &str) -> &str {
        let found = self
            .headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value)
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }
}

struct Script {
    answers: Vec<String>,
    taken: Vec<Taken>,
}

/// See the module; ends when dropped.
pub struct Receiver {
    /// `http://127.0.0.1:PORT/hook`.
    pub url: String,
    /// `127.0.0.1:PORT`.
    pub address: String,
    script: Arc<Mutex<Script>>,
    _task: JoinSet<()>,
}

impl Receiver {
    /// Answers the first request with the first of these, and so on; the last one for ever. An answer is a status line
    /// without `HTTP/1.1` and what headers it wants: `503 Service Unavailable\r\nretry-after: 1`. The empty answer hangs up.
    pub async fn start(answers: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let script = Arc::new(Mutex::new(Script {
            answers: answers.iter().map(|answer| (*answer).to_owned()).collect(),
            taken: Vec::new(),
        }));
        let mut task = JoinSet::new();
        let shared = script.clone();
        task.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                open.spawn(serve(stream, shared.clone()));
            }
        });
        Self {
            url: format!("http://{address}/hook"),
            address,
            script,
            _task: task,
        }
    }

    /// All requests so far.
    pub fn taken(&self) -> Vec<Taken> {
        self.script.lock().expect("no panic").taken.clone()
    }

    /// The requests once there are so many.
    pub async fn until(&self, count: usize) -> Vec<Taken> {
        crate::until(&format!("{count} requests at {}", self.address), || async {
            let taken = self.taken();
            (taken.len() >= count).then_some(taken)
        })
        .await
    }
}

async fn serve(stream: TcpStream, script: Arc<Mutex<Script>>) {
    let mut stream = BufReader::new(stream);
    while let Some(taken) = take(&mut stream).await {
        let answer = {
            let mut script = script.lock().expect("no panic");
            let at = script.taken.len().min(script.answers.len() - 1);
            script.taken.push(taken);
            script.answers[at].clone()
        };
        if answer.is_empty() {
            return;
        }
        let text = format!("HTTP/1.1 {answer}\r\ncontent-length: 2\r\n\r\nok");
        if stream.write_all(text.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn take(stream: &mut BufReader<TcpStream>) -> Option<Taken> {
    let mut line = String::new();
    if stream.read_line(&mut line).await.ok()? == 0 {
        return None;
    }
    let mut taken = Taken {
        line: line.trim_end().to_owned(),
        headers: Vec::new(),
        body: Vec::new(),
    };
    loop {
        let mut header = String::new();
        stream.read_line(&mut header).await.ok()?;
        let Some((name, value)) = header.trim_end().split_once(':') else {
            break;
        };
        taken
            .headers
            .push((name.to_owned(), value.trim().to_owned()));
    }
    let length = taken.header("content-length").parse().unwrap_or(0);
    taken.body = vec![0; length];
    stream.read_exact(&mut taken.body).await.ok()?;
    Some(taken)
}
