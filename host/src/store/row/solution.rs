//! A deployed solution: its number, its versions, what is paused.
//!
//! Key: name. A removed solution's row is deleted; its number is not given again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{SolutionNo, row};
use crate::model::{
    clock::UnixMs,
    name::{Digest, Name},
};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SolutionRow {
    pub no: SolutionNo,
    /// Revision that handles messages; one of `versions`.
    pub active: u32,
    /// Oldest first; never empty.
    pub versions: Vec<VersionRow>,
    /// Why handling is paused, if it is.
    pub paused: Option<String>,
    /// Sources that take no messages, and why.
    pub paused_sources: BTreeMap<Name, String>,
}

row!(SolutionRow, "solution", version 1);

/// Under the empty key: the next number to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextSolutionRow {
    pub no: SolutionNo,
}

row!(NextSolutionRow, "next solution", version 1);

pub const NEXT_SOLUTION_KEY: &[u8] = b"";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRow {
    /// Counts the deployments of the solution, from 1.
    pub revision: u32,
    pub digest: Digest,
    /// Text of `solution.toml`.
    pub manifest: String,
    pub deployed_ms: UnixMs,
}

#[cfg(test)]
mod tests {
    use super::{super::check_round_trip, *};

    #[test]
    fn round_trip() {
        let row = SolutionRow {
            no: 1,
            active: 2,
            versions: vec![VersionRow {
                revision: 2,
                digest: Digest([5; 32]),
                manifest: "m".into(),
                deployed_ms: 3,
            }],
            paused: None,
            paused_sources: BTreeMap::from([("s".parse().unwrap(), "w".to_owned())]),
        };
        let bytes =
            [b"\x01\x01\x02\x01\x02".as_slice(), &[5; 32], b"\x01m\x03\x00\x01\x01s\x01w"].concat();
        check_round_trip(&row, &bytes);
        check_round_trip(&NextSolutionRow { no: 7 }, &[1, 7]);
    }
}
