//! Leads and orders: made up from a seed, sent by real HTTP to both servers in turn, each until it has a receipt.

use std::time::Duration;

use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::json;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, sleep},
};

use crate::control::wire::Receipt;

use super::{
    super::{
        node_client::{Call, NodeClient},
        send::KEY,
    },
    examples::{LEADS, ORDERS},
    tally::Shared,
};

/// Messages under way at once; beyond that the stream is held back instead of piling up.
const AT_ONCE: usize = 1024;
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// For an answer; then the other server is tried.
const ANSWER: Duration = Duration::from_secs(3);
const BETWEEN_TRIES: Duration = Duration::from_millis(50);
/// After so long without a receipt a message is given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the stream is like.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Leads and orders a second.
    pub rate: u32,
    pub seed: u64,
}

/// One message to be sent, and what is expected of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    pub what: What,
    pub body: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A lead that must arrive at the CRM exactly once, known there by the number in its address.
    Lead { number: u32 },
    /// An order that must be in its customer's totals exactly once.
    Order { customer: String, cents: i64 },
}

/// Sends until told to stop; ends when every message has a receipt or is given up.
pub async fn send(
    servers: [NodeClient; 2],
    plan: Plan,
    tally: Shared,
    mut stopped: watch::Receiver<bool>,
) {
    let mut generator = Generator::new(plan.seed);
    let mut next = tokio::time::interval(Duration::from_secs(1) / plan.rate);
    next.set_missed_tick_behavior(MissedTickBehavior::Burst);
    // If this is dropped, all that is under way is too.
    let mut under_way = JoinSet::new();
    for number in 0.. {
        tokio::select! {
            biased;
            // The sender is held by the demo; if that is gone, so is the need.
            _ = stopped.wait_for(|stop| *stop) => break,
            _ = next.tick() => {}
        }
        while under_way.try_join_next().is_some() {}
        if under_way.len() >= AT_ONCE {
            under_way.join_next().await;
        }
        tally.lock().sent += 1;
        let key = format!("demo-{}-{number}", plan.seed);
        under_way.spawn(send_one(servers.clone(), number, key, generator.item(), tally.clone()));
    }
    while under_way.join_next().await.is_some() {}
}

/// As a good sender does: with a key of its own, again and again until there is a receipt.
async fn send_one(servers: [NodeClient; 2], first: usize, key: String, item: Item, tally: Shared) {
    let call = item.call(&key);
    let deadline = Instant::now() + PATIENCE;
    for server in servers.iter().cycle().skip(first % servers.len()) {
        let trouble = match server.ask(call.clone()).await {
            Ok(answer) if answer.status.is_success() => {
                match serde_json::from_slice::<Receipt>(&answer.body) {
                    Ok(receipt) => return tally.lock().receipt(item.what, receipt),
                    Err(e) => e.to_string(),
                }
            }
            Ok(answer) => server.refusal(&answer).to_string(),
            Err(e) => e.to_string(),
        };
        {
            let mut tally = tally.lock();
            tally.failed_tries += 1;
            tally.last_trouble = Some(trouble);
        }
        if Instant::now() >= deadline {
            return tally.lock().given_up.push(item.what);
        }
        sleep(BETWEEN_TRIES).await;
    }
}

impl Item {
    fn call(&self, key: &str) -> Call {
        let (solution, source) = match self.what {
            What::Lead { .. } => LEADS,
            What::Order { .. } => ORDERS,
        };
        let value = |text: &str| HeaderValue::try_from(text).expect("our keys are ASCII");
        let call = Call::hook(solution, source)
            .body(self.body.clone())
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .header(IDEMPOTENCY_KEY, value(key))
            .timeout(ANSWER);
        match &self.what {
            What::Lead { .. } => call,
            // A customer's orders are handled in order.
            What::Order { customer, .. } => call.header(KEY, value(customer)),
        }
    }
}

/// Makes leads and orders up; the same seed makes the same.
#[derive(Debug)]
pub struct Generator {
    random: StdRng,
    lead: u32,
}

const FIRST: [&str; 16] = [
    "Mara", "Jonas", "Amélie", "Luca", "Ingrid", "Tomáš", "Sofía", "Yusuf", "Priya", "Kenji",
    "Olga", "Noah", "Zoë", "Mateusz", "Chloé", "Björn",
];
const LAST: [&str; 16] = [
    "Novak",
    "Huber",
    "Lefèvre",
    "Rossi",
    "Lindqvist",
    "Dvořák",
    "García",
    "Demir",
    "Sharma",
    "Tanaka",
    "Petrova",
    "Miller",
    "van Dijk",
    "Kowalski",
    "Moreau",
    "Andersson",
];
const COUNTRIES: [&str; 14] =
    ["AT", "DE", "CH", "FR", "NL", "SE", "NO", "US", "CA", "ES", "IT", "PL", "JP", "in"];
