//! Against real sockets.

#![expect(clippy::disallowed_methods, reason = "a test's tasks end with its runtime")]

use std::{convert::Infallible, net::SocketAddr};

use bytes::Bytes;
use http_body_util::{BodyExt, Collected, Full};
use hyper::service::service_fn;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Notify,
    task::JoinHandle,
};

use super::*;

/// A server that answers with the request's path and body, and at `/wait` waits for `gate` before.
struct Server {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    entered: Arc<Notify>,
    gate: Arc<Notify>,
    ended: JoinHandle<Drained>,
}

impl Server {
    async fn start(config: Config) -> Self {
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, shutdown) = watch::channel(false);
        let (entered, gate) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (at_gate, opened) = (Arc::clone(&entered), Arc::clone(&gate));
        let service = service_fn(move |request: Request<Incoming>| {
            let (at_gate, opened) = (Arc::clone(&at_gate), Arc::clone(&opened));
            async move {
                let path = request.uri().path().to_owned();
                if path == "/early" {
                    return Ok(Response::new(Full::from("early")));
                }
                assert_ne!(path, "/panic", "as the test asked");
                if path == "/wait" {
                    at_gate.notify_one();
                    opened.notified().await;
                }
                let body = request.into_body().collect().await.map(Collected::to_bytes);
                let text = format!("{path} {}", String::from_utf8_lossy(&body.unwrap_or_default()));
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(text))))
            }
        });
        let ended = tokio::spawn(serve(listener, service, shutdown, config));
        Self { address, stop, entered, gate, ended }
    }

    async fn connect(&self) -> Stream {
        Stream::connect(self.address).await.unwrap()
    }
}

async fn ask(stream: &mut Stream, path: &str) -> String {
    send(stream, &format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
    answer(stream).await
}

async fn send(stream: &mut Stream, text: &str) {
    stream.write_all(text.as_bytes()).await.unwrap();
}

/// One answer's head and body; what came until the end if the connection is closed before.
async fn answer(stream: &mut Stream) -> String {
    let mut text = Vec::new();
    loop {
        let shown = String::from_utf8_lossy(&text).into_owned();
        if let Some((head, body)) = shown.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if length.is_none_or(|length| body.len() >= length.parse().unwrap()) {
                return shown;
            }
        }
        match stream.read_u8().await {
            Ok(byte) => text.push(byte),
            Err(_) => return shown,
        }
    }
}

async fn is_closed(stream: &mut Stream) -> bool {
    matches!(stream.read(&mut [0; 64]).await, Ok(0) | Err(_))
}

