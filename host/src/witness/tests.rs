//! Both backends through the client, as a node asks them: real connections, real files.

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use proptest::prelude::*;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    runtime::Runtime,
    sync::watch,
    task::JoinSet,
};

use super::{register::Register, *};
use crate::{
    machine::Listener,
    model::pair::{InSync, StoreId},
};

const PAIR: PairId = PairId([0xa1; 16]);
const A: StoreId = StoreId([1; 16]);
const B: StoreId = StoreId([2; 16]);
const BEGIN: Ask = Ask::Begin { owner: A, epoch: 1 };

/// A witness that serves until this goes.
struct Serving {
    address: SocketAddr,
    _stop: watch::Sender<bool>,
    _server: JoinSet<()>,
}

async fn serve(dir: &Path, pairs_max: u64) -> Serving {
    let register = Register::open(dir, pairs_max).unwrap();
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = watch::channel(false);
    let mut server = JoinSet::new();
    server.spawn(async { server::serve(listener, register, stopped).await.unwrap() });
    Serving { address, _stop: stop, _server: server }
}

fn at(address: SocketAddr, token: Option<&str>) -> Witness {
    let token = token.map(|text| Token::new(text).unwrap());
    // A busy machine is no silent witness.
    let timeout = Duration::from_mins(1);
    let place = Place::Server(address.to_string());
    Witness::new(&Config { token, timeout, connect_timeout: timeout, ..Config::new(place) })
}

fn in_folder(dir: &TempDir) -> Witness {
    let place = Place::Folder(dir.path().to_owned());
    Witness::new(&Config { timeout: Duration::from_mins(1), ..Config::new(place) })
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap()
}

/// What a node may want, whatever the record is.
#[derive(Debug, Clone, Copy)]
enum Wish {
    Read,
    Begin,
    Acquire { alone: bool },
    SetInSync { both: bool },
    Transfer,
}

impl Wish {
    /// As a node asks that has seen this record.
    fn ask(self, owner: StoreId, seen: Option<Record>) -> Ask {
        let other = if owner == A { B } else { A };
        let (epoch, version) = seen.map_or((1, 0), |record| (record.epoch, record.version));
        match self {
            Self::Read => Ask::Read,
            Self::Begin => Ask::Begin { owner, epoch: 1 },
            Self::Acquire { alone } => Ask::Acquire { candidate: owner, seen_epoch: epoch, alone },
            Self::SetInSync { both } => {
                let in_sync = if both { InSync::Both(owner, other) } else { InSync::Only(owner) };
                Ask::SetInSync { owner, epoch, version, in_sync }
            }
            Self::Transfer => Ask::Transfer { owner, epoch, version, to: other },
        }
    }
}

/// One ask and what came of it, with when by a clock that all share.
#[derive(Debug, Clone, Copy)]
struct Done {
    ask: Ask,
    began: u64,
    ended: u64,
    told: Option<Record>,
}

/// All at once, each its wishes one after the other; the even ones are node A, the others B.
async fn race(clients: Vec<(Witness, Vec<Wish>)>) -> Vec<Vec<Done>> {
    let clock = Arc::new(AtomicU64::new(0));
    let mut racing = JoinSet::new();
    for (number, (witness, wishes)) in clients.into_iter().enumerate() {
        let clock = clock.clone();
        racing.spawn(async move {
            let (mut seen, mut history) = (None, Vec::new());
            for wish in wishes {
                let ask = wish.ask(if number % 2 == 0 { A } else { B }, seen);
                let began = clock.fetch_add(1, Ordering::SeqCst);
                seen = witness.ask(PAIR, &ask).await.unwrap();
                let ended = clock.fetch_add(1, Ordering::SeqCst);
                history.push(Done { ask, began, ended, told: seen });
            }
            history
        });
    }
    racing.join_all().await
}

/// When who asked is told the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// As the ask left it.
    AtOnce,
    /// As it is then or a moment later.
    Then,
}

/// Where a serial order stands: of each client the asks that are over, and whether the next has taken effect already.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Standing {
    record: Option<Record>,
    clients: Vec<(usize, bool)>,
}

/// Whether the asks, each somewhere between its beginning and its end, have a serial order that tells everybody what
/// they were told.
fn has_serial_order(histories: &[Vec<Done>], told: Told) -> bool {
    let begin = Standing { record: None, clients: vec![(0, false); histories.len()] };
    let (mut open, mut known) = (vec![begin], HashSet::new());
    while let Some(standing) = open.pop() {
        let next = |client: usize| histories[client].get(standing.clients[client].0).copied();
        let clients = 0..histories.len();
        let Some(first_end) = clients.clone().filter_map(next).map(|done| done.ended).min() else {
            return true;
        };
        for client in clients {
            let Some(done) = next(client).filter(|done| done.began < first_end) else { continue };
            let mut then = standing.clone();
            let (over, in_effect) = &mut then.clients[client];
            if !*in_effect {
                then.record = Record::after(then.record.as_ref(), &done.ask).or(then.record);
            }
            if *in_effect || told == Told::AtOnce {
                if then.record != done.told {
                    continue;
                }
                (*over, *in_effect) = (*over + 1, false);
            } else {
                *in_effect = true;
            }
            if known.insert(then.clone()) {
                open.push(then);
            }
        }
    }
    false
}

