//! Where a node stands.

use std::time::Duration;

use crate::model::pair::{StoreId, talk::Standing};

/// Where a node stands, and what it waits for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Finds out who is primary.
    Starting {
        since: Duration,
    },
    /// The other node is primary, or was when it was last heard.
    Standby,
    /// Has asked to become primary.
    Candidate,
    /// Takes messages in while the primary is silent, in the epoch that it would be primary in.
    Accepting,
    Primary(Leading),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Leading {
    pub epoch: u64,
    pub sync: Sync,
    /// Since when both are in sync.
    pub both_since: Option<Duration>,
    pub handover: Handover,
}

/// Whether the other node counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sync {
    /// It is recorded that it does not.
    Alone,
    /// Frames need both already; when the other has those before, too, that is to be recorded.
    Joining {
        /// What was shown before both were needed ends there; known one step later.
        from: Option<u64>,
        asked: bool,
    },
    /// It is recorded that it does.
    Both,
    /// It is to be recorded that it does not. Until then nothing is shown without it.
    Shrinking,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Handover {
    No,
    /// Stages stop.
    Draining {
        since: Duration,
    },
    /// They have; once everything is on both, the other gets its record.
    Ready {
        since: Duration,
    },
}

/// The other node, as it was last heard.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Peer {
    pub store: StoreId,
    pub is_main: bool,
    pub standing: Standing,
    pub is_up: bool,
    /// Its process is known to be gone.
    pub is_gone: bool,
    pub heard: Duration,
}

/// What came of asking the witness last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Witness {
    Answers,
    Silent,
    /// It says less than it has said before: it lost its record, or was set back to an old copy.
    Forgot,
}
