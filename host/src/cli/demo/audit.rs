//! After the last message: was anything lost, or done twice?

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
    examples::{LEADS, ORDERS},
    receiver::Received,
    tally::{Figures, Receipted},
    traffic::What,
};

const POLL: Duration = Duration::from_millis(200);
/// Of each kind of fault, so many are named.
const NAMED: usize = 5;

/// All that the verdict is made from.
#[derive(Debug)]
pub struct Facts<'a> {
    pub drained: bool,
    /// The last frame of both stores; none if they do not end alike.
    pub head: Option<u64>,
    pub sent: Figures,
    pub receipts: &'a [Receipted],
    /// Sent, but without a receipt: may be there or not, but not twice.
    pub given_up: &'a [What],
    /// Status of each message that the node knows, by id.
    pub found: HashMap<String, String>,
    /// What `order-totals` has summed.
    pub totals: BTreeMap<String, Totals>,
    /// How many leads `lead-router` has counted.
    pub leads_counted: u64,
    pub received: Received,
}

/// Of one customer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    pub orders: u64,
    pub cents: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Proof {
    pub holds: bool,
    #[serde(flatten)]
    pub sent: Figures,
    pub leads: Kind,
    pub orders: Kind,
    /// Requests at the receiver beyond the first with their key.
    pub deliveries_repeated: u64,
    /// The last frame of both stores.
    pub head: Option<u64>,
    /// Each a sentence.
    pub faults: Vec<String>,
}

/// Of one kind of message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Kind {
    pub receipts: u64,
    /// As their solution's state says.
    pub handled_once: u64,
    /// At the receiver under one key; none where nothing is delivered.
    pub delivered_once: Option<u64>,
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

/// How many leads `lead-router` has counted, over all territories.
pub async fn leads_counted(node: &NodeClient) -> Result<u64, Failure> {
    let call = Call::get(["state", LEADS.0]).query("prefix", Some("leads/"));
    let entries: Vec<StateEntry> = node.read(call).await?;
    let counted = |entry: &StateEntry| match &entry.value {
        Body::Text(text) => text.parse::<u64>().ok(),
        Body::Base64(_) => None,
    };
    Ok(entries.iter().filter_map(counted).sum())
}

/// The verdict.
pub fn judge(facts: &Facts) -> Proof {
    let mut faults = Faults::default();
    if !facts.drained {
        faults.0.push("the pair is stuck: messages or deliveries wait, and nothing moves".into());
    }
    let given_up: Vec<String> = facts.given_up.iter().map(named).collect();
    faults.of_kind("messages never got a receipt", &given_up);
    judge_messages(facts, &mut faults);
    let leads = judge_leads(facts, &mut faults);
    let orders = judge_orders(facts, &mut faults);
    let wrong = facts.received.figures.wrong;
    if wrong > 0 {
        faults.0.push(format!("{wrong} requests came without an idempotency key of their own"));
    }
    if facts.head.is_none() {
        faults.0.push("the stores of the two servers do not end alike".into());
    }
    Proof {
        holds: faults.0.is_empty(),
        sent: facts.sent,
        leads,
        orders,
        deliveries_repeated: facts.received.figures.tried_again,
        head: facts.head,
        faults: faults.0,
    }
}

