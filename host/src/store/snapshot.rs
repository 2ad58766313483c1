//! A reader's view: every row as one commit left it, while the writer goes on.

use std::fmt;

use bytes::Bytes;
use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTableMetadata};

use super::{
    row::{
        Row, RowError, SolutionNo, after_prefix,
        head::{HEAD_KEY, HeadRow, IDENTITY_KEY, IdentityRow},
        state::{read_state_key, state_key},
    },
    table::{Definition, JOURNAL, NODE, Table},
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
}

impl From<redb::TransactionError> for ReadError {
    fn from(error: redb::TransactionError) -> Self {
        Self::Transaction(Box::new(error))
    }
}

type ReadTable = redb::ReadOnlyTable<&'static [u8], &'static [u8]>;

/// All rows as of one commit. Pins their pages: keep it for moments, not minutes.
pub struct Snapshot {
    txn: ReadTransaction,
}

impl Snapshot {
    pub(super) fn open(db: &Database) -> Result<Self, ReadError> {
        Ok(Self { txn: db.begin_read()? })
    }

    pub(super) fn definition(&self, definition: Definition) -> Result<ReadTable, ReadError> {
        Ok(self.txn.open_table(definition)?)
    }

    /// One table, for several reads.
    pub fn table(&self, table: Table) -> Result<SnapshotTable, ReadError> {
        Ok(SnapshotTable(self.definition(table.definition())?))
    }

    pub fn get<R: Row>(&self, table: Table, key: &[u8]) -> Result<Option<R>, ReadError> {
        self.table(table)?.get(key)
    }

    /// Hands the journal's frames from number `from` on, in order, to `take`, until it says no.
    pub fn journal(
        &self,
        from: u64,
        mut take: impl FnMut(&[u8]) -> Result<bool, ReadError>,
    ) -> Result<(), ReadError> {
        for entry in self.definition(JOURNAL)?.range(from.to_be_bytes().as_slice()..)? {
            if !take(entry?.1.value())? {
                break;
            }
        }
        Ok(())
    }

    /// Where the journal ends.
    pub fn head(&self) -> Result<HeadRow, ReadError> {
        let head = self.definition(NODE)?.get(HEAD_KEY)?.ok_or(ReadError::Key("node"))?;
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
pub struct SnapshotTable(ReadTable);

impl SnapshotTable {
    pub fn get<R: Row>(&self, key: &[u8]) -> Result<Option<R>, ReadError> {
        let value = self.0.get(key)?;
        Ok(value.map(|value| R::decode(value.value())).transpose()?)
    }

    pub fn get_bytes(&self, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        Ok(self.0.get(key)?.map(|value| Bytes::copy_from_slice(value.value())))
    }

    /// Hands rows from `from` on, in key order, to `take`, until it says no.
    pub fn scan(
        &self,
        from: &[u8],
        mut take: impl FnMut(&[u8], &[u8]) -> Result<bool, ReadError>,
    ) -> Result<(), ReadError> {
        for entry in self.0.range(from..)? {
            let (key, value) = entry?;
            if !take(key.value(), value.value())? {
                break;
            }
        }
        Ok(())
    }

    /// Hands rows below `below` (all rows without it), last first, to `take`, until it says no.
    pub fn scan_back(
        &self,
        below: Option<&[u8]>,
        mut take: impl FnMut(&[u8], &[u8]) -> Result<bool, ReadError>,
    ) -> Result<(), ReadError> {
        let range = match below {
            Some(below) => self.0.range(..below)?,
            None => self.0.range::<&[u8]>(..)?,
        };
        for entry in range.rev() {
            let (key, value) = entry?;
            if !take(key.value(), value.value())? {
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
