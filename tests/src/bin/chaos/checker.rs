//! What is to hold when all is healed, checked over all that was written down and all that the nodes have.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::{Duration, Instant},
};

use serde::Serialize;
use serde_json::Value;
use tandem_tests::{Receiver, Request, Side, audit};

use crate::{
    Outcome,
    cluster::Cluster,
    faults::Dice,
    history::{Receipt, Route, Seen, Sent},
    lock, senders,
};

/// Of one kind of violation, so many are named.
const NAMED: usize = 5;
/// Until everything that was accepted is handled and delivered; the whole backlog of a run.
const TO_DRAIN: Duration = Duration::from_mins(5);
/// The longest wait of a delivery, twice.
const TO_BE_ALIKE: Duration = Duration::from_secs(30);
/// What no node may ever say of itself.
const BAD_LINES: [&str; 3] = ["the stores differ", "panicked", "roles cannot be decided"];

/// What came of it.
#[derive(Debug, Default, Clone, Copy, Serialize)]
pub struct Figures {
    pub sent: usize,
    pub receipts_on_two_disks: usize,
    pub receipts_on_one_disk: usize,
    /// Of those with a receipt.
    pub lost: usize,
    /// Messages that were handled twice, and requests that were made twice and must not be.
    pub doubled: usize,
    /// The same, but told as `unknown`.
    pub doubled_and_reported: usize,
    /// Requests of class `idempotent` beyond the first with their key: the receiver tells by it.
    pub repeated_with_the_same_key: usize,
    /// Requests of class `at-most-once` that were not made, or of which nobody knows; each is told so.
    pub told_as_unknown: usize,
}

/// All that a node shows.
struct Stored {
    /// By id: solution and status.
    messages: BTreeMap<String, (String, String)>,
    /// How often each message was handled, by name, for each route.
    handled: [BTreeMap<String, u64>; 3],
}

struct Check<'a> {
    seen: &'a Seen,
    stored: &'a Stored,
    /// By path: key and body, in order of arrival.
    calls: &'a HashMap<String, Vec<(String, String)>>,
    /// Both nodes may have acted at a time: what both did may be there twice.
    may_both_act: bool,
    figures: Figures,
    violations: Vec<String>,
}

/// Waits until all is done, and checks; violations go into the history.
pub fn check(cluster: &mut Cluster, dice: &Dice, may_both_act: bool) -> Outcome<Figures> {
    let primary = drained(cluster)?;
    let stored = stored(primary)?;
    let calls = calls(dice.receiver);
    let history = cluster.history.clone();
    let (figures, violations) = {
        let seen = &*lock(&history.seen);
        let mut check = Check {
            seen,
            stored: &stored,
            calls: &calls,
            may_both_act,
            figures: Figures { sent: seen.sent.len(), ..Figures::default() },
            violations: Vec::new(),
        };
        check.receipts();
        check.handled();
        check.requests(primary);
        check.order();
        check.epochs();
        (check.figures, check.violations)
    };
    violations.into_iter().for_each(|violation| history.violation(violation));
    operators(cluster, dice, primary)?;
    alike(cluster)?;
    for node in &cluster.nodes {
        let log = node.under.log();
        for bad in BAD_LINES {
            if let Some(line) = log.lines().find(|line| line.contains(bad)) {
                history.violation(format!("{:?} says: {line}", node.side()));
            }
        }
    }
    Ok(figures)
}

/// Waits until nothing is queued and nothing is to be delivered, and what was set aside is with the primary.
fn drained(cluster: &mut Cluster) -> Outcome<Side> {
    cluster.wait_whole(TO_DRAIN)?;
    cluster.wait("everything is handled and delivered", TO_DRAIN, |cluster| {
        let is_settled = |side: &Side| {
            let kept = api(*side, "pair/quarantine").ok();
            let entries = kept.and_then(|kept| kept["entries"].as_array().cloned());
            entries.is_some_and(|entries| entries.iter().all(|entry| entry["settled"] == true))
        };
        let Some(side) = cluster.whole() else { return false };
        let status = api(side, "status").unwrap_or_default();
        status["messages"]["queued"] == 0
            && status["deliveries"]["pending"] == 0
            && Side::BOTH.iter().all(is_settled)
    })?;
    cluster.whole().ok_or_else(|| "the pair is not whole any more".into())
}

