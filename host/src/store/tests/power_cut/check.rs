//! What must be so in any store that was opened, whatever happened to it before.

use std::collections::{BTreeMap, BTreeSet};

use redb::ReadableTable;

use super::{
    disk::Window,
    history::{Archived, History, Kept, Rows, rows},
};
use crate::{
    model::message::MessageId,
    store::{
        ReadError, Snapshot, Store,
        frame::Frame,
        pieces,
        row::{
            Ordinal, Row, SolutionNo,
            breaker::BreakerRow,
            dead_letter::DeadLetterRow,
            dedupe::{DedupeExpiryRow, DedupeRow, dedupe_expiry_key},
            delivery::{DeliveryRow, DeliveryStatusRow, read_delivery_key},
            epoch::EpochRow,
            life::{LifeRow, StatusRow},
            message::MessageRow,
            outbox::{OutboxKey, OutboxRow},
            ready::{ReadyRow, read_ready_key},
            segment::{SegmentKey, SegmentRow, SweepRow},
            solution::{NEXT_SOLUTION_KEY, SolutionRow},
            state::read_state_key,
            timer::{TimerRow, read_timer_key},
        },
        table::{Definition, PIECES, Table},
    },
};

/// Fails with a text unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err(format!($($text)+));
        }
    };
}
pub(super) use ensure;

/// Whether the store is just what it was after one of the commits that may be the last; returns which.
pub fn check(store: &Store, window: Window, history: &History) -> Result<u64, String> {
    let Window { acked, tried } = window;
    let snapshot = store.read().map_err(|error| error.to_string())?;
    let head = snapshot.head().map_err(|error| error.to_string())?;
    let identity = snapshot.identity().map_err(|error| error.to_string())?;
    drop(snapshot);
    let seq = head.position.seq;
    ensure!(seq >= acked, "lost: the head is {seq}, and {acked} was acknowledged");
    ensure!(seq <= tried, "the head is {seq}, and only {tried} was tried");
    ensure!(identity.store_id == history.store_id, "it is another store");
    let kept = history.at(seq).ok_or("the head is beyond its history")?;
    ensure!(head.chain == kept.chain, "the chain of the head is not the one of commit {seq}");
    check_journal(store, seq, history)?;
    let found = rows(store)?;
    if let Some(difference) = difference(&found, &kept.rows) {
        return Err(format!("rows are not those of commit {seq}: {difference}"));
    }
    for (id, at) in history.receipts.iter().filter(|(_, at)| *at <= acked) {
        let there = found.contains_key(&(Table::Messages, id.0.to_vec()));
        let there = there || kept.archived.knows(*id);
        ensure!(there, "message {id} has a receipt of commit {at} and is missing");
    }
    let (_, content) = store.recount().map_err(|error| error.to_string())?;
    ensure!(content == head.content, "the content hash is not that of the rows");
    check_indexes(&found, &kept.archived)?;
    check_pieces(store)?;
    check_archive(store, history, kept)?;
    check_counters(store, &found)?;
    Ok(seq)
}

/// Hands over what lies in a table, without putting long values together.
fn as_they_lie(
    snapshot: &Snapshot,
    table: Definition,
    mut take: impl FnMut(&[u8], &[u8]),
) -> Result<(), ReadError> {
    for entry in snapshot.definition(table)?.iter()? {
        let (key, value) = entry?;
        take(key.value(), value.value());
    }
    Ok(())
}

/// Pieces are there that stubs stand for, and no others.
fn check_pieces(store: &Store) -> Result<(), String> {
    let (mut needed, mut there) = (BTreeSet::new(), BTreeSet::new());
    let mut walk = || {
        let snapshot = store.read()?;
        for table in Table::ALL {
            as_they_lie(&snapshot, table.definition(), |key, value| {
                needed.extend(pieces::keys_of(table, key, value));
            })?;
        }
        as_they_lie(&snapshot, PIECES, |key, _| {
            there.insert(key.to_vec());
        })
    };
    walk().map_err(|error: ReadError| error.to_string())?;
    let (orphans, missing) = (there.difference(&needed).count(), needed.difference(&there).count());
    ensure!(orphans == 0 && missing == 0, "{orphans} pieces too many, {missing} too few");
    Ok(())
}

