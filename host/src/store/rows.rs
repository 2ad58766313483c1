//! Where operations become rows: the open tables of one write transaction.
//!
//! Operations are gathered and brought to the tables together, table by table in the order of their keys: a row that is
//! written twice in a commit is written once, what is added at a table's end fills its pages, and a stretch of rows that
//! goes is cut out at once. Reading sees what was gathered.

use std::{cell::OnceCell, collections::BTreeMap, ops::Range};

use redb::{ReadableTable, StorageError, WriteTransaction};

use super::{
    Catalogue,
    content::{Content, Hashed},
    frame::{FrameError, Op, Ops},
    pieces,
    snapshot::ReadError,
    table::{PIECES, Table},
};

/// From so many on, rows that are deleted in a row are cut out together.
const STRETCH: usize = 8;
/// So many other rows may lie between two of them.
const OTHERS: usize = 4;

/// What a row will be: where its value lies in the frame, or gone.
type Pending = Option<Range<usize>>;

pub(super) struct Rows<'txn> {
    txn: &'txn WriteTransaction,
    /// Opened when they are needed: most commits need few.
    tables: [OnceCell<Hashed<'txn>>; Table::ALL.len()],
    pieces: Hashed<'txn>,
    /// By table and key.
    gathered: Vec<BTreeMap<Vec<u8>, Pending>>,
}

