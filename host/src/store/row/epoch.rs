//! Who was primary from which frame on.
//!
//! Key: epoch (8 bytes).

use serde::{Deserialize, Serialize};

use super::row;
use crate::model::{clock::UnixMs, pair::StoreId};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochRow {
    pub owner: StoreId,
    /// The epoch's first frame, which holds this row.
    pub first_seq: u64,
    pub began_ms: UnixMs,
}

row!(EpochRow, "epoch", version 1);

#[cfg(test)]
mod tests {
    use super::{super::check_round_trip, *};

    #[test]
    fn round_trip() {
        let row = EpochRow { owner: StoreId([7; 16]), first_seq: 5, began_ms: 300 };
        check_round_trip(&row, &[&[1][..], &[7; 16], &[5, 0xac, 2]].concat());
    }
}
