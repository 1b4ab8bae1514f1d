//! Clients that say nothing, too little or too slowly, in paused time.

use super::super::idle::{HEAD_WITHIN, IDLE_WITHIN};
use super::*;
use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// Bytes that fit between client and server before one has to wait for the other.
const PIPE_BYTES: usize = 4 * 1024;
/// How late the server may be, in paused time.
const LATE: Duration = Duration::from_millis(100);
/// How long `/slow` takes.
const SLOW: Duration = Duration::from_secs(500);
/// How long `/long` is.
const LONG_BYTES: usize = 1024 * 1024;

struct Client {
    stream: DuplexStream,
    begun: Instant,
    shutdown: CancellationToken,
    serving: JoinHandle<()>,
}

fn connect() -> Client {
    let (stream, served) = tokio::io::duplex(PIPE_BYTES);
    let slow = get(|| async {
        sleep(SLOW).await;
        "slow"
    });
    let app = Router::new()
        .route("/", get(|| async { "hello" }))
        .route("/slow", slow)
        .route("/long", get(|| async { "x".repeat(LONG_BYTES) }));
    let shutdown = CancellationToken::new();
    let stopping = shutdown.clone();
    let peer = SocketAddr::from(([127, 0, 0, 1], 1));
    let serving = tokio::spawn(async move {
        connection(&builder(), served, peer, app, stopping).await;
    });
    Client {
        stream,
        begun: Instant::now(),
        shutdown,
        serving,
    }
}

impl Client {
    async fn ask(&mut self, path: &str) {
        let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        self.stream.write_all(head.as_bytes()).await.unwrap();
    }

    /// Reads until the text has come.
    async fn reads(&mut self, end: &str) {
        let mut seen = Vec::new();
        while !seen.ends_with(end.as_bytes()) {
            seen.push(self.stream.read_u8().await.unwrap());
        }
    }

    /// Waits for the server's end of the connection; when it came, since the beginning.
    async fn ended(mut self) -> Duration {
        let mut rest = Vec::new();
        let _ = self.stream.read_to_end(&mut rest).await;
        self.serving.await.unwrap();
        self.begun.elapsed()
    }
}

#[track_caller]
fn at(ended: Duration, expected: Duration) {
    assert!(
        ended >= expected && ended < expected + LATE,
        "ended after {ended:?} instead of {expected:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_is_closed_when_its_first_head_is_due() {
    at(connect().ended().await, HEAD_WITHIN);
}

#[tokio::test(start_paused = true)]
async fn a_head_that_trickles_in_is_due_all_the_same() {
    for text in ["GET / HTTP/1.1\r\nHost: x", "PRI * HTTP/2.0\r\n\r\nSM"] {
        let Client {
            stream,
            begun,
            shutdown: _shutdown,
            serving,
        } = connect();
        let (mut read, mut write) = tokio::io::split(stream);
        let trickle = async {
            for byte in text.bytes().cycle() {
                if write.write_all(&[byte]).await.is_err() {
                    break;
                }
                sleep(Duration::from_millis(900)).await;
            }
        };
        let end = async {
            let mut rest = Vec::new();
            let _ = read.read_to_end(&mut rest).await;
            begun.elapsed()
        };
        let ended = tokio::select! {
            ended = end => ended,
            () = trickle => begun.elapsed(),
        };
        serving.await.unwrap();
        // A byte more or less may be needed to see the end.
        assert!(ended <= HEAD_WITHIN + Duration::from_secs(1), "{ended:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_may_idle_between_requests_longer_than_a_head_may_take() {
    let mut client = connect();
    client.ask("/").await;
    client.reads("hello").await;
    sleep(HEAD_WITHIN * 6).await;
    client.ask("/").await;
    client.reads("hello").await;
    at(client.ended().await, HEAD_WITHIN * 6 + IDLE_WITHIN);
}

#[tokio::test(start_paused = true)]
async fn a_later_head_is_due_from_its_first_byte() {
    let mut client = connect();
    client.ask("/").await;
    client.reads("hello").await;
    sleep(HEAD_WITHIN * 3).await;
    client.stream.write_all(b"G").await.unwrap();
    at(client.ended().await, HEAD_WITHIN * 4);
}

#[tokio::test(start_paused = true)]
async fn a_request_may_take_its_time() {
    let mut client = connect();
    client.ask("/slow").await;
    client.reads("slow").await;
    at(client.begun.elapsed(), SLOW);
    at(client.ended().await, SLOW + IDLE_WITHIN);
}

#[tokio::test(start_paused = true)]
async fn an_answer_may_be_read_slowly_but_not_never() {
    let mut client = connect();
    client.ask("/long").await;
    let mut piece = vec![0; PIPE_BYTES];
    for _ in 0..10 {
        sleep(IDLE_WITHIN - HEAD_WITHIN).await;
        client.stream.read_exact(&mut piece).await.unwrap();
    }
    let stopped_reading = client.begun.elapsed();
    client.serving.await.unwrap();
    let waited = client.begun.elapsed() - stopped_reading;
    assert!(
        waited >= IDLE_WITHIN && waited < IDLE_WITHIN + HEAD_WITHIN,
        "{waited:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_waiting_connections_soon_and_lets_answers_finish() {
    for head in ["", "GET / HT", "GET / HTTP/1.1\r\nHost: x\r\n\r\n"] {
        let mut client = connect();
        client.stream.write_all(head.as_bytes()).await.unwrap();
        sleep(Duration::from_secs(1)).await;
        client.shutdown.cancel();
        let ended = client.ended().await;
        assert!(
            ended <= Duration::from_secs(3) + LATE,
            "{head:?}: {ended:?}"
        );
    }
    let mut client = connect();
    client.ask("/slow").await;
    sleep(Duration::from_secs(1)).await;
    client.shutdown.cancel();
    client.reads("slow").await;
    at(client.ended().await, SLOW);
}

/// HTTP/2: a frame's type.
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const HEADERS: u8 = 1;
/// END_STREAM and END_HEADERS.
const WHOLE_REQUEST: u8 = 5;
const ACK: u8 = 1;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

#[tokio::test(start_paused = true)]
async fn over_http_2_pings_are_neither_heads_nor_requests() {
    let mut client = connect();
    let mut begin = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    begin.extend(frame(SETTINGS, 0, 0, &[]));
    // HPACK: GET, http, "/", and the authority "x".
    begin.extend(frame(
        HEADERS,
        WHOLE_REQUEST,
        1,
        &[0x82, 0x86, 0x84, 0x41, 1, b'x'],
    ));
    client.stream.write_all(&begin).await.unwrap();
    let mut pings = 0;
    let goaway = loop {
        let mut head = [0; 9];
        client.stream.read_exact(&mut head).await.unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        client.stream.read_exact(&mut payload).await.unwrap();
        match (head[3], head[4] & ACK) {
            (PING, 0) => {
                pings += 1;
                assert!(pings < 10, "pings keep it open");
                let answer = frame(PING, ACK, 0, &payload);
                client.stream.write_all(&answer).await.unwrap();
            }
            (GOAWAY, _) => break client.begun.elapsed(),
            _ => {}
        }
    };
    at(goaway, IDLE_WITHIN);
    assert!(pings >= 2, "{pings}");
    assert!(client.ended().await <= IDLE_WITHIN + Duration::from_secs(3));
}
