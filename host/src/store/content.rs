//! The content hash: one number for all rows of a store, kept up with every row that comes or goes.
//!
//! It is the sum of all rows' hashes, so it does not depend on the order in which they came: two stores with the same
//! rows have the same number, whatever is in their files besides. It finds what went wrong by itself, not what somebody
//! contrived: against that, frames have their chain.

use std::{fmt, ops::RangeBounds};

use redb::{AccessGuard, CursorError, ReadableTable, StorageError, Table};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3Default;

/// The sum of the hashes of rows, or the difference between two such sums.
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content(u128);

impl Content {
    /// Of one row. Table 0 is that of pieces.
    pub fn of(table: u8, key: &[u8], value: &[u8]) -> Self {
        let mut hasher = Xxh3Default::new();
        hasher.update(&[table]);
        hasher.update(&(key.len() as u64).to_be_bytes());
        hasher.update(key);
        hasher.update(value);
        Self(hasher.digest128())
    }

    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }

    pub fn add(&mut self, other: Self) {
        self.0 = self.0.wrapping_add(other.0);
    }

    fn subtract(&mut self, other: Self) {
        self.0 = self.0.wrapping_sub(other.0);
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Content({self})")
    }
}

type Bytes = &'static [u8];

/// An open table, and how much its content has changed since it was opened.
pub(super) struct Hashed<'txn> {
    table: Table<'txn, Bytes, Bytes>,
    number: u8,
    changed: Content,
}

impl<'txn> Hashed<'txn> {
    pub fn new(table: Table<'txn, Bytes, Bytes>, number: u8) -> Self {
        Self { table, number, changed: Content::default() }
    }

    pub fn changed(&self) -> Content {
        self.changed
    }

    /// To read it.
    pub fn rows(&self) -> &impl ReadableTable<Bytes, Bytes> {
        &self.table
    }

    pub fn insert(
        &mut self,
        key: &[u8],
        value: &[u8],
    ) -> Result<Option<AccessGuard<'_, Bytes>>, StorageError> {
        self.changed.add(Content::of(self.number, key, value));
        let old = self.table.insert(key, value)?;
        if let Some(old) = &old {
            self.changed.subtract(Content::of(self.number, key, old.value()));
        }
        Ok(old)
    }

    pub fn remove(&mut self, key: &[u8]) -> Result<Option<AccessGuard<'_, Bytes>>, StorageError> {
        let old = self.table.remove(key)?;
        if let Some(old) = &old {
            self.changed.subtract(Content::of(self.number, key, old.value()));
        }
        Ok(old)
    }

    /// Adds rows whose keys are in order and behind all others.
    pub fn append<'r>(
        &mut self,
        rows: impl IntoIterator<Item = Result<(&'r [u8], std::borrow::Cow<'r, [u8]>), StorageError>>,
    ) -> Result<(), StorageError> {
        let end = std::ops::Bound::<&[u8]>::Unbounded;
        let mut cursor = self.table.upper_bound_mut(end)?;
        for row in rows {
            let (key, value) = row?;
            self.changed.add(Content::of(self.number, key, &value));
            cursor.insert_before(key, &*value).map_err(|error| match error {
                CursorError::Storage(error) => error,
                other => unreachable!("keys are in order and behind the last: {other}"),
            })?;
        }
        cursor.close()
    }

    /// Takes the rows of a range out that `goes` says yes to.
    pub fn cut_out<'k>(
        &mut self,
        range: impl RangeBounds<&'k [u8]> + 'k,
        mut goes: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StorageError> {
        let (number, changed) = (self.number, &mut self.changed);
        self.table.retain_in(range, |key, value| {
            let goes = goes(key, value);
            if goes {
                changed.subtract(Content::of(number, key, value));
            }
            !goes
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_forgets_the_order_and_what_is_gone() {
        let row = |key: &[u8], value: &[u8]| Content::of(3, key, value);
        let (mut one, mut other) = (Content::default(), Content::default());
        one.add(row(b"a", b"1"));
        one.add(row(b"b", b"2"));
        other.add(row(b"b", b"2"));
        other.add(row(b"c", b"3"));
        other.add(row(b"a", b"1"));
        assert_ne!(one, other);
        other.subtract(row(b"c", b"3"));
        assert_eq!(one, other);
    }

    #[test]
    fn where_a_row_lies_and_where_its_key_ends_counts() {
        assert_ne!(Content::of(1, b"ab", b"c"), Content::of(1, b"a", b"bc"));
        assert_ne!(Content::of(1, b"a", b"b"), Content::of(2, b"a", b"b"));
    }
}
