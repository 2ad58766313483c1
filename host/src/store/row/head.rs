//! Where this node's journal ends, and who the node is. Rows of table `node`, not journaled.
//!
//! Keys: `format` (value: u32 big-endian), `frames` (value: u8), `head`, `identity`, `tail`.

use serde::{Deserialize, Serialize};

use super::row;
use crate::model::position::{Chain, Position};
use crate::store::content::Content;

/// The format this program writes. It opens no other.
pub const FORMAT: u32 = 3;

pub const FORMAT_KEY: &[u8] = b"format";
pub const HEAD_KEY: &[u8] = b"head";
pub const TAIL_KEY: &[u8] = b"tail";
pub const IDENTITY_KEY: &[u8] = b"identity";
/// Value: the highest version of frames that was ever kept here, a byte; 1 if it is missing.
pub const FRAMES_KEY: &[u8] = b"frames";

/// Written in every commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadRow {
    pub position: Position,
    pub chain: Chain,
    /// Of all rows of journaled tables.
    pub content: Content,
}

row!(HeadRow, "head", version 1);

/// Where the journal's oldest frame is. Written in every checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TailRow {
    /// The frame before it, and the chain hash after that.
    pub before_seq: u64,
    pub before_chain: Chain,
    /// Offset of its record in the journal's file.
    pub at: u64,
}

row!(TailRow, "tail", version 1);

impl TailRow {
    /// Of a new store.
    pub fn first() -> Self {
        Self { before_seq: 0, before_chain: Chain::default(), at: 0 }
    }

    /// Of a journal that begins anew behind `head`.
    pub fn after(head: &HeadRow) -> Self {
        Self { before_seq: head.position.seq, before_chain: head.chain, at: 0 }
    }
}

/// Made when the store is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityRow {
    /// Identity of the data, not of a host.
    pub store_id: [u8; 16],
}

row!(IdentityRow, "identity", version 1);

#[cfg(test)]
mod tests {
    use super::{super::check_round_trip, *};

    #[test]
    fn round_trip() {
        let row = HeadRow {
            position: Position { epoch: 1, seq: 2 },
            chain: Chain([3; 32]),
            content: Content::default(),
        };
        check_round_trip(&row, &[&[1, 1, 2][..], &[3; 32], &[0]].concat());
        let tail = TailRow { before_seq: 4, before_chain: Chain([5; 32]), at: 300 };
        check_round_trip(&tail, &[&[1, 4][..], &[5; 32], &[0xac, 2]].concat());
        check_round_trip(&IdentityRow { store_id: [6; 16] }, &[&[1][..], &[6; 16]].concat());
    }
}