/// What moved is found, as it was; what has not been swept is the same in both places.
fn check_archive(store: &Store, history: &History, kept: &Kept) -> Result<(), String> {
    let snapshot = store.read().map_err(|error| error.to_string())?;
    let named = snapshot.segments().map_err(|error| error.to_string())?;
    for (key, row) in &named {
        let entries = history.segments.get(key).ok_or("a segment that nobody wrote")?;
        ensure!(row.messages as usize == entries.len(), "{key:?} has {} messages", row.messages);
        ensure!(entries.last().map(|e| e.id) == Some(row.last), "{key:?} ends elsewhere");
        for entry in entries.iter() {
            let live = |table| kept.rows.get(&(table, entry.id.to_vec()));
            let Some(message) = live(Table::Messages) else { continue };
            let same = *message == entry.message && live(Table::Lives) == Some(&entry.life);
            ensure!(same, "{} is not the same in both places", MessageId(entry.id));
            let deliveries = snapshot.delivery_rows(MessageId(entry.id));
            let deliveries = deliveries.map_err(|error| error.to_string())?;
            ensure!(
                deliveries == entry.deliveries,
                "{} differs in deliveries",
                MessageId(entry.id)
            );
        }
        // Files do not change: one message of each does for all.
        let entry = &entries[history.receipts.len() % entries.len()];
        let found = snapshot.record(MessageId(entry.id)).map_err(|error| error.to_string())?;
        let expected = entry.record().map_err(|error| error.to_string())?;
        ensure!(found == Some(expected), "{} is not found as it was", MessageId(entry.id));
    }
    let named: BTreeSet<_> = named.into_iter().map(|(key, _)| key).collect();
    let nowhere = kept.archived.sealed.iter().find(|(_, key)| !named.contains(key));
    ensure!(nowhere.is_none(), "{nowhere:?} moved into a segment that is not named");
    Ok(())
}

fn difference(found: &Rows, expected: &Rows) -> Option<String> {
    let extra = found.iter().find(|(key, value)| expected.get(*key) != Some(*value));
    let missing = expected.keys().find(|key| !found.contains_key(*key));
    extra
        .map(|(key, _)| format!("{key:?} should not be there or be different"))
        .or_else(|| missing.map(|key| format!("{key:?} is missing")))
}

/// Without a hole up to the head, byte for byte, and the chain holds.
fn check_journal(store: &Store, head: u64, history: &History) -> Result<(), String> {
    let mut frames = Vec::new();
    let take = |frame: &[u8]| {
        frames.push(frame.to_vec());
        true
    };
    store.journal(0, take).map_err(|error| error.to_string())?;
    let Some(first) = frames.first() else {
        ensure!(head == 0, "the journal is empty, and the head is {head}");
        return Ok(());
    };
    let first = Frame::decode(first).map_err(|error| error.to_string())?.position.seq;
    let before = first.checked_sub(1).and_then(|seq| history.at(seq)).ok_or("a frame too many")?;
    let mut chain = before.chain;
    let mut next = first;
    for frame in &frames {
        let position = Frame::decode(frame).map_err(|error| error.to_string())?.position;
        ensure!(position.seq == next, "the journal has {} where {next} should be", position.seq);
        let kept = history.at(next).ok_or("the journal goes beyond its history")?;
        ensure!(kept.frame == frame, "frame {next} is another one");
        chain = chain.next(frame);
        next += 1;
    }
    ensure!(next == head + 1, "the journal ends before {next}, and the head is {head}");
    let expected = history.at(head).map(|kept| kept.chain);
    ensure!(Some(chain) == expected, "the chain over the journal is not the head's");
    Ok(())
}

