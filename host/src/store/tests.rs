//! The store as stages use it: what is kept is kept whole, in order, and the journal can make it again.

mod power_cut;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;

use super::{
    Config, Store, SubmitError,
    change::{
        Change, ChangeError, Refusal,
        accept::{Accept, Tick},
        dead_letter::{DiscardMessage, RetryMessage},
        deliver::{Deliver, DeliverNext},
        deploy::{Deploy, Pause, Remove, Rollback},
        due::Due,
        setting::SetSetting,
        settle::{Next, Settle, Settled},
    },
    frame::{Frame, Op},
    row::{
        Row,
        delivery::DeliveryAttemptRow,
        life::{AttemptRow, LifeRow, OutcomeRow, StatusRow},
        outbox::OutboxKey,
        ready::{ReadyRow, read_ready_key},
        setting::Scope,
        state::state_key,
    },
    sequencer::Sequencer,
    table::Table,
};
use crate::{
    contract::handler::{Effects, Publication, Request},
    model::{
        clock::Clock,
        message::{Content, MessageId},
        name::{Digest, Name},
        position::Chain,
    },
};

mod intake;
mod records;
mod recover;
mod replicate;

const MANIFEST: &str = r#"
name = "a"
version = "1"
[[source]]
name = "in"
kind = "webhook"
[[source]]
name = "tick"
kind = "schedule"
cron = "0 * * * * *"
[[source]]
name = "again"
kind = "message"
[grants]
publish = ["a", "nobody"]
[limits]
queue = 3
"#;

const START_MS: u64 = 1_700_000_000_000;

struct Fixture {
    store: Store,
    clock: Clock,
    dir: tempfile::TempDir,
}

pub(crate) fn config(dir: &std::path::Path) -> Config {
    Config {
        dir: dir.to_owned(),
        cache_bytes: 1 << 20,
        reserve_bytes: 0,
        journal_bytes: u64::MAX,
        kept_bytes: u64::MAX,
        checkpoint_bytes: 1 << 20,
        paired: false,
    }
}

pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn content(source: &str, body: &'static str) -> Content {
    Content {
        source: name(source),
        headers: Vec::new(),
        content_type: None,
        key: None,
        body: Bytes::from_static(body.as_bytes()),
    }
}

fn deploy(component: &'static [u8]) -> Deploy {
    let (manifest, digest) = (MANIFEST.to_owned(), Digest::of(component));
    Deploy { name: name("a"), manifest, component: Bytes::from_static(component), digest }
}

impl Fixture {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::manual(START_MS);
        let store = Store::open(&config(dir.path()), clock.clone()).unwrap();
        store.submit(deploy(b"one")).await.unwrap();
        Self { store, clock, dir }
    }

    /// Closes and opens again.
    fn reopen(self) -> Self {
        let Self { store, clock, dir } = self;
        drop(store);
        let store = Store::open(&config(dir.path()), clock.clone()).unwrap();
        Self { store, clock, dir }
    }

    async fn accept(&self, body: &'static str) -> Result<MessageId, SubmitError> {
        let accept = Accept { solution: name("a"), content: content("in", body) };
        self.store.submit(accept).await.map(|kept| kept.answer)
    }

    /// Ready messages in order.
    fn ready(&self) -> Vec<(u64, ReadyRow)> {
        let mut rows = Vec::new();
        let table = self.store.read().unwrap().table(Table::Ready).unwrap();
        table
            .scan(&[], |key, value| {
                rows.push((read_ready_key(key).unwrap().1, ReadyRow::decode(value)?));
                Ok(true)
            })
            .unwrap();
        rows
    }

    async fn settle(&self, effects: Effects, next: Next) {
        let (ordinal, row) = self.ready()[0];
        let attempt = attempt();
        let settled =
            Settled { ordinal, id: row.id(), earlier: row.attempts, attempt, effects, next };
        self.store
            .submit(Settle { solution_no: 1, attempts: vec![settled], breaker: None })
            .await
            .unwrap();
    }

    fn life(&self, id: MessageId) -> Option<LifeRow> {
        self.store.read().unwrap().get(Table::Lives, &id.0).unwrap()
    }

    fn rows(&self) -> BTreeMap<(Table, Vec<u8>), Vec<u8>> {
        let snapshot = self.store.read().unwrap();
        let mut rows = BTreeMap::new();
        for table in Table::ALL {
            let take = |key: &[u8], value: &[u8]| {
                rows.insert((table, key.to_vec()), value.to_vec());
                Ok(true)
            };
            snapshot.table(table).unwrap().scan(&[], take).unwrap();
        }
        rows
    }

    fn refusal<T: std::fmt::Debug>(outcome: Result<T, SubmitError>) -> Refusal {
        match outcome {
            Err(SubmitError::Refused(refusal)) => refusal,
            other => panic!("not refused: {other:?}"),
        }
    }
}

