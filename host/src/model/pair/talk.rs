//! What the nodes of a pair say to each other, but for frames and rows.

use serde::{Deserialize, Serialize};

use super::{PairId, Record, Role, StoreId, ready::Readiness};
use crate::model::position::{Chain, Position};

/// Protocol versions that this program speaks: from the first to the second.
pub const PROTOCOLS: (u16, u16) = (1, 1);

/// The protocol that two programs speak with each other: the highest that both know.
pub fn common_protocol(ours: (u16, u16), theirs: (u16, u16)) -> Option<u16> {
    let highest = ours.1.min(theirs.1);
    (highest >= ours.0.max(theirs.0)).then_some(highest)
}

/// The first thing each says on a link, and again when its role changes. In every protocol it begins with `protocols`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Hello {
    /// Lowest and highest protocol version it speaks.
    pub protocols: (u16, u16),
    /// The highest version of frames it can take.
    pub frames: u8,
    pub pair: PairId,
    pub store: StoreId,
    pub is_main: bool,
    /// Where its web hooks are, as `host:port`; without a host it is where the link comes from.
    pub hooks: String,
    pub program: String,
    pub standing: Standing,
    /// Where its journal ends, and, if its last frame is not shown, where it would end without that.
    pub tips: Vec<Tip>,
}

/// How a node stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Standing {
    pub role: Role,
    /// The epoch it is primary in, or the highest it has promised to obey.
    pub epoch: u64,
    pub record: Option<Record>,
}

/// A place in a journal that another can compare with its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tip {
    pub position: Position,
    pub chain: Chain,
    /// Who was primary in that epoch, if it began in a pair.
    pub owner: Option<StoreId>,
}

/// A sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Beat {
    /// Counted on each end of each link, from 1.
    pub number: u64,
    /// The last one that was heard; 0: none.
    pub answers: u64,
    pub standing: Standing,
    /// Where its journal ends.
    pub head: Position,
    /// The last frame that is shown, and the chain hash after it.
    pub shown: u64,
    pub chain: Chain,
    /// The content hash there.
    pub content: [u8; 16],
}

/// What was heard of the other node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Heard {
    Hello(Box<Hello>),
    Beat(Beat),
    /// The link is gone; `gone`: the other's process is, too.
    Down {
        gone: bool,
    },
}

/// The first two are the same in every protocol, so that programs that have none in common can say so.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Said {
    Hello(Box<Hello>),
    /// And the link will be closed.
    Refused(String),
    Beat(Beat),
    /// The standby has all up to there on disk, of the primary of that epoch.
    Has {
        epoch: u64,
        seq: u64,
        chain: Chain,
    },
    /// Of the primary: take the last frame back, it is another here.
    Cut {
        epoch: u64,
    },
    /// Of the primary: there is no common past that a journal reaches, so its rows follow; `diverged`: what the standby
    /// has is no part of the primary's past, and after frame `common` nothing of it is.
    Rows {
        epoch: u64,
        diverged: bool,
        common: u64,
    },
    /// Of the standby, before rows come: what is there already, in spans of keys. Those that differ come.
    Holds {
        spans: Vec<u8>,
    },
    /// Of the standby: it lacks the file of that segment.
    Lacks {
        segment: Vec<u8>,
    },
    /// Of the primary: the recovered messages of that name are there, and this became of them.
    Recovered {
        name: String,
        fates: Vec<u8>,
    },
    /// Of a node that is not primary: whether it could be. Said again when it changes.
    Ready(Box<Readiness>),
    /// What time is it there? It was so late here.
    WhatTime {
        asked_ms: u64,
    },
    Time {
        asked_ms: u64,
        now_ms: u64,
    },
    /// It will have this key, by its fingerprint: to be pinned beside the one that it has.
    NewKey {
        key: [u8; 32],
    },
    /// That key is pinned, on disk.
    Pinned {
        key: [u8; 32],
    },
}

#[cfg(test)]
mod tests {
    use super::common_protocol;

    #[test]
    fn the_highest_protocol_that_both_know() {
        for (ours, theirs, common) in [
            ((1, 1), (1, 1), Some(1)),
            ((1, 1), (0, 4), Some(1)),
            ((1, 3), (2, 2), Some(2)),
            ((2, 3), (1, 2), Some(2)),
            ((1, 1), (2, 2), None),
            ((2, 3), (0, 1), None),
        ] {
            assert_eq!(common_protocol(ours, theirs), common, "{ours:?} {theirs:?}");
            assert_eq!(common_protocol(theirs, ours), common, "{theirs:?} {ours:?}");
        }
    }
}
