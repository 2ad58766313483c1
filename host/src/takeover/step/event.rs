//! What happens, what is so then, and what is to be done.

use std::time::Duration;

use super::Kept;
use crate::model::pair::{Ask, Record, talk::Heard};

/// What is so at the moment of an event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Facts {
    /// Since the node started.
    pub now: Duration,
    /// Where the journal ends.
    pub head: u64,
    /// Up to where the other node has it, in this epoch.
    pub peer_has: u64,
    /// Since when a frame waits for the other node.
    pub waiting_since: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Event {
    /// Time went on.
    Tick,
    Heard(Heard),
    /// What the record is now; an error: nobody answered.
    Recorded(Result<Option<Record>, ()>),
    /// All that the journal had when it was asked shows, in that epoch.
    Shows(u64),
    /// The stages have stopped, as was asked.
    Stopped,
    /// An operator wants the roles exchanged.
    Switchover,
    /// An operator wants this node to be primary; `force`: even if it lacks something.
    Promote {
        force: bool,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action {
    /// Make this durable before what follows.
    Keep(Kept),
    /// Ask who keeps the record.
    Ask(Ask),
    /// What a frame needs before it shows.
    Need(Need),
    /// Make frames in that epoch, and report when its first one shows; `in_doubt`: who was primary before may not know that
    /// it is so no more.
    Lead { epoch: u64, in_doubt: bool },
    /// Report when all shows that is in the journal by now.
    Confirm(u64),
    /// Start the stages.
    Serve(u64),
    /// Make frames in that epoch; the stages stay off.
    Accept(u64),
    /// Make none; stages are stopped first.
    Follow,
    /// Stop what takes in and handles, and report.
    Drain,
    /// Worth telling people.
    Told(Told),
}

/// What a frame needs before it shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Need {
    /// This disk.
    One,
    /// Both disks.
    Both,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Told {
    Promoted {
        epoch: u64,
        alone: bool,
    },
    Demoted {
        epoch: u64,
    },
    /// The primary is silent, and messages are taken in beside it.
    Accepting,
    /// No more.
    AcceptedEnough,
    InSync,
    Alone,
    WitnessSilent,
    /// It knows nothing of what it has recorded, or only what was before.
    WitnessForgot,
    HandingOver,
    /// Too many changes of role by themselves: from now on by hand.
    Flapping,
    Refused(&'static str),
}
