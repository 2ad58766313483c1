//! A message or a delivery that nobody tries again by itself.
//!
//! Key: as in `lives` (16 bytes) for a message, as in `deliveries` (18 bytes) for a delivery.

use serde::{Deserialize, Serialize};

use super::{SolutionNo, outbox::OutboxKey, row};
use crate::model::clock::UnixMs;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetterRow {
    pub solution_no: SolutionNo,
    pub since_ms: UnixMs,
    pub reason: String,
    /// For a delivery: ordinal and index of its outbox row.
    pub outbox: Option<(u64, u16)>,
}

row!(DeadLetterRow, "dead letter", version 1);

impl DeadLetterRow {
    pub fn outbox_key(&self) -> Option<OutboxKey> {
        self.outbox.map(|(ordinal, index)| OutboxKey { ordinal, index })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::check_round_trip, *};

    #[test]
    fn round_trip() {
        let row =
            DeadLetterRow { solution_no: 1, since_ms: 2, reason: "r".into(), outbox: Some((3, 4)) };
        check_round_trip(&row, b"\x01\x01\x02\x01r\x01\x03\x04");
    }
}