fn api(side: Side, path: &str) -> Outcome<Value> {
    let request = Request::new("GET", &format!("/api/v1/{path}"));
    let answer = request.send(senders::targets()[side as usize])?;
    match answer.status {
        200 => Ok(answer.json()),
        _ => Err(format!("GET {path} at {side:?}: {answer}").into()),
    }
}

fn stored(side: Side) -> Outcome<Stored> {
    let mut messages = BTreeMap::new();
    let mut before = String::new();
    loop {
        let page = api(side, &format!("messages?limit=1000{before}"))?;
        for message in page["messages"].as_array().into_iter().flatten() {
            let [id, solution, status] =
                ["id", "solution", "status"].map(|name| message[name].as_str().unwrap_or("?").to_owned());
            messages.insert(id, (solution, status));
        }
        match page["next"].as_str() {
            Some(next) => before = format!("&before={next}"),
            None => break,
        }
    }
    let [again, once, lane] = Route::ALL.map(|route| handled(side, route));
    Ok(Stored { messages, handled: [again?, once?, lane?] })
}

fn handled(side: Side, route: Route) -> Outcome<BTreeMap<String, u64>> {
    let mut handled = BTreeMap::new();
    let mut after = String::new();
    loop {
        let path = format!("state/{}?prefix=n/&limit=1000{after}", route.name());
        let page = api(side, &path)?;
        let page = page.as_array().map(Vec::as_slice).unwrap_or_default();
        for entry in page {
            let key = entry["key"].as_str().unwrap_or_default();
            let times = entry["value"]["text"].as_str().and_then(|times| times.parse().ok());
            handled.insert(key.trim_start_matches("n/").to_owned(), times.unwrap_or(u64::MAX));
        }
        match page.last().filter(|_| page.len() == 1000) {
            Some(last) => after = format!("&after={}", last["key"].as_str().unwrap_or_default()),
            None => return Ok(handled),
        }
    }
}

fn calls(receiver: &Receiver) -> HashMap<String, Vec<(String, String)>> {
    let mut calls = HashMap::<_, Vec<_>>::new();
    for call in receiver.calls() {
        let key = call.header("idempotency-key").unwrap_or_default().to_owned();
        calls.entry(call.path).or_default().push((key, call.body));
    }
    calls
}

