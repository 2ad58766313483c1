//! Leads, orders and heartbeats: made up from a seed, sent by real HTTP.

use std::{sync::Arc, time::Duration};

use hyper::header::{HeaderName, HeaderValue};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::{Value, json};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    time::{Instant, MissedTickBehavior},
};

use crate::control::wire::Receipt;

use super::{
    super::{
        node_client::{Answer, Call, NodeClient},
        send::KEY,
    },
    examples::{HEARTBEATS, LEADS, ORDERS},
    tally::{Answered, Came},
};

/// Requests under way at once; beyond that the stream is held back instead of piling up.
const AT_ONCE: usize = 256;
const HEARTBEAT: Duration = Duration::from_secs(3);
const SERVICES: [&str; 4] = ["checkout", "payments", "search", "mail"];

/// What the stream is like.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Leads and orders a second; heartbeats are beside it.
    pub rate: u32,
    pub seed: u64,
}

/// One message to be sent, and what is expected of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    pub what: What,
    pub body: String,
    pub key: Option<String>,
    /// For the list of events.
    pub title: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A lead that must arrive at the CRM exactly once, known there by the number in its address.
    Lead {
        number: u32,
    },
    /// An order that must be in its customer's totals exactly once.
    Order {
        customer: String,
        cents: i64,
    },
    Heartbeat,
    /// Wrong on purpose: the solution must reject it.
    Wrong {
        hook: Hook,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    Leads,
    Orders,
    Heartbeats,
}

impl Item {
    pub fn hook(&self) -> Hook {
        match self.what {
            What::Lead { .. } => Hook::Leads,
            What::Order { .. } => Hook::Orders,
            What::Heartbeat => Hook::Heartbeats,
            What::Wrong { hook } => hook,
        }
    }
}

/// Sends until told to stop; ends, and with it the channel, when the last request is answered.
pub async fn send(
    node: NodeClient,
    plan: Plan,
    answers: mpsc::Sender<Answered>,
    mut stopped: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut generator = Generator::new(plan.seed);
    let mut next = tokio::time::interval(Duration::from_secs(1) / plan.rate);
    next.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut heartbeat = tokio::time::interval(HEARTBEAT);
    let start = Instant::now();
    loop {
        let items = tokio::select! {
            biased;
            // The sender is held by the demo; if that is gone, so is the need.
            _ = stopped.wait_for(|stop| *stop) => return,
            _ = heartbeat.tick() => heartbeats(start.elapsed()),
            _ = next.tick() => vec![generator.item()],
        };
        for item in items {
            let place = places.clone().acquire_owned().await.expect("nobody closes it");
            let (node, answers) = (node.clone(), answers.clone());
            tokio::spawn(async move {
                // If nobody listens any more, the demo is over.
                let _ = answers.send(send_one(&node, item).await).await;
                drop(place);
            });
        }
    }
}

