//! What must be so in the end, whatever befell the pair; with tests that bend each of it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tandem::store::{
    ReadError, Store,
    replicate::Installing,
    row::{
        Row as _,
        delivery::{DeliveryRow, DeliveryStatusRow, read_delivery_key},
        life::{LifeRow, OutcomeRow, StatusRow},
        message::MessageRow,
        setting::{Scope, SettingRow, setting_key},
    },
    table::Table,
};

use crate::{
    history::{Act, Receipt, Seen},
    world::{Setup, World},
};

#[cfg(test)]
mod tests;

/// A message as it is kept, and what became of it.
struct Stored {
    row: MessageRow,
    life: Option<LifeRow>,
}

impl Stored {
    /// What it was answered, as JSON.
    fn reply(&self) -> Option<Value> {
        match &self.life.as_ref()?.attempts.last()?.outcome {
            OutcomeRow::Done { reply: Some(reply) } => serde_json::from_slice(&reply.body).ok(),
            _ => None,
        }
    }
}

/// Pure: of what was seen from outside, and of what both nodes have in the end.
struct Checker<'a> {
    setup: Setup,
    seen: &'a Seen,
    stored: BTreeMap<String, Stored>,
    deliveries: BTreeMap<(String, u16), DeliveryRow>,
    /// What the setting that operators count up is, and the number of the version that is active.
    ends_with: [Option<u64>; 2],
    wrong: Vec<String>,
}

/// As what a message was counted, the frame it came in, and its id.
type Counted<'a> = (u64, u64, &'a str);

/// Says into the history what must not be.
pub fn check(world: &World) {
    let (Some(one), Some(other)) = (world.inside(0), world.inside(1)) else {
        return world.history.violate("a node does not run in the end");
    };
    let wrong = wrong(world, &one.store, &other.store)
        .unwrap_or_else(|error| vec![format!("a store cannot be read in the end: {error}")]);
    for what in wrong {
        world.history.violate(what);
    }
}

fn wrong(world: &World, one: &Store, other: &Store) -> Result<Vec<String>, ReadError> {
    let mut checker = Checker {
        setup: world.setup,
        seen: &world.history.see(),
        stored: messages(one)?,
        deliveries: deliveries(one)?,
        ends_with: [setting(one)?, version(one)],
        wrong: differences(&rows(one)?, &rows(other)?).into_iter().collect(),
    };
    for store in [one, other] {
        let (head, content) = store.recount()?;
        if head.content != content {
            checker.wrong.push(format!("the content hash is {} and not {content}", head.content));
        }
    }
    checker.check();
    Ok(checker.wrong)
}

/// Of the last one that an operator set.
fn setting(store: &Store) -> Result<Option<u64>, ReadError> {
    let name = |text: &str| text.parse().expect("it is a name");
    let key = setting_key(&Scope::Solution(name("order-totals")), &name("n"));
    let row = store.read()?.get::<SettingRow>(Table::Settings, &key)?;
    Ok(row.and_then(|row| row.json.parse().ok()))
}

/// Of the last one that an operator deployed.
fn version(store: &Store) -> Option<u64> {
    let catalogue = store.catalogue();
    let catalogue = catalogue.borrow();
    let manifest = catalogue.solution("order-totals")?.manifest.as_ref().ok()?;
    manifest.version.rsplit_once('.')?.1.parse().ok()
}

type Rows = BTreeMap<(u8, Vec<u8>), Vec<u8>>;

fn rows(store: &Store) -> Result<Rows, ReadError> {
    let mut all = Rows::new();
    store.give_rows(&[], |part| {
        if let Installing::Rows { table, rows, .. } = part {
            all.extend(
                rows.into_iter().map(|(key, value)| ((table, key.to_vec()), value.to_vec())),
            );
        }
        true
    })?;
    Ok(all)
}

