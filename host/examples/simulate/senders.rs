//! Who sends messages, and writes down every receipt.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use serde_json::Value;
use tandem::net::http_client::{self, Answer, Client, Roots};
use tokio::sync::watch;

use crate::history::{History, Receipt};

/// A node that says nothing for so long is given up.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between two tries with the same key.
const AGAIN: Duration = Duration::from_millis(50);
/// Bytes of an answer that count.
const ANSWER_BYTES: usize = 64 << 10;
/// Customers, territories, services.
pub const KEYS: u64 = 3;

/// See the module.
pub struct Sender {
    pub nodes: [SocketAddr; 2],
    pub history: History,
    pub client: Client,
    pub dice: StdRng,
    /// Between two messages, in ms.
    pub pace: u64,
    turn: usize,
}

/// A client as senders and operators use it.
pub fn client() -> Client {
    Client::new(&http_client::Config {
        connect_timeout: Duration::from_secs(2),
        roots: Roots::Only(Vec::new()),
        ..http_client::Config::default()
    })
}

/// What is sent.
#[derive(Debug, Clone)]
struct Message {
    solution: &'static str,
    source: &'static str,
    number: u64,
    key: String,
    body: String,
}

impl Message {
    fn draw(number: u64, dice: &mut StdRng) -> Self {
        let of = dice.random_range(0..KEYS);
        let (solution, source, body) = match dice.random_range(0..10) {
            0..=3 => (
                "order-totals",
                "orders",
                format!(r#"{{"lines":[{{"sku":"{number}","quantity":1,"unit_price_cents":1}}]}}"#),
            ),
            4..=6 => ("lead-router", "form", lead(number)),
            7..=8 => ("leads-once", "form", lead(number)),
            _ => {
                let up = dice.random_bool(0.5);
                (
                    "uptime-watch",
                    "report",
                    format!(r#"{{"service":"{of}","up":{up},"number":{number}}}"#),
                )
            }
        };
        Self { solution, source, number, key: format!("{of}"), body }
    }
}

fn lead(number: u64) -> String {
    format!(r#"{{"name":"{number}","email":"n{number}@example.com","country":"AT"}}"#)
}

impl Sender {
    pub fn new(nodes: [SocketAddr; 2], history: History, seed: u64, pace: u64) -> Self {
        let (client, dice) = (client(), StdRng::seed_from_u64(seed));
        Self { nodes, history, client, dice, pace, turn: 0 }
    }

    /// Until `stop` says true and what has to have a receipt has one.
    pub async fn run(mut self, stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            let number = {
                let mut seen = self.history.see();
                seen.sent += 1;
                seen.sent
            };
            let message = Message::draw(number, &mut self.dice);
            if self.dice.random_bool(0.6) {
                self.send_surely(&message).await;
            } else {
                self.attempt(&message, false, true).await;
            }
            if self.dice.random_bool(0.1) {
                self.turn += 1;
            }
            let pace = self.dice.random_range(0..=self.pace * 2);
            tokio::time::sleep(Duration::from_millis(pace)).await;
        }
    }

    /// With a key, to one node and the other, until there is a receipt; now and then once more.
    async fn send_surely(&mut self, message: &Message) {
        let again = usize::from(self.dice.random_bool(0.1));
        let mut first: Option<Receipt> = None;
        let (mut wanted, mut is_first_try) = (1 + again, true);
        while wanted > 0 {
            let Some(receipt) = self.attempt(message, true, is_first_try).await else {
                is_first_try = false;
                tokio::time::sleep(AGAIN).await;
                continue;
            };
            is_first_try = false;
            wanted -= 1;
            self.turn += wanted;
            match &first {
                Some(first) if first.id != receipt.id => {
                    let number = message.number;
                    let ids = (&first.id, &receipt.id);
                    self.history.see().same_key.push((first.id.clone(), receipt.id.clone()));
                    self.history.log(format!("message {number} was taken as two: {ids:?}"));
                }
                _ => first = Some(receipt),
            }
        }
    }

    async fn attempt(
        &mut self,
        message: &Message,
        is_keyed: bool,
        is_first_try: bool,
    ) -> Option<Receipt> {
        let Message { solution, source, number, key, body } = message;
        let node = self.nodes[self.turn % 2];
        let mut request = Request::post(format!("http://{node}/hooks/{solution}/{source}"))
            .header("content-type", "application/json")
            .header("tandem-key", key);
        if is_keyed {
            request = request.header("idempotency-key", number.to_string());
        }
        let request = request.body(Full::new(Bytes::from(body.clone()))).expect("it is right");
        let sent = self.history.now();
        let answer = self.client.request(request, PATIENCE, ANSWER_BYTES).await;
        let receipt = answer.ok().and_then(|answer| self.read(&answer)).map(|receipt| Receipt {
            body: body.clone(),
            id: receipt["id"].as_str().unwrap_or_default().to_owned(),
            epoch: receipt["epoch"].as_u64().unwrap_or(0),
            durability: u8::try_from(receipt["durability"].as_u64().unwrap_or(0)).unwrap_or(0),
            is_keyed,
            sent,
            at: self.history.now(),
            is_first_try,
        });
        let Some(receipt) = receipt else {
            self.turn += 1;
            return None;
        };
        let Receipt { id, epoch, durability, .. } = &receipt;
        self.history.log(format!(
            "receipt: {solution} {number} is {id}, epoch {epoch}, durability {durability}"
        ));
        self.history.see().receipts.push(receipt.clone());
        Some(receipt)
    }

    fn read(&self, answer: &Answer) -> Option<Value> {
        let Answer { status, body_prefix, .. } = answer;
        if *status == 202 {
            return serde_json::from_slice(body_prefix).ok();
        }
        *self.history.see().refused.entry(*status).or_default() += 1;
        // A node that cannot take it now says so; anything else would be the sender's fault, which it is not.
        if !matches!(status, 421 | 429 | 502 | 503 | 504 | 507) {
            let text = String::from_utf8_lossy(body_prefix);
            self.history.violate(format!("a message was refused with {status}: {text}"));
        }
        None
    }
}
