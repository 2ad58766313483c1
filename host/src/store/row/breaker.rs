//! A solution that fails is left alone for a while.
//!
//! Key: solution number (4 bytes). Absent, or all zero, while it works.

use serde::{Deserialize, Serialize};

use super::row;
use crate::model::clock::UnixMs;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BreakerRow {
    /// Attempts that failed one after the other.
    pub failures: u32,
    /// How often handling was paused since it worked last.
    pub opened: u32,
    /// Until when it is paused.
    pub until_ms: UnixMs,
}

row!(BreakerRow, "breaker", version 1);

#[cfg(test)]
mod tests {
    use super::{super::check_round_trip, *};

    #[test]
    fn round_trip() {
        check_round_trip(&BreakerRow { failures: 1, opened: 2, until_ms: 3 }, &[1, 1, 2, 3]);
    }
}
