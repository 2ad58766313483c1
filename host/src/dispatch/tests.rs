//! Lanes over the real store, with handlers written in Rust: orders, retries, breaker, and that whatever runs at the
//! same time comes to what some serial order comes to.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{Config, Dispatch};
use crate::{
    contract::{
        handler::{Effects, Handled, Handler, LoadError, Loader, Log, View},
        manifest::Manifest,
    },
    model::{
        clock::Clock,
        message::{Content, Message, MessageId},
        name::{Digest, Name},
        outcome::Outcome,
    },
    store::{
        self, Store,
        change::{accept::Accept, deploy::Deploy},
        frame::{Frame, Op},
        row::{Row, life::LifeRow, life::StatusRow, state::read_state_key},
        table::Table,
    },
    tasks::Tasks,
};

mod room;
mod timers;

type Body = Box<dyn Fn(&Message, u32, &dyn View) -> (Outcome, Effects) + Send + Sync>;

/// A solution written as a function.
struct Function(Body);

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Function")
    }
}

impl Handler for Function {
    fn handle(&self, message: &Message, attempt: u32, view: &dyn View) -> Handled {
        let (outcome, effects) = (self.0)(message, attempt, view);
        Handled { outcome, effects, log: Log::default(), duration: Duration::ZERO }
    }

    fn may_wait(&self) -> bool {
        false
    }
}

#[derive(Debug)]
struct Only(Arc<Function>);

impl Loader for Only {
    fn load(&self, _: Digest, _: &[u8], _: &Manifest) -> Result<Arc<dyn Handler>, LoadError> {
        Ok(self.0.clone())
    }
}

struct Fixture {
    store: Store,
    dispatch: Arc<Dispatch>,
    tasks: Tasks,
    _dir: tempfile::TempDir,
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// The smallest manifest, and `manifest` after it.
async fn deploy(store: &Store, solution: &str, manifest: &str) {
    let manifest = format!(
        "name = \"{solution}\"\nversion = \"1\"\n[[source]]\nname = \"in\"\nkind = \"webhook\"\n{manifest}"
    );
    let component = Bytes::from_static(b"a function");
    let digest = Digest::of(&component);
    store.submit(Deploy { name: name(solution), manifest, component, digest }).await.unwrap();
}

fn content(source: &str, body: &str) -> Content {
    Content {
        source: name(source),
        headers: Vec::new(),
        content_type: None,
        key: body.split_once(':').map(|(key, _)| key.to_owned()),
        body: Bytes::copy_from_slice(body.as_bytes()),
    }
}

impl Fixture {
    /// Deploys `body` as solution `a`, with `manifest` after the smallest one.
    async fn new(
        manifest: &str,
        body: impl Fn(&Message, u32, &dyn View) -> (Outcome, Effects) + Send + Sync + 'static,
    ) -> Self {
        Self::at(Clock::system(), manifest, body).await
    }

    async fn at(
        clock: Clock,
        manifest: &str,
        body: impl Fn(&Message, u32, &dyn View) -> (Outcome, Effects) + Send + Sync + 'static,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = store::Config {
            dir: dir.path().to_owned(),
            cache_bytes: 4 << 20,
            reserve_bytes: 0,
            journal_bytes: u64::MAX,
            kept_bytes: u64::MAX,
            checkpoint_bytes: 1 << 20,
            paired: false,
        };
        let store = Store::open(&config, clock.clone()).unwrap();
        deploy(&store, "a", manifest).await;
        let tasks = Tasks::default();
        let loader = Arc::new(Only(Arc::new(Function(Box::new(body)))));
        let config = Config { threads: 4, handlers: 16 };
        let dispatch = Dispatch::start(&config, store.clone(), loader, clock, &tasks);
        Self { store, dispatch, tasks, _dir: dir }
    }

    /// Accepts a message for each body, with the part before `:` as its key.
    async fn accept(&self, bodies: &[&str]) -> Vec<MessageId> {
        let mut ids = Vec::new();
        for body in bodies {
            let accept = Accept { solution: name("a"), content: content("in", body) };
            ids.push(self.store.submit(accept).await.unwrap().answer);
        }
        ids
    }

    fn life(&self, id: MessageId) -> Option<LifeRow> {
        self.store.read().unwrap().get(Table::Lives, &id.0).unwrap()
    }

    fn is_over(&self, id: MessageId) -> bool {
        let status = self.life(id).map(|life| life.status);
        matches!(status, Some(StatusRow::Done | StatusRow::Dead))
    }

