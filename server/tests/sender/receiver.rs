//! A receiver on loopback: keeps what comes and answers as it was told.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Seen {
    pub headers: HashMap<String, String>,
    pub body: String,
    pub at: Instant,
}

impl Seen {
    pub fn id(&self) -> String {
        self.headers["webhook-id"].clone()
    }
}

/// Answers of the first requests in order; the last one for all that follow. `hang` never answers.
#[derive(Clone)]
pub struct Receiver {
    pub url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    _tasks: Arc<JoinSet<()>>,
}

impl Receiver {
    pub async fn start(answers: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!(
            "http://{}/hook?token=in-the-url",
            listener.local_addr().unwrap()
        );
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let answers: Arc<Vec<String>> = Arc::new(answers.iter().map(|a| (*a).to_owned()).collect());
        let mut tasks = JoinSet::new();
        let kept = seen.clone();
        tasks.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                open.spawn(serve(stream, kept.clone(), answers.clone()));
            }
        });
        Self {
            url,
            seen,
            _tasks: Arc::new(tasks),
        }
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Waits until so many have come.
    pub async fn got(&self, count: usize) -> Vec<Seen> {
        let started = Instant::now();
        while self.seen().len() < count {
            assert!(
                started.elapsed() < Duration::from_secs(30),
                "only {:?}",
                self.seen()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.seen()
    }
}

async fn serve(stream: TcpStream, kept: Arc<Mutex<Vec<Seen>>>, answers: Arc<Vec<String>>) {
    let mut stream = BufReader::new(stream);
    while let Some(seen) = request(&mut stream).await {
        let number = {
            let mut kept = kept.lock().unwrap();
            kept.push(seen);
            kept.len() - 1
        };
        let answer = &answers[number.min(answers.len() - 1)];
        if answer == "hang" {
            std::future::pending::<()>().await;
        }
        let text = format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\n\r\n");
        if stream.write_all(text.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn request(stream: &mut BufReader<TcpStream>) -> Option<Seen> {
    let mut line = String::new();
    if stream.read_line(&mut line).await.ok()? == 0 {
        return None;
    }
    let mut headers = HashMap::new();
    loop {
        let mut header = String::new();
        stream.read_line(&mut header).await.ok()?;
        let Some((name, value)) = header.trim_end().split_once(':') else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length")?.parse().ok()?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(Seen {
        headers,
        body: String::from_utf8(body).unwrap(),
        at: Instant::now(),
    })
}