/// No two records of the same epoch and version; no two owners of an epoch.
fn has_one_winner_each(histories: &[Vec<Done>]) -> bool {
    let told: HashSet<Record> = histories.iter().flatten().filter_map(|done| done.told).collect();
    let states: HashSet<_> = told.iter().map(|r| (r.epoch, r.version)).collect();
    let epochs: HashSet<_> = told.iter().map(|record| record.epoch).collect();
    let owners: HashSet<_> = told.iter().map(|record| (record.epoch, record.owner)).collect();
    states.len() == told.len() && owners.len() == epochs.len()
}

#[test]
fn a_history_without_a_serial_order_is_found() {
    let record = |owner, epoch| Record { epoch, owner, in_sync: InSync::Both(A, B), version: 0 };
    let begin = Ask::Begin { owner: A, epoch: 1 };
    let first = Record { in_sync: InSync::Only(A), ..record(A, 1) };
    let grow = Ask::SetInSync { owner: A, epoch: 1, version: 0, in_sync: InSync::Both(A, B) };
    let acquire = |candidate| Ask::Acquire { candidate, seen_epoch: 1, alone: false };
    let done = |ask, began, ended, told| Done { ask, began, ended, told: Some(told) };
    let both = Record { version: 1, ..record(A, 1) };
    let history = |a: Record, b: Record| {
        vec![
            vec![done(begin, 0, 1, first), done(grow, 2, 3, both), done(acquire(A), 4, 7, a)],
            vec![done(acquire(B), 5, 6, b)],
        ]
    };
    for told in [Told::AtOnce, Told::Then] {
        assert!(has_serial_order(&history(record(A, 2), record(A, 2)), told));
        assert!(has_serial_order(&history(record(B, 2), record(B, 2)), told));
        // Two winners, and one who is told what was before.
        let two = history(record(A, 2), record(B, 2));
        assert!(!has_serial_order(&two, told) && !has_one_winner_each(&two));
        assert!(!has_serial_order(&history(record(A, 2), both), told));
    }
    // Told what another made of it since.
    let read = done(Ask::Read, 8, 9, record(B, 2));
    let mut later = history(both, record(B, 2));
    later[0][2] = read;
    later[0][1].told = Some(record(B, 2));
    later[0][1].ended = 7;
    assert!(has_serial_order(&later, Told::Then) && !has_serial_order(&later, Told::AtOnce));
}

fn wishes() -> impl Strategy<Value = Vec<Vec<Wish>>> {
    let wish = prop_oneof![
        1 => Just(Wish::Read),
        1 => Just(Wish::Begin),
        3 => any::<bool>().prop_map(|alone| Wish::Acquire { alone }),
        4 => prop::bool::weighted(0.8).prop_map(|both| Wish::SetInSync { both }),
        1 => Just(Wish::Transfer),
    ];
    // Who has seen nothing yet can only begin.
    let mut first = prop::collection::vec(wish, 3..10).boxed();
    first = first.prop_map(|wishes| [vec![Wish::Begin], wishes].concat()).boxed();
    prop::collection::vec(first, 4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn asks_of_a_server_have_a_serial_order(wishes in wishes()) {
        let dir = tempfile::tempdir().unwrap();
        let histories = runtime().block_on(async {
            let server = serve(dir.path(), 10).await;
            let clients = wishes.into_iter().map(|wishes| (at(server.address, None), wishes));
            race(clients.collect()).await
        });
        prop_assert!(has_one_winner_each(&histories), "{histories:#?}");
        prop_assert!(has_serial_order(&histories, Told::AtOnce), "{histories:#?}");
    }

    #[test]
    fn asks_of_a_folder_have_a_serial_order(wishes in wishes()) {
        let dir = tempfile::tempdir().unwrap();
        let clients = wishes.into_iter().map(|wishes| (in_folder(&dir), wishes));
        let histories = runtime().block_on(race(clients.collect()));
        prop_assert!(has_one_winner_each(&histories), "{histories:#?}");
        prop_assert!(has_serial_order(&histories, Told::Then), "{histories:#?}");
    }
}

#[tokio::test]
async fn a_pair_is_asked_for_with_the_token_that_it_began_with() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(dir.path(), 10).await;
    let right = at(server.address, Some("s3cret"));
    assert_eq!(right.ask(PAIR, &Ask::Read).await.unwrap(), None);
    let begun = right.ask(PAIR, &BEGIN).await.unwrap();
    assert!(begun.is_some());
    for wrong in [None, Some("s3cre"), Some("S3cret")] {
        for ask in [Ask::Read, BEGIN, Ask::Acquire { candidate: A, seen_epoch: 1, alone: true }] {
            let error = at(server.address, wrong).ask(PAIR, &ask).await.unwrap_err();
            let WitnessError::Refused { status: 403, code, .. } = &error else {
                panic!("{wrong:?} {ask:?}: {error}");
            };
            assert_eq!(code, "wrong-token");
        }
    }
    assert_eq!(right.ask(PAIR, &Ask::Read).await.unwrap(), begun, "who is refused changes nothing");

    let open = PairId([0xb2; 16]);
    at(server.address, None).ask(open, &BEGIN).await.unwrap();
    assert!(at(server.address, None).ask(open, &Ask::Read).await.unwrap().is_some());
    assert!(right.ask(open, &Ask::Read).await.is_err(), "the other node has no token");
}