    async fn until_over(&self, ids: &[MessageId]) {
        let over = async {
            while !ids.iter().all(|id| self.is_over(*id)) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_mins(1), over).await.expect("all are handled");
    }

    async fn stop(self) {
        self.tasks.stop(Duration::from_secs(30)).await;
    }
}

fn done(state: Vec<(String, Option<Bytes>)>) -> (Outcome, Effects) {
    (Outcome::Done { reply: None }, Effects { state, ..Effects::default() })
}

fn failed() -> (Outcome, Effects) {
    (Outcome::Failed { reason: "on purpose".into() }, Effects::default())
}

fn text(message: &Message) -> String {
    String::from_utf8(message.content.body.to_vec()).unwrap()
}

/// Reads and writes keys that the body's number chooses, by list too, so that every write depends on every read.
fn mix(number: u64, get: &dyn Fn(&str) -> u64, list: &dyn Fn(&str) -> u64) -> Vec<(String, u64)> {
    let mut rng = StdRng::seed_from_u64(number);
    let mut sum = number;
    for _ in 0..rng.random_range(0..3) {
        sum = fold(sum, get(&format!("k{}", rng.random_range(0..6))));
    }
    if rng.random_bool(0.2) {
        sum = fold(sum, list("k"));
    }
    let writes = rng.random_range(0..3);
    (0..writes).map(|n| (format!("k{}", rng.random_range(0..6)), sum.wrapping_add(n))).collect()
}

fn number(bytes: Option<Bytes>) -> u64 {
    bytes.map_or(0, |bytes| u64::from_be_bytes(bytes.as_ref().try_into().unwrap()))
}

fn fold(sum: u64, number: u64) -> u64 {
    sum.wrapping_mul(31).wrapping_add(number)
}

/// [`mix`] as a handler.
fn mixing(message: &Message, _: u32, view: &dyn View) -> (Outcome, Effects) {
    let get = |key: &str| {
        // Others get the chance to write in between.
        std::thread::yield_now();
        number(view.state_get(key).unwrap())
    };
    let list = |prefix: &str| {
        let entries = view.state_list(prefix, None, 100).unwrap();
        entries.into_iter().map(|(_, value)| number(Some(value))).fold(7, fold)
    };
    let writes: BTreeMap<_, _> =
        mix(text(message).parse().unwrap(), &get, &list).into_iter().collect();
    let bytes = |n: u64| Some(Bytes::copy_from_slice(&n.to_be_bytes()));
    done(writes.into_iter().map(|(key, n)| (key, bytes(n))).collect())
}

/// What the journal says was handled, run again one after the other, beside what it says was written.
#[derive(Default)]
struct Replay {
    handled: usize,
    serial: BTreeMap<String, u64>,
    stored: BTreeMap<String, u64>,
}

