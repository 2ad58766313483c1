//! Long values lie in pieces, because redb gives a value a power of two of pages and would write twice what is needed.
//!
//! In its own place such a value leaves a stub: a zero byte, which is no row's version, and its length. The pieces are
//! not journaled: a frame holds the value, and applying it cuts it again. State and component files have no version
//! byte and are never cut.

use std::borrow::Cow;

use redb::{ReadableTable, StorageError};

use super::{content::Hashed, snapshot::ReadError, table::Table};

/// Fits into 64 KiB of pages together with its key.
pub(super) const PIECE_BYTES: usize = 65_000;
const STUB_VERSION: u8 = 0;
/// Memory that is taken before the first piece is read; enough for most values.
const AT_ONCE_BYTES: usize = 1 << 20;

type Bytes = &'static [u8];

/// What lies in the place of a value of that length.
fn stub(len: usize) -> [u8; 5] {
    let len = u32::try_from(len).expect("no row comes near 4 GiB");
    let mut stub = [STUB_VERSION; 5];
    stub[1..].copy_from_slice(&len.to_be_bytes());
    stub
}

/// The length of the value that a stub stands for.
fn stands_for(table: Table, value: &[u8]) -> Option<usize> {
    let has_version = !matches!(table, Table::State | Table::Blobs);
    match value {
        [STUB_VERSION, len @ ..] if has_version => {
            Some(u32::from_be_bytes(len.try_into().ok()?) as usize)
        }
        _ => None,
    }
}

fn piece_key(table: Table, key: &[u8], number: usize) -> Vec<u8> {
    let number = u32::try_from(number).expect("few pieces").to_be_bytes();
    [&[table as u8], key, &number].concat()
}

/// What to keep in place of `value`; its pieces, if it is long, are kept here.
pub(super) fn cut<'a>(
    pieces: &mut Hashed<'_>,
    table: Table,
    key: &[u8],
    value: &'a [u8],
) -> Result<Cow<'a, [u8]>, StorageError> {
    if value.len() <= PIECE_BYTES || matches!(table, Table::State | Table::Blobs) {
        return Ok(Cow::Borrowed(value));
    }
    for (number, piece) in value.chunks(PIECE_BYTES).enumerate() {
        pieces.insert(&piece_key(table, key, number), piece)?;
    }
    Ok(Cow::Owned(stub(value.len()).to_vec()))
}

/// Drops the pieces of a value that is gone, beyond those that its successor has.
pub(super) fn forget(
    pieces: &mut Hashed<'_>,
    table: Table,
    key: &[u8],
    old: &[u8],
    new_len: usize,
) -> Result<(), StorageError> {
    let Some(len) = stands_for(table, old) else { return Ok(()) };
    let kept = if new_len > PIECE_BYTES { new_len.div_ceil(PIECE_BYTES) } else { 0 };
    for number in kept..len.div_ceil(PIECE_BYTES) {
        pieces.remove(&piece_key(table, key, number))?;
    }
    Ok(())
}

/// Whether [`join`] needs the pieces.
pub(super) fn is_cut(table: Table, value: &[u8]) -> bool {
    stands_for(table, value).is_some()
}

/// Keys of the pieces that a stub stands for.
#[cfg(test)]
pub(super) fn keys_of(table: Table, key: &[u8], value: &[u8]) -> Vec<Vec<u8>> {
    let pieces = stands_for(table, value).unwrap_or(0).div_ceil(PIECE_BYTES);
    (0..pieces).map(|number| piece_key(table, key, number)).collect()
}

/// The value that was kept.
pub(super) fn join<'a>(
    pieces: &impl ReadableTable<Bytes, Bytes>,
    table: Table,
    key: &[u8],
    value: &'a [u8],
) -> Result<Cow<'a, [u8]>, ReadError> {
    let Some(len) = stands_for(table, value) else { return Ok(Cow::Borrowed(value)) };
    // What a damaged stub says must not take memory: that grows with the pieces that are there.
    let mut whole = Vec::with_capacity(len.min(AT_ONCE_BYTES));
    for number in 0..len.div_ceil(PIECE_BYTES) {
        let piece = pieces.get(piece_key(table, key, number).as_slice())?;
        whole.extend_from_slice(piece.ok_or(ReadError::Key("pieces"))?.value());
    }
    if whole.len() == len { Ok(Cow::Owned(whole)) } else { Err(ReadError::Key("pieces")) }
}

#[cfg(test)]
mod tests {
    use redb::{ReadableDatabase, ReadableTableMetadata, backends::InMemoryBackend};

    use super::*;
    use crate::{model::fuzz::meter, store::table::PIECES};

    #[test]
    fn long_values_are_cut_joined_and_forgotten() {
        let db = redb::Database::builder().create_with_backend(InMemoryBackend::new()).unwrap();
        let table = Table::Messages;
        let mut before = Vec::new();
        for len in [3, PIECE_BYTES, PIECE_BYTES + 1, 5 * PIECE_BYTES, 2 * PIECE_BYTES, 0] {
            let value: Vec<u8> = (1..=251).cycle().take(len).collect();
            let txn = db.begin_write().unwrap();
            let mut pieces = Hashed::new(txn.open_table(PIECES).unwrap(), 0);
            let kept = cut(&mut pieces, table, b"k", &value).unwrap().into_owned();
            forget(&mut pieces, table, b"k", &before, value.len()).unwrap();
            drop(pieces);
            txn.commit().unwrap();
            let pieces = db.begin_read().unwrap().open_table(PIECES).unwrap();
            assert_eq!(join(&pieces, table, b"k", &kept).unwrap(), value);
            let count = if len > PIECE_BYTES { len.div_ceil(PIECE_BYTES) } else { 0 };
            assert_eq!(pieces.len().unwrap(), count as u64, "{len}");
            assert_eq!(is_cut(table, &kept), count > 0);
            before = kept;
        }
    }

    /// Found by a fuzzer: a row of five bytes made a reader ask for 4 GiB.
    #[test]
    fn a_stub_without_its_pieces_is_an_error_and_takes_no_memory() {
        let db = redb::Database::builder().create_with_backend(InMemoryBackend::new()).unwrap();
        let txn = db.begin_write().unwrap();
        let pieces = txn.open_table(PIECES).unwrap();
        let held = meter::most_held(|| {
            join(&pieces, Table::Messages, b"k", &[0, 255, 255, 255, 255]).unwrap_err();
        });
        assert!(held < 2 << 20, "{held} bytes");
    }

    #[test]
    fn what_has_no_version_is_not_cut() {
        assert!(!is_cut(Table::State, &stub(9)));
        assert!(!is_cut(Table::Messages, b"\x01row"));
        assert!(!is_cut(Table::Messages, b"\0damaged"));
    }
}