const DOMAINS: [&str; 4] = ["example.com", "mail.example.org", "example.net", "shop.example"];
const ARTICLES: [(&str, i64); 8] = [
    ("lamp-oak", 8_900),
    ("chair-02", 14_950),
    ("desk-xl", 64_900),
    ("cable-usb-c", 1_290),
    ("mug", 990),
    ("shelf-3", 11_900),
    ("poster-a2", 2_450),
    ("rug-wool", 39_900),
];

impl Generator {
    pub fn new(seed: u64) -> Self {
        Self { random: StdRng::seed_from_u64(seed), lead: 0 }
    }

    /// Six leads for four orders.
    pub fn item(&mut self) -> Item {
        if self.random.random_ratio(6, 10) { self.lead() } else { self.order() }
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        *of.choose(&mut self.random).expect("our lists are not empty")
    }

    fn lead(&mut self) -> Item {
        self.lead += 1;
        let number = self.lead;
        let (first, last) = (self.pick(&FIRST), self.pick(&LAST));
        let (country, domain) = (self.pick(&COUNTRIES), self.pick(&DOMAINS));
        let user: String =
            first.chars().filter(char::is_ascii_alphabetic).collect::<String>().to_lowercase();
        let name = format!("{first} {last}");
        Item {
            what: What::Lead { number },
            body: json!({
                "name": name,
                "email": format!("{user}+{}@{domain}", mark(number)),
                "country": country,
            })
            .to_string(),
        }
    }

    fn order(&mut self) -> Item {
        let customer = format!("customer-{}", self.random.random_range(1..=40));
        let mut lines = Vec::new();
        let mut cents = 0;
        for _ in 0..self.random.random_range(1..=4) {
            let (sku, unit_price_cents) = self.pick(&ARTICLES);
            let quantity: i64 = self.random.random_range(1..=5);
            cents += quantity * unit_price_cents;
            lines.push(
                json!({"sku": sku, "quantity": quantity, "unit_price_cents": unit_price_cents}),
            );
        }
        let body = json!({"lines": lines, "total_cents": cents}).to_string();
        Item { what: What::Order { customer, cents }, body }
    }
}

/// What a lead is known by at the CRM.
fn mark(number: u32) -> String {
    format!("lead-{number:06}")
}

/// The number of the lead in a request's body.
pub fn lead_in(body: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(body).ok()?;
    let (_, after) = text.split_once("+lead-")?;
    after.get(..6)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use serde_json::Value;

    use super::*;

    fn items(seed: u64, count: usize) -> Vec<Item> {
        let mut generator = Generator::new(seed);
        (0..count).map(|_| generator.item()).collect()
    }

    #[test]
    fn the_same_seed_makes_the_same_stream() {
        assert_eq!(items(7, 200), items(7, 200));
        assert_ne!(items(7, 200), items(8, 200));
    }

    #[test]
    fn the_stream_is_varied() {
        let items = items(1, 2_000);
        let leads = items.iter().filter(|item| matches!(item.what, What::Lead { .. })).count();
        assert!((1_100..1_300).contains(&leads), "{leads}");
        assert!(items.iter().map(|item| &item.body).collect::<HashSet<_>>().len() > 1_500);
    }

    #[test]
    fn items_are_what_the_solutions_take() {
        let mut numbers = HashSet::new();
        for item in items(3, 1_000) {
            match item.what {
                What::Lead { number } => {
                    let lead: Value = serde_json::from_str(&item.body).unwrap();
                    assert_eq!(lead["country"].as_str().unwrap().len(), 2);
                    assert!(lead["email"].as_str().unwrap().contains('@'));
                    assert_eq!(lead_in(item.body.as_bytes()), Some(number));
                    assert!(numbers.insert(number), "{number} twice");
                }
                What::Order { cents, .. } => {
                    let order: Value = serde_json::from_str(&item.body).unwrap();
                    let lines = order["lines"].as_array().unwrap();
                    let of_line = |line: &Value| {
                        line["quantity"].as_i64().unwrap()
                            * line["unit_price_cents"].as_i64().unwrap()
                    };
                    assert_eq!(lines.iter().map(of_line).sum::<i64>(), cents);
                    assert_eq!(order["total_cents"].as_i64(), Some(cents));
                }
            }
        }
    }
}