/// Both nodes have the same rows.
fn differences(one: &Rows, other: &Rows) -> Option<String> {
    let differs = one.iter().find(|(key, value)| other.get(*key) != Some(value));
    let more = other.keys().find(|key| !one.contains_key(*key));
    let (table, key) = differs.map(|(key, _)| key).or(more)?;
    Some(format!("the nodes differ in table {table} at key {key:02x?}"))
}

fn text(id: [u8; 16]) -> String {
    uuid::Uuid::from_bytes(id).to_string()
}

fn messages(store: &Store) -> Result<BTreeMap<String, Stored>, ReadError> {
    let snapshot = store.read()?;
    let lives = snapshot.table(Table::Lives)?;
    let mut stored = BTreeMap::new();
    snapshot.table(Table::Messages)?.scan(&[], |key, value| {
        let id: [u8; 16] = key.try_into().map_err(|_| ReadError::Key("messages"))?;
        let (row, life) = (MessageRow::decode(value)?, lives.get(&id)?);
        stored.insert(text(id), Stored { row, life });
        Ok(true)
    })?;
    Ok(stored)
}

fn deliveries(store: &Store) -> Result<BTreeMap<(String, u16), DeliveryRow>, ReadError> {
    let mut all = BTreeMap::new();
    store.read()?.table(Table::Deliveries)?.scan(&[], |key, value| {
        let (id, index) = read_delivery_key(key).ok_or(ReadError::Key("deliveries"))?;
        all.insert((text(id.0), index), DeliveryRow::decode(value)?);
        Ok(true)
    })?;
    Ok(all)
}

