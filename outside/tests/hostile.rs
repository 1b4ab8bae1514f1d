//! Receivers that do what receivers must not do: each exchange ends in time, with little read, and says what happened.
#![allow(clippy::unwrap_used)] // a failed expectation of a test is a panic

mod certificates;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use pocketci_outside::client::{Clients, Trust};
use pocketci_outside::exchange::{ExchangeError, Exchanged, MAX_BODY_BYTES, Request, exchange};
use pocketci_outside::guard::{Guard, Words};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// Time for an exchange in these tests; a receiver that hangs costs so much.
const WITHIN: Duration = Duration::from_millis(700);
/// Far above, for a slow machine; far below what an unbounded exchange would take.
const SOON: Duration = Duration::from_secs(10);

fn clients(allowed: &[&str]) -> Clients {
    let words = Words {
        what: "delivery",
        way_out: "allow it",
    };
    let allowed = allowed.iter().map(|text| text.parse().unwrap()).collect();
    Clients::new(Guard::new(allowed, words), "test")
}

fn request(url: &str) -> Request {
    let mut headers = HeaderMap::new();
    headers.insert("x-token", HeaderValue::from_static("s3cr3t"));
    Request {
        url: url.parse().unwrap(),
        method: Method::POST,
        headers,
        body: Bytes::from_static(b"{}"),
        trust: Trust::System,
        within: WITHIN,
    }
}

/// Answers each connection with `answer`, after the request's head was read; ends when dropped.
async fn receiver<F, Fut>(answer: F) -> (String, JoinSet<()>)
where
    F: Fn(TcpStream) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut open = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = head(&mut stream).await;
            open.spawn(answer(stream));
        }
    });
    (url, tasks)
}

async fn head<S: AsyncRead + Unpin>(stream: &mut S) -> std::io::Result<()> {
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\n{}") {
        let mut byte = [0];
        if stream.read(&mut byte).await? == 0 {
            return Ok(());
        }
        seen.push(byte[0]);
    }
    Ok(())
}

async fn say<S: AsyncWrite + Unpin>(stream: &mut S, text: &str) {
    let _ = stream.write_all(text.as_bytes()).await;
    let _ = stream.flush().await;
}

/// One exchange with a receiver that says this and then hangs up.
async fn told(text: &'static str) -> Exchanged {
    let (url, _tasks) =
        receiver(move |mut stream| async move { say(&mut stream, text).await }).await;
    exchange(&clients(&["127.0.0.1"]), &request(&url)).await
}

#[tokio::test]
async fn a_plain_answer_comes_with_its_times_and_its_sender() {
    let exchanged = told("HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\nX-A: b\r\n\r\nok").await;
    assert!(exchanged.is_success());
    let answer = exchanged.answer.unwrap();
    assert_eq!((answer.status, answer.body.as_ref()), (202, &b"ok"[..]));
    assert_eq!(answer.header("x-a"), Some("b"));
    assert!(exchanged.first_byte.unwrap() <= exchanged.duration);
    assert!(exchanged.peer.unwrap().ip().is_loopback());
}

#[tokio::test]
async fn a_redirect_is_told_and_not_followed() {
    let exchanged =
        told("HTTP/1.1 307 X\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n")
            .await;
    assert!(!exchanged.is_success() && exchanged.error.is_none());
    assert_eq!(exchanged.answer.unwrap().status, 307);
}

#[tokio::test]
async fn what_is_no_http_is_a_failure() {
    for nonsense in [
        "",
        "\r\n",
        "hello\r\n\r\n",
        "HTTP/9.9 200\r\n\r\n",
        "220 smtp ready\r\n",
    ] {
        let exchanged = told(nonsense).await;
        assert!(!exchanged.is_success(), "{nonsense:?}");
        assert!(exchanged.answer.is_none(), "{nonsense:?}");
        let error = exchanged.error.unwrap().to_string();
        assert!(!error.contains("/hook"), "{error}");
    }
    let cut = told("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nless").await;
    assert!(!cut.is_success(), "cut in the middle of the body");
    assert_eq!(cut.answer.unwrap().status, 200);
    let early = told("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No\r\n\r\n").await;
    assert!(early.is_success(), "what comes before the answer is none");
}

#[tokio::test]
async fn an_endless_body_is_read_to_its_limit_and_no_further() {
    let (url, _tasks) = receiver(|mut stream| async move {
        say(&mut stream, "HTTP/1.1 200 OK\r\n\r\n").await;
        while stream.write_all(&[b'x'; 16 * 1024]).await.is_ok() {}
    })
    .await;
    let started = Instant::now();
    let exchanged = exchange(&clients(&["127.0.0.1"]), &request(&url)).await;
    assert!(exchanged.is_success() && started.elapsed() < SOON);
    let answer = exchanged.answer.unwrap();
    assert!(answer.is_cut && answer.body.len() == MAX_BODY_BYTES);
}

