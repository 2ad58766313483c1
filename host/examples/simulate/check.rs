//! What must be so in the end, whatever befell the pair.

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
    },
    table::Table,
};

use crate::{
    history::{Receipt, Seen},
    world::World,
};

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

struct Checker<'a> {
    world: &'a World,
    stored: BTreeMap<String, Stored>,
    deliveries: BTreeMap<(String, u16), DeliveryRow>,
}

/// As what a message was counted, the frame it came in, and its id.
type Counted<'a> = (u64, u64, &'a str);

/// Says into the history what must not be.
pub fn check(world: &World) {
    let (Some(one), Some(other)) = (world.inside(0), world.inside(1)) else {
        return world.history.violate("a node does not run in the end");
    };
    let checked = compare(world, &one.store, &other.store).and_then(|()| {
        let checker =
            Checker { world, stored: messages(&one.store)?, deliveries: deliveries(&one.store)? };
        checker.check();
        Ok(())
    });
    if let Err(error) = checked {
        world.history.violate(format!("a store cannot be read in the end: {error}"));
    }
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

/// Both nodes have the same rows, and the content hash is that of the rows.
fn compare(world: &World, one: &Store, other: &Store) -> Result<(), ReadError> {
    let (of_one, of_other) = (rows(one)?, rows(other)?);
    let differs = of_one.iter().find(|(key, value)| of_other.get(*key) != Some(value));
    let more = of_other.keys().find(|key| !of_one.contains_key(*key));
    if let Some((table, key)) = differs.map(|(key, _)| key).or(more) {
        world.history.violate(format!("the nodes differ in table {table} at key {key:02x?}"));
    }
    for store in [one, other] {
        let (head, content) = store.recount()?;
        if head.content != content {
            world
                .history
                .violate(format!("the content hash is {} and not {content}", head.content));
        }
    }
    Ok(())
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
    fn check(&self) {
        self.nothing_is_lost();
        self.everything_is_done();
        self.counted_once("order-totals", |reply| reply["customer"]["orders"].as_u64());
        for solution in ["lead-router", "leads-once"] {
            self.counted_once(solution, |reply| reply["number"].as_u64());
        }
        self.ticked_once();
        self.requests();
        if self.world.setup.has_witness {
            self.fenced();
            self.in_order();
        }
    }

    fn violate(&self, what: String) {
        self.world.history.violate(what);
    }

    fn violate_each(&self, all: impl IntoIterator<Item = String>) {
        for what in all {
            self.violate(what);
        }
    }

    /// I1, I2, I7: what has a receipt is there; with a witness under its own id.
    fn nothing_is_lost(&self) {
        let bodies: BTreeSet<&[u8]> =
            self.stored.values().map(|stored| &stored.row.body[..]).collect();
        let seen = self.world.history.see();
        let is_lost = |receipt: &&Receipt| {
            // Nodes that both took it, with one key, come to one of the two.
            let may_be_another = receipt.is_keyed && !self.world.setup.has_witness;
            let is_another = may_be_another && bodies.contains(receipt.body.as_bytes());
            !is_another && !self.stored.contains_key(&receipt.id)
        };
        let lost: Vec<Receipt> = seen.receipts.iter().filter(is_lost).cloned().collect();
        let doubled = seen.same_key.clone();
        drop(seen);
        for receipt in lost {
            self.violate(format!("lost: {receipt:?}"));
        }
        if let (Some(ids), true) = (doubled.first(), self.world.setup.has_witness) {
            self.violate(format!("one idempotency key came to two messages: {ids:?}"));
        }
    }

    fn everything_is_done(&self) {
        for (id, Stored { row, life }) in &self.stored {
            if life.as_ref().is_none_or(|life| life.status != StatusRow::Done) {
                self.violate(format!("{id} of {} is not done: {life:?}", row.solution));
            }
        }
    }

    /// I1, I10: what a solution counted, in the order of acceptance: each message once, none twice, none before its turn.
    fn counted_once(&self, solution: &str, count: impl Fn(&Value) -> Option<u64>) {
        let mut of_key: BTreeMap<Option<&str>, Vec<Counted<'_>>> = BTreeMap::new();
        for (id, stored) in &self.stored {
            if stored.row.solution.as_str() != solution {
                continue;
            }
            let Some(count) = stored.reply().as_ref().and_then(&count) else {
                self.violate(format!("{id} of {solution} has no count: {:?}", stored.life));
                continue;
            };
            // Leads are counted over all keys.
            let key = stored.row.key.as_deref().filter(|_| solution == "order-totals");
            of_key.entry(key).or_default().push((count, stored.row.position.seq, id));
        }
        for (key, mut counts) in of_key {
            counts.sort_unstable();
            for (n, (count, _, id)) in counts.iter().enumerate() {
                if *count != n as u64 + 1 {
                    return self.violate(format!(
                        "{solution}: {id} of {key:?} was counted as {count}, and {n} before it"
                    ));
                }
            }
            let is_in_order = counts.is_sorted_by_key(|(_, seq, _)| *seq);
            if !is_in_order && self.world.setup.has_witness {
                self.violate(format!("{solution}: messages of {key:?} were not handled in order"));
            }
        }
    }

    fn ticked_once(&self) {
        let mut ticks = BTreeSet::new();
        for (id, Stored { row, .. }) in &self.stored {
            if row.source.as_str() == "look" && !ticks.insert(row.time_ms) {
                self.violate(format!("{id}: the schedule ticked twice for {}", row.time_ms));
            }
        }
    }

    /// I3.
    fn requests(&self) {
        let seen = self.world.history.see();
        let mut made: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for call in &seen.calls {
            made.entry(&call.key).or_default().push(&call.body);
        }
        let mut wrong = Vec::new();
        for (key, bodies) in &made {
            // Nodes that both act may have handled one message on two states.
            let is_one = self.world.setup.has_witness;
            if is_one && bodies.iter().any(|body| *body != bodies[0]) {
                wrong.push(format!("requests with the key {key} differ"));
            }
            let id = key.rsplit_once('-').map_or("", |(id, _)| id);
            match self.stored.get(id) {
                None if self.world.setup.has_witness => {
                    wrong.push(format!(
                        "a request was made for {key}, and there is no such message"
                    ));
                }
                Some(stored)
                    if stored.row.solution.as_str() == "leads-once"
                        && bodies.len() > 1
                        && self.world.setup.has_witness =>
                {
                    wrong.push(format!(
                        "{key} is of class at-most-once and was made {} times",
                        bodies.len()
                    ));
                }
                _ => {}
            }
        }
        for ((id, index), delivery) in &self.deliveries {
            let calls = made.get(format!("{id}-{index}").as_str()).map_or(0, Vec::len);
            if calls == 0 && delivery.status == DeliveryStatusRow::Delivered {
                wrong.push(format!("{id}-{index} counts as delivered and was never made"));
            }
            if matches!(
                delivery.status,
                DeliveryStatusRow::Again { .. } | DeliveryStatusRow::Begun { .. }
            ) {
                wrong.push(format!(
                    "{id}-{index} is not delivered in the end: {:?}",
                    delivery.status
                ));
            }
        }
        for (id, Stored { row, .. }) in &self.stored {
            let asks = matches!(row.solution.as_str(), "lead-router" | "leads-once");
            if asks && !self.deliveries.contains_key(&(id.clone(), 0)) {
                wrong.push(format!("nothing is known of the request of {id}"));
            }
        }
        drop(seen);
        self.violate_each(wrong);
    }

    /// I4: once there is a receipt of an epoch, nobody gets one of an epoch before for what is sent from then on.
    fn fenced(&self) {
        let seen: Vec<Receipt> = {
            let seen: &Seen = &self.world.history.see();
            seen.receipts.clone()
        };
        let mut first = BTreeMap::new();
        for receipt in &seen {
            first.entry(receipt.epoch).or_insert(receipt.at);
        }
        for receipt in seen.iter().filter(|receipt| receipt.is_first_try) {
            if let Some((newer, _)) =
                first.range(receipt.epoch + 1..).find(|(_, at)| **at < receipt.sent)
            {
                self.violate(format!("a receipt of an epoch before {newer}: {receipt:?}"));
            }
        }
    }

    /// Requests of one order are first made in the order in which they were asked for.
    fn in_order(&self) {
        let seen = self.world.history.see();
        let mut last = 0;
        let mut came = BTreeSet::new();
        let mut wrong = None;
        for call in seen.calls.iter().filter(|call| call.path == "/leads") {
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
                wrong.get_or_insert(format!("lead {number} went out after lead {last}"));
            }
            last = number;
        }
        drop(seen);
        self.violate_each(wrong);
    }
}
