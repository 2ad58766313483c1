//! Which messages are finished and still among the live ones.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::decide::{Facts, Move};
use crate::{
    model::message::MessageId,
    store::{
        ReadError, Snapshot,
        row::{
            Row, SolutionNo,
            dead_letter::DeadLetterRow,
            delivery::{DeliveryRow, DeliveryStatusRow, delivery_key},
            life::{LifeRow, StatusRow},
            message::MessageHead,
            outbox::OutboxHead,
        },
        snapshot::SnapshotTable,
        table::Table,
    },
};

/// What was seen so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Messages up to here were looked at.
    cursor: Option<MessageId>,
    /// Of those, the ones that were not finished. In order.
    late: Vec<MessageId>,
    /// Of those, the finished ones, the oldest first.
    pub finished: BTreeMap<SolutionNo, Finished>,
}

/// Finished messages of one solution.
#[derive(Debug, Default)]
pub(super) struct Finished {
    pub messages: VecDeque<(MessageId, u32)>,
    pub bytes: u64,
}

/// Tables that tell whether a message is finished.
struct Tables {
    lives: SnapshotTable,
    deliveries: SnapshotTable,
    letters: SnapshotTable,
    /// Messages with effects in the outbox. Such an effect may be noted as made: the other node has made it. Whoever is
    /// about to make it here finds that out only while the message is live.
    waiting: BTreeSet<MessageId>,
}

impl Tables {
    fn of(snapshot: &Snapshot) -> Result<Self, ReadError> {
        let mut waiting = BTreeSet::new();
        snapshot.table(Table::Outbox)?.scan(&[], |_, row| {
            waiting.insert(OutboxHead::decode(row)?.id());
            Ok(true)
        })?;
        Ok(Self {
            lives: snapshot.table(Table::Lives)?,
            deliveries: snapshot.table(Table::Deliveries)?,
            letters: snapshot.table(Table::DeadLetters)?,
            waiting,
        })
    }

    /// Bytes of all that became of it, if nothing more will happen with it.
    fn finished(&self, id: MessageId) -> Result<Option<usize>, ReadError> {
        if self.waiting.contains(&id) {
            return Ok(None);
        }
        let Some(life) = self.lives.get_bytes(&id.0)? else { return Ok(None) };
        let mut bytes = life.len();
        let life = LifeRow::decode(&life)?;
        match life.status {
            StatusRow::Again { .. } => return Ok(None),
            StatusRow::Dead if self.letters.get::<DeadLetterRow>(&id.0)?.is_some() => {
                return Ok(None);
            }
            StatusRow::Dead | StatusRow::Done => {}
        }
        let asked = life.attempts.last().map_or(0, |attempt| attempt.outbox);
        for index in 0..asked {
            let key = delivery_key(id, index);
            let Some(row) = self.deliveries.get_bytes(&key)? else { return Ok(None) };
            bytes += row.len();
            match DeliveryRow::decode(&row)?.status {
                DeliveryStatusRow::Delivered | DeliveryStatusRow::Unknown => {}
                DeliveryStatusRow::Dead if self.letters.get::<DeadLetterRow>(&key)?.is_none() => {}
                DeliveryStatusRow::Dead
                | DeliveryStatusRow::Again { .. }
                | DeliveryStatusRow::Begun { .. } => return Ok(None),
            }
        }
        Ok(Some(bytes))
    }
}

impl Tally {
    /// Takes in what was finished since the last look.
    pub fn look(&mut self, snapshot: &Snapshot) -> Result<(), ReadError> {
        let messages = snapshot.table(Table::Messages)?;
        let tables = Tables::of(snapshot)?;
        let mut still_late = Vec::new();
        for id in std::mem::take(&mut self.late) {
            let Some(bytes) = tables.finished(id)? else {
                still_late.push(id);
                continue;
            };
            if let Some(row) = messages.get_bytes(&id.0)? {
                self.add(id, &row, bytes)?;
            }
        }
        let from = self.cursor.map_or(Vec::new(), |id| [&id.0[..], &[0]].concat());
        messages.scan(&from, |key, row| {
            let id = MessageId(key.try_into().map_err(|_| ReadError::Key("messages"))?);
            match tables.finished(id)? {
                Some(bytes) => self.add(id, row, bytes)?,
                None => still_late.push(id),
            }
            self.cursor = Some(id);
            Ok(true)
        })?;
        self.late = still_late;
        Ok(())
    }

    fn add(&mut self, id: MessageId, row: &[u8], more: usize) -> Result<(), ReadError> {
        let head = MessageHead::decode(row)?;
        let finished = self.finished.entry(head.solution_no).or_default();
        let bytes = u32::try_from(row.len() + more).unwrap_or(u32::MAX);
        finished.bytes += u64::from(bytes);
        // A late one comes after younger ones; nearly all are added at the end.
        let place = finished.messages.partition_point(|(other, _)| *other < id);
        finished.messages.insert(place, (id, bytes));
        Ok(())
    }

    /// Bytes of all finished messages.
    pub fn bytes(&self) -> u64 {
        self.finished.values().map(|finished| finished.bytes).sum()
    }

    /// Those that moved are not here any more.
    pub fn moved(&mut self, what: &Move) {
        self.take(what.solution_no, what.ids.len());
    }

    /// Takes out those that need not be kept any longer.
    pub fn take_old(&mut self, facts: &Facts) -> Vec<MessageId> {
        let numbers: Vec<SolutionNo> = self.finished.keys().copied().collect();
        let mut old = Vec::new();
        for no in numbers {
            let before = facts.oldest_kept_ms(no);
            let messages = &self.finished[&no].messages;
            let count = messages.partition_point(|(id, _)| id.time_ms() < before);
            old.extend(self.take(no, count));
        }
        old
    }

    fn take(&mut self, no: SolutionNo, count: usize) -> Vec<MessageId> {
        let Some(finished) = self.finished.get_mut(&no) else { return Vec::new() };
        let taken: Vec<_> = finished.messages.drain(..count).collect();
        finished.bytes -= taken.iter().map(|(_, bytes)| u64::from(*bytes)).sum::<u64>();
        if finished.messages.is_empty() {
            self.finished.remove(&no);
        }
        taken.into_iter().map(|(id, _)| id).collect()
    }
}