/// What is counted at opening is what rows say.
fn check_counters(store: &Store, rows: &Rows) -> Result<(), String> {
    let tables = Tables::read(rows)?;
    let count = |of: &mut dyn Iterator<Item = SolutionNo>| {
        let mut counts = BTreeMap::<SolutionNo, u64>::new();
        of.for_each(|no| *counts.entry(no).or_default() += 1);
        counts
    };
    let queues = count(&mut tables.queued.iter().map(|queued| queued.solution_no));
    let alive = |effect: &&(MessageId, u16)| !tables.dead_deliveries.contains_key(effect);
    let alive =
        tables.outbox.keys().filter(alive).map(|effect| tables.outbox[effect].1.solution_no);
    let undelivered = count(&mut alive.into_iter());
    for (told, there) in
        [(&store.counters().queues, queues), (&store.counters().undelivered, undelivered)]
    {
        let mut counted = told.all();
        counted.retain(|_, count| *count > 0);
        ensure!(counted == there, "counted {counted:?}, and there are {there:?}");
    }
    Ok(())
}

/// A message that waits.
struct Queued {
    id: MessageId,
    solution_no: SolutionNo,
    attempts: u32,
    due_ms: Option<u64>,
}

/// Rows, read.
struct Tables {
    solutions: Vec<SolutionRow>,
    messages: BTreeMap<MessageId, MessageRow>,
    lives: BTreeMap<MessageId, LifeRow>,
    queued: Vec<Queued>,
    outbox: BTreeMap<(MessageId, u16), (OutboxKey, OutboxRow)>,
    deliveries: BTreeMap<(MessageId, u16), DeliveryRow>,
    dead_messages: BTreeSet<MessageId>,
    dead_deliveries: BTreeMap<(MessageId, u16), DeadLetterRow>,
    blobs: BTreeSet<Vec<u8>>,
    state_of: BTreeSet<SolutionNo>,
    /// Rows by their keys.
    dedupe: BTreeMap<Vec<u8>, DedupeRow>,
    dedupe_expiry: BTreeSet<Vec<u8>>,
    segments: BTreeMap<SegmentKey, SegmentRow>,
    sweeps: BTreeMap<SegmentKey, SweepRow>,
}

fn read<R: Row>(bytes: &[u8]) -> Result<R, String> {
    R::decode(bytes).map_err(|error| error.to_string())
}

fn message_id(key: &[u8]) -> Result<MessageId, String> {
    key.try_into().map(MessageId).map_err(|_| format!("{key:?} is no message id"))
}

impl Tables {
    fn read(rows: &Rows) -> Result<Self, String> {
        let mut tables = Self {
            solutions: Vec::new(),
            messages: BTreeMap::new(),
            lives: BTreeMap::new(),
            queued: Vec::new(),
            outbox: BTreeMap::new(),
            deliveries: BTreeMap::new(),
            dead_messages: BTreeSet::new(),
            dead_deliveries: BTreeMap::new(),
            blobs: BTreeSet::new(),
            state_of: BTreeSet::new(),
            dedupe: BTreeMap::new(),
            dedupe_expiry: BTreeSet::new(),
            segments: BTreeMap::new(),
            sweeps: BTreeMap::new(),
        };
        for ((table, key), value) in rows {
            tables.take(*table, key, value)?;
        }
        Ok(tables)
    }

