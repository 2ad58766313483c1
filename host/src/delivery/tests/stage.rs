//! The whole stage: a real store, real receivers, and a lease.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::mpsc,
    time::timeout,
};

use super::super::{self as delivery, Config, Stage, attempt::Next, queue::Effect};
use crate::{
    contract::handler::{Effects, Request},
    lease::Lease,
    model::{clock::Clock, message::Content, name::Digest},
    net::http_client::{self, Client, Roots},
    store::{
        Change, Store,
        change::{
            accept::Accept,
            deploy::Deploy,
            settle::{self, Settle, Settled},
        },
        row::{
            Row,
            delivery::{DeliveryRow, DeliveryStatusRow},
            life::{AttemptRow, OutcomeRow},
            outbox::OutboxKey,
            ready::{ReadyRow, read_ready_key},
        },
        table::Table,
        tests::{config, name},
    },
    tasks::Tasks,
};

const START_MS: u64 = 1_700_000_000_000;
const LONG: Duration = Duration::from_secs(30);
const MANIFEST: &str =
    "name = \"a\"\nversion = \"1\"\n[[source]]\nname = \"in\"\nkind = \"webhook\"\n";

struct Fixture {
    store: Store,
    clock: Clock,
    client: Client,
    _dir: tempfile::TempDir,
}

impl Fixture {
    fn new(clock: Clock) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&config(dir.path()), clock.clone()).unwrap();
        // Of nobody; without any https is not even tried.
        let root = rcgen::generate_simple_self_signed(vec!["nobody".to_owned()]).unwrap();
        let roots = Roots::Only(vec![root.cert.der().clone()]);
        let client = Client::new(&http_client::Config { roots, ..http_client::Config::default() });
        Self { store, clock, client, _dir: dir }
    }

    async fn submit<C: Change>(&self, change: C) -> C::Answer {
        self.store.submit(change).await.unwrap().answer
    }

    async fn deploy(&self) {
        let (manifest, component) = (MANIFEST.to_owned(), Bytes::from_static(b"c"));
        let digest = Digest::of(&component);
        self.submit(Deploy { name: name("a"), manifest, component, digest }).await;
    }

    /// A message is handled, and asks for a request to `url`.
    async fn ask(&self, url: &str) {
        let (source, body) = (name("in"), Bytes::new());
        let content = Content { source, headers: Vec::new(), content_type: None, key: None, body };
        let id = self.submit(Accept { solution: name("a"), content }).await;
        let mut ordinal = 0;
        let ready = self.store.read().unwrap().table(Table::Ready).unwrap();
        let take = |key: &[u8], row: &[u8]| {
            assert_eq!(ReadyRow::decode(row)?.id(), id);
            ordinal = read_ready_key(key).unwrap().1;
            Ok(true)
        };
        ready.scan(&[], take).unwrap();
        let request = Request {
            method: "POST".into(),
            url: url.into(),
            headers: Vec::new(),
            body: Bytes::new(),
            order: None,
        };
        let attempt = AttemptRow {
            started_ms: START_MS,
            duration_us: 1,
            revision: 1,
            outcome: OutcomeRow::Done { reply: None },
            log: Vec::new(),
            log_dropped: 0,
            state_written: Vec::new(),
            state_deleted: Vec::new(),
            outbox: 1,
            published: Vec::new(),
        };
        let effects = Effects { outbox: vec![request], ..Effects::default() };
        let next = settle::Next::Done;
        let settled = Settled { ordinal, id, earlier: 0, attempt, effects, next };
        self.submit(Settle { solution_no: 1, attempts: vec![settled], breaker: None }).await;
    }

    /// Until an attempt is on disk: why it came to nothing.
    async fn failed(&self) -> Option<String> {
        let look = async {
            loop {
                let mut rows = Vec::new();
                let table = self.store.read().unwrap().table(Table::Deliveries).unwrap();
                let take = |_: &[u8], row: &[u8]| {
                    rows.push(DeliveryRow::decode(row)?);
                    Ok(true)
                };
                table.scan(&[], take).unwrap();
                if let Some(row) = rows.pop()
                    && let Some(attempt) = row.attempts.first()
                {
                    assert!(matches!(row.status, DeliveryStatusRow::Again { .. }), "{row:?}");
                    return attempt.error.clone();
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LONG, look).await.expect("it is not attempted")
    }

    fn start(&self, lease: &Arc<Lease>) -> Tasks {
        let (tasks, config) = (Tasks::default(), Config { concurrency: 4, per_target: 4 });
        let (store, client) = (self.store.clone(), self.client.clone());
        delivery::start(config, store, client, self.clock.clone(), Some(lease.clone()), &tasks);
        tasks
    }

    fn stage(&self, concurrency: usize) -> Stage {
        let config = Config { concurrency, per_target: concurrency };
        let (store, client) = (self.store.clone(), self.client.clone());
        Stage::new(&config, store, client, self.clock.clone(), None)
    }
}

/// Nobody knew whose place it was, so it was never free again.
#[tokio::test]
async fn an_attempt_that_panics_frees_its_place_and_comes_again() {
    let mut stage = Fixture::new(Clock::manual(START_MS)).stage(1);
    let key = |ordinal| OutboxKey { ordinal, index: 0 };
    for ordinal in [1, 2] {
        stage.queue.add(key(ordinal), Effect { origin: "a".into(), lane: None }, 0);
    }
    assert_eq!(stage.queue.next(START_MS), Some(key(1)));
    stage.begin(key(1), async { panic!("as a bug does") });
    let done = stage.attempts.join_next_with_id().await.unwrap();
    stage.take_back(done);
    assert_eq!(stage.queue.next(START_MS), Some(key(2)), "its place is free");
    stage.queue.finished(key(2), Next::Over);
    assert_eq!(stage.queue.next(START_MS), None);
    assert_eq!(stage.queue.sleep(START_MS), Some(Duration::from_secs(5)));
    assert!(stage.keys.is_empty());
}

/// Says each request's first line, and answers it well.
async fn receiver() -> (SocketAddr, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = mpsc::channel(8);
    #[expect(clippy::disallowed_methods, reason = "a test's tasks end with its runtime")]
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut text = Vec::new();
            while !text.ends_with(b"\r\n\r\n") {
                text.push(stream.read_u8().await.unwrap());
            }
            let line = String::from_utf8(text).unwrap().lines().next().unwrap().to_owned();
            stream
                .write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")
                .await
                .unwrap();
            tell.send(line).await.unwrap();
        }
    });
    (address, told)
}