#[tokio::test]
async fn a_witness_takes_so_many_pairs() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(dir.path(), 2).await;
    let witness = at(server.address, None);
    let pairs = [1, 2, 3].map(|number| PairId([number; 16]));
    for pair in &pairs[..2] {
        witness.ask(*pair, &BEGIN).await.unwrap();
    }
    let error = witness.ask(pairs[2], &BEGIN).await.unwrap_err();
    assert!(matches!(&error, WitnessError::Refused { status: 507, .. }), "{error}");
    assert_eq!(witness.ask(pairs[2], &Ask::Read).await.unwrap(), None);
    let acquire = Ask::Acquire { candidate: A, seen_epoch: 1, alone: true };
    assert_eq!(witness.ask(pairs[1], &acquire).await.unwrap().unwrap().epoch, 2);
}

#[tokio::test]
async fn a_witness_that_is_not_there_is_an_error_in_time() {
    let ask_at = async |address: SocketAddr| {
        let timeout = Duration::from_millis(200);
        let place = Place::Server(address.to_string());
        let witness = Witness::new(&Config { timeout, ..Config::new(place) });
        witness.ask(PAIR, &Ask::Read).await.unwrap_err()
    };
    let silent = Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = silent.local_addr().unwrap();
    let error = ask_at(address).await;
    let WitnessError::NoAnswer { at, source: CallError::TimedOut { .. } } = &error else {
        panic!("{error}");
    };
    assert_eq!(*at, address.to_string());
    drop(silent);
    let error = ask_at(address).await;
    assert!(
        matches!(&error, WitnessError::NoAnswer { source: CallError::Refused(_), .. }),
        "{error}"
    );
}

#[tokio::test]
async fn another_server_is_no_witness() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 302 Found\r\ncontent-length: 0\r\n\r\n",
    ] {
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut other = JoinSet::new();
        other.spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            // An answer that is there before its question would be none.
            stream.read_u8().await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            // Until who asks has gone, so that nothing is cut off.
            tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.ok();
        });
        let error = at(address, None).ask(PAIR, &Ask::Read).await.unwrap_err();
        assert!(matches!(&error, WitnessError::Strange { .. }), "{error}");
    }
}

#[test]
fn a_token_has_printable_characters_and_does_not_show() {
    for wrong in ["", "a b", "a\n", "ä", &"x".repeat(513)] {
        assert_eq!(Token::new(wrong), Err(BadToken), "{wrong}");
    }
    assert_eq!(format!("{:?}", Token::new("s3cret").unwrap()), "Token(…)");
}

/// `cargo test -p tandem --lib how_long_an_ask_takes -- --ignored --nocapture`
#[test]
#[ignore = "it measures"]
fn how_long_an_ask_takes() {
    async fn median(witness: Witness) -> Duration {
        witness.ask(PAIR, &BEGIN).await.unwrap();
        let in_sync = InSync::Both(A, B);
        let grow = Ask::SetInSync { owner: A, epoch: 1, version: 0, in_sync };
        witness.ask(PAIR, &grow).await.unwrap();
        let mut took = Vec::new();
        for epoch in 1..=200 {
            let candidate = if epoch % 2 == 0 { A } else { B };
            let ask = Ask::Acquire { candidate, seen_epoch: epoch, alone: false };
            let began = Instant::now();
            let record = witness.ask(PAIR, &ask).await.unwrap().unwrap();
            took.push(began.elapsed());
            assert_eq!((record.epoch, record.owner), (epoch + 1, candidate));
        }
        took.sort();
        took[took.len() / 2]
    }
    let (dir, shared) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    runtime().block_on(async {
        let server = serve(dir.path(), 10).await;
        eprintln!("server: {:?}", median(at(server.address, None)).await);
        eprintln!("folder: {:?}", median(in_folder(&shared)).await);
    });
}
