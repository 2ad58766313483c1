//! Another node's rows on their way in: tables beside the store's own, which take their place when they are complete.
//!
//! What has come stays over a broken link and a crash. Whoever gives rows the next time is told what is there, in
//! [`Span`]s of keys with their content hash, and gives only what differs. Nothing is believed of what lies here: at last
//! the content hash of all decides.

use std::ops::Bound;

use bytes::Bytes;
use redb::{
    Database, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, TableError,
    TableHandle, WriteTransaction,
};
use serde::{Deserialize, Serialize};

use super::{
    content::{Content, Hashed},
    snapshot::ReadError,
    table::{self, Definition},
};

/// Rows of a span, in bytes as [`row_bytes`] counts them.
const SPAN_BYTES: u64 = 1 << 20;
/// Before the name of a table that is on its way in.
const PREFIX: &str = "in:";

/// A part of another node's rows. Parts come table by table, in the order of [`table::all`], and of keys; each begins
/// behind the one before.
#[derive(Debug)]
pub enum Installing {
    /// All rows of a table, by its number, up to `upto`, or to its end.
    Rows { table: u8, rows: Vec<(Bytes, Bytes)>, upto: Option<Bytes> },
    /// Up to there, which is the end of a span, it has the same.
    Same { table: u8, upto: Bytes },
    /// That was all.
    Done(super::row::head::HeadRow),
}

impl Installing {
    /// Of its rows.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Rows { rows, .. } => rows.iter().map(|(key, value)| row_bytes(key, value)).sum(),
            Self::Same { .. } | Self::Done(_) => 0,
        }
    }
}

/// What a node has of a table's rows, from behind the span before, or the beginning, up to `last`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    pub table: u8,
    pub last: Bytes,
    pub bytes: u64,
    pub content: Content,
}

/// What a row counts for.
pub(super) fn row_bytes(key: &[u8], value: &[u8]) -> u64 {
    (key.len() + value.len() + 16) as u64
}

/// Where parts that come are put.
pub(super) struct Staging {
    /// Of all rows that are here.
    content: Content,
    spans: Vec<Span>,
    /// So many of them are here; the others are the store's own.
    staged: usize,
    /// Table and key up to which parts have come.
    came: Option<(u8, Bytes)>,
}

/// Whether a part was taken, or why not.
pub(super) type Taken = Result<Result<(), String>, redb::Error>;

/// The table's name while it is on its way in.
fn name(definition: Definition) -> String {
    format!("{PREFIX}{}", definition.name())
}

fn staged(name: &str) -> TableDefinition<'_, &'static [u8], &'static [u8]> {
    TableDefinition::new(name)
}

/// Forgets what came and never was complete; says whether there was anything.
pub(super) fn clear(txn: &WriteTransaction) -> Result<bool, TableError> {
    let mut was_there = false;
    for (_, definition) in table::all() {
        was_there |= txn.delete_table(staged(&name(definition)))?;
    }
    Ok(was_there)
}

/// Whether there is anything to forget.
pub(super) fn is_there(db: &Database) -> Result<bool, ReadError> {
    let txn = db.begin_read()?;
    let is_there = txn.list_tables()?.any(|table| table.name().starts_with(PREFIX));
    Ok(is_there)
}

impl Staging {
    /// Looks through what is here, and, unless it is not to be trusted, the store's own rows behind that. Calls `here`
    /// often.
    pub fn open(db: &Database, trusts_own: bool, here: &dyn Fn()) -> Result<Self, ReadError> {
        let txn = db.begin_read()?;
        let mut spans = Spans { here, done: Vec::new() };
        let mark = mark(&txn)?;
        for (number, definition) in table::all() {
            if let Some(table) = table_of(&txn, &name(definition))? {
                spans.of(number, &table, Bound::Unbounded)?;
            }
        }
        let mut content = Content::default();
        spans.done.iter().for_each(|span| content.add(span.content));
        let staged = spans.done.len();
        let place = |number| table::all().position(|(found, _)| found == number);
        for (number, definition) in table::all().filter(|_| trusts_own) {
            let from = match &mark {
                Some((last, _)) if place(number) < place(*last) => continue,
                Some((last, key)) if number == *last => Bound::Excluded(key.as_slice()),
                _ => Bound::Unbounded,
            };
            if let Some(table) = table_of(&txn, definition.name())? {
                spans.of(number, &table, from)?;
            }
        }
        Ok(Self { content, spans: spans.done, staged, came: None })
    }

    /// In the order of tables and keys.
    pub fn spans(&self) -> Vec<Span> {
        self.spans.clone()
    }

    /// Of all rows that are here.
    pub fn content(&self) -> Content {
        self.content
    }

    /// Makes the tables that rows come into.
    pub fn make(txn: &WriteTransaction) -> Result<(), TableError> {
        for (_, definition) in table::all() {
            txn.open_table(staged(&name(definition)))?;
        }
        Ok(())
    }