impl Replay {
    fn take(&mut self, op: Op<'_>, numbers: &BTreeMap<[u8; 16], u64>) {
        match op {
            Op::Put { table: Table::Lives, key, .. } => {
                let get = |key: &str| self.serial.get(key).copied().unwrap_or(0);
                let list = |_: &str| self.serial.values().copied().fold(7, fold);
                let id: [u8; 16] = key.try_into().unwrap();
                let writes = mix(numbers[&id], &get, &list);
                self.serial.extend(writes);
                self.handled += 1;
            }
            Op::Put { table: Table::State, key, value } => {
                let (_, key) = read_state_key(key).unwrap();
                let value = u64::from_be_bytes(value.try_into().unwrap());
                self.stored.insert(key.to_owned(), value);
            }
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_at_the_same_time_comes_to_what_a_serial_order_comes_to() {
    for seed in 0..6_u64 {
        let handling = "[handling]\norder = \"none\"\nconcurrency = 8\n";
        let f = Fixture::new(handling, mixing).await;
        let bodies: Vec<String> = (0..400).map(|n| (seed * 1000 + n).to_string()).collect();
        let ids = f.accept(&bodies.iter().map(String::as_str).collect::<Vec<_>>()).await;
        f.until_over(&ids).await;

        let numbers = ids.iter().map(|id| id.0).zip((0..400).map(|n| seed * 1000 + n)).collect();
        let mut replay = Replay::default();
        let take = |frame: &[u8]| {
            let frame = Frame::decode(frame).unwrap();
            frame.ops().for_each(|op| replay.take(op.unwrap(), &numbers));
            true
        };
        f.store.journal(0, take).unwrap();
        assert_eq!(replay.handled, ids.len(), "seed {seed}: each once");
        assert_eq!(replay.stored, replay.serial, "seed {seed}");
        f.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_counter_that_all_write_counts_each_message_once() {
    let handling = "[handling]\norder = \"none\"\nconcurrency = 16\n";
    let f = Fixture::new(handling, |_, _, view| {
        let n = number(view.state_get("n").unwrap());
        std::thread::yield_now();
        done(vec![("n".into(), Some(Bytes::copy_from_slice(&(n + 1).to_be_bytes())))])
    })
    .await;
    let ids = f.accept(&["x"; 300]).await;
    f.until_over(&ids).await;
    let table = f.store.read().unwrap().table(Table::State).unwrap();
    assert_eq!(number(table.get_bytes(&store::row::state::state_key(1, "n")).unwrap()), 300);
    f.stop().await;
}

/// The order in which messages began, as the handler saw it.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<String>>>);

impl Seen {
    fn note(&self, message: &Message) {
        self.0.lock().unwrap().push(text(message));
    }

    fn of(&self, key: &str) -> Vec<String> {
        self.0.lock().unwrap().iter().filter(|text| text.starts_with(key)).cloned().collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_keep_their_order_and_do_not_wait_for_each_other() {
    let seen = Seen::default();
    let (open, gate) = std::sync::mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let noted = seen.clone();
    let handling = "[handling]\norder = \"key\"\nconcurrency = 4\n";
    let f = Fixture::new(handling, move |message, _, _| {
        if text(message) == "slow:1" {
            gate.lock().unwrap().recv().ok();
        }
        noted.note(message);
        done(Vec::new())
    })
    .await;
    let slow = f.accept(&["slow:1", "slow:2", "slow:3"]).await;
    let quick = f.accept(&["b:1", "c:1", "b:2", "c:2", "b:3", "nokey"]).await;
    f.until_over(&quick).await;
    assert_eq!(seen.of("b:"), ["b:1", "b:2", "b:3"]);
    assert_eq!(seen.of("c:"), ["c:1", "c:2"]);
    assert!(seen.of("slow").is_empty(), "they wait for the first of their key");
    open.send(()).unwrap();
    f.until_over(&slow).await;
    assert_eq!(seen.of("slow:"), ["slow:1", "slow:2", "slow:3"]);
    f.stop().await;
}

async fn order_through_a_retry(retry: &str) -> Vec<String> {
    let seen = Seen::default();
    let noted = seen.clone();
    let f = Fixture::new(retry, move |message, attempt, _| {
        noted.note(message);
        if text(message) == "a:1" && attempt == 1 { failed() } else { done(Vec::new()) }
    })
    .await;
    let ids = f.accept(&["a:1", "a:2"]).await;
    f.until_over(&ids).await;
    let order = seen.of("a:");
    f.stop().await;
    order
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_holds_back_what_is_behind_it_only_if_asked() {
    let retry = "[retry]\nbackoff = \"100ms\"\n";
    assert_eq!(order_through_a_retry(retry).await, ["a:1", "a:2", "a:1"]);
    let blocking = "[retry]\nbackoff = \"100ms\"\nblocks = \"key\"\n";
    assert_eq!(order_through_a_retry(blocking).await, ["a:1", "a:1", "a:2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_solution_that_only_fails_is_left_alone_and_others_are_not() {
    let retry = "[retry]\nattempts = 3\nbackoff = \"1ms\"\nmax_backoff = \"1ms\"\nbreaker = 4\n";
    let seen = Seen::default();
    let noted = seen.clone();
    let f = Fixture::new(retry, move |message, _, _| {
        noted.note(message);
        failed()
    })
    .await;
    f.accept(&["1", "2", "3", "4", "5", "6", "7", "8"]).await;
    let open = async {
        while f.dispatch.condition(1).is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), open).await.expect("the breaker opens");
    assert!(f.dispatch.condition(1).unwrap().contains("failed one after another"));
    let made = seen.0.lock().unwrap().len();
    assert_eq!(made, 4, "not one attempt more");
    let row = f.store.read().unwrap().get(Table::Breakers, &1_u32.to_be_bytes()).unwrap();
    let row: store::row::breaker::BreakerRow = row.expect("it survives a restart");
    assert_eq!((row.opened, row.failures), (1, 4));
    assert_eq!(store::row::breaker::BreakerRow::decode(&row.encode()).unwrap(), row);
    f.stop().await;
}