#[tokio::test]
async fn a_connection_is_kept_for_several_requests_also_pipelined() {
    let server = Server::start(Config::default()).await;
    let mut stream = server.connect().await;
    assert!(ask(&mut stream, "/a").await.ends_with("\r\n\r\n/a "));
    send(&mut stream, "POST /b HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhi").await;
    send(&mut stream, "GET /c HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(answer(&mut stream).await.ends_with("/b hi"));
    assert!(answer(&mut stream).await.ends_with("/c "));
}

#[tokio::test]
async fn an_answer_is_sent_though_the_request_is_not_read() {
    let server = Server::start(Config::default()).await;
    let mut stream = server.connect().await;
    send(&mut stream, "POST /early HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\nbegun")
        .await;
    assert!(answer(&mut stream).await.ends_with("early"));
}

#[tokio::test]
async fn a_panic_costs_its_connection_only() {
    let server = Server::start(Config::default()).await;
    let (mut other, mut stream) = (server.connect().await, server.connect().await);
    assert_eq!(ask(&mut stream, "/panic").await, "");
    assert!(ask(&mut other, "/a").await.ends_with("/a "));
    assert!(ask(&mut server.connect().await, "/b").await.ends_with("/b "));
}

#[tokio::test]
async fn what_is_no_http_is_told_so() {
    let server = Server::start(Config::default()).await;
    let mut stream = server.connect().await;
    send(&mut stream, "GET / HTTP/1.1\r\n\u{1}: x\r\n\r\n").await;
    assert!(answer(&mut stream).await.starts_with("HTTP/1.1 400 "));
}

#[tokio::test]
async fn beyond_the_bound_connections_wait_until_one_ends() {
    let server = Server::start(Config { max_connections: 1, ..Config::default() }).await;
    let mut first = server.connect().await;
    send(&mut first, "GET /wait HTTP/1.1\r\nhost: x\r\n\r\n").await;
    server.entered.notified().await;
    let mut second = server.connect().await;
    send(&mut second, "GET /second HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let not_yet = tokio::time::timeout(Duration::from_millis(50), answer(&mut second)).await;
    assert!(not_yet.is_err(), "{not_yet:?}");
    server.gate.notify_one();
    assert!(answer(&mut first).await.ends_with("/wait "));
    drop(first);
    assert!(answer(&mut second).await.ends_with("/second "));
}

#[tokio::test]
async fn who_does_nothing_makes_room_for_who_comes() {
    let server = Server::start(Config { max_connections: 3, ..Config::default() }).await;
    let mut busy = server.connect().await;
    send(&mut busy, "GET /wait HTTP/1.1\r\nhost: x\r\n\r\n").await;
    server.entered.notified().await;
    let (mut first, mut second) = (server.connect().await, server.connect().await);
    assert!(ask(&mut first, "/1").await.ends_with("/1 "));
    assert!(ask(&mut second, "/2").await.ends_with("/2 "));
    // The place of the one that came first, not of one that waits for its answer.
    let mut third = server.connect().await;
    assert!(ask(&mut third, "/3").await.ends_with("/3 "));
    assert!(is_closed(&mut first).await);
    assert!(ask(&mut second, "/2").await.ends_with("/2 "));
    // Also of those that never asked anything, or not to the end.
    let (mut silent, mut slow) = (server.connect().await, server.connect().await);
    send(&mut slow, "GET /x HTTP/1.1\r\nhost").await;
    let (mut fourth, mut fifth) = (server.connect().await, server.connect().await);
    assert!(ask(&mut fourth, "/4").await.ends_with("/4 "));
    assert!(ask(&mut fifth, "/5").await.ends_with("/5 "));
    assert!(is_closed(&mut silent).await && is_closed(&mut slow).await);
    server.gate.notify_one();
    assert!(answer(&mut busy).await.ends_with("/wait "));
}

#[tokio::test]
async fn a_head_that_does_not_end_is_cut_and_idling_is_not() {
    let config = Config { header_timeout: Duration::from_millis(200), ..Config::default() };
    let server = Server::start(config).await;
    let mut idle = server.connect().await;
    assert!(ask(&mut idle, "/1").await.ends_with("/1 "));
    let (mut silent, mut slow) = (server.connect().await, server.connect().await);
    send(&mut slow, "GET /x HTTP/1.1\r\nhost").await;
    assert!(is_closed(&mut silent).await);
    assert!(is_closed(&mut slow).await);
    // It has been idle for as long as the others took to be cut.
    assert!(ask(&mut idle, "/2").await.ends_with("/2 "));
    send(&mut idle, "GET /3").await;
    assert!(is_closed(&mut idle).await);
}

#[tokio::test]
async fn a_service_that_takes_long_is_not_cut() {
    let config = Config {
        header_timeout: Duration::from_millis(100),
        idle_timeout: Duration::from_millis(100),
        ..Config::default()
    };
    let server = Server::start(config).await;
    let mut waiting = server.connect().await;
    send(&mut waiting, "GET /wait HTTP/1.1\r\nhost: x\r\n\r\n").await;
    server.entered.notified().await;
    // Until another connection has run out of time.
    assert!(is_closed(&mut server.connect().await).await);
    server.gate.notify_one();
    assert!(answer(&mut waiting).await.ends_with("/wait "));
    // And then it idles for too long.
    assert!(is_closed(&mut waiting).await);
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let server = Server::start(Config { header_bytes: 4 << 10, ..Config::default() }).await;
    let mut stream = server.connect().await;
    send(&mut stream, &format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(5 << 10))).await;
    let answer = answer(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[tokio::test]
async fn shutdown_ends_what_is_idle_and_finishes_what_has_begun() {
    let server = Server::start(Config::default()).await;
    let mut idle = server.connect().await;
    assert!(ask(&mut idle, "/1").await.ends_with("/1 "));
    let mut busy = server.connect().await;
    send(&mut busy, "GET /wait HTTP/1.1\r\nhost: x\r\n\r\n").await;
    server.entered.notified().await;

    server.stop.send(true).unwrap();
    assert!(is_closed(&mut idle).await);
    server.gate.notify_one();
    let last = answer(&mut busy).await;
    assert!(last.ends_with("/wait ") && last.contains("connection: close"), "{last}");
    assert!(is_closed(&mut busy).await);
    assert_eq!(server.ended.await.unwrap(), Drained { cut: 0 });
    assert!(Stream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn what_is_not_done_by_the_deadline_is_cut() {
    let server =
        Server::start(Config { drain: Duration::from_millis(20), ..Config::default() }).await;
    let mut busy = server.connect().await;
    send(&mut busy, "GET /wait HTTP/1.1\r\nhost: x\r\n\r\n").await;
    server.entered.notified().await;
    drop(server.stop);
    assert_eq!(server.ended.await.unwrap(), Drained { cut: 1 });
    assert!(is_closed(&mut busy).await);
}
