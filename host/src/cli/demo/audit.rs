//! After the last message: was anything lost, doubled, or handled otherwise than it should?

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use crate::control::wire::{Body, MessagePage, StateEntry, Status};

use super::{
    super::{
        exit::Failure,
        node_client::{Call, NodeClient},
        output::{Output, Style},
    },
    examples::ORDERS,
    receiver::Received,
    tally::Sent,
    traffic::What,
};

const POLL: Duration = Duration::from_millis(200);
/// Of each kind of fault, so many are named.
const NAMED: usize = 5;

/// All that the verdict is made from.
#[derive(Debug)]
pub struct Facts<'a> {
    pub drained: bool,
    pub sent: &'a [Sent],
    /// Sent, but never answered: may be there or not, but not twice.
    pub unclear: &'a [What],
    /// Status of each message that the node knows, by id.
    pub found: HashMap<String, String>,
    /// What `order-totals` has summed.
    pub totals: BTreeMap<String, Totals>,
    pub received: Received,
}

/// Of one customer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    pub orders: u64,
    pub cents: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Audit {
    pub clean: bool,
    pub receipts: usize,
    pub done: usize,
    pub dead: usize,
    pub leads: usize,
    pub leads_received: usize,
    pub orders: usize,
    pub tried_again: u64,
    /// Each a sentence.
    pub faults: Vec<String>,
}

/// Waits until nothing is queued for the demo's messages and nothing is left to deliver. False if for `stuck` nothing moved.
pub async fn drain(node: &NodeClient, stuck: Duration) -> Result<bool, Failure> {
    let mut before = None;
    let mut deadline = Instant::now() + stuck;
    loop {
        let status: Status = node.read(Call::get(["status"])).await?;
        let left = (status.messages.queued, status.deliveries.pending);
        if left == (0, 0) {
            return Ok(true);
        }
        let now = (left, status.messages.handled, status.deliveries.delivered);
        if before.replace(now) != Some(now) {
            deadline = Instant::now() + stuck;
        } else if Instant::now() >= deadline {
            return Ok(false);
        }
        sleep(POLL).await;
    }
}

/// Every message that the node knows.
pub async fn messages(node: &NodeClient) -> Result<HashMap<String, String>, Failure> {
    let mut found = HashMap::new();
    let mut before: Option<String> = None;
    loop {
        let call =
            Call::get(["messages"]).query("limit", Some(1000)).query("before", before.as_ref());
        let page: MessagePage = node.read(call).await?;
        found.extend(page.messages.into_iter().map(|message| (message.id, message.status)));
        match page.next {
            Some(next) => before = Some(next),
            None => return Ok(found),
        }
    }
}

/// The customers' totals as `order-totals` keeps them.
pub async fn totals(node: &NodeClient) -> Result<BTreeMap<String, Totals>, Failure> {
    const PREFIX: &str = "customer/";
    let call =
        Call::get(["state", ORDERS.0]).query("prefix", Some(PREFIX)).query("limit", Some(1000));
    let entries: Vec<StateEntry> = node.read(call).await?;
    let read = |entry: &StateEntry| {
        let Body::Text(text) = &entry.value else { return None };
        let totals = serde_json::from_str(text).ok()?;
        Some((entry.key.strip_prefix(PREFIX)?.to_owned(), totals))
    };
    Ok(entries.iter().filter_map(read).collect())
}

/// The verdict.
pub fn judge(facts: &Facts) -> Audit {
    let mut faults = Faults::default();
    if !facts.drained {
        faults.0.push("the node is stuck: messages or deliveries wait, and nothing moves".into());
    }
    let (done, dead) = judge_messages(facts, &mut faults);
    let leads = judge_leads(facts, &mut faults);
    let orders = judge_orders(facts, &mut faults);
    let wrong = facts.received.figures.wrong;
    if wrong > 0 {
        faults.0.push(format!("{wrong} requests came without an idempotency key of their own"));
    }
    Audit {
        clean: faults.0.is_empty(),
        receipts: facts.sent.len(),
        done,
        dead,
        leads,
        leads_received: facts.received.leads.len(),
        orders,
        tried_again: facts.received.figures.tried_again,
        faults: faults.0,
    }
}

#[derive(Debug, Default)]
struct Faults(Vec<String>);

impl Faults {
    /// One sentence for all cases of a kind, the first of them by name.
    fn of_kind(&mut self, what: &str, cases: &[String]) {
        if cases.is_empty() {
            return;
        }
        let more = if cases.len() > NAMED { ", …" } else { "" };
        let named = cases[..cases.len().min(NAMED)].join(", ");
        self.0.push(format!("{} {what}: {named}{more}", cases.len()));
    }
}

