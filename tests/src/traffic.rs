//! Senders that write down every receipt, and the audit of what came of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    DEADLINE, NodeUnderTest, PairUnderTest, Receiver, Request, Response, Side, Solution,
    audit::{self, messages, wait_until_idle},
    node::text,
    wait::{wait_for, wait_or_say, wait_until},
};

/// Senders at a time; half of them give each message an idempotency key and do not rest until it has a receipt.
const SENDERS: usize = 4;
/// Between two messages of a sender.
const PACE: Duration = Duration::from_millis(4);
/// A node that says nothing for so long is given up.
const PATIENCE: Duration = Duration::from_secs(3);
/// Messages in a row to one node, unless it fails: then the other's turn has come.
const IN_A_ROW: u64 = 16;

/// One receipt, as its sender got it.
#[derive(Debug, Clone)]
pub struct Got {
    pub id: String,
    pub body: String,
    pub epoch: u64,
    pub durability: u64,
    pub sent: Instant,
    pub at: Instant,
    /// The answer to the first request with this body.
    pub is_first_try: bool,
}

/// What is sent to a pair, and what its senders know.
#[derive(Debug)]
pub struct Traffic {
    receiver: Receiver,
    addresses: Vec<SocketAddr>,
    stop: AtomicBool,
    next: AtomicU64,
    got: Mutex<Vec<Got>>,
    /// Answers that were no receipts, by status.
    refused: Mutex<BTreeMap<u16, (u64, String)>>,
    /// Both nodes may take a message at a time, so one key may be taken twice.
    may_both_act: bool,
}

struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Traffic {
    /// To both nodes of a pair that is in sync; deploys what counts.
    pub fn to(pair: &PairUnderTest) -> Self {
        let receiver = Receiver::start();
        let node = pair.node(pair.wait_in_sync());
        node.deploy(&Solution::lean().with("[delivery]\nattempts = 100\nbackoff = \"20ms\""));
        node.set("lean", "sink", &json!(receiver.url("/sink")));
        Self {
            receiver,
            addresses: Side::BOTH.map(|side| pair.node(side).address).to_vec(),
            stop: AtomicBool::new(false),
            next: AtomicU64::new(0),
            got: Mutex::default(),
            refused: Mutex::default(),
            may_both_act: false,
        }
    }

    /// Both nodes may act for a while.
    #[must_use]
    pub fn while_both_act(self) -> Self {
        Self { may_both_act: true, ..self }
    }

    /// Sends to both nodes while `act` acts.
    pub fn during<T>(&self, act: impl FnOnce() -> T) -> T {
        self.stop.store(false, Ordering::Relaxed);
        thread::scope(|scope| {
            // Also if something fails below: the scope waits for its threads.
            let _stop = StopAtEnd(&self.stop);
            for sender in 0..SENDERS {
                scope.spawn(move || self.send(sender));
            }
            act()
        })
    }

    #[expect(clippy::disallowed_methods, reason = "senders have a pace")]
    fn send(&self, sender: usize) {
        // Failures so far: each is a reason to go to the other node.
        let mut turn = sender as u64 / 2;
        for sent in 0_u64.. {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if sender.is_multiple_of(2) {
                self.send_surely(number, &mut turn);
            } else {
                self.try_once(number, &mut turn);
            }
            if sent % IN_A_ROW == 0 {
                turn += 1;
            }
            thread::sleep(PACE);
        }
    }

    /// With a key, to one node and the other, until there is a receipt; now and then once more.
    #[expect(clippy::disallowed_methods, reason = "not as fast as can be, while nobody takes it")]
    fn send_surely(&self, number: u64, turn: &mut u64) {
        let body = format!("key {number}");
        let request =
            Request::post("/hooks/lean/in", body.clone()).header("idempotency-key", &body);
        let began = Instant::now();
        let mut receipts = Vec::new();
        let wanted = if number.is_multiple_of(16) { 2 } else { 1 };
        let mut is_first_try = true;
        while receipts.len() < wanted {
            if let Some(got) = self.attempt(self.address(*turn), &request, &body, is_first_try) {
                receipts.push(got.id.clone());
                if receipts.len() == 1 {
                    lock(&self.got).push(got);
                    // Should it be sent again, then to the other.
                    *turn += wanted as u64 - 1;
                }
            } else {
                *turn += 1;
                thread::sleep(PACE);
            }
            is_first_try = false;
            assert!(began.elapsed() < DEADLINE * 2, "{body} got no receipt: {:?}", self.refused);
        }
        receipts.dedup();
        let is_one = receipts.len() == 1 || self.may_both_act;
        assert!(is_one, "`{body}` was taken as two messages: {receipts:?}");
    }

    /// Without a key: no answer, no receipt, and what came of it is open.
    fn try_once(&self, number: u64, turn: &mut u64) {
        let body = format!("once {number}");
        let request = Request::post("/hooks/lean/in", body.clone());
        let got = self.attempt(self.address(*turn), &request, &body, true);
        if got.is_none() {
            *turn += 1;
        }
        lock(&self.got).extend(got);
    }

    fn address(&self, turn: u64) -> SocketAddr {
        self.addresses[usize::try_from(turn).unwrap_or(0) % self.addresses.len()]
    }

    fn attempt(
        &self,
        address: SocketAddr,
        request: &Request,
        body: &str,
        is_first_try: bool,
    ) -> Option<Got> {
        let sent = Instant::now();
        let response = request.send_within(address, PATIENCE).ok()?;
        if response.status != 202 {
            self.note_refusal(&response);
            return None;
        }
        let receipt = response.json();
        Some(Got {
            id: text(&receipt["id"]),
            body: body.to_owned(),
            epoch: receipt["epoch"].as_u64().expect("a receipt has an epoch"),
            durability: receipt["durability"].as_u64().expect("a receipt says how durable it is"),
            sent,
            at: Instant::now(),
            is_first_try,
        })
    }

    fn note_refusal(&self, response: &Response) {
        // A node that cannot take it now says so; anything else would be the sender's fault, which it is not.
        let is_now = matches!(response.status, 421 | 429 | 502 | 503 | 504);
        assert!(is_now, "{response}");
        let mut refused = lock(&self.refused);
        let entry = refused.entry(response.status).or_insert_with(|| (0, response.text()));
        entry.0 += 1;
    }

    pub fn receipts(&self) -> usize {
        lock(&self.got).len()
    }

    pub fn got(&self) -> Vec<Got> {
        lock(&self.got).clone()
    }

    /// Waits for so many more receipts.
    pub fn wait_more(&self, more: usize) {
        let before = self.receipts();
        wait_until(&format!("{more} receipts after {before}"), || self.receipts() >= before + more);
    }

    /// Waits for a new receipt that is on so many disks.
    pub fn wait_durability(&self, disks: u64) {
        let before = self.receipts();
        wait_until(&format!("a receipt is on {disks} disks"), || {
            lock(&self.got)[before..].iter().any(|got| got.durability == disks)
        });
    }

    /// The longest time in which no receipt came, from the first to the last.
    pub fn longest_gap(&self) -> Duration {
        let mut times: Vec<_> = lock(&self.got).iter().map(|got| got.at).collect();
        times.sort_unstable();
        times.windows(2).map(|two| two[1] - two[0]).max().unwrap_or_default()
    }

    /// Once a receipt is of an epoch, nobody gets one of an epoch before for what is sent from then on.
    pub fn assert_fenced(&self) {
        let mut got = self.got();
        got.sort_by_key(|got| got.at);
        let mut first = BTreeMap::<u64, Instant>::new();
        for one in &got {
            first.entry(one.epoch).or_insert(one.at);
        }
        for one in got.iter().filter(|one| one.is_first_try) {
            let newer = first.range(one.epoch + 1..).find(|(_, at)| **at < one.sent);
            assert_eq!(newer, None, "two primaries took messages: {one:?}");
        }
    }

    /// The same where both nodes acted for a while: nothing is lost and the nodes have the same in the end, but what both
    /// did in the meantime may have been done twice, as its policy says.
    pub fn audit_loosely(&self, pair: &PairUnderTest) {
        self.wait_done(pair);
        pair.wait_even();
        assert_alike(pair);
    }

    /// The same where both took messages in for a while, and one handled: what both took with one key, as neither knew,
    /// is one message in the end, and everything is done once.
    pub fn audit_once(&self, pair: &PairUnderTest) {
        let under_another_id = self.wait_done(pair);
        let primary = pair.node(pair.wait_recovered());
        wait_until_idle(primary);
        pair.wait_even();
        let got = self.got();
        let receipts = got.iter().filter(|one| !under_another_id.contains(&one.id));
        let receipts = receipts.map(|one| (one.id.as_str(), one.body.as_str()));
        audit::check_receipts(primary, &self.receiver, receipts);
        assert_alike(pair);
    }

    /// Waits until all that has a receipt is done: what the one that is standby now took is brought to the other. Gives
    /// what was taken by both with one key, and is done under the other's id.
    fn wait_done(&self, pair: &PairUnderTest) -> BTreeSet<String> {
        let primary = pair.node(pair.wait_recovered());
        wait_until_idle(primary);
        pair.wait_even();
        let got = self.got();
        wait_for("all that has a receipt is done", || {
            let stored = messages(primary);
            let is_done = |id: &str| stored.get(id).is_some_and(|m| m["status"] == "done");
            let calls = self.receiver.calls();
            let came_again = |body: &str| {
                let mut calls = calls.iter().filter(|call| call.body == body);
                body.starts_with("key ")
                    && calls.any(|call| is_done(call.key().trim_end_matches("-0")))
            };
            let others: Vec<_> = got.iter().filter(|one| !is_done(&one.id)).collect();
            let is_all = others.iter().all(|one| came_again(&one.body));
            is_all.then(|| others.iter().map(|one| one.id.clone()).collect())
        })
    }

    /// What came out of handling so far.
    pub fn calls(&self) -> usize {
        self.receiver.calls().len()
    }

    /// Waits until both nodes have the same, and checks that it is what was to come of the receipts.
    #[expect(clippy::print_stderr, reason = "what a run was worth")]
    pub fn audit(&self, pair: &PairUnderTest) {
        let primary = pair.node(pair.wait_recovered());
        wait_until_idle(primary);
        pair.wait_even();
        let got = self.got();
        let receipts = got.iter().map(|one| (one.id.as_str(), one.body.as_str()));
        let stored = audit::check_receipts(primary, &self.receiver, receipts);
        assert_alike(pair);
        let calls = self.receiver.calls().len();
        eprintln!(
            "{} receipts, {} stored, {calls} calls, longest gap {:?}, refusals {:?}",
            got.len(),
            stored,
            self.longest_gap(),
            lock(&self.refused)
        );
    }
}

/// Both nodes show the same, a standby a moment later, and have not found themselves different meanwhile.
fn assert_alike(pair: &PairUnderTest) {
    wait_or_say("both nodes show the same", || {
        let [main, failover] = Side::BOTH.map(|side| shown(pair.node(side)));
        if main == failover {
            return Ok(());
        }
        let differ = main.iter().zip(&failover).find(|(one, other)| one != other);
        Err(format!("({} and {}): {differ:#?}", main.len(), failover.len()))
    });
    for side in Side::BOTH {
        let log = pair.node(side).log();
        for bad in audit::NEVER_SAID {
            let line = log.lines().find(|line| line.contains(bad));
            assert_eq!(line, None, "in the log of {side:?}");
        }
    }
}

/// What a node shows to people, in parts.
fn shown(node: &NodeUnderTest) -> Vec<Value> {
    let mut solutions = node.api("solutions");
    for solution in solutions.as_array_mut().expect("it lists solutions") {
        // Counted by who handles them.
        solution["queued"].take();
    }
    let mut shown = vec![node.api("state/lean"), node.api("settings"), solutions];
    shown.extend(messages(node).into_values());
    shown
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
