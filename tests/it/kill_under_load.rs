//! The node is killed again and again while senders send: nothing with a receipt is lost, nothing is done twice.

use std::{
    collections::BTreeMap,
    env,
    net::SocketAddr,
    sync::{
        Mutex, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use serde_json::json;
use tandem_tests::{
    NodeUnderTest, Receiver, Request, Solution,
    audit::{check_receipts, wait_until_idle},
    wait_until,
};

use crate::TANDEM;

/// Rounds, unless `TANDEM_KILL_ROUNDS` says otherwise.
const ROUNDS: u32 = 40;
const SENDERS: usize = 4;

/// What the senders know.
#[derive(Default)]
struct Senders {
    address: RwLock<Option<SocketAddr>>,
    stop: AtomicBool,
    next: AtomicU64,
    /// By id of the receipt: the body that was sent.
    receipts: Mutex<BTreeMap<String, String>>,
}

impl Senders {
    #[expect(clippy::disallowed_methods, reason = "nothing is there to send to, for a while")]
    fn send(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            let Some(address) = *self.address.read().unwrap() else {
                thread::sleep(Duration::from_millis(5));
                continue;
            };
            let body = format!("body {}", self.next.fetch_add(1, Ordering::Relaxed));
            // No answer, no receipt: what came of such a message is open.
            let Ok(response) = Request::post("/hooks/lean/in", body.clone()).send(address) else {
                continue;
            };
            let id = response.expect(202).json()["id"].as_str().unwrap().to_owned();
            let before = self.receipts.lock().unwrap().insert(id, body);
            assert_eq!(before, None, "an id was given twice");
        }
    }
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "how long a run is, and when a kill comes, is chance"
)]
fn every_receipt_is_done_once() {
    let rounds =
        env::var("TANDEM_KILL_ROUNDS").ok().map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    let (mut node, receiver) = (TANDEM.node(), Receiver::start());
    node.deploy(&Solution::lean().with("[delivery]\nattempts = 100\nbackoff = \"20ms\""));
    node.set("lean", "sink", &json!(receiver.url("/sink")));

    let senders = Senders::default();
    thread::scope(|scope| {
        // Also if something fails below: the scope waits for its threads.
        let _stop = StopAtEnd(&senders.stop);
        for _ in 0..SENDERS {
            scope.spawn(|| senders.send());
        }
        for round in 0..rounds {
            *senders.address.write().unwrap() = Some(node.address);
            let (before, enough) =
                (senders.receipts.lock().unwrap().len(), rand::random_range(1..150));
            wait_until(&format!("round {round} has {enough} receipts"), || {
                senders.receipts.lock().unwrap().len() >= before + enough
            });
            thread::sleep(Duration::from_micros(rand::random_range(0..20_000)));
            node.kill9();
            *senders.address.write().unwrap() = None;
            node.run();
        }
    });
    audit(&node, &receiver, &senders.receipts.into_inner().unwrap());
}

struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[expect(clippy::print_stderr, reason = "what a run was worth")]
fn audit(node: &NodeUnderTest, receiver: &Receiver, receipts: &BTreeMap<String, String>) {
    wait_until_idle(node);
    let pairs = receipts.iter().map(|(id, body)| (id.as_str(), body.as_str()));
    let stored = check_receipts(node, receiver, pairs);
    let calls = receiver.calls().len();
    eprintln!("{} receipts, {stored} stored, {calls} calls", receipts.len());
}
