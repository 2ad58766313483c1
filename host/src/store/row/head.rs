//! Where this node's journal ends, and who the node is. Rows of table `node`, not journaled.
//!
//! Keys: `format` (value: u32 big-endian), `head`, `identity`.

use serde::{Deserialize, Serialize};

use super::row;
use crate::model::position::{Chain, Position};

/// The format this program writes. It opens no other.
pub const FORMAT: u32 = 1;

pub const FORMAT_KEY: &[u8] = b"format";
pub const HEAD_KEY: &[u8] = b"head";
pub const IDENTITY_KEY: &[u8] = b"identity";

/// Written in every commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadRow {
    pub position: Position,
    pub chain: Chain,
}

row!(HeadRow, "head", version 1);

/// Made when the file is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityRow {
    /// Identity of the data in this file, not of a host.
    pub store_id: [u8; 16],
}

row!(IdentityRow, "identity", version 1);

#[cfg(test)]
mod tests {
    use super::{super::check_round_trip, *};

    #[test]
    fn round_trip() {
        let row = HeadRow { position: Position { epoch: 1, seq: 2 }, chain: Chain([3; 32]) };
        check_round_trip(&row, &[&[1, 1, 2][..], &[3; 32]].concat());
        check_round_trip(&IdentityRow { store_id: [6; 16] }, &[&[1][..], &[6; 16]].concat());
    }
}