pub(crate) fn attempt() -> AttemptRow {
    AttemptRow {
        started_ms: 1,
        duration_us: 2,
        revision: 1,
        outcome: OutcomeRow::Done { reply: None },
        log: Vec::new(),
        log_dropped: 0,
        state_written: Vec::new(),
        state_deleted: Vec::new(),
        published: Vec::new(),
        outbox: 0,
    }
}

fn state(key: &str, value: Option<&'static str>) -> (String, Option<Bytes>) {
    (key.to_owned(), value.map(|text| Bytes::from_static(text.as_bytes())))
}

fn publication(solution: &str, after: Option<Duration>) -> Publication {
    Publication { solution: name(solution), content: content("again", "p"), after }
}

/// Meets a fault in the program.
#[derive(Debug)]
struct Panics;

impl Change for Panics {
    type Answer = ();

    fn sequence(self, _: &mut Sequencer<'_, '_>) -> Result<(), ChangeError> {
        panic!("on purpose");
    }
}

/// Else the node would go on answering, and keep nothing, until somebody looks.
#[tokio::test]
async fn a_writer_that_panics_is_a_store_that_failed() {
    let f = Fixture::new().await;
    let told =
        |error: &SubmitError| matches!(error, SubmitError::Closed(why) if why.contains("panicked"));
    let outcome = f.store.submit(Panics).await;
    assert!(outcome.as_ref().is_err_and(told), "{outcome:?}");
    let why = tokio::time::timeout(Duration::from_secs(10), f.store.failed()).await;
    assert!(why.as_ref().is_ok_and(|why| why.contains("panicked")), "{why:?}");
    let outcome = f.accept("later").await;
    assert!(outcome.as_ref().is_err_and(told), "{outcome:?}");
    // What was kept before is there.
    assert_eq!(f.reopen().store.catalogue().borrow().solutions.len(), 1);
}

#[tokio::test]
async fn a_message_is_kept_in_order_and_settled_whole() {
    let f = Fixture::new().await;
    let (first, second) = (f.accept("1").await.unwrap(), f.accept("2").await.unwrap());
    assert!(first < second, "ids sort by acceptance");
    let ids: Vec<_> = f.ready().iter().map(|(_, row)| row.id()).collect();
    assert_eq!(ids, [first, second]);

    let effects = Effects { state: vec![state("k", Some("v"))], ..Effects::default() };
    f.settle(effects, Next::Done).await;
    let f = f.reopen();
    assert_eq!(f.ready().len(), 1);
    assert_eq!(f.life(first).unwrap().status, StatusRow::Done);
    let table = f.store.read().unwrap().table(Table::State).unwrap();
    assert_eq!(table.get_bytes(&state_key(1, "k")).unwrap().unwrap(), "v");

    f.settle(Effects { state: vec![state("k", None)], ..Effects::default() }, Next::Done).await;
    let table = f.store.read().unwrap().table(Table::State).unwrap();
    assert_eq!(table.get_bytes(&state_key(1, "k")).unwrap(), None);
}

