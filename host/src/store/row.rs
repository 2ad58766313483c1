//! Bytes on disk: one file per kind of row. A value is a version byte and then postcard.
//!
//! A row that changes shape gets a new version; its reader keeps reading the old one.

use serde::{Serialize, de::DeserializeOwned};

pub mod breaker;
pub mod dead_letter;
pub mod dedupe;
pub mod delivery;
pub mod epoch;
pub mod head;
pub mod life;
pub mod message;
pub mod outbox;
pub mod ready;
pub mod schedule;
pub mod segment;
pub mod setting;
pub mod solution;
pub mod state;
pub mod timer;

/// The number a solution has in keys; given at its first deployment, never given again.
pub type SolutionNo = u32;

/// Where a message or an effect stands in the order of acceptance: frame and place in it.
pub type Ordinal = u64;

/// Bits of an ordinal that count within one frame.
pub const ORDINAL_BITS: u32 = 20;

/// A value that is stored.
pub trait Row: Serialize + DeserializeOwned {
    const KIND: &'static str;
    const VERSION: u8;

    fn encode_into(&self, out: &mut Vec<u8>) {
        out.clear();
        out.push(Self::VERSION);
        // Appending to memory cannot fail, and rows hold nothing that postcard refuses.
        *out = postcard::to_extend(self, std::mem::take(out)).expect("rows are plain data");
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode_into(&mut out);
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, RowError> {
        let damaged = || RowError { kind: Self::KIND, version: bytes.first().copied() };
        match bytes.split_first() {
            Some((&version, rest)) if version == Self::VERSION => {
                let (row, rest) = postcard::take_from_bytes(rest).map_err(|_| damaged())?;
                // More than the row is as wrong as less.
                if rest.is_empty() { Ok(row) } else { Err(damaged()) }
            }
            _ => Err(damaged()),
        }
    }
}

/// Bytes that are no row of this kind, or of a version this program does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a {kind} row is damaged or of an unknown version ({version:?})")]
pub struct RowError {
    pub kind: &'static str,
    pub version: Option<u8>,
}

/// Names a row `T` and its version.
macro_rules! row {
    ($row:ty, $kind:literal, version $version:literal) => {
        impl $crate::store::row::Row for $row {
            const KIND: &'static str = $kind;
            const VERSION: u8 = $version;
        }
    };
}
pub(crate) use row;

/// Joins the parts of a key.
pub fn key<const N: usize>(parts: [&[u8]; N]) -> Vec<u8> {
    parts.concat()
}

/// The first key after all keys that begin with `prefix`; none if there is no such key.
pub fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&byte| byte != u8::MAX)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

#[cfg(test)]
pub(crate) fn check_round_trip<R: Row + PartialEq + std::fmt::Debug>(
    row: &R,
    bytes_as_written: &[u8],
) {
    let bytes = row.encode();
    assert_eq!(
        bytes,
        bytes_as_written,
        "the bytes on disk changed: that is a new version of {}",
        R::KIND
    );
    assert_eq!(&R::decode(&bytes).unwrap(), row);
    assert!(R::decode(&[]).is_err());
    let mut newer = bytes.clone();
    newer[0] += 1;
    assert_eq!(R::decode(&newer), Err(RowError { kind: R::KIND, version: Some(R::VERSION + 1) }));
    assert!(R::decode(&bytes[..bytes.len() - 1]).is_err() || bytes.len() == 1);
    // Found by a fuzzer: what was behind a row was passed over.
    assert!(R::decode(&[&bytes[..], &[0]].concat()).is_err());
}

#[cfg(test)]
mod tests {
    use super::after_prefix;

    #[test]
    fn the_end_of_a_prefix() {
        assert_eq!(after_prefix(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(after_prefix(&[1, 255, 255]), Some(vec![2]));
        assert_eq!(after_prefix(&[255]), None);
        assert_eq!(after_prefix(b""), None);
    }
}
