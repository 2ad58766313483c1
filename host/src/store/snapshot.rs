//! A reader's view: every row as one commit left it, while the writer goes on.

use std::{borrow::Cow, fmt, sync::Arc};

use bytes::Bytes;
use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTableMetadata};

use super::{
    archive::Archive,
    pieces,
    row::{
        Row, RowError, SolutionNo, after_prefix,
        head::{HEAD_KEY, HeadRow, IDENTITY_KEY, IdentityRow},
        state::{read_state_key, state_key},
    },
    segment::SegmentError,
    table::{Definition, NODE, PIECES, Table},
};

/// Rows could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("the store cannot be read: {0}")]
    Storage(#[from] redb::StorageError),
    #[error("the store cannot be read: {0}")]
    Transaction(Box<redb::TransactionError>),
    #[error("the store cannot be read: {0}")]
    Table(#[from] redb::TableError),
    #[error(transparent)]
    Row(#[from] RowError),
    #[error("a key in table {0} is damaged")]
    Key(&'static str),
    #[error("the archive cannot be read: {0}")]
    Segment(#[from] SegmentError),
}

impl From<redb::TransactionError> for ReadError {
    fn from(error: redb::TransactionError) -> Self {
        Self::Transaction(Box::new(error))
    }
}

type ReadRange = redb::Range<'static, &'static [u8], &'static [u8]>;
type ReadTable = redb::ReadOnlyTable<&'static [u8], &'static [u8]>;

/// All rows as of one commit. Pins their pages: keep it for moments, not minutes.
pub struct Snapshot {
    txn: Arc<ReadTransaction>,
    archive: Arc<Archive>,
}

impl Snapshot {
    pub(super) fn open(db: &Database, archive: Arc<Archive>) -> Result<Self, ReadError> {
        Ok(Self { txn: Arc::new(db.begin_read()?), archive })
    }

    /// The segments that rows of this snapshot name.
    pub fn archive(&self) -> &Arc<Archive> {
        &self.archive
    }

    pub(super) fn definition(&self, definition: Definition) -> Result<ReadTable, ReadError> {
        Ok(self.txn.open_table(definition)?)
    }

    /// One table, for several reads.
    pub fn table(&self, table: Table) -> Result<SnapshotTable, ReadError> {
        let rows = self.definition(table.definition())?;
        Ok(SnapshotTable { rows, table, txn: self.txn.clone() })
    }

    pub fn get<R: Row>(&self, table: Table, key: &[u8]) -> Result<Option<R>, ReadError> {
        self.table(table)?.get(key)
    }

    /// Where the journal ends.
    pub fn head(&self) -> Result<HeadRow, ReadError> {
        Self::head_of(&self.txn)
    }

    pub(super) fn head_of(txn: &ReadTransaction) -> Result<HeadRow, ReadError> {
        let head = txn.open_table(NODE)?.get(HEAD_KEY)?.ok_or(ReadError::Key("node"))?;
        Ok(HeadRow::decode(head.value())?)
    }

    /// Identity of the data in this store.
    pub fn identity(&self) -> Result<IdentityRow, ReadError> {
        let row = self.definition(NODE)?.get(IDENTITY_KEY)?.ok_or(ReadError::Key("node"))?;
        Ok(IdentityRow::decode(row.value())?)
    }

    /// Rows in a table.
    pub fn len(&self, table: Table) -> Result<u64, ReadError> {
        Ok(self.definition(table.definition())?.len()?)
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Snapshot")
    }
}

/// One table as of one commit.
pub struct SnapshotTable {
    rows: ReadTable,
    table: Table,
    txn: Arc<ReadTransaction>,
}

impl SnapshotTable {
    /// The value, put together if it lies in pieces.
    fn join<'a>(&self, key: &[u8], value: &'a [u8]) -> Result<Cow<'a, [u8]>, ReadError> {
        if !pieces::is_cut(self.table, value) {
            return Ok(Cow::Borrowed(value));
        }
        pieces::join(&self.txn.open_table(PIECES)?, self.table, key, value)
    }

    pub fn get<R: Row>(&self, key: &[u8]) -> Result<Option<R>, ReadError> {
        let Some(value) = self.rows.get(key)? else { return Ok(None) };
        Ok(Some(R::decode(&self.join(key, value.value())?)?))
    }

    pub fn get_bytes(&self, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        let Some(value) = self.rows.get(key)? else { return Ok(None) };
        Ok(Some(match self.join(key, value.value())? {
            Cow::Borrowed(value) => Bytes::copy_from_slice(value),
            Cow::Owned(value) => value.into(),
        }))
    }

    pub fn contains(&self, key: &[u8]) -> Result<bool, ReadError> {
        Ok(self.rows.get(key)?.is_some())
    }

    /// Hands rows from `from` on, in key order, to `take`, until it says no.
    pub fn scan(
        &self,
        from: &[u8],
        mut take: impl FnMut(&[u8], &[u8]) -> Result<bool, ReadError>,
    ) -> Result<(), ReadError> {
        for entry in self.rows.range(from..)? {
            let (key, value) = entry?;
            if !take(key.value(), &self.join(key.value(), value.value())?)? {
                break;
            }
        }
        Ok(())
    }

    fn range_below(&self, below: Option<&[u8]>) -> Result<ReadRange, ReadError> {
        Ok(match below {
            Some(below) => self.rows.range(..below)?,
            None => self.rows.range::<&[u8]>(..)?,
        })
    }

    /// Rows below `below` (all rows without it), last first.
    pub(super) fn back(self, below: Option<&[u8]>) -> Result<SnapshotRange, ReadError> {
        Ok(SnapshotRange { range: self.range_below(below)?, table: self })
    }

    /// Hands rows below `below` (all rows without it), last first, to `take`, until it says no.
    pub fn scan_back(
        &self,
        below: Option<&[u8]>,
        mut take: impl FnMut(&[u8], &[u8]) -> Result<bool, ReadError>,
    ) -> Result<(), ReadError> {
        for entry in self.range_below(below)?.rev() {
            let (key, value) = entry?;
            if !take(key.value(), &self.join(key.value(), value.value())?)? {
                break;
            }
        }
        Ok(())
    }

    /// For table `state`: entries of a solution that begin with `prefix`, after the key `after`.
    pub fn state_list(
        &self,
        solution: SolutionNo,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Bytes)>, ReadError> {
        let begin = state_key(solution, prefix);
        let end = after_prefix(&begin);
        // A key's successor is the key with a zero byte behind it.
        let from = match after {
            Some(after) if after >= prefix => [state_key(solution, after), vec![0]].concat(),
            _ => begin,
        };
        let mut entries = Vec::new();
        self.scan(&from, |key, value| {
            if entries.len() >= limit || end.as_deref().is_some_and(|end| key >= end) {
                return Ok(false);
            }
            let (_, name) = read_state_key(key).ok_or(ReadError::Key("state"))?;
            entries.push((name.to_owned(), Bytes::copy_from_slice(value)));
            Ok(true)
        })?;
        Ok(entries)
    }
}

impl fmt::Debug for SnapshotTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SnapshotTable")
    }
}

/// Rows of one table, last first, as copies.
pub(super) struct SnapshotRange {
    range: ReadRange,
    table: SnapshotTable,
}

impl Iterator for SnapshotRange {
    type Item = Result<(Vec<u8>, Vec<u8>), ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.range.next_back()?;
        Some(entry.map_err(ReadError::from).and_then(|(key, value)| {
            let value = self.table.join(key.value(), value.value())?.into_owned();
            Ok((key.value().to_vec(), value))
        }))
    }
}