/// Each receipt's message is there, and ended as it should. How many are done, and how many dead.
fn judge_messages(facts: &Facts, faults: &mut Faults) -> (usize, usize) {
    let (mut lost, mut otherwise, mut doubled) = (Vec::new(), Vec::new(), Vec::new());
    let (mut done, mut dead) = (0, 0);
    let mut ids = BTreeSet::new();
    for Sent { id, what } in facts.sent {
        if !ids.insert(id) {
            doubled.push(id.clone());
        }
        let expected = if matches!(what, What::Wrong { .. }) { "dead" } else { "done" };
        match facts.found.get(id).map(String::as_str) {
            None => lost.push(id.clone()),
            Some(status) => {
                done += usize::from(status == "done");
                dead += usize::from(status == "dead");
                if status != expected {
                    otherwise.push(format!("{id} is {status}, not {expected}"));
                }
            }
        }
    }
    faults.of_kind("messages with a receipt are lost", &lost);
    faults.of_kind("receipts were given twice", &doubled);
    faults.of_kind("messages did not end as they should", &otherwise);
    (done, dead)
}

/// Each lead with a receipt was kept at the CRM under exactly one key; none without one. How many were to be there.
fn judge_leads(facts: &Facts, faults: &mut Faults) -> usize {
    let lead = |what: &What| match what {
        What::Lead { number } => Some(*number),
        _ => None,
    };
    let expected: BTreeSet<u32> = facts.sent.iter().filter_map(|sent| lead(&sent.what)).collect();
    let perhaps: BTreeSet<u32> = facts.unclear.iter().filter_map(lead).collect();
    let mut received: BTreeMap<u32, u32> = BTreeMap::new();
    for number in &facts.received.leads {
        *received.entry(*number).or_default() += 1;
    }
    let named = |number: &u32| format!("lead {number}");
    let lost = expected.iter().filter(|number| !received.contains_key(number)).map(named);
    faults.of_kind("leads never came to the CRM", &lost.collect::<Vec<_>>());
    let doubled = received.iter().filter(|(_, times)| **times > 1).map(|(number, _)| named(number));
    faults.of_kind("leads came to the CRM as more than one", &doubled.collect::<Vec<_>>());
    let unasked = received.keys().filter(|n| !expected.contains(n) && !perhaps.contains(n));
    faults.of_kind(
        "leads came to the CRM without a receipt",
        &unasked.map(named).collect::<Vec<_>>(),
    );
    expected.len()
}

/// Each order with a receipt is in its customer's totals once, to the cent. How many orders that are.
fn judge_orders(facts: &Facts, faults: &mut Faults) -> usize {
    let mut expected: BTreeMap<&str, Totals> = BTreeMap::new();
    let mut orders = 0;
    for sent in facts.sent {
        if let What::Order { customer, cents } = &sent.what {
            let totals = expected.entry(customer).or_default();
            totals.orders += 1;
            totals.cents += cents;
            orders += 1;
        }
    }
    let unclear = |customer: &str| {
        facts
            .unclear
            .iter()
            .any(|what| matches!(what, What::Order { customer: c, .. } if c == customer))
    };
    let customers: BTreeSet<&str> =
        expected.keys().copied().chain(facts.totals.keys().map(String::as_str)).collect();
    let mut differ = Vec::new();
    for customer in customers.into_iter().filter(|customer| !unclear(customer)) {
        let wanted = expected.get(customer).copied().unwrap_or_default();
        let is = facts.totals.get(customer).copied().unwrap_or_default();
        if wanted != is {
            differ.push(format!(
                "{customer} has {} orders of {} cents instead of {} of {}",
                is.orders, is.cents, wanted.orders, wanted.cents
            ));
        }
    }
    faults.of_kind("customers' totals are wrong", &differ);
    orders
}

impl Audit {
    pub fn lines(&self, output: Output) -> Vec<String> {
        let mut lines = vec![
            String::new(),
            output.paint(Style::Head, "Audit"),
            format!("  {} receipts: {} done, {} dead", self.receipts, self.done, self.dead),
            format!(
                "  {} leads with a receipt, {} at the CRM; {} requests were made again, with the same key",
                self.leads, self.leads_received, self.tried_again
            ),
            format!(
                "  {} orders with a receipt, checked against the customers' totals",
                self.orders
            ),
        ];
        for fault in &self.faults {
            lines.push(format!("  {} {fault}", output.paint(Style::Bad, "fault:")));
        }
        lines.push(if self.clean {
            output.paint(Style::Good, "  Nothing was lost, nothing was doubled.")
        } else {
            output.paint(Style::Bad, "  Not as it should be.")
        });
        lines
    }
}

#[cfg(test)]
mod tests;
