//! The third of pairs as a process: killed again and again, wiped, set back; and what it refuses.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    sync::{
        Mutex, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use serde_json::json;
use tandem::model::pair::{Ask, InSync, PairId, Record, StoreId};
use tandem_tests::{Request, Response, WitnessUnderTest, http::Body, wait_until};

use crate::TANDEM;

const PAIR: PairId = PairId([0xa1; 16]);
const A: StoreId = StoreId([1; 16]);
const B: StoreId = StoreId([2; 16]);
const BEGIN: Ask = Ask::Begin { owner: A, epoch: 1 };
const KILLS: usize = 25;

fn request(pair: PairId, ask: &Ask) -> Request {
    Request::post(&format!("/v1/pairs/{pair}"), serde_json::to_vec(ask).unwrap())
}

fn record(response: &Response) -> Option<Record> {
    serde_json::from_value(response.clone().expect(200).json()["record"].clone()).unwrap()
}

#[track_caller]
fn ask(witness: &WitnessUnderTest, ask: &Ask) -> Option<Record> {
    record(&request(PAIR, ask).send(witness.address).unwrap())
}

/// Changes of one pair's record come in this order.
type Order = (u64, u64);

fn order(record: &Record) -> Order {
    (record.epoch, record.version)
}

/// What all who ask know of a pair.
#[derive(Default)]
struct Known {
    records: Mutex<BTreeMap<Order, Record>>,
}

impl Known {
    fn last(&self) -> Option<Record> {
        self.records.lock().unwrap().last_key_value().map(|(_, record)| *record)
    }

    /// It was told by the witness after `before` had been.
    fn add(&self, before: Option<Record>, told: Option<Record>) {
        let Some(told) = told else {
            assert_eq!(before, None, "the record is gone");
            return;
        };
        assert!(
            before.is_none_or(|before| order(&before) <= order(&told)),
            "{before:?}, then {told:?}"
        );
        let other = self.records.lock().unwrap().insert(order(&told), told);
        assert!(other.is_none_or(|other| other == told), "two winners: {other:?} and {told:?}");
    }
}

/// One node of a pair that wants to be primary all the time.
fn compete(
    pair: PairId,
    (own, other): (StoreId, StoreId),
    known: &Known,
    address: &RwLock<Option<SocketAddr>>,
    stop: &AtomicBool,
) {
    while !stop.load(Ordering::Relaxed) {
        let Some(address) = *address.read().unwrap() else {
            thread::yield_now();
            continue;
        };
        let before = known.last();
        let ask = match before {
            None => Ask::Begin { owner: own, epoch: 1 },
            Some(Record { epoch, owner, in_sync: InSync::Only(_), version, .. })
                if owner == own =>
            {
                Ask::SetInSync { owner, epoch, version, in_sync: InSync::Both(own, other) }
            }
            Some(Record { epoch, owner, version, .. }) if owner == own && version == 1 => {
                Ask::SetInSync { owner, epoch, version, in_sync: InSync::Only(own) }
            }
            Some(Record { epoch, in_sync, .. }) if in_sync.has(own) => {
                Ask::Acquire { candidate: own, seen_epoch: epoch, alone: epoch % 3 == 0 }
            }
            Some(_) => Ask::Read,
        };
        // No answer: whether it was granted is open.
        if let Ok(response) = request(pair, &ask).send(address) {
            known.add(before, record(&response));
        }
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "when a kill comes is chance")]
fn what_was_granted_outlasts_kills() {
    let mut witness = TANDEM.witness();
    let pairs = [PAIR, PairId([0xb2; 16])].map(|pair| (pair, Known::default()));
    let (address, stop) = (RwLock::default(), AtomicBool::new(false));
    let changes =
        || -> usize { pairs.iter().map(|(_, known)| known.records.lock().unwrap().len()).sum() };
    thread::scope(|scope| {
        let _stop = StopAtEnd(&stop);
        for (pair, known) in &pairs {
            for nodes in [(A, B), (B, A)] {
                let (address, stop) = (&address, &stop);
                scope.spawn(move || compete(*pair, nodes, known, address, stop));
            }
        }
        for kill in 0..KILLS {
            let (before, enough) = (changes(), rand::random_range(1..30));
            *address.write().unwrap() = Some(witness.address);
            wait_until(&format!("{enough} changes before kill {kill}"), || {
                changes() >= before + enough
            });
            thread::sleep(Duration::from_micros(rand::random_range(0..10_000)));
            witness.kill9();
            *address.write().unwrap() = None;
            witness.run();
        }
    });
    for (pair, known) in &pairs {
        let told = record(&request(*pair, &Ask::Read).send(witness.address).unwrap());
        known.add(known.last(), told);
    }
}

struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_witness_that_is_wiped_or_set_back_tells_what_it_has() {
    let mut witness = TANDEM.witness();
    let first = ask(&witness, &BEGIN).unwrap();
    assert_eq!(witness.stop(), Some(0));
    assert!(!witness.data_dir().join("listen").exists());
    let copy = fs::read(witness.file()).unwrap();
    witness.run();
    assert_eq!(ask(&witness, &Ask::Read), Some(first));
    let acquire = Ask::Acquire { candidate: A, seen_epoch: 1, alone: true };
    let second = ask(&witness, &acquire).unwrap();
    assert_eq!(second.epoch, 2);

    witness.kill9();
    fs::write(witness.file(), copy).unwrap();
    witness.run();
    assert_eq!(ask(&witness, &Ask::Read), Some(first), "the nodes see that it is older");

    witness.kill9();
    fs::remove_dir_all(witness.data_dir()).unwrap();
    witness.run();
    assert_eq!(ask(&witness, &Ask::Read), None);
    assert_eq!(ask(&witness, &acquire), None);
    let again = ask(&witness, &Ask::Begin { owner: B, epoch: 7 }).unwrap();
    assert_eq!((again.epoch, again.owner), (7, B));
}

#[test]
fn what_a_witness_refuses() {
    let witness = TANDEM.witness();
    let send = |request: Request| request.send(witness.address).unwrap();
    let path = format!("/v1/pairs/{PAIR}");
    send(Request::new("GET", "/nowhere")).problem(404, "unknown-path");
    send(Request::new("GET", "/v1/pairs/a1")).problem(400, "bad-path");
    send(Request::new("DELETE", &path)).problem(405, "method-not-allowed");
    send(Request::post("/healthz", "")).problem(405, "method-not-allowed");
    send(Request::post(&path, "{}")).problem(400, "bad-body");
    send(Request::post(&path, "\"begin\"")).problem(400, "bad-body");
    send(Request::post(&path, vec![b' '; 5000])).problem(413, "body-too-large");
    let chunks = Body::Chunked(vec![b' '; 5000], 100);
    send(Request::post(&path, "").body(chunks)).problem(413, "body-too-large");

    assert_eq!(send(Request::new("GET", "/healthz")).expect(200).text(), "ok\n");
    assert_eq!(send(Request::new("GET", &path)).expect(200).json(), json!({ "record": null }));
    let token = |request: Request, token: &str| send(request.header("authorization", token));
    let begun = token(request(PAIR, &BEGIN), "Bearer s3cret").expect(200).json();
    let id = "01010101010101010101010101010101";
    let expected = json!({
        "epoch": 1, "owner": id, "in_sync": { "only": id }, "version": 0
    });
    assert_eq!(begun["record"], expected);
    let read = || Request::new("GET", &path);
    assert_eq!(token(read(), "Bearer s3cret").expect(200).json(), begun);
    token(read(), "Bearer other").problem(403, "wrong-token");
    send(read()).problem(403, "wrong-token");
}

#[test]
fn a_witness_that_cannot_start_says_why() {
    let mut witness = TANDEM.witness();
    let folder = tempfile::tempdir().unwrap();
    let start = |data_dir: &str, listen: &str| {
        let arguments = ["witness", "--data-dir", data_dir, "--listen", listen];
        TANDEM.run(folder.path(), &arguments).expect(1).err
    };
    let data_dir = witness.data_dir().display().to_string();
    let told = start(&data_dir, "127.0.0.1:0");
    assert!(told.contains("in use by another process"), "{told}");
    let told = start("other", &witness.address.to_string());
    assert!(told.contains("cannot listen on"), "{told}");
    witness.kill9();
    fs::write(witness.file(), "not a witness's").unwrap();
    let told = start(&data_dir, "127.0.0.1:0");
    assert!(told.contains("cannot be read as a witness's"), "{told}");
}
