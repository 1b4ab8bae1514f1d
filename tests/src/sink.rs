//! A stranger on the network: answers HTTP and takes mail, and keeps what it was told.
//!
//! Any path is answered with 200 and JSON that echoes path and method, but for `/missing` (404), `/slow` (after half a
//! minute), `/redirect` (to `/target`), `/flaky/N` (503 for the first N requests with the same `webhook-id`) and `/v2/…` (an
//! image registry that wants a password and has no image).

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Seen {
    /// `POST /path`.
    pub line: String,
    /// Lower-case names.
    pub headers: HashMap<String, String>,
    /// The body.
    pub body: Vec<u8>,
}

/// See the module; ends when dropped.
pub struct Sink {
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    /// `127.0.0.1:PORT`, plain SMTP.
    pub smtp: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    mails: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

impl Sink {
    /// Starts one.
    pub async fn start() -> Self {
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let mails: Arc<Mutex<Vec<String>>> = Arc::default();
        let http = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let smtp = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", http.local_addr().expect("an address"));
        let smtp_address = smtp.local_addr().expect("an address").to_string();
        let mut tasks = JoinSet::new();
        let kept = seen.clone();
        tasks.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = http.accept().await {
                open.spawn(answer(stream, kept.clone()));
            }
        });
        let kept = mails.clone();
        tasks.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = smtp.accept().await {
                open.spawn(take_mail(stream, kept.clone()));
            }
        });
        Self {
            url,
            smtp: smtp_address,
            seen,
            mails,
            _tasks: tasks,
        }
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("no panic").clone()
    }

    /// All mails so far, as they were sent.
    pub fn mails(&self) -> Vec<String> {
        self.mails.lock().expect("no panic").clone()
    }
}

/// The next request of a connection; `None` at its end.
pub(crate) async fn request(stream: &mut BufReader<TcpStream>) -> Option<Seen> {
    let mut line = String::new();
    if stream.read_line(&mut line).await.ok()? == 0 {
        return None;
    }
    let line = line.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
    let mut headers = HashMap::new();
    loop {
        let mut header = String::new();
        stream.read_line(&mut header).await.ok()?;
        let Some((name, value)) = header.trim_end().split_once(':') else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers
        .get("content-length")
        .and_then(|length| length.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await.ok()?;
    Some(Seen {
        line,
        headers,
        body,
    })
}

async fn answer(stream: TcpStream, kept: Arc<Mutex<Vec<Seen>>>) {
    let mut stream = BufReader::new(stream);
    while let Some(seen) = request(&mut stream).await {
        let (method, path) = seen.line.split_once(' ').unwrap_or(("", ""));
        let path = path.split('?').next().unwrap_or_default().to_owned();
        let body = serde_json::json!({ "ok": true, "path": path, "method": method }).to_string();
        let before = {
            let mut kept = kept.lock().expect("no panic");
            let id = seen.headers.get("webhook-id");
            let before = kept
                .iter()
                .filter(|one| one.line == seen.line && one.headers.get("webhook-id") == id);
            let before = before.count();
            kept.push(seen.clone());
            before
        };
        let failures = path
            .strip_prefix("/flaky/")
            .and_then(|count| count.parse().ok());
        let (status, more) = match path.as_str() {
            "/missing" => ("404 Not Found", ""),
            "/redirect" => ("302 Found", "location: /target\r\n"),
            "/slow" => {
                tokio::time::sleep(Duration::from_secs(30)).await;
                ("200 OK", "")
            }
            // A registry that wants to know who asks, and then has nothing.
            path if path.starts_with("/v2/") => match seen.headers.contains_key("authorization") {
                true => ("404 Not Found", ""),
                false => (
                    "401 Unauthorized",
                    "www-authenticate: Basic realm=\"sink\"\r\n",
                ),
            },
            _ if failures.is_some_and(|count: usize| before < count) => {
                ("503 Service Unavailable", "")
            }
            _ => ("200 OK", ""),
        };
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{more}\r\n",
            body.len()
        );
        let body = if method == "HEAD" {
            String::new()
        } else {
            body
        };
        if stream
            .write_all(format!("{head}{body}").as_bytes())
            .await
            .is_err()
        {
            return;
        }
    }
}

async fn take_mail(stream: TcpStream, kept: Arc<Mutex<Vec<String>>>) {
    let mut stream = BufReader::new(stream);
    let mut say = String::from("220 sink\r\n");
    let mut mail: Option<String> = None;
    loop {
        if stream.write_all(say.as_bytes()).await.is_err() {
            return;
        }
        let mut line = String::new();
        if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
            return;
        }
        if let Some(text) = &mut mail {
            if line.trim_end() == "." {
                kept.lock().expect("no panic").push(std::mem::take(text));
                mail = None;
                say = "250 kept\r\n".into();
            } else {
                text.push_str(&line);
                say = String::new();
            }
            continue;
        }
        let verb = line.get(..4).unwrap_or_default().to_ascii_uppercase();
        say = match verb.as_str() {
            "EHLO" => "250-sink\r\n250 AUTH PLAIN LOGIN\r\n".into(),
            "AUTH" => "235 welcome\r\n".into(),
            "DATA" => {
                mail = Some(String::new());
                "354 go on\r\n".into()
            }
            "QUIT" => "221 bye\r\n".into(),
            _ => "250 ok\r\n".into(),
        };
    }
}