/// Applying a frame went wrong.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl<'txn> Rows<'txn> {
    pub fn open(txn: &'txn WriteTransaction) -> Result<Self, redb::TableError> {
        let gathered = vec![BTreeMap::new(); Table::ALL.len()];
        let tables = [const { OnceCell::new() }; Table::ALL.len()];
        Ok(Self { txn, tables, pieces: Hashed::new(txn.open_table(PIECES)?, 0), gathered })
    }

    fn table(&self, table: Table) -> Result<&Hashed<'txn>, StorageError> {
        let cell = &self.tables[table.index()];
        if let Some(open) = cell.get() {
            return Ok(open);
        }
        let open = self.txn.open_table(table.definition()).map_err(of_storage)?;
        Ok(cell.get_or_init(|| Hashed::new(open, table as u8)))
    }

    /// A table to write to, and the one of pieces.
    fn both_mut(
        &mut self,
        table: Table,
    ) -> Result<(&mut Hashed<'txn>, &mut Hashed<'txn>), StorageError> {
        self.table(table)?;
        let open = self.tables[table.index()].get_mut().expect("it was opened right here");
        Ok((open, &mut self.pieces))
    }

    /// Takes in the last operations of a frame that is `frame_len` bytes long so far.
    pub fn gather(&mut self, mut ops: Ops<'_>, frame_len: usize) -> Result<(), FrameError> {
        while let Some(op) = ops.next() {
            let end = frame_len - ops.rest();
            let (table, key, pending) = match op? {
                Op::Put { table, key, value } => (table, key, Some(end - value.len()..end)),
                Op::Delete { table, key } => (table, key, None),
            };
            self.gathered[table.index()].insert(key.to_vec(), pending);
        }
        Ok(())
    }

    /// Hands a row to `read`, if there is one.
    pub fn read<T>(
        &self,
        frame: &[u8],
        table: Table,
        key: &[u8],
        read: impl FnOnce(&[u8]) -> T,
    ) -> Result<Option<T>, ReadError> {
        if let Some(pending) = self.gathered[table.index()].get(key) {
            return Ok(pending.clone().map(|value| read(&frame[value])));
        }
        let Some(value) = self.table(table)?.rows().get(key)? else { return Ok(None) };
        Ok(Some(read(&pieces::join(self.pieces.rows(), table, key, value.value())?)))
    }

    /// Keys and values from `from` on, in order, while `take` says so.
    pub fn scan(
        &mut self,
        frame: &[u8],
        table: Table,
        from: &[u8],
        mut take: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), ReadError> {
        self.bring(frame, table)?;
        for entry in self.table(table)?.rows().range(from..)? {
            let (key, value) = entry?;
            if !take(
                key.value(),
                &pieces::join(self.pieces.rows(), table, key.value(), value.value())?,
            ) {
                break;
            }
        }
        Ok(())
    }

    pub fn catalogue(&mut self, frame: &[u8]) -> Result<Catalogue, ReadError> {
        self.bring(frame, Table::Solutions)?;
        self.bring(frame, Table::Settings)?;
        let (solutions, settings) = (self.table(Table::Solutions)?, self.table(Table::Settings)?);
        Catalogue::read(solutions.rows(), settings.rows(), self.pieces.rows())
    }

    /// Brings all that was gathered to the tables.
    pub fn bring_all(&mut self, frame: &[u8]) -> Result<(), StorageError> {
        Table::ALL.into_iter().try_for_each(|table| self.bring(frame, table))
    }

    /// How much the content of all tables has changed.
    pub fn changed(&self) -> Content {
        let mut changed = self.pieces.changed();
        for table in self.tables.iter().filter_map(OnceCell::get) {
            changed.add(table.changed());
        }
        changed
    }

    fn bring(&mut self, frame: &[u8], table: Table) -> Result<(), StorageError> {
        let gathered = std::mem::take(&mut self.gathered[table.index()]);
        if gathered.is_empty() {
            return Ok(());
        }
        let last = self.table(table)?.rows().last()?.map(|(key, _)| key.value().to_vec());
        let mut going = Vec::new();
        let mut added = Vec::new();
        for (key, pending) in gathered {
            let Some(value) = pending else {
                going.push(key);
                continue;
            };
            self.delete(table, &mut going)?;
            if last.as_ref().is_none_or(|last| *last < key) {
                added.push((key, value));
            } else {
                self.put(table, &key, &frame[value])?;
            }
        }
        self.delete(table, &mut going)?;
        self.append(table, frame, added)
    }

    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StorageError> {
        let (open, pieces) = self.both_mut(table)?;
        let kept = pieces::cut(pieces, table, key, value)?;
        if let Some(old) = open.insert(key, &kept)? {
            pieces::forget(pieces, table, key, old.value(), value.len())?;
        }
        Ok(())
    }

    /// Adds rows behind all others of a table.
    fn append(
        &mut self,
        table: Table,
        frame: &[u8],
        added: Vec<(Vec<u8>, Range<usize>)>,
    ) -> Result<(), StorageError> {
        if added.is_empty() {
            return Ok(());
        }
        let (open, pieces) = self.both_mut(table)?;
        open.append(added.iter().map(|(key, value)| {
            Ok((key.as_slice(), pieces::cut(pieces, table, key, &frame[value.clone()])?))
        }))
    }

    /// Deletes rows whose keys are in order; none is left in `keys`.
    fn delete(&mut self, table: Table, keys: &mut Vec<Vec<u8>>) -> Result<(), StorageError> {
        let keys = std::mem::take(keys);
        if keys.len() < STRETCH {
            return self.delete_each(table, &keys);
        }
        let mut rest = keys.as_slice();
        while !rest.is_empty() {
            let (stretch, after) = rest.split_at(self.stretch(table, rest)?);
            if stretch.len() < STRETCH {
                self.delete_each(table, stretch)?;
            } else {
                self.cut_out(table, stretch)?;
            }
            rest = after;
        }
        Ok(())
    }

    /// How many of the keys, at least one, lie together with few others between them.
    fn stretch(&self, table: Table, keys: &[Vec<u8>]) -> Result<usize, StorageError> {
        let mut found = 0;
        let mut others = 0;
        for entry in self.table(table)?.rows().range(keys[0].as_slice()..)? {
            let (key, _) = entry?;
            // Those before it are not there at all.
            found +=
                keys[found..].iter().take_while(|other| other.as_slice() < key.value()).count();
            match keys.get(found) {
                Some(next) if next.as_slice() == key.value() => (found, others) = (found + 1, 0),
                Some(_) if others < OTHERS => others += 1,
                _ => return Ok(found),
            }
        }
        Ok(keys.len())
    }

    fn delete_each(&mut self, table: Table, keys: &[Vec<u8>]) -> Result<(), StorageError> {
        let (open, pieces) = self.both_mut(table)?;
        for key in keys {
            if let Some(old) = open.remove(key)? {
                pieces::forget(pieces, table, key, old.value(), 0)?;
            }
        }
        Ok(())
    }

    fn cut_out(&mut self, table: Table, keys: &[Vec<u8>]) -> Result<(), StorageError> {
        let [first, .., last] = keys else { return self.delete_each(table, keys) };
        let mut rest = keys;
        let mut in_pieces = Vec::new();
        let goes = |key: &[u8], value: &[u8]| {
            let passed = rest.iter().take_while(|other| other.as_slice() < key).count();
            rest = &rest[passed..];
            let goes = rest.first().is_some_and(|next| next.as_slice() == key);
            if goes && pieces::is_cut(table, value) {
                in_pieces.push((key.to_vec(), value.to_vec()));
            }
            goes
        };
        let range = first.as_slice()..=last.as_slice();
        let (open, pieces) = self.both_mut(table)?;
        open.cut_out(range, goes)?;
        for (key, stub) in in_pieces {
            pieces::forget(pieces, table, &key, &stub, 0)?;
        }
        Ok(())
    }
}

