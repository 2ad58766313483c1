//! What is to hold when all is healed, checked over all that was written down and all that the nodes have.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Instant,
};

use serde::Serialize;
use tandem_tests::audit::NEVER_SAID;

use crate::{
    Outcome,
    cluster::Cluster,
    faults::Dice,
    history::{Apart, Receipt, Route, Seen, Sent},
    lock,
    stored::{self, Stored},
};

#[cfg(test)]
mod tests;

/// Of one kind of violation, so many are named.
const NAMED: usize = 5;

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

struct Check<'a> {
    seen: &'a Seen,
    stored: &'a Stored,
    /// By path: key and body, in order of arrival.
    calls: &'a HashMap<String, Vec<(String, String)>>,
    /// What became of a message's request.
    told: &'a dyn Fn(&str) -> String,
    apart: Apart,
    figures: Figures,
    violations: Vec<String>,
}

/// Waits until all is done, and checks; violations go into the history.
pub fn check(cluster: &mut Cluster, dice: &Dice) -> Outcome<Figures> {
    let primary = stored::drained(cluster)?;
    let (stored, calls) = (stored::stored(primary)?, stored::calls(&dice.receiver));
    let told = |id: &str| stored::told(primary, id);
    let history = cluster.history.clone();
    let (figures, violations) = {
        let seen = &*lock(&history.seen);
        Check::of(seen, &stored, &calls, &told, history.apart)
    };
    for violation in violations {
        history.violation(violation);
    }
    stored::operators(cluster, dice, primary)?;
    stored::alike(cluster);
    for node in &cluster.nodes {
        let log = node.under.log();
        for bad in NEVER_SAID {
            if let Some(line) = log.lines().find(|line| line.contains(bad)) {
                history.violation(format!("{:?} says: {line}", node.side()));
            }
        }
    }
    Ok(figures)
}

impl<'a> Check<'a> {
    fn of(
        seen: &'a Seen,
        stored: &'a Stored,
        calls: &'a HashMap<String, Vec<(String, String)>>,
        told: &'a dyn Fn(&str) -> String,
        apart: Apart,
    ) -> (Figures, Vec<String>) {
        let figures = Figures { sent: seen.sent.len(), ..Figures::default() };
        let violations = Vec::new();
        let mut check = Self { seen, stored, calls, told, apart, figures, violations };
        check.receipts();
        check.handled();
        check.requests();
        check.order();
        check.epochs();
        (check.figures, check.violations)
    }

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
                if *id != receipts[0].id || ids.insert(id, name).is_some_and(|other| other != name)
                {
                    doubled.push(format!("{name} ({id} and {})", receipts[0].id));
                }
                match self.stored.messages.get(id).map(|(_, status)| status.as_str()) {
                    Some("done") => {}
                    Some(status) => undone.push(format!("{name} ({id}) is {status}")),
                    None => {
                        lost.push(format!("{name} ({id}, epoch {epoch}, durability {durability})"));
                    }
                }
            }
        }
        if self.apart.may_both_accept {
            // What both took under a key is there under one id, and told to be a duplicate under the other.
            let handled = &self.stored.handled;
            lost.retain(|case| {
                let name = case.split(' ').next().unwrap_or_default();
                handled.iter().all(|of_route| !of_route.contains_key(name))
            });
        } else {
            self.figures.doubled += doubled.len();
            self.cases("messages were taken as two, or two as one", &doubled);
        }
        self.figures.lost = lost.len();
        self.cases("receipts' messages are lost", &lost);
        self.cases("receipts' messages are not done", &undone);
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
            self.figures.doubled += twice.len();
            if !self.apart.may_both_act {
                self.cases("messages were not handled once", &twice);
            }
            let unknown = handled.keys().filter(|name| !sent.contains_key(name.as_str()));
            self.cases(
                "messages were handled that nobody sent",
                &unknown.cloned().collect::<Vec<_>>(),
            );
            let missing = sent.values().filter(|sent| {
                sent.route == route
                    && !sent.receipts.is_empty()
                    && !handled.contains_key(&sent.name)
            });
            let missing: Vec<_> = missing.map(|sent| sent.name.clone()).collect();
            self.figures.lost = self.figures.lost.max(missing.len());
            self.cases("messages with a receipt were never handled", &missing);
            let there = stored.messages.values().filter(|(name, _)| name == route.name()).count();
            if there != handled.len() && !self.apart.may_both_act {
                let name = route.name();
                self.violations.push(format!(
                    "`{name}` has {there} messages, and has handled {}",
                    handled.len()
                ));
            }
        }
    }

    /// What the receivers got.
    fn requests(&mut self) {
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
            self.figures.doubled += several.len();
            if !self.apart.may_both_act {
                self.cases("messages' requests were made under several keys", &several);
            }
            let stored = self.stored.messages.iter();
            let ids =
                stored.filter(|(_, (solution, _))| solution == route.name()).map(|(id, _)| id);
            let wrong: Vec<_> = ids
                .map(|id| (id, keys.get(format!("{id}-0").as_str()).map_or(0, |(times, _)| *times)))
                .filter(|(_, times)| *times != 1)
                .collect();
            match route {
                Route::Once => self.at_most_once(&wrong),
                Route::Again | Route::Lane => {
                    let never: Vec<_> = wrong.iter().filter(|(_, times)| *times == 0).collect();
                    let never: Vec<_> = never.iter().map(|(id, _)| (*id).clone()).collect();
                    let is_far = self.apart.may_both_act;
                    let more =
                        wrong.iter().map(|(_, times)| times.saturating_sub(1)).sum::<usize>();
                    self.figures.repeated_with_the_same_key += more;
                    if !is_far {
                        self.cases("messages' requests were never made", &never);
                    }
                }
            }
        }
    }

    /// Not made, or made twice: the delivery has to say that nobody knows.
    fn at_most_once(&mut self, wrong: &[(&String, usize)]) {
        let (mut silent, mut doubled) = (Vec::new(), Vec::new());
        for (id, times) in wrong {
            let status = (self.told)(id);
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
        if !self.apart.may_both_act {
            self.cases("requests of class `at-most-once` were made more than once", &doubled);
            self.cases(
                "requests of class `at-most-once` were not made, and not told as unknown",
                &silent,
            );
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
        // What one node took while they were apart comes to the other late.
        if !self.apart.may_both_accept {
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
        let late: Vec<_> =
            got.iter().filter(is_late).map(|receipt| format!("{receipt:?}")).collect();
        if !self.apart.may_both_accept {
            self.cases("receipts are of an epoch that was over", &late);
        }
    }
}