#[tokio::test]
async fn the_journal_makes_the_same_rows_and_its_chain_holds() {
    let f = Fixture::new().await;
    for body in ["1", "2", "3"] {
        f.accept(body).await.unwrap();
    }
    let effects = Effects {
        state: vec![state("k", Some("v"))],
        publish: vec![publication("a", Some(Duration::from_secs(1))), publication("nobody", None)],
        ..Effects::default()
    };
    f.settle(effects, Next::Done).await;
    f.settle(Effects::default(), Next::Again { due_ms: f.clock.now_ms() + 5 }).await;
    f.settle(Effects::default(), Next::Dead { reason: "r".into() }).await;
    f.store
        .submit(SetSetting { scope: Scope::Global, name: name("s"), json: "1".into() })
        .await
        .unwrap();

    let mut rows = BTreeMap::new();
    let (mut chain, mut seq) = (Chain::default(), 0);
    let snapshot = f.store.read().unwrap();
    f.store
        .journal(0, |bytes| {
            let frame = Frame::decode(bytes).unwrap();
            seq += 1;
            assert_eq!(frame.position.seq, seq, "no hole");
            chain = chain.next(bytes);
            for op in frame.ops() {
                match op.unwrap() {
                    Op::Put { table, key, value } => {
                        rows.insert((table, key.to_vec()), value.to_vec());
                    }
                    Op::Delete { table, key } => drop(rows.remove(&(table, key.to_vec()))),
                }
            }
            true
        })
        .unwrap();
    let head = snapshot.head().unwrap();
    assert_eq!((head.position.seq, head.chain), (seq, chain));
    assert_eq!(rows, f.rows());
}

#[tokio::test]
async fn the_oldest_frames_go_when_the_journal_is_at_its_bound() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { journal_bytes: 2000, checkpoint_bytes: 300, ..config(dir.path()) };
    let store = Store::open(&config, Clock::system()).unwrap();
    for n in 0..100 {
        let json = format!("\"{n:0100}\"");
        store.submit(SetSetting { scope: Scope::Global, name: name("s"), json }).await.unwrap();
    }
    let (mut first, mut bytes) = (None, 0);
    let count = |frame: &[u8]| {
        first.get_or_insert(Frame::decode(frame).unwrap().position.seq);
        bytes += frame.len();
        true
    };
    store.journal(0, count).unwrap();
    // What only the journal has stays, whatever the bound.
    assert!(first > Some(80) && bytes <= 2500, "{first:?} {bytes}");
    drop(store);
    let store = Store::open(&config, Clock::system()).unwrap();
    store
        .submit(SetSetting { scope: Scope::Global, name: name("s"), json: "1".into() })
        .await
        .unwrap();
    assert_eq!(store.read().unwrap().head().unwrap().position.seq, 101);
}

#[tokio::test]
async fn what_is_refused_leaves_nothing() {
    let f = Fixture::new().await;
    let before = f.rows();
    let to = |solution, source| Accept { solution: name(solution), content: content(source, "") };
    let refused = Fixture::refusal(f.store.submit(to("b", "in")).await);
    assert_eq!(refused, Refusal::UnknownSolution("b".into()));
    let refused = Fixture::refusal(f.store.submit(to("a", "out")).await);
    assert!(matches!(refused, Refusal::UnknownSource { .. }));
    let refused = Fixture::refusal(f.store.submit(to("a", "tick")).await);
    assert!(matches!(refused, Refusal::WrongSourceKind { .. }));
    let rollback = Rollback { name: name("a"), revision: None };
    let refused = Fixture::refusal(f.store.submit(rollback).await);
    assert_eq!(refused, Refusal::NothingToRollBackTo(name("a")));
    let refused = Fixture::refusal(f.store.submit(RetryMessage { id: MessageId([1; 16]) }).await);
    assert_eq!(refused, Refusal::UnknownMessage(MessageId([1; 16])));
    assert_eq!(f.rows(), before);
}

#[tokio::test]
async fn the_queue_has_a_bound_that_survives_a_restart() {
    let f = Fixture::new().await;
    for _ in 0..3 {
        f.accept("").await.unwrap();
    }
    let full = Refusal::QueueFull { solution: name("a"), bound: 3 };
    assert_eq!(Fixture::refusal(f.accept("").await), full);
    let f = f.reopen();
    assert_eq!(Fixture::refusal(f.accept("").await), full);
    f.settle(Effects::default(), Next::Done).await;
    f.accept("").await.unwrap();
    let remove = f.store.submit(Remove { name: name("a") }).await;
    assert_eq!(Fixture::refusal(remove), Refusal::StillQueued { solution: name("a"), queued: 3 });
}

