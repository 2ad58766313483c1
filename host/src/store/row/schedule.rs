//! Up to when a schedule is done with.
//!
//! Key: solution number (4 bytes), name of the source.

use serde::{Deserialize, Serialize};

use super::{SolutionNo, key, row};
use crate::model::{clock::UnixMs, name::Name};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleRow {
    /// Nominal time of the last tick, or when the schedule was deployed or resumed: no tick up to here comes (again).
    pub last_ms: UnixMs,
}

row!(ScheduleRow, "schedule", version 1);

pub fn schedule_key(solution: SolutionNo, source: &Name) -> Vec<u8> {
    key([&solution.to_be_bytes(), source.as_str().as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::{super::check_round_trip, *};

    #[test]
    fn round_trip() {
        check_round_trip(&ScheduleRow { last_ms: 300 }, &[1, 0xac, 2]);
        assert_eq!(schedule_key(1, &"s".parse().unwrap()), [0, 0, 0, 1, b's']);
    }
}