    fn take(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), String> {
        let damaged = || format!("a key of {table:?} is damaged: {key:?}");
        match table {
            Table::Solutions if key == NEXT_SOLUTION_KEY => {}
            Table::Solutions => self.solutions.push(read(value)?),
            Table::Messages => drop(self.messages.insert(message_id(key)?, read(value)?)),
            Table::Lives => drop(self.lives.insert(message_id(key)?, read(value)?)),
            Table::Ready => {
                let (solution_no, _) = read_ready_key(key).ok_or_else(damaged)?;
                let row: ReadyRow = read(value)?;
                let (id, attempts) = (row.id(), row.attempts);
                self.queued.push(Queued { id, solution_no, attempts, due_ms: None });
            }
            Table::Timers => {
                let (due_ms, id) = read_timer_key(key).ok_or_else(damaged)?;
                let TimerRow { solution_no, attempts } = read(value)?;
                self.queued.push(Queued { id, solution_no, attempts, due_ms: Some(due_ms) });
            }
            Table::Outbox => {
                let key = OutboxKey::from_bytes(key).ok_or_else(damaged)?;
                let row: OutboxRow = read(value)?;
                let effect = (row.id(), key.index);
                let twice = self.outbox.insert(effect, (key, row)).is_some();
                ensure!(!twice, "effect {effect:?} is in the outbox twice");
            }
            Table::Deliveries => {
                let key = read_delivery_key(key).ok_or_else(damaged)?;
                self.deliveries.insert(key, read(value)?);
            }
            Table::DeadLetters if key.len() == 16 => {
                read::<DeadLetterRow>(value)?;
                self.dead_messages.insert(message_id(key)?);
            }
            Table::DeadLetters => {
                let key = read_delivery_key(key).ok_or_else(damaged)?;
                self.dead_deliveries.insert(key, read(value)?);
            }
            Table::Epochs => drop(read::<EpochRow>(value)?),
            Table::Blobs => drop(self.blobs.insert(key.to_vec())),
            Table::State => {
                self.state_of.insert(read_state_key(key).ok_or_else(damaged)?.0);
            }
            Table::Dedupe => drop(self.dedupe.insert(key.to_vec(), read(value)?)),
            Table::DedupeExpiry => {
                read::<DedupeExpiryRow>(value)?;
                self.dedupe_expiry.insert(key.to_vec());
            }
            Table::Breakers => drop(read::<BreakerRow>(value)?),
            Table::Segments => {
                let key = SegmentKey::from_bytes(key).ok_or_else(damaged)?;
                self.segments.insert(key, read(value)?);
            }
            Table::Sweeps => {
                let key = SegmentKey::from_bytes(key).ok_or_else(damaged)?;
                self.sweeps.insert(key, read(value)?);
            }
            Table::Settings | Table::Schedules => {}
        }
        Ok(())
    }

    fn check_solutions(&self) -> Result<(), String> {
        let needed: BTreeSet<_> = self
            .solutions
            .iter()
            .flat_map(|solution| &solution.versions)
            .map(|version| version.digest.0.to_vec())
            .collect();
        ensure!(self.blobs == needed, "components that are kept are not those that are needed");
        let numbers: BTreeSet<_> = self.solutions.iter().map(|solution| solution.no).collect();
        ensure!(self.state_of.is_subset(&numbers), "state of a solution that is gone");
        let orphan = self.queued.iter().find(|queued| !numbers.contains(&queued.solution_no));
        ensure!(orphan.is_none(), "a message waits for a solution that is gone");
        Ok(())
    }

    /// Each sweep is of a segment, and only finished messages are swept.
    fn check_sweeps(&self) -> Result<(), String> {
        for (key, SweepRow { ids }) in &self.sweeps {
            let segment = self.segments.get(key).ok_or(format!("{key:?} is no segment"))?;
            let (first, last) = (ids.first(), ids.last());
            let whole = ids.len() == segment.messages as usize && last == Some(&segment.last);
            ensure!(whole && first == Some(&key.first.0), "the sweep of {key:?} is of others");
            ensure!(ids.is_sorted_by(|a, b| a < b), "the sweep of {key:?} is out of order");
            for id in ids.iter().map(|id| MessageId(*id)) {
                let waits = self.queued.iter().any(|queued| queued.id == id);
                let waits = waits || self.outbox.keys().any(|(of, _)| *of == id);
                ensure!(!waits && !self.dead_messages.contains(&id), "{id} moved and is not over");
            }
        }
        Ok(())
    }

    /// Each key that is remembered names a message, and goes in its time.
    fn check_dedupe(&self, archived: &Archived) -> Result<(), String> {
        let known = |id| self.messages.contains_key(&id) || archived.knows(id);
        let orphan = self.dedupe.values().find(|row| !known(row.id()));
        ensure!(orphan.is_none(), "a key without its message: {orphan:?}");
        let expiry = |(key, row): (&Vec<u8>, &DedupeRow)| dedupe_expiry_key(row.expires_ms, key);
        let needed: BTreeSet<_> = self.dedupe.iter().map(expiry).collect();
        ensure!(self.dedupe_expiry == needed, "keys and when they go do not agree");
        Ok(())
    }

