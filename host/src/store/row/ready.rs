//! A message that may be handled now.
//!
//! Key: solution number (4 bytes), ordinal (8 bytes): per solution in order of acceptance.

use serde::{Deserialize, Serialize};

use super::{Ordinal, SolutionNo, row};
use crate::model::{clock::UnixMs, message::MessageId};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadyRow {
    pub id: [u8; 16],
    /// Attempts that were made.
    pub attempts: u32,
    /// It keeps its place, but is not handled before this time: it waits for its retry and holds back what is behind it.
    pub not_before_ms: UnixMs,
}

row!(ReadyRow, "ready", version 1);

impl ReadyRow {
    pub fn id(&self) -> MessageId {
        MessageId(self.id)
    }
}

pub fn ready_key(solution: SolutionNo, ordinal: Ordinal) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&solution.to_be_bytes());
    key[4..].copy_from_slice(&ordinal.to_be_bytes());
    key
}

pub fn read_ready_key(key: &[u8]) -> Option<(SolutionNo, Ordinal)> {
    let (solution, ordinal) = key.split_first_chunk::<4>()?;
    Some((SolutionNo::from_be_bytes(*solution), Ordinal::from_be_bytes(ordinal.try_into().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::{super::check_round_trip, *};

    #[test]
    fn round_trip() {
        let bytes = [&[1_u8][..], &[7; 16], &[2, 9]].concat();
        check_round_trip(&ReadyRow { id: [7; 16], attempts: 2, not_before_ms: 9 }, &bytes);
        assert_eq!(read_ready_key(&ready_key(3, 4)), Some((3, 4)));
        assert!(ready_key(3, u64::MAX) < ready_key(4, 0));
        assert_eq!(read_ready_key(b"short"), None);
    }
}