impl Check<'_> {
    /// One violation for all cases of a kind, the first of them by name.
    fn cases(&mut self, what: &str, cases: &[String]) {
        if !cases.is_empty() {
            let more = if cases.len() > NAMED { ", …" } else { "" };
            let named = cases[..cases.len().min(NAMED)].join(", ");
            self.violations.push(format!("{} {what}: {named}{more}", cases.len()));
        }
    }

    /// Each receipt's message is there and done; all receipts of one message are one.
    fn receipts(&mut self) {
        let (mut lost, mut undone, mut doubled) = (Vec::new(), Vec::new(), Vec::new());
        let mut ids = BTreeMap::<&str, &str>::new();
        for Sent { name, receipts, .. } in &self.seen.sent {
            for Receipt { id, epoch, durability, .. } in receipts {
                match durability {
                    2 => self.figures.receipts_on_two_disks += 1,
                    _ => self.figures.receipts_on_one_disk += 1,
                }
                if *id != receipts[0].id || ids.insert(id, name).is_some_and(|other| other != name) {
                    doubled.push(format!("{name} ({id} and {})", receipts[0].id));
                }
                match self.stored.messages.get(id).map(|(_, status)| status.as_str()) {
                    Some("done") => {}
                    Some(status) => undone.push(format!("{name} ({id}) is {status}")),
                    None => lost.push(format!("{name} ({id}, epoch {epoch}, durability {durability})")),
                }
            }
        }
        if self.may_both_act {
            // What both took under a key is there under one id, and told to be a duplicate under the other.
            let handled = &self.stored.handled;
            lost.retain(|case| {
                let name = case.split(' ').next().unwrap_or_default();
                handled.iter().all(|of_route| !of_route.contains_key(name))
            });
            doubled.clear();
        }
        self.figures.lost = lost.len();
        self.figures.doubled += doubled.len();
        self.cases("receipts' messages are lost", &lost);
        self.cases("receipts' messages are not done", &undone);
        self.cases("messages were taken as two, or two as one", &doubled);
    }

    /// Each message that is there was handled once, each with a receipt is among them, and nothing else is.
    fn handled(&mut self) {
        let sent: BTreeMap<&str, &Sent> =
            self.seen.sent.iter().map(|sent| (sent.name.as_str(), sent)).collect();
        let stored = self.stored;
        for (route, handled) in Route::ALL.into_iter().zip(&stored.handled) {
            let twice: Vec<_> = handled
                .iter()
                .filter(|(_, times)| **times != 1)
                .map(|(name, times)| format!("{name} {times} times"))
                .collect();
            if !self.may_both_act {
                self.figures.doubled += twice.len();
                self.cases("messages were not handled once", &twice);
            }
            let unknown = handled.keys().filter(|name| !sent.contains_key(name.as_str()));
            self.cases("messages were handled that nobody sent", &unknown.cloned().collect::<Vec<_>>());
            let missing = sent.values().filter(|sent| {
                sent.route == route && !sent.receipts.is_empty() && !handled.contains_key(&sent.name)
            });
            let missing: Vec<_> = missing.map(|sent| sent.name.clone()).collect();
            self.figures.lost = self.figures.lost.max(missing.len());
            self.cases("messages with a receipt were never handled", &missing);
            let there = stored.messages.values().filter(|(name, _)| name == route.name()).count();
            if there != handled.len() && !self.may_both_act {
                let name = route.name();
                self.violations.push(format!(
                    "`{name}` has {there} messages, and has handled {}",
                    handled.len()
                ));
            }
        }
    }

    /// What the receivers got.
    fn requests(&mut self, primary: Side) {
        let none = Vec::new();
        for route in Route::ALL {
            let path = format!("/{}", route.name());
            let mut keys = BTreeMap::<&str, (usize, &str)>::new();
            let mut bodies = BTreeMap::<&str, BTreeSet<&str>>::new();
            for (key, body) in self.calls.get(&path).unwrap_or(&none) {
                keys.entry(key).or_insert((0, body)).0 += 1;
                bodies.entry(body).or_default().insert(key);
            }
            let several = bodies.iter().filter(|(_, keys)| keys.len() > 1);
            let several: Vec<_> = several.map(|(body, keys)| format!("{body} {keys:?}")).collect();
            if !self.may_both_act {
                self.figures.doubled += several.len();
                self.cases("messages' requests were made under several keys", &several);
            }
            let stored = self.stored.messages.iter();
            let ids = stored.filter(|(_, (solution, _))| solution == route.name()).map(|(id, _)| id);
            let wrong: Vec<_> = ids
                .map(|id| (id, keys.get(format!("{id}-0").as_str()).map_or(0, |(times, _)| *times)))
                .filter(|(_, times)| *times != 1)
                .collect();
            match route {
                Route::Once => self.at_most_once(primary, &wrong),
                Route::Again | Route::Lane => {
                    let never: Vec<_> = wrong.iter().filter(|(_, times)| *times == 0).collect();
                    let never: Vec<_> = never.iter().map(|(id, _)| (*id).clone()).collect();
                    let is_far = self.may_both_act;
                    let more = wrong.iter().map(|(_, times)| times.saturating_sub(1)).sum::<usize>();
                    self.figures.repeated_with_the_same_key += more;
                    if !is_far {
                        self.cases("messages' requests were never made", &never);
                    }
                }
            }
        }
    }

    /// Not made, or made twice: the delivery has to say that nobody knows.
    fn at_most_once(&mut self, primary: Side, wrong: &[(&String, usize)]) {
        let (mut silent, mut doubled) = (Vec::new(), Vec::new());
        for (id, times) in wrong {
            let message = api(primary, &format!("messages/{id}")).unwrap_or_default();
            let status = message["deliveries"][0]["status"].as_str().unwrap_or("none").to_owned();
            let case = format!("{id}, {times} times, told as {status}");
            match (times, status.as_str()) {
                (0, "unknown") => self.figures.told_as_unknown += 1,
                (0, _) => silent.push(case),
                (_, "unknown") => {
                    self.figures.doubled_and_reported += 1;
                    doubled.push(case);
                }
                _ => {
                    self.figures.doubled += 1;
                    doubled.push(case);
                }
            }
        }
        if !self.may_both_act {
            self.cases("requests of class `at-most-once` were made more than once", &doubled);
            self.cases("requests of class `at-most-once` were not made, and not told as unknown", &silent);
        }
    }

    /// A lane's requests come first in the order in which its messages were sent, each after the receipt of the one before.
    fn order(&mut self) {
        let mut last = BTreeMap::<&str, &str>::new();
        let mut seen = BTreeSet::new();
        let mut wrong = Vec::new();
        for (_, body) in self.calls.get("/lane").into_iter().flatten() {
            let Some((lane, _)) = body.rsplit_once('-') else { continue };
            if seen.insert(body) {
                let before = last.insert(lane, body);
                if before.is_some_and(|before| before > body.as_str()) {
                    wrong.push(format!("{body} after {}", before.unwrap_or_default()));
                }
            }
        }
        if !self.may_both_act {
            self.cases("requests are out of order", &wrong);
        }
    }

    /// Once a receipt is of an epoch, nobody gets one of an epoch before for what is sent from then on.
    fn epochs(&mut self) {
        let mut got: Vec<_> = self.seen.sent.iter().flat_map(|sent| &sent.receipts).collect();
        got.retain(|receipt| receipt.is_first_try && !receipt.is_again);
        got.sort_by_key(|receipt| receipt.at);
        let mut first = BTreeMap::<u64, Instant>::new();
        for receipt in &got {
            first.entry(receipt.epoch).or_insert(receipt.at);
        }
        let is_late = |receipt: &&&Receipt| {
            first.range(receipt.epoch + 1..).any(|(_, at)| *at < receipt.sent)
        };
        let late: Vec<_> = got.iter().filter(is_late).map(|receipt| format!("{receipt:?}")).collect();
        if !self.may_both_act {
            self.cases("receipts are of an epoch that was over", &late);
        }
    }
}