/// The class of its requests went with it, and they were repeated.
#[tokio::test]
async fn a_solution_with_requests_under_way_is_not_removed() {
    let f = Fixture::new().await;
    let id = f.accept("").await.unwrap();
    let request = |url: &str| Request {
        method: "POST".into(),
        url: url.into(),
        headers: Vec::new(),
        body: Bytes::new(),
        order: None,
    };
    let outbox = vec![request("http://a"), request("http://b")];
    f.settle(Effects { outbox, ..Effects::default() }, Next::Done).await;
    let remove = || f.store.submit(Remove { name: name("a") });
    let still = |undelivered| Refusal::StillUndelivered { solution: name("a"), undelivered };
    assert_eq!(Fixture::refusal(remove().await), still(2));
    let keys: Vec<_> = f
        .rows()
        .into_keys()
        .filter(|(table, _)| *table == Table::Outbox)
        .map(|(_, key)| OutboxKey::from_bytes(&key).unwrap())
        .collect();
    let ended = |key, next| {
        let attempt = DeliveryAttemptRow {
            started_ms: 1,
            duration_us: 2,
            status: Some(200),
            error: None,
            answer: Vec::new().into(),
        };
        let (method, url) = ("POST".into(), "http://a".into());
        f.store.submit(Deliver { key, id, solution_no: 1, method, url, attempt, next })
    };
    ended(keys[0], DeliverNext::Again { due_ms: u64::MAX }).await.unwrap();
    ended(keys[1], DeliverNext::Delivered).await.unwrap();
    assert_eq!(Fixture::refusal(remove().await), still(1));
    // A dead letter waits for a person, who may want the solution gone first.
    ended(keys[0], DeliverNext::Dead { reason: "no".into() }).await.unwrap();
    remove().await.unwrap();
}

#[tokio::test]
async fn a_paused_source_takes_nothing_until_it_is_resumed() {
    let f = Fixture::new().await;
    let pause = |reason: Option<&str>| Pause {
        name: name("a"),
        source: Some(name("in")),
        reason: reason.map(str::to_owned),
    };
    f.store.submit(pause(Some("repairs"))).await.unwrap();
    let refused = Fixture::refusal(f.accept("").await);
    assert!(refused.to_string().contains("paused: repairs"), "{refused}");
    f.store.submit(pause(None)).await.unwrap();
    f.accept("").await.unwrap();
}

#[tokio::test]
async fn a_tick_fires_once_per_nominal_time() {
    let f = Fixture::new().await;
    let minutes = |minutes: u64| START_MS + minutes * 60_000;
    let tick = |nominal_ms| Tick { solution: name("a"), nominal_ms, content: content("tick", "") };
    let before = Fixture::refusal(f.store.submit(tick(f.clock.now_ms())).await);
    assert_eq!(before, Refusal::AlreadyFired, "it begins after its deployment");
    f.store.submit(tick(minutes(1))).await.unwrap();
    let again = Fixture::refusal(f.store.submit(tick(minutes(1))).await);
    assert_eq!(again, Refusal::AlreadyFired);
    let f = f.reopen();
    let again = Fixture::refusal(f.store.submit(tick(minutes(1))).await);
    assert_eq!(again, Refusal::AlreadyFired);
    let id = f.store.submit(tick(minutes(2))).await.unwrap().answer;
    assert_eq!(id, MessageId::of_tick(&name("a"), &name("tick"), minutes(2)));
    // Removed and deployed anew: its row is another one, its ids are the same.
    for _ in 0..2 {
        f.settle(Effects::default(), Next::Done).await;
    }
    f.store.submit(Remove { name: name("a") }).await.unwrap();
    f.store.submit(deploy(b"one")).await.unwrap();
    let again = Fixture::refusal(f.store.submit(tick(minutes(2))).await);
    assert_eq!(again, Refusal::AlreadyFired);
}