    /// Each message waits, is done, is dead, or was let go: just one of these.
    fn check_messages(&self) -> Result<(), String> {
        let mut waiting = BTreeSet::new();
        for Queued { id, attempts, due_ms, .. } in &self.queued {
            ensure!(waiting.insert(*id), "message {id} waits twice");
            let message = self.messages.get(id).ok_or(format!("{id} waits and is missing"))?;
            match self.lives.get(id) {
                None => {
                    ensure!(*attempts == 0, "{id} has attempts and no life");
                    ensure!(due_ms.is_none() || *due_ms == message.due_ms, "{id} is due wrongly");
                }
                Some(life) => {
                    let StatusRow::Again { due_ms: again_ms } = life.status else {
                        return Err(format!("{id} waits and is {:?}", life.status));
                    };
                    ensure!(life.attempts.len() == *attempts as usize, "{id} lost an attempt");
                    ensure!(due_ms.is_none_or(|due| due == again_ms), "{id} is due wrongly");
                }
            }
        }
        for id in self.messages.keys() {
            let status = self.lives.get(id).map(|life| life.status);
            let dead = self.dead_messages.contains(id);
            let over = matches!(status, Some(StatusRow::Done | StatusRow::Dead));
            ensure!(over != waiting.contains(id), "{id} neither waits nor is over: {status:?}");
            ensure!(!dead || status == Some(StatusRow::Dead), "{id} is dead and {status:?}");
        }
        let known = |id: &&MessageId| !self.messages.contains_key(*id);
        let orphan = self.lives.keys().chain(&self.dead_messages).find(known);
        ensure!(orphan.is_none(), "{orphan:?} has a life and is missing");
        Ok(())
    }

    /// Each effect belongs to a message that is done, and waits, is delivered, is dead, or was let go.
    fn check_effects(&self) -> Result<(), String> {
        for (effect, (key, _)) in &self.outbox {
            let life = self.lives.get(&effect.0).map(|life| life.status);
            ensure!(life == Some(StatusRow::Done), "effect {effect:?} of a message {life:?}");
            let status = self.deliveries.get(effect).map(|delivery| delivery.status);
            let is_over =
                matches!(status, Some(DeliveryStatusRow::Delivered | DeliveryStatusRow::Unknown));
            ensure!(!is_over, "{effect:?} would go out twice");
            let dead = self.dead_deliveries.get(effect);
            ensure!(
                (status == Some(DeliveryStatusRow::Dead)) == dead.is_some(),
                "{effect:?} is {status:?}, and its dead letter is {dead:?}"
            );
            let placed = dead.is_none_or(|dead| dead.outbox_key() == Some(*key));
            ensure!(placed, "the dead letter of {effect:?} is about another place");
        }
        for (effect, delivery) in &self.deliveries {
            let again = matches!(
                delivery.status,
                DeliveryStatusRow::Again { .. } | DeliveryStatusRow::Begun { .. }
            );
            ensure!(!again || self.outbox.contains_key(effect), "{effect:?} can go out no more");
            ensure!(self.messages.contains_key(&effect.0), "{effect:?} is of no message");
        }
        let orphan = self.dead_deliveries.keys().find(|effect| !self.outbox.contains_key(effect));
        ensure!(orphan.is_none(), "dead letter {orphan:?} has no effect to try again");
        Ok(())
    }
}

/// Whether tables agree about the same things.
pub fn check_indexes(rows: &Rows, archived: &Archived) -> Result<(), String> {
    let tables = Tables::read(rows)?;
    tables.check_solutions()?;
    tables.check_dedupe(archived)?;
    tables.check_sweeps()?;
    tables.check_messages()?;
    tables.check_effects()
}

/// The highest place that was given, and the highest message id of those that are live.
pub fn highest(rows: &Rows) -> (Ordinal, Option<MessageId>) {
    let ready = rows.keys().filter_map(|(table, key)| match table {
        Table::Ready => Some(read_ready_key(key)?.1),
        Table::Outbox => Some(OutboxKey::from_bytes(key)?.ordinal),
        _ => None,
    });
    let ids = rows.keys().filter_map(|(table, key)| match table {
        Table::Messages => Some(MessageId(key.as_slice().try_into().ok()?)),
        _ => None,
    });
    (ready.max().unwrap_or(0), ids.max())
}