/// What an operator was told is so.
fn operators(cluster: &Cluster, dice: &Dice, primary: Side) -> Outcome<()> {
    let history = &cluster.history;
    let settings = api(primary, "settings")?;
    let settings = settings.as_array().map(Vec::as_slice).unwrap_or_default();
    let is = settings.iter().find(|setting| setting["name"] == "chaos").map(|s| s["value"].clone());
    if let Some(told) = dice.setting.filter(|told| is != Some(Value::from(*told))) {
        history.violation(format!("the setting was set to {told} and is {is:?}"));
    }
    for route in Route::ALL {
        let is = api(primary, &format!("solutions/{}", route.name()))?["version"].clone();
        let told = dice.versions[route as usize].map(|revision| format!("0.1.{revision}"));
        if let Some(told) = told.filter(|told| is != told.as_str()) {
            history.violation(format!("`{}` was deployed as {told} and is {is}", route.name()));
        }
    }
    Ok(())
}

/// Both nodes show the same, and end with the same frame. That their contents are the same they look at themselves, with
/// every sign of life ("the stores differ").
fn alike(cluster: &mut Cluster) -> Outcome<()> {
    let told = std::cell::RefCell::new(String::new());
    let same = cluster.wait("both nodes show the same", TO_BE_ALIKE, |cluster| {
        let heads = Side::BOTH.map(|side| cluster.status(side).map(|status| status["head"].clone()));
        let shown = Side::BOTH.map(|side| shown(cluster, side).unwrap_or_default());
        let [main, failover] = &shown;
        let differ = main.iter().zip(failover).find(|(one, other)| one != other);
        *told.borrow_mut() = format!("{heads:?}, {} and {}, {differ:?}", main.len(), failover.len());
        heads[0].is_some() && heads[0] == heads[1] && !main.is_empty() && main == failover
    });
    if same.is_err() {
        cluster.history.violation(format!("the nodes do not show the same: {}", told.borrow()));
    }
    Ok(())
}

fn shown(cluster: &Cluster, side: Side) -> Outcome<Vec<Value>> {
    let node = &cluster.node(side).under;
    let mut solutions = api(side, "solutions")?;
    for solution in solutions.as_array_mut().into_iter().flatten() {
        // Counted by who handles them.
        solution["queued"].take();
    }
    let mut shown = vec![api(side, "settings")?, solutions];
    for route in Route::ALL {
        shown.push(Value::from_iter(handled(side, route)?));
    }
    shown.extend(audit::messages(node).into_values());
    Ok(shown)
}