    /// Puts a part where it belongs.
    pub fn take(&mut self, txn: &WriteTransaction, part: &Installing) -> Taken {
        let (number, upto) = match part {
            Installing::Rows { table, upto, .. } => (*table, upto.as_ref()),
            Installing::Same { table, upto } => (*table, Some(upto)),
            Installing::Done(_) => return Ok(Ok(())),
        };
        let wrong = |why: &str| Ok(Err(format!("table {number} {why}")));
        let Some((_, definition)) = table::all().find(|(known, _)| *known == number) else {
            return wrong("is not known to this program");
        };
        let after = self.came.take().filter(|(table, _)| *table == number).map(|(_, key)| key);
        let from = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let to = upto.map_or(Bound::Unbounded, |upto| Bound::Included(&**upto));
        let mut table = Hashed::new(txn.open_table(staged(&name(definition)))?, number);
        match part {
            Installing::Done(_) => {}
            Installing::Rows { rows, .. } => {
                let keys = after.iter().chain(rows.iter().map(|(key, _)| key));
                let is_behind = upto.zip(rows.last()).is_none_or(|(upto, (last, _))| last <= upto);
                if !keys.is_sorted_by(|one, next| one < next) || !is_behind {
                    return wrong("came in another order than that of its keys");
                }
                table.cut_out((from, to), |_, _| true)?;
                put(&mut table, rows.iter().map(|(key, value)| (&**key, &**value)))?;
            }
            Installing::Same { upto, .. } => {
                let is_it = |span: &Span| span.table == number && span.last == *upto;
                match self.spans.iter().position(is_it) {
                    Some(at) if at < self.staged => {}
                    Some(_) => {
                        table.cut_out((from, to), |_, _| true)?;
                        let own = txn.open_table(definition)?;
                        let mut rows = Vec::new();
                        for row in own.range::<&[u8]>((from, to))? {
                            let (key, value) = row?;
                            rows.push((key.value().to_vec(), value.value().to_vec()));
                        }
                        put(&mut table, rows.iter().map(|(key, value)| (&**key, &**value)))?;
                    }
                    None => return wrong("is said to be the same up to where nobody asked for"),
                }
            }
        }
        self.content.add(table.changed());
        self.came = upto.map(|upto| (number, upto.clone()));
        Ok(Ok(()))
    }

    /// The tables take the place of the store's own.
    pub fn swap(txn: &WriteTransaction) -> Result<(), TableError> {
        for (_, definition) in table::all() {
            txn.delete_table(definition)?;
            txn.rename_table(staged(&name(definition)), definition)?;
        }
        Ok(())
    }
}

/// Puts rows into a table that has none between them.
fn put<'r>(
    table: &mut Hashed<'_>,
    rows: impl Iterator<Item = (&'r [u8], &'r [u8])> + Clone,
) -> Result<(), redb::StorageError> {
    let Some((first, _)) = rows.clone().next() else { return Ok(()) };
    let is_end = table.rows().last()?.is_none_or(|(last, _)| last.value() < first);
    if is_end {
        return table.append(rows.map(|(key, value)| Ok((key, value.into()))));
    }
    for (key, value) in rows {
        table.insert(key, value)?;
    }
    Ok(())
}

/// Table and key of a row, if there is one.
type Mark = Option<(u8, Vec<u8>)>;

/// The last row that is here, in the order in which rows come.
fn mark(txn: &ReadTransaction) -> Result<Mark, ReadError> {
    let mut mark = None;
    for (number, definition) in table::all() {
        let Some(table) = table_of(txn, &name(definition))? else { continue };
        if let Some((key, _)) = table.last()? {
            mark = Some((number, key.value().to_vec()));
        }
    }
    Ok(mark)
}

type ReadTable = redb::ReadOnlyTable<&'static [u8], &'static [u8]>;

fn table_of(txn: &ReadTransaction, name: &str) -> Result<Option<ReadTable>, ReadError> {
    match txn.open_table(staged(name)) {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Cuts rows into spans.
struct Spans<'a> {
    here: &'a dyn Fn(),
    done: Vec<Span>,
}

impl Spans<'_> {
    fn of(&mut self, number: u8, table: &ReadTable, from: Bound<&[u8]>) -> Result<(), ReadError> {
        let (mut last, mut bytes, mut content) = (Vec::new(), 0, Content::default());
        let mut end = |last: &[u8], bytes: &mut u64, content: &mut Content| {
            (self.here)();
            let last = Bytes::copy_from_slice(last);
            let (bytes, content) = (std::mem::take(bytes), std::mem::take(content));
            self.done.push(Span { table: number, last, bytes, content });
        };
        for row in table.range::<&[u8]>((from, Bound::Unbounded))? {
            let (key, value) = row?;
            let (key, value) = (key.value(), value.value());
            bytes += row_bytes(key, value);
            content.add(Content::of(number, key, value));
            if bytes >= SPAN_BYTES {
                end(key, &mut bytes, &mut content);
            } else {
                last.clear();
                last.extend_from_slice(key);
            }
        }
        if bytes > 0 {
            end(&last, &mut bytes, &mut content);
        }
        Ok(())
    }
}