impl Checker<'_> {
    fn check(&mut self) {
        self.nothing_is_lost();
        self.a_key_is_one_message();
        self.everything_is_done();
        self.counted_once("order-totals", |reply| reply["customer"]["orders"].as_u64());
        for solution in ["lead-router", "leads-once"] {
            self.counted_once(solution, |reply| reply["number"].as_u64());
        }
        self.ticked_once();
        self.follow_ups();
        self.deliveries();
        self.requests();
        if !self.setup.may_both_accept() {
            self.fenced();
        }
        if !self.setup.may_both_act() {
            self.in_order();
            self.kept("setting", &self.seen.settings, self.ends_with[0]);
            self.kept("deployment", &self.seen.deployed, self.ends_with[1]);
        }
    }

    /// I1, I2, I7: what has a receipt is there; under its own id, unless both nodes could take it.
    fn nothing_is_lost(&mut self) {
        let bodies: BTreeSet<&[u8]> =
            self.stored.values().map(|stored| &stored.row.body[..]).collect();
        let is_lost = |receipt: &&Receipt| {
            // Nodes that both took it, with one key, come to one of the two.
            let may_be_another = receipt.is_keyed && self.setup.may_both_accept();
            let is_another = may_be_another && bodies.contains(receipt.body.as_bytes());
            !is_another && !self.stored.contains_key(&receipt.id)
        };
        let lost = self.seen.receipts.iter().filter(is_lost);
        self.wrong.extend(lost.map(|receipt| format!("lost: {receipt:?}")));
        if let (Some(ids), false) = (self.seen.same_key.first(), self.setup.may_both_accept()) {
            self.wrong.push(format!("one idempotency key came to two messages: {ids:?}"));
        }
    }

    /// I2: also what both nodes took under one key is one message in the end.
    fn a_key_is_one_message(&mut self) {
        let keyed = self.seen.receipts.iter().filter(|receipt| receipt.is_keyed);
        let keyed: BTreeSet<&[u8]> = keyed.map(|receipt| receipt.body.as_bytes()).collect();
        let mut came = BTreeSet::new();
        for (id, Stored { row, .. }) in &self.stored {
            if keyed.contains(&row.body[..]) && !came.insert(&row.body) {
                self.wrong.push(format!("{id}: one message of one key is there twice"));
            }
        }
    }

    fn everything_is_done(&mut self) {
        for (id, Stored { row, life }) in &self.stored {
            if life.as_ref().is_none_or(|life| life.status != StatusRow::Done) {
                self.wrong.push(format!("{id} of {} is not done: {life:?}", row.solution));
            }
        }
    }

    /// I1, I10: what a solution counted, in the order of acceptance: each message once, none twice, none before its turn.
    fn counted_once(&mut self, solution: &str, count: impl Fn(&Value) -> Option<u64>) {
        let mut of_key: BTreeMap<Option<&str>, Vec<Counted<'_>>> = BTreeMap::new();
        for (id, stored) in &self.stored {
            if stored.row.solution.as_str() != solution {
                continue;
            }
            let Some(count) = stored.reply().as_ref().and_then(&count) else {
                let what = format!("{id} of {solution} has no count: {:?}", stored.life);
                self.wrong.push(what);
                continue;
            };
            // Leads are counted over all keys.
            let key = stored.row.key.as_deref().filter(|_| solution == "order-totals");
            of_key.entry(key).or_default().push((count, stored.row.position.seq, id));
        }
        for (key, mut counts) in of_key {
            counts.sort_unstable();
            let skips = |(n, (count, ..)): &(usize, &Counted<'_>)| *count != *n as u64 + 1;
            if let Some((n, (count, _, id))) = counts.iter().enumerate().find(skips) {
                self.wrong.push(format!(
                    "{solution}: {id} of {key:?} was counted as {count}, and {n} before it"
                ));
            } else if !counts.is_sorted_by_key(|(_, seq, _)| *seq) && !self.setup.may_both_act() {
                self.wrong
                    .push(format!("{solution}: messages of {key:?} were not handled in order"));
            }
        }
    }

    fn ticked_once(&mut self) {
        let mut ticks = BTreeSet::new();
        for (id, Stored { row, .. }) in &self.stored {
            if row.source.as_str() == "look" && !ticks.insert(row.time_ms) {
                self.wrong.push(format!("{id}: the schedule ticked twice for {}", row.time_ms));
            }
        }
    }

    /// What was published is there, and nothing that nobody says to have published.
    fn follow_ups(&mut self) {
        let (mut published, mut wrong) = (BTreeSet::new(), Vec::new());
        for (id, Stored { life, .. }) in &self.stored {
            let attempts = life.iter().flat_map(|life| &life.attempts);
            for follow_up in attempts.flat_map(|attempt| &attempt.published).map(|id| text(*id)) {
                let parent = self.stored.get(&follow_up).and_then(|stored| stored.row.parent);
                if parent.map(text).as_ref() != Some(id) {
                    wrong.push(format!("{id} published {follow_up}, which is not there as its"));
                }
                published.insert(follow_up);
            }
        }
        for (id, Stored { row, .. }) in &self.stored {
            if row.parent.is_some() && !published.contains(id) {
                wrong.push(format!("{id} was published, and its parent does not say so"));
            }
        }
        self.wrong.extend(wrong);
    }

    /// By their keys: what the receiver did.
    fn made(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut made: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for call in &self.seen.calls {
            made.entry(&call.key).or_default().push(&call.body);
        }
        made
    }

    /// I3: what the nodes say of requests.
    fn deliveries(&mut self) {
        let made = self.made();
        let mut wrong = Vec::new();
        for ((id, index), delivery) in &self.deliveries {
            let calls = made.get(format!("{id}-{index}").as_str()).map_or(0, Vec::len);
            match delivery.status {
                DeliveryStatusRow::Delivered if calls == 0 => {
                    wrong.push(format!("{id}-{index} counts as delivered and was never made"));
                }
                DeliveryStatusRow::Again { .. } | DeliveryStatusRow::Begun { .. } => {
                    let status = delivery.status;
                    wrong.push(format!("{id}-{index} is not delivered in the end: {status:?}"));
                }
                _ => {}
            }
        }
        for (id, Stored { row, .. }) in &self.stored {
            let asks = matches!(row.solution.as_str(), "lead-router" | "leads-once" | "alerts");
            match self.deliveries.get(&(id.clone(), 0)) {
                None if asks => wrong.push(format!("nothing is known of the request of {id}")),
                // Its receiver comes back long before the attempts are used up.
                Some(delivery)
                    if row.solution.as_str() == "lead-router"
                        && delivery.status != DeliveryStatusRow::Delivered
                        && !self.setup.may_both_act() =>
                {
                    let status = delivery.status;
                    wrong.push(format!("{id} is of class idempotent and ended as {status:?}"));
                }
                _ => {}
            }
        }
        self.wrong.extend(wrong);
    }

    /// I3: what the receiver got.
    fn requests(&mut self) {
        // Nodes that both act may have handled one message on two states.
        if self.setup.may_both_act() {
            return;
        }
        let mut wrong = Vec::new();
        for (key, bodies) in self.made() {
            if bodies.iter().any(|body| *body != bodies[0]) {
                wrong.push(format!("requests with the key {key} differ"));
            }
            let id = key.rsplit_once('-').map_or("", |(id, _)| id);
            let solution = self.stored.get(id).map(|stored| stored.row.solution.as_str());
            match (solution, bodies.len()) {
                (None, _) => {
                    let what =
                        format!("a request was made for {key}, and there is no such message");
                    wrong.push(what);
                }
                (Some("leads-once"), times @ 2..) => {
                    wrong
                        .push(format!("{key} is of class at-most-once and was made {times} times"));
                }
                _ => {}
            }
        }
        self.wrong.extend(wrong);
    }

    /// I4: once there is a receipt of an epoch, nobody gets one of an epoch before for what is sent from then on.
    fn fenced(&mut self) {
        let mut first = BTreeMap::new();
        for receipt in &self.seen.receipts {
            first.entry(receipt.epoch).or_insert(receipt.at);
        }
        for receipt in self.seen.receipts.iter().filter(|receipt| receipt.is_first_try) {
            if let Some((newer, _)) =
                first.range(receipt.epoch + 1..).find(|(_, at)| **at < receipt.sent)
            {
                self.wrong.push(format!("a receipt of an epoch before {newer}: {receipt:?}"));
            }
        }
    }

    /// Requests of one order are first made in the order in which they were asked for.
    fn in_order(&mut self) {
        let mut last = 0;
        let mut came = BTreeSet::new();
        for call in self.seen.calls.iter().filter(|call| call.path == "/leads") {
            let id = call.key.rsplit_once('-').map_or("", |(id, _)| id);
            let is_ordered = self
                .stored
                .get(id)
                .is_some_and(|stored| stored.row.solution.as_str() == "lead-router");
            if !is_ordered || !came.insert(&call.key) {
                continue;
            }
            let number = serde_json::from_str::<Value>(&call.body).ok();
            let number = number.and_then(|body| body["number"].as_u64()).unwrap_or(0);
            if number < last {
                self.wrong.push(format!("lead {number} went out after lead {last}"));
            }
            last = number;
        }
    }

    /// I1 of operators' changes: what holds in the end is none that one which was acknowledged had replaced, and not nothing.
    fn kept(&mut self, what: &str, acts: &[Act], in_the_end: Option<u64>) {
        let told: Vec<&Act> = acts.iter().filter(|act| act.told.is_some()).collect();
        let Some(number) = in_the_end else {
            if let Some(Act { number, .. }) = told.first() {
                self.wrong.push(format!("{what} {number} was acknowledged, and there is none"));
            }
            return;
        };
        let Some(act) = acts.iter().find(|act| act.number == number) else {
            if let Some(act) = told.first() {
                let before = act.number;
                self.wrong
                    .push(format!("{what} {number} is nobody's, and {before} was acknowledged"));
            }
            return;
        };
        // One of which nothing was told may come to hold at any time later.
        let later = told.iter().find(|later| act.told.is_some_and(|told| told < later.sent));
        if let Some(later) = later {
            let later = later.number;
            self.wrong
                .push(format!("{what} {number} holds, and {later} was acknowledged after it"));
        }
    }
}