#[tokio::test]
async fn what_is_due_later_becomes_ready_in_its_time_only() {
    let f = Fixture::new().await;
    let id = f.accept("").await.unwrap();
    let due_ms = f.clock.now_ms() + 1000;
    f.settle(Effects::default(), Next::Again { due_ms }).await;
    assert!(f.ready().is_empty());
    assert_eq!(f.store.submit(Due { now_ms: due_ms - 1 }).await.unwrap().answer, 0);
    let f = f.reopen();
    assert_eq!(f.store.submit(Due { now_ms: due_ms }).await.unwrap().answer, 1);
    let (_, row) = f.ready()[0];
    assert_eq!((row.id(), row.attempts), (id, 1));
    f.settle(Effects::default(), Next::Done).await;
    assert_eq!(f.life(id).unwrap().attempts.len(), 2);
}

#[tokio::test]
async fn a_dead_letter_is_tried_once_more_or_let_go() {
    let f = Fixture::new().await;
    let id = f.accept("").await.unwrap();
    f.settle(Effects::default(), Next::Dead { reason: "bad".into() }).await;
    assert_eq!(f.life(id).unwrap().status, StatusRow::Dead);
    f.store.submit(RetryMessage { id }).await.unwrap();
    let again = Fixture::refusal(f.store.submit(RetryMessage { id }).await);
    assert_eq!(again, Refusal::NotDead(id));
    f.settle(Effects::default(), Next::Dead { reason: "bad".into() }).await;
    f.store.submit(DiscardMessage { id }).await.unwrap();
    assert_eq!(f.store.read().unwrap().len(Table::DeadLetters).unwrap(), 0);
    assert_eq!(f.life(id).unwrap().attempts.len(), 2);
}

#[tokio::test]
async fn what_nobody_can_handle_is_a_dead_letter_and_not_lost() {
    let f = Fixture::new().await;
    f.accept("").await.unwrap();
    let effects = Effects { publish: vec![publication("nobody", None)], ..Effects::default() };
    f.settle(effects, Next::Done).await;
    let snapshot = f.store.read().unwrap();
    assert_eq!(snapshot.len(Table::DeadLetters).unwrap(), 1);
    assert_eq!(snapshot.len(Table::Messages).unwrap(), 2);
    assert!(f.ready().is_empty());
}

#[tokio::test]
async fn versions_are_kept_to_go_back_to_and_blobs_go_with_the_last_that_needs_them() {
    let f = Fixture::new().await;
    let again = f.store.submit(deploy(b"one")).await.unwrap().answer;
    assert!(!again.changed);
    let two = f.store.submit(deploy(b"two")).await.unwrap().answer;
    assert_eq!((two.revision, two.changed), (2, true));
    let back = Rollback { name: name("a"), revision: None };
    assert_eq!(f.store.submit(back).await.unwrap().answer, 1);
    let catalogue: Arc<_> = f.store.catalogue().borrow().clone();
    assert_eq!(catalogue.solution("a").unwrap().digest, Digest::of(b"one"));
    for component in [&b"3"[..], b"4", b"5", b"6", b"7", b"8", b"9", b"10", b"11", b"12"] {
        f.store.submit(deploy(component)).await.unwrap();
    }
    let snapshot = f.store.read().unwrap();
    assert_eq!(snapshot.len(Table::Blobs).unwrap(), 10);
    f.store.submit(Remove { name: name("a") }).await.unwrap();
    assert_eq!(f.store.read().unwrap().len(Table::Blobs).unwrap(), 0);
    // A new solution of that name never gets the number of the old one.
    f.store.submit(deploy(b"one")).await.unwrap();
    let catalogue: Arc<_> = f.store.catalogue().borrow().clone();
    assert_eq!(catalogue.solution("a").unwrap().no, 2);
}

#[tokio::test]
async fn a_disk_below_the_reserve_takes_no_new_messages_but_finishes_the_old() {
    let f = Fixture::new().await;
    let id = f.accept("").await.unwrap();
    let Fixture { store, clock, dir } = f;
    drop(store);
    let config = Config { reserve_bytes: u64::MAX, ..config(dir.path()) };
    let store = Store::open(&config, clock.clone()).unwrap();
    let f = Fixture { store, clock, dir };
    let refused = Fixture::refusal(f.accept("").await);
    assert!(matches!(refused, Refusal::DiskFull { .. }));
    f.settle(Effects::default(), Next::Done).await;
    assert_eq!(f.life(id).unwrap().status, StatusRow::Done);
}