#[tokio::test]
async fn no_request_begins_while_the_other_node_leaves_none_to_this_one() {
    let f = Fixture::new(Clock::system());
    f.deploy().await;
    let (address, mut calls) = receiver().await;
    f.ask(&format!("http://{address}/one")).await;
    let lease = Arc::new(Lease::new(LONG));
    let tasks = f.start(&lease);
    let early = timeout(Duration::from_millis(300), calls.recv()).await;
    assert!(early.is_err(), "{early:?}");
    let (number, _) = lease.say();
    lease.hear(1, number);
    let call = timeout(LONG, calls.recv()).await.unwrap().unwrap();
    assert_eq!(call, "POST /one HTTP/1.1");
    tasks.stop(LONG).await;
}

#[tokio::test]
async fn what_the_other_node_may_be_making_waits_and_what_is_new_does_not() {
    let f = Fixture::new(Clock::system());
    f.deploy().await;
    let (address, mut calls) = receiver().await;
    f.ask(&format!("http://{address}/in-doubt")).await;
    let lease = Arc::new(Lease::new(Duration::from_secs(1)));
    lease.begin(true);
    lease.alone(true);
    let (began, rest) = (Instant::now(), lease.rest());
    let tasks = f.start(&lease);
    f.ask(&format!("http://{address}/new")).await;
    for expected in ["POST /new HTTP/1.1", "POST /in-doubt HTTP/1.1"] {
        assert_eq!(timeout(LONG, calls.recv()).await.unwrap().unwrap(), expected);
    }
    assert!(began.elapsed() >= rest, "{:?} of {rest:?}", began.elapsed());
    tasks.stop(LONG).await;
}

/// Connecting may take longer than the other node leaves requests to this one.
#[tokio::test]
async fn a_request_that_has_no_connection_in_time_is_not_sent() {
    let f = Fixture::new(Clock::system());
    f.deploy().await;
    // Nobody answers the handshake.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    f.ask(&format!("https://{}/", listener.local_addr().unwrap())).await;
    let lease = Arc::new(Lease::new(Duration::from_millis(500)));
    let (number, _) = lease.say();
    lease.hear(1, number);
    let tasks = f.start(&lease);
    assert_eq!(f.failed().await.unwrap(), "it was given up before there was a connection");
    tasks.stop(LONG).await;
}
