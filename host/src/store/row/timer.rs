//! A message that may be handled later: published with a delay, or to be tried again.
//!
//! Key: due time in Unix ms (8 bytes), message id (16 bytes): the next one due is the first row.

use serde::{Deserialize, Serialize};

use super::{SolutionNo, row};
use crate::model::{clock::UnixMs, message::MessageId};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimerRow {
    pub solution_no: SolutionNo,
    /// Attempts that were made.
    pub attempts: u32,
}

row!(TimerRow, "timer", version 1);

pub fn timer_key(due_ms: UnixMs, id: MessageId) -> [u8; 24] {
    let mut key = [0; 24];
    key[..8].copy_from_slice(&due_ms.to_be_bytes());
    key[8..].copy_from_slice(&id.0);
    key
}

pub fn read_timer_key(key: &[u8]) -> Option<(UnixMs, MessageId)> {
    let (due, id) = key.split_first_chunk::<8>()?;
    Some((UnixMs::from_be_bytes(*due), MessageId(id.try_into().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::{super::check_round_trip, *};

    #[test]
    fn round_trip() {
        check_round_trip(&TimerRow { solution_no: 300, attempts: 2 }, &[1, 0xac, 2, 2]);
        let id = MessageId([9; 16]);
        assert_eq!(read_timer_key(&timer_key(5, id)), Some((5, id)));
        assert_eq!(read_timer_key(b"short"), None);
    }
}