fn named(what: &What) -> String {
    match what {
        What::Lead { number } => format!("lead {number}"),
        What::Order { customer, cents } => format!("an order of {customer}, {cents} cents"),
    }
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
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

/// Each receipt's message is there and done, and no message is there that nobody has a receipt for.
fn judge_messages(facts: &Facts, faults: &mut Faults) {
    let (mut lost, mut otherwise, mut doubled) = (Vec::new(), Vec::new(), Vec::new());
    let mut ids = BTreeSet::new();
    for Receipted { id, .. } in facts.receipts {
        if !ids.insert(id) {
            doubled.push(id.clone());
        }
        match facts.found.get(id).map(String::as_str) {
            None => lost.push(id.clone()),
            Some("done") => {}
            Some(status) => otherwise.push(format!("{id} is {status}")),
        }
    }
    faults.of_kind("messages with a receipt are lost", &lost);
    faults.of_kind("receipts were given for two messages", &doubled);
    faults.of_kind("messages are not done", &otherwise);
    let unasked: Vec<String> = facts.found.keys().filter(|id| !ids.contains(id)).cloned().collect();
    if unasked.len() > facts.given_up.len() {
        faults.of_kind("messages are there that have no receipt", &unasked);
    }
}

/// Each lead with a receipt was counted once, and kept at the CRM under exactly one key; none without one.
fn judge_leads(facts: &Facts, faults: &mut Faults) -> Kind {
    let lead = |what: &What| match what {
        What::Lead { number } => Some(*number),
        What::Order { .. } => None,
    };
    let expected: BTreeSet<u32> =
        facts.receipts.iter().filter_map(|receipt| lead(&receipt.what)).collect();
    let perhaps: BTreeSet<u32> = facts.given_up.iter().filter_map(lead).collect();
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
    let unasked = unasked.map(named).collect::<Vec<_>>();
    faults.of_kind("leads came to the CRM without a receipt", &unasked);
    let (least, most) = (count(expected.len()), count(expected.len() + perhaps.len()));
    if !(least..=most).contains(&facts.leads_counted) {
        faults.0.push(format!("{} leads were counted instead of {least}", facts.leads_counted));
    }
    let once = expected.iter().filter(|number| received.get(number) == Some(&1)).count();
    Kind {
        receipts: least,
        handled_once: facts.leads_counted.min(least),
        delivered_once: Some(count(once)),
    }
}

/// Each order with a receipt is in its customer's totals once, to the cent.
fn judge_orders(facts: &Facts, faults: &mut Faults) -> Kind {
    let mut expected: BTreeMap<&str, Totals> = BTreeMap::new();
    let mut orders = Kind::default();
    for receipt in facts.receipts {
        if let What::Order { customer, cents } = &receipt.what {
            let totals = expected.entry(customer).or_default();
            totals.orders += 1;
            totals.cents += cents;
            orders.receipts += 1;
        }
    }
    let unclear = |customer: &str| {
        facts
            .given_up
            .iter()
            .any(|what| matches!(what, What::Order { customer: c, .. } if c == customer))
    };
    let customers: BTreeSet<&str> =
        expected.keys().copied().chain(facts.totals.keys().map(String::as_str)).collect();
    let mut differ = Vec::new();
    for customer in customers {
        let wanted = expected.get(customer).copied().unwrap_or_default();
        let is = facts.totals.get(customer).copied().unwrap_or_default();
        orders.handled_once += is.orders.min(wanted.orders);
        if wanted != is && !unclear(customer) {
            differ.push(format!(
                "{customer} has {} orders of {} cents instead of {} of {}",
                is.orders, is.cents, wanted.orders, wanted.cents
            ));
        }
    }
    faults.of_kind("customers' totals are wrong", &differ);
    orders
}

impl Proof {
    pub fn lines(&self, output: Output) -> Vec<String> {
        let Figures { sent, receipts, on_two_disks, on_one_disk, failed_tries } = self.sent;
        let Kind { handled_once: leads, delivered_once, .. } = self.leads;
        let Kind { handled_once: orders, .. } = self.orders;
        let row = |name: &str, figure: u64, told: &str| {
            let style = if figure == sent { Style::Good } else { Style::Bad };
            let figure = output.paint(style, &format!("{figure:>6}"));
            format!("  {name:<15}{figure}   {told}").trim_end().to_owned()
        };
        let head = self.head.map_or("different".into(), |head| head.to_string());
        let mut lines = vec![
            String::new(),
            output.paint(Style::Head, "Proof"),
            row("sent", sent, &format!("{failed_tries} tries failed and were repeated")),
            row(
                "receipted",
                receipts,
                &format!("{on_two_disks} on two disks, {on_one_disk} on one"),
            ),
            row(
                "handled once",
                leads + orders,
                &format!("{leads} leads counted, {orders} orders in the totals, to the cent"),
            ),
        ];
        if let Some(delivered) = delivered_once {
            let style = if delivered == self.leads.receipts { Style::Good } else { Style::Bad };
            let figure = output.paint(style, &format!("{delivered:>6}"));
            lines.push(format!(
                "  {:<15}{figure}   of {} leads; {} requests were repeated, with the same key",
                "delivered once", self.leads.receipts, self.deliveries_repeated
            ));
        }
        lines.push(format!("  {:<15}{head:>6}   the last frame of both stores", "frames"));
        for fault in &self.faults {
            lines.push(format!("  {} {fault}", output.paint(Style::Bad, "fault:")));
        }
        lines.push(String::new());
        lines.push(if self.holds {
            output.paint(Style::Good, "Nothing was lost, nothing was done twice.")
        } else {
            output.paint(Style::Bad, "Not as it should be.")
        });
        lines
    }
}

#[cfg(test)]
mod tests;
