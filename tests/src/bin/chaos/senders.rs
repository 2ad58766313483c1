//! Who sends: some repeat a message with its idempotency key at either node until they have a receipt, others send it
//! once, and whether it was taken in stays open without a receipt. Each writes down all that it is told.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tandem_tests::{Request, Response};

use crate::{
    history::{History, Receipt, Route, Sent},
    hosts::At,
    lock,
};

/// Between two messages of a sender.
const PACE: Duration = Duration::from_millis(25);
/// A node that says nothing for so long is given up.
const PATIENCE: Duration = Duration::from_secs(3);
/// Without a receipt for so long, and nothing wrong any more, something is.
const ENOUGH: Duration = Duration::from_mins(3);
/// Messages in a row to one node, unless it fails: then the other's turn has come.
const IN_A_ROW: u64 = 16;
/// A repeating sender and one that sends once for each route that has no order; two lanes.
const SENDERS: [(Route, bool); 6] = [
    (Route::Again, true),
    (Route::Again, false),
    (Route::Once, true),
    (Route::Once, false),
    (Route::Lane, true),
    (Route::Lane, true),
];

/// They run until they are told to end.
#[derive(Debug)]
pub struct Senders {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Senders {
    pub fn start(history: &Arc<History>, targets: [SocketAddr; 2], sink: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let start = |(lane, (route, is_repeated))| {
            let (history, stop, next) = (history.clone(), stop.clone(), AtomicU64::new(0));
            let sender = Sender { history, stop, next, targets, sink, lane, route, is_repeated };
            thread::spawn(move || sender.run())
        };
        let threads = SENDERS.into_iter().enumerate().map(start).collect();
        Self { stop, threads }
    }

    /// Those who repeat a message have its receipt first.
    pub fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().ok();
        }
    }
}

struct Sender {
    history: Arc<History>,
    stop: Arc<AtomicBool>,
    next: AtomicU64,
    targets: [SocketAddr; 2],
    sink: SocketAddr,
    lane: usize,
    route: Route,
    is_repeated: bool,
}

impl Sender {
    fn run(&self) {
        let mut turn = self.lane;
        while !self.stop.load(Ordering::Relaxed) {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let sent = self.send(number, &mut turn);
            lock(&self.history.seen).sent.push(sent);
            if number.is_multiple_of(IN_A_ROW) {
                turn += 1;
            }
            thread::sleep(PACE);
        }
    }

    /// Named so that names of a lane sort as they are sent.
    fn send(&self, number: u64, turn: &mut usize) -> Sent {
        let Self { route, is_repeated, lane, .. } = *self;
        let name = format!("{}-{lane}-{number:08}", route.name());
        let request = self.request(&name);
        let mut sent = Sent { name, route, receipts: Vec::new() };
        let began = Instant::now();
        // Now and then once more, although there is a receipt: at the other.
        let wanted = if number.is_multiple_of(16) && is_repeated { 2 } else { 1 };
        let mut is_first_try = true;
        while sent.receipts.len() < wanted {
            let target = self.targets[*turn % 2];
            let receipt = self.attempt(target, &request, is_first_try);
            if receipt.is_none() || wanted > 1 {
                *turn += 1;
            }
            is_first_try = false;
            let is_missing = receipt.is_none();
            sent.receipts.extend(receipt);
            if !is_repeated {
                break;
            }
            if is_missing {
                thread::sleep(PACE);
            }
            // The second one is not needed.
            if self.stop.load(Ordering::Relaxed) && !sent.receipts.is_empty() {
                break;
            }
            if self.stop.load(Ordering::Relaxed) && began.elapsed() > ENOUGH {
                self.history.violation(format!("{} got no receipt in {ENOUGH:?}", sent.name));
                break;
            }
        }
        sent
    }

    /// Counts under its name, and has one request made.
    fn request(&self, name: &str) -> Request {
        let lane = format!("lane-{}", self.lane);
        let mut ask =
            json!({ "url": format!("http://{}/{}", self.sink, self.route.name()), "body": name });
        if self.route == Route::Lane {
            ask["order"] = Value::from(lane.as_str());
        }
        let count = json!({ "do": "count", "key": format!("n/{name}") });
        let body = json!({ "do": "all", "asks": [count, { "do": "send", "requests": [ask] }] });
        let path = format!("/hooks/{}/in", self.route.name());
        let mut request = Request::post(&path, body.to_string());
        if self.is_repeated {
            request = request.header("idempotency-key", name);
        }
        if self.route == Route::Lane {
            request = request.header("tandem-key", &lane);
        }
        request
    }

    fn attempt(
        &self,
        target: SocketAddr,
        request: &Request,
        is_first_try: bool,
    ) -> Option<Receipt> {
        let sent = Instant::now();
        let response = request.send_within(target, PATIENCE);
        let at = Instant::now();
        let Ok(response) = response else {
            self.refused("no answer".into());
            return None;
        };
        if response.status != 202 {
            self.note_refusal(&response);
            return None;
        }
        let Some(receipt) = receipt(&response, sent, at, is_first_try) else {
            self.history.violation(format!("what is 202 but no receipt? {response}"));
            return None;
        };
        // Who only accepts gives receipts in the primary's epoch.
        if !receipt.is_again && !self.history.apart.may_both_accept {
            self.history.saw_primary(receipt.epoch, &receipt.node);
        }
        self.history.got_receipt();
        Some(receipt)
    }

    fn note_refusal(&self, response: &Response) {
        let problem: Value = serde_json::from_slice(&response.body).unwrap_or_default();
        let code = problem["code"].as_str().unwrap_or("no problem document").to_owned();
        // Who cannot take it now says so; anything else would be the sender's fault, which it is not.
        let is_for_now = matches!(response.status, 421 | 429 | 502 | 503 | 504 | 507);
        if !is_for_now {
            self.history.violation(format!("a message is refused for good: {response}"));
        }
        self.refused(format!("{} {code}", response.status));
    }

    fn refused(&self, how: String) {
        *lock(&self.history.seen).refusals.entry(how).or_default() += 1;
    }
}

fn receipt(answer: &Response, sent: Instant, at: Instant, is_first_try: bool) -> Option<Receipt> {
    let body: Value = serde_json::from_slice(&answer.body).ok()?;
    Some(Receipt {
        id: body["id"].as_str()?.to_owned(),
        epoch: body["epoch"].as_u64()?,
        durability: body["durability"].as_u64()?,
        node: answer.header("tandem-node")?.to_owned(),
        sent,
        at,
        is_first_try,
        is_again: answer.header("tandem-duplicate").is_some(),
    })
}

/// Where senders find the nodes.
pub fn targets() -> [SocketAddr; 2] {
    [At::Main, At::Failover].map(|at| at.address(7400))
}