#[tokio::test]
async fn one_byte_at_a_time_ends_with_the_time_of_the_exchange() {
    let (url, _tasks) = receiver(|mut stream| async move {
        say(
            &mut stream,
            "HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n",
        )
        .await;
        while stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let started = Instant::now();
    let exchanged = exchange(&clients(&["127.0.0.1"]), &request(&url)).await;
    assert!(started.elapsed() >= WITHIN && started.elapsed() < SOON);
    assert_eq!(exchanged.error, Some(ExchangeError::Late(WITHIN)));
    let answer = exchanged.answer.unwrap();
    assert!(answer.status == 200 && !answer.body.is_empty());
}

#[tokio::test]
async fn headers_without_end_are_refused() {
    let (url, _tasks) = receiver(|mut stream| async move {
        say(&mut stream, "HTTP/1.1 200 OK\r\n").await;
        let line = format!("x-flood: {}\r\n", "y".repeat(1000));
        // 10 MB.
        for _ in 0..10_000 {
            if stream.write_all(line.as_bytes()).await.is_err() {
                return;
            }
        }
        say(&mut stream, "\r\n").await;
    })
    .await;
    let started = Instant::now();
    let exchanged = exchange(&clients(&["127.0.0.1"]), &request(&url)).await;
    assert!(
        matches!(exchanged.error, Some(ExchangeError::Failed(_))),
        "{exchanged:?}"
    );
    assert!(exchanged.answer.is_none() && started.elapsed() < SOON);
}

#[tokio::test]
async fn a_receiver_that_says_nothing_costs_the_time_of_the_exchange() {
    let (url, _tasks) = receiver(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let exchanged = exchange(&clients(&["127.0.0.1"]), &request(&url)).await;
    assert_eq!(exchanged.error, Some(ExchangeError::Late(WITHIN)));
    assert!(exchanged.answer.is_none() && exchanged.first_byte.is_none());
}

#[tokio::test]
async fn what_may_not_be_reached_is_sent_nothing() {
    let (url, _tasks) = receiver(|_| async {}).await;
    let port = url.rsplit(':').next().unwrap().to_owned();
    for host in [
        "127.0.0.1",
        "localhost",
        "[::ffff:127.0.0.1]",
        "2130706433",
        "0x7f.1",
    ] {
        let exchanged = exchange(&clients(&[]), &request(&format!("http://{host}:{port}"))).await;
        let error = exchanged.error.unwrap();
        assert!(
            matches!(error, ExchangeError::Blocked(_)),
            "{host}: {error}"
        );
    }
    // Reserved: no name server knows it (RFC 6761).
    let unknown = exchange(&clients(&[]), &request("http://receiver.invalid/")).await;
    let error = unknown.error.unwrap();
    let may_pass = matches!(error, ExchangeError::Failed(_) | ExchangeError::Late(_));
    assert!(
        may_pass,
        "a name that is not found may be found later: {error}"
    );
    let named = clients(&["localhost"]);
    let by_name = exchange(&named, &request(&format!("http://localhost:{port}"))).await;
    assert!(!matches!(by_name.error, Some(ExchangeError::Blocked(_))));
}

/// A TLS receiver with this certificate that answers 200.
async fn secure(made: &certificates::Made) -> (String, JoinSet<()>) {
    let acceptor = TlsAcceptor::from(Arc::new(made.server()));
    let (url, tasks) = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!(
            "https://localhost:{}/hook",
            listener.local_addr().unwrap().port()
        );
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                open.spawn(async move {
                    if let Ok(mut stream) = acceptor.accept(stream).await {
                        let _ = head(&mut stream).await;
                        say(&mut stream, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
                        let _ = stream.shutdown().await;
                    }
                });
            }
        });
        (url, tasks)
    };
    (url, tasks)
}

#[tokio::test]
async fn certificates_are_judged_as_the_receiver_says() {
    let good = certificates::make("localhost", false);
    let elsewhere = certificates::make("other.test", false);
    let expired = certificates::make("localhost", true);
    let stranger = certificates::make("localhost", false);
    let clients = clients(&["127.0.0.1", "localhost"]);
    let mut results = Vec::new();
    for (served, trust) in [
        (&good, Trust::System),
        (&good, Trust::Only(good.ca.clone())),
        (&good, Trust::Only(stranger.ca.clone())),
        (&good, Trust::Anyone),
        (&elsewhere, Trust::Only(elsewhere.ca.clone())),
        (&expired, Trust::Only(expired.ca.clone())),
        (&expired, Trust::Anyone),
    ] {
        let (url, _tasks) = secure(served).await;
        let request = Request {
            trust,
            within: SOON,
            ..request(&url)
        };
        results.push(exchange(&clients, &request).await.is_success());
    }
    assert_eq!(results, [false, true, false, true, false, false, true]);
    assert!(Trust::Only(good.ca).check().is_ok());
    assert!(Trust::Only("nonsense".into()).check().is_err());
}