/// The tables were made with the store, and nobody else has them open.
fn of_storage(error: redb::TableError) -> StorageError {
    match error {
        redb::TableError::Storage(error) => error,
        other => StorageError::Corrupted(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use redb::{Database, ReadableDatabase, backends::InMemoryBackend};

    use super::*;
    use crate::{
        model::position::Position,
        store::{frame::FrameBuilder, pieces::PIECE_BYTES},
    };

    /// Key, and what it becomes: bytes of that length, or nothing.
    type Step = (u16, Option<usize>);

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let length = prop_oneof![8 => 1_usize..50, 1 => PIECE_BYTES..3 * PIECE_BYTES];
        let step = |keys| (keys, prop::option::weighted(0.6, length.clone()));
        let spread = prop::collection::vec(step((0_u16..300).boxed()), 0..60);
        // Stretches that come, and stretches that go.
        let stretch = (0_u16..300, 1_u16..80, any::<bool>()).prop_map(|(from, count, comes)| {
            (from..from + count).map(|key| (key, comes.then_some(9))).collect::<Vec<Step>>()
        });
        prop_oneof![spread, stretch]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn rows_are_what_the_operations_say(
            commits in prop::collection::vec(prop::collection::vec(steps(), 1..3), 1..8),
            reads in prop::collection::vec(0_u16..300, 10),
        ) {
            let table = Table::Messages;
            let db = Database::builder().create_with_backend(InMemoryBackend::new()).unwrap();
            let mut model = BTreeMap::<Vec<u8>, Vec<u8>>::new();
            let mut frame = FrameBuilder::default();
            for changes in commits {
                frame.begin(1, Position { epoch: 1, seq: 1 }, 0);
                let txn = db.begin_write().unwrap();
                let mut rows = Rows::open(&txn).unwrap();
                for change in changes {
                    let mark = frame.mark();
                    for (key, length) in change {
                        let key = key.to_be_bytes();
                        if let Some(length) = length {
                            let value = vec![u8::try_from(1 + length % 250).unwrap(); length];
                            frame.put(table, &key, &value);
                            model.insert(key.to_vec(), value);
                        } else {
                            frame.delete(table, &key);
                            model.remove(key.as_slice());
                        }
                    }
                    rows.gather(frame.ops_since(mark), frame.len()).unwrap();
                    for key in &reads {
                        let key = key.to_be_bytes();
                        let read = rows.read(frame.bytes(), table, &key, <[u8]>::to_vec).unwrap();
                        prop_assert_eq!(read.as_ref(), model.get(key.as_slice()));
                    }
                }
                rows.bring_all(frame.bytes()).unwrap();
                let mut found = BTreeMap::new();
                rows.scan(frame.bytes(), table, &[], |key, value| {
                    found.insert(key.to_vec(), value.to_vec());
                    true
                }).unwrap();
                prop_assert_eq!(&found, &model);
                drop(rows);
                txn.commit().unwrap();
                let pieces = db.begin_read().unwrap().open_table(PIECES).unwrap();
                let cut = |value: &Vec<u8>| match value.len() {
                    len if len > PIECE_BYTES => len.div_ceil(PIECE_BYTES) as u64,
                    _ => 0,
                };
                let expected: u64 = model.values().map(cut).sum();
                prop_assert_eq!(redb::ReadableTableMetadata::len(&pieces).unwrap(), expected);
            }
        }
    }
}
