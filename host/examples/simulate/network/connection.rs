//! A connection: its two ends, and what is on its way from one to the other.

use std::{
    collections::VecDeque,
    io,
    net::{IpAddr, SocketAddr},
    task::Waker,
    time::Duration,
};

/// When something happens; what was sent first comes first.
pub(super) type Key = (Duration, u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Server,
}

impl Side {
    pub(super) const BOTH: [Self; 2] = [Self::Client, Self::Server];

    pub(super) fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// One end of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EndId {
    pub connection: u64,
    pub side: Side,
}

impl EndId {
    pub(super) fn other(self) -> Self {
        Self { side: self.side.other(), ..self }
    }
}

#[derive(Debug)]
pub(super) struct Connection {
    ends: [End; 2],
    /// What each end sends.
    ways: [Way; 2],
}

/// What the host of an end knows of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// The client has no answer yet, the server no client that has one.
    Opening,
    Open,
    /// Whatever comes for it is answered by a reset.
    Gone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// The host brings to an end what was begun.
    Nobody,
    /// It waits to be accepted.
    Listener,
    Program,
}

#[derive(Debug)]
pub(super) struct End {
    pub host: IpAddr,
    pub at: SocketAddr,
    pub known: Known,
    pub owner: Owner,
    pub error: Option<io::ErrorKind>,
    pub reader: Option<Waker>,
    /// Of who writes, or waits for the connection to be made.
    pub writer: Option<Waker>,
}

impl End {
    pub(super) fn new(host: IpAddr, at: SocketAddr, owner: Owner) -> Self {
        let known = Known::Opening;
        Self { host, at, known, owner, error: None, reader: None, writer: None }
    }
}

#[derive(Debug, Default)]
pub(super) struct Way {
    pub queue: VecDeque<Segment>,
    /// What will happen to the first in the queue.
    pub scheduled: Option<Key>,
    pub ended: bool,
    /// Segments that were sent, and of these those that the sender knows to have arrived.
    pub sent: u64,
    pub confirmed: u64,
    /// When that last became more, or was complete.
    pub confirmed_at: Duration,
    /// Whether somebody will look at these.
    pub watched: bool,
    /// Whether somebody will ask for room.
    pub probed: bool,
    /// Bytes that were sent, and of these those that the sender knows to have been read.
    pub written: u64,
    pub known_read: u64,
    pub inbox: Inbox,
}

/// What came out at the other end.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    /// Segments.
    pub arrived: u64,
    pub bytes: VecDeque<u8>,
    /// Bytes taken out of it, and of these those that the sender was told of.
    pub read: u64,
    pub told: u64,
    /// There will be no more.
    pub ended: bool,
}

impl Way {
    pub(super) fn unconfirmed(&self) -> bool {
        self.confirmed < self.sent
    }

    /// Nobody sends again: what flies may arrive, up to the first gap. When the last of it does.
    pub(super) fn forget(&mut self) -> Duration {
        let gap = self.queue.iter().position(|segment| !segment.flies);
        self.queue.truncate(gap.unwrap_or(self.queue.len()));
        self.queue.iter().map(|segment| segment.when).max().unwrap_or_default()
    }
}

#[derive(Debug)]
pub(super) struct Segment {
    pub load: Load,
    pub first_sent: Duration,
    /// Whether it arrives or is sent again at `when`.
    pub flies: bool,
    pub when: Duration,
    pub again: bool,
    pub sequence: u64,
}

#[derive(Debug)]
pub(super) enum Load {
    /// The client has its answer.
    Open,
    Bytes(Vec<u8>),
    /// There will be no more.
    End,
}

impl Connection {
    pub(super) fn new(client: End, server: End) -> Self {
        Self { ends: [client, server], ways: [Way::default(), Way::default()] }
    }

    pub(super) fn end(&mut self, side: Side) -> &mut End {
        &mut self.ends[side as usize]
    }

    pub(super) fn way(&mut self, from: Side) -> &mut Way {
        &mut self.ways[from as usize]
    }

    pub(super) fn peek(&self, side: Side) -> &End {
        &self.ends[side as usize]
    }

    /// Nobody will notice if it is forgotten.
    pub(super) fn is_over(&self) -> bool {
        self.ends.iter().all(|end| end.owner == Owner::Nobody)
            && self.ways.iter().all(|way| way.queue.is_empty())
    }
}