async fn send_one(node: &NodeClient, item: Item) -> Answered {
    let (solution, source) = match item.hook() {
        Hook::Leads => LEADS,
        Hook::Orders => ORDERS,
        Hook::Heartbeats => HEARTBEATS,
    };
    let mut call = Call::hook(solution, source)
        .body(item.body.clone())
        .header(hyper::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(key) = &item.key {
        let key = HeaderValue::try_from(key).expect("our keys are ASCII");
        call = call.header(HeaderName::clone(&KEY), key);
    }
    let begun = Instant::now();
    let came = match node.ask(call).await {
        Ok(answer) => came(&answer),
        Err(e) => Came::Nothing { why: e.to_string() },
    };
    Answered { item, came, took: begun.elapsed() }
}

fn came(answer: &Answer) -> Came {
    if answer.status.as_u16() == 202
        && let Ok(receipt) = serde_json::from_slice::<Receipt>(&answer.body)
    {
        return Came::Receipt { id: receipt.id };
    }
    let why = answer.problem().map_or_else(String::new, |problem| problem.code);
    Came::Refusal { why: format!("{} {why}", answer.status.as_u16()) }
}

/// Of each service that is not silent just now. In every minute one is, for long enough to be noticed.
fn heartbeats(elapsed: Duration) -> Vec<Item> {
    let (minute, second) = (elapsed.as_secs() / 60, elapsed.as_secs() % 60);
    let silent = usize::try_from(minute).unwrap_or(0) % SERVICES.len();
    let speaks = |index: &usize| *index != silent || !(6..42).contains(&second);
    (0..SERVICES.len())
        .filter(speaks)
        .map(|index| Item {
            what: What::Heartbeat,
            body: json!({ "service": SERVICES[index] }).to_string(),
            key: Some(SERVICES[index].to_owned()),
            title: format!("heartbeat of {}", SERVICES[index]),
        })
        .collect()
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

    /// Six leads for four orders; one in twenty-five is wrong.
    pub fn item(&mut self) -> Item {
        let wrong = self.random.random_ratio(1, 25);
        match (self.random.random_ratio(6, 10), wrong) {
            (true, false) => self.lead(),
            (true, true) => self.wrong_lead(),
            (false, wrong) => self.order(wrong),
        }
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
            key: None,
            title: format!("{name} ({country})"),
        }
    }

    fn wrong_lead(&mut self) -> Item {
        let (first, country) = (self.pick(&FIRST), self.pick(&COUNTRIES));
        let bodies = [
            json!({"name": first, "email": "at example dot com", "country": country}),
            json!({"name": "  ", "email": "nobody@example.com", "country": country}),
            json!({"name": first, "email": "someone@example.com", "country": "Austria"}),
            json!({"name": first, "country": country}),
        ];
        let body = bodies.choose(&mut self.random).map_or_else(String::new, Value::to_string);
        // Now and then a sender breaks off in the middle.
        let body =
            if self.random.random_ratio(1, 5) { body[..body.len() / 2].to_owned() } else { body };
        wrong(Hook::Leads, body, None, format!("a wrong lead of {first}"))
    }

    fn order(&mut self, is_wrong: bool) -> Item {
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
        let key = Some(customer.clone());
        if is_wrong {
            let body = json!({"lines": lines, "total_cents": cents + 1}).to_string();
            return wrong(Hook::Orders, body, key, format!("a wrong sum of {customer}"));
        }
        let title = format!("order of {customer}, {}.{:02}", cents / 100, cents % 100);
        let body = json!({"lines": lines, "total_cents": cents}).to_string();
        Item { what: What::Order { customer, cents }, body, key, title }
    }
}

fn wrong(hook: Hook, body: String, key: Option<String>, title: String) -> Item {
    Item { what: What::Wrong { hook }, body, key, title }
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
    fn the_stream_is_varied_and_some_of_it_is_wrong() {
        let items = items(1, 2_000);
        let of = |wanted: fn(&What) -> bool| items.iter().filter(|i| wanted(&i.what)).count();
        assert!((1_000..1_300).contains(&of(|what| matches!(what, What::Lead { .. }))));
        assert!((650..900).contains(&of(|what| matches!(what, What::Order { .. }))));
        assert!((40..140).contains(&of(|what| matches!(what, What::Wrong { .. }))));
        assert!(items.iter().map(|item| &item.title).collect::<HashSet<_>>().len() > 500);
    }

    #[test]
    fn right_items_are_what_the_solutions_take() {
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
                What::Order { cents, customer } => {
                    let order: Value = serde_json::from_str(&item.body).unwrap();
                    let lines = order["lines"].as_array().unwrap();
                    let of_line = |line: &Value| {
                        line["quantity"].as_i64().unwrap()
                            * line["unit_price_cents"].as_i64().unwrap()
                    };
                    assert_eq!(lines.iter().map(of_line).sum::<i64>(), cents);
                    assert_eq!(order["total_cents"].as_i64(), Some(cents));
                    assert_eq!(item.key, Some(customer));
                }
                What::Wrong { .. } | What::Heartbeat => {}
            }
        }
    }

    #[test]
    fn one_service_a_minute_falls_silent_for_long_enough() {
        let at = |s| heartbeats(Duration::from_secs(s)).len();
        assert_eq!((at(0), at(6), at(41), at(42), at(59)), (4, 3, 3, 4, 4));
        let silent = |s| {
            let speak = heartbeats(Duration::from_secs(s));
            SERVICES.iter().position(|name| speak.iter().all(|item| !item.title.ends_with(name)))
        };
        assert_eq!((silent(10), silent(70), silent(250)), (Some(0), Some(1), Some(0)));
        const { assert!(42 - 6 > super::super::examples::SILENT_AFTER_S + 10 + 3) };
    }
}
