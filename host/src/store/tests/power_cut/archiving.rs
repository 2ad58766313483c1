//! Finished messages move into segments, a step a commit, as `upkeep` does it.

use std::collections::BTreeSet;

use rand::{Rng, seq::IndexedRandom};

use super::{history::Rows, workload::Driver};
use crate::{
    model::message::MessageId,
    store::{
        SubmitError,
        change::archive::{Expire, Seal, Sweep, Swept},
        row::{
            Row, SolutionNo,
            delivery::read_delivery_key,
            life::{LifeRow, StatusRow},
            message::MessageRow,
            outbox::OutboxRow,
            segment::{SegmentKey, SegmentRow, SweepRow},
        },
        segment::{Entry, Segment, SegmentWriter},
        table::Table,
    },
};

fn of_table(rows: &Rows, table: Table) -> impl Iterator<Item = (&[u8], &[u8])> {
    rows.range((table, Vec::new())..)
        .take_while(move |((of, _), _)| *of == table)
        .map(|((_, key), value)| (key.as_slice(), &value[..]))
}

fn sweeps(rows: &Rows) -> impl Iterator<Item = (SegmentKey, Vec<[u8; 16]>)> {
    of_table(rows, Table::Sweeps).map(|(key, row)| {
        (SegmentKey::from_bytes(key).unwrap(), SweepRow::decode(row).unwrap().ids)
    })
}

/// A message with the indexes of its deliveries.
fn with_deliveries(rows: &Rows, id: [u8; 16]) -> (MessageId, Vec<u16>) {
    let deliveries = of_table(rows, Table::Deliveries).filter(|(key, _)| key.starts_with(&id));
    (MessageId(id), deliveries.map(|(key, _)| read_delivery_key(key).unwrap().1).collect())
}

/// Messages to which nothing more will happen and that are not on their way yet, by solution.
fn finished(rows: &Rows) -> Vec<(SolutionNo, MessageId)> {
    let mut held: BTreeSet<[u8; 16]> = sweeps(rows).flat_map(|(_, ids)| ids).collect();
    held.extend(of_table(rows, Table::Outbox).map(|(_, row)| OutboxRow::decode(row).unwrap().id));
    held.extend(of_table(rows, Table::DeadLetters).map(|(key, _)| *key.first_chunk().unwrap()));
    let lives = of_table(rows, Table::Lives).filter(|(key, row)| {
        let again = matches!(LifeRow::decode(row).unwrap().status, StatusRow::Again { .. });
        !again && !held.contains(*key)
    });
    let found = lives.map(|(key, _)| {
        let message = MessageRow::decode(&rows[&(Table::Messages, key.to_vec())]).unwrap();
        (message.solution_no, MessageId(key.try_into().unwrap()))
    });
    found.collect()
}

impl Driver {
    /// The next step of a sweep, or of a segment's life.
    pub(super) fn some_archived(&mut self) -> Result<(), SubmitError> {
        let rows = self.history.last().rows.clone();
        let sweeping: Vec<_> = sweeps(&rows).collect();
        let whole = of_table(&rows, Table::Segments)
            .map(|(key, _)| SegmentKey::from_bytes(key).unwrap())
            .filter(|key| sweeping.iter().all(|(other, _)| other != key));
        let whole: Vec<_> = whole.collect();
        if whole.len() > 1 && self.rng.random_ratio(1, 6) {
            let segments = vec![*whole.choose(&mut self.rng).expect("there are some")];
            return self.queue(Expire { segments });
        }
        match sweeping.choose(&mut self.rng) {
            Some((key, ids)) if self.rng.random_ratio(4, 5) => {
                let live = |id: &&[u8; 16]| rows.contains_key(&(Table::Messages, id.to_vec()));
                let several = self.rng.random_range(2..10);
                let some = ids.iter().filter(live).take(several);
                let messages: Vec<_> = some.map(|id| with_deliveries(&rows, *id)).collect();
                if messages.is_empty() {
                    self.queue(Swept { key: *key })
                } else {
                    self.queue(Sweep { messages })
                }
            }
            _ => self.sealed(&rows),
        }
    }

    /// Writes a segment's file, whole, and hands over that it is there.
    fn sealed(&mut self, rows: &Rows) -> Result<(), SubmitError> {
        let all = finished(rows);
        let Some((solution_no, _)) = all.choose(&mut self.rng).copied() else {
            return self.several_settled();
        };
        let several = self.rng.random_range(1..20);
        let ids = all.iter().filter(|(no, _)| *no == solution_no).map(|(_, id)| *id).take(several);
        let row = |table, key: &[u8]| rows[&(table, key.to_vec())].clone();
        let entries: Vec<_> = ids
            .map(|id| {
                let (_, indexes) = with_deliveries(rows, id.0);
                let deliveries = indexes.into_iter().map(|index| {
                    let key = crate::store::row::delivery::delivery_key(id, index);
                    (index, row(Table::Deliveries, &key))
                });
                Entry {
                    id: id.0,
                    message: row(Table::Messages, &id.0),
                    life: row(Table::Lives, &id.0),
                    deliveries: deliveries.collect(),
                }
            })
            .collect();
        let ids: Vec<_> = entries.iter().map(|entry| entry.id).collect();
        let key = SegmentKey { solution_no, first: MessageId(ids[0]) };
        let path = self.store.archive().place(key).unwrap();
        let mut writer = SegmentWriter::create(&path).unwrap();
        for entry in &entries {
            writer.add(entry, None).unwrap();
        }
        let sealed = writer.seal().unwrap();
        let written = Segment::open(&path).unwrap();
        let blocks = 0..written.blocks();
        let written: Vec<_> = blocks.flat_map(|block| written.block(block).unwrap()).collect();
        assert_eq!(written, entries, "the file does not hold what was written");
        let segment = SegmentRow {
            solution: MessageRow::decode(&entries[0].message).unwrap().solution,
            last: *ids.last().expect("there are some"),
            messages: u32::try_from(ids.len()).unwrap(),
            bytes: sealed.bytes,
            content: sealed.content,
        };
        self.history.segments.insert(key, entries.into());
        self.queue(Seal { key, segment, ids })
    }

    /// Goes on where the power went: everything that is in a segment leaves the live messages.
    pub(super) fn finish_sweeps(&mut self) -> Result<(), String> {
        let rows = self.history.last().rows.clone();
        for (key, _) in sweeps(&rows) {
            let segment = self.store.archive().open(key).map_err(|error| error.to_string())?;
            for block in 0..segment.blocks() {
                let entries = segment.block(block).map_err(|error| error.to_string())?;
                let indexes = |entry: &Entry| entry.deliveries.iter().map(|(n, _)| *n).collect();
                let messages = entries.iter().map(|entry| (MessageId(entry.id), indexes(entry)));
                let messages = messages.collect();
                self.commit(|driver| driver.queue(Sweep { messages }))
                    .map_err(|e| e.to_string())?;
            }
            self.commit(|driver| driver.queue(Swept { key })).map_err(|error| error.to_string())?;
        }
        let kept = self.history.last();
        let twice = |id: &&MessageId| kept.rows.contains_key(&(Table::Messages, id.0.to_vec()));
        match kept.archived.sealed.keys().find(twice) {
            Some(id) => Err(format!("{id} is swept and still there")),
            None => Ok(()),
        }
    }
}
