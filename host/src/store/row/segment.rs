//! A file of finished messages, and what it holds. The file's name is made from the key.
//!
//! Key: solution no (4 bytes), id of its first message (16 bytes).

use serde::{Deserialize, Serialize};

use super::{SolutionNo, row};
use crate::model::{message::MessageId, name::Name};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentRow {
    /// As it was called when the file was made.
    pub solution: Name,
    pub last: [u8; 16],
    pub messages: u32,
    /// Of the file.
    pub bytes: u64,
    /// BLAKE3 over what the file holds.
    pub content: [u8; 32],
}

row!(SegmentRow, "segment", version 1);

/// Messages that are in a segment and still among the others: whoever finds this row has them to delete.
///
/// Key: the segment's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SweepRow {
    pub ids: Vec<[u8; 16]>,
}

row!(SweepRow, "sweep", version 1);

/// Names a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentKey {
    pub solution_no: SolutionNo,
    pub first: MessageId,
}

impl SegmentKey {
    pub fn to_bytes(self) -> [u8; 20] {
        let mut key = [0; 20];
        key[..4].copy_from_slice(&self.solution_no.to_be_bytes());
        key[4..].copy_from_slice(&self.first.0);
        key
    }

    pub fn from_bytes(key: &[u8]) -> Option<Self> {
        let (solution_no, first) = key.split_first_chunk::<4>()?;
        let first = MessageId(first.try_into().ok()?);
        Some(Self { solution_no: SolutionNo::from_be_bytes(*solution_no), first })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::check_round_trip, *};

    #[test]
    fn round_trip() {
        let row = SegmentRow {
            solution: "a".parse().unwrap(),
            last: [1; 16],
            messages: 2,
            bytes: 3,
            content: [4; 32],
        };
        let bytes = [&b"\x01\x01a"[..], &[1; 16], &[2, 3], &[4; 32]].concat();
        check_round_trip(&row, &bytes);
        let sweep = SweepRow { ids: vec![[5; 16]] };
        check_round_trip(&sweep, &[&[1, 1][..], &[5; 16]].concat());
        let key = SegmentKey { solution_no: 6, first: MessageId([7; 16]) };
        assert_eq!(SegmentKey::from_bytes(&key.to_bytes()), Some(key));
        assert_eq!(SegmentKey::from_bytes(b"short"), None);
    }
}
