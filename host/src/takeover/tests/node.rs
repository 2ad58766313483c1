//! A node of the model: the real [`State`], and a store, a gate and a session as small as they can be.

use std::{collections::VecDeque, time::Duration};

use super::super::step::{Action, Event, Facts, Kept, Need, Rules, State};
use crate::model::{
    pair::{
        Role,
        talk::{Beat, Hello, Standing, Tip},
    },
    position::{Chain, Position},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Frame {
    pub epoch: u64,
    /// Which one it is, wherever it stands.
    pub id: u8,
}

/// A set of frames.
pub type Ids = u128;

pub fn bit(id: u8) -> Ids {
    1 << id
}

pub fn ids(log: &[Frame]) -> Ids {
    log.iter().fold(0, |ids, frame| ids | bit(frame.id))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Needs {
    One,
    Both,
    Never,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Gate {
    pub needs: Needs,
    pub epoch: u64,
    pub peer_has: u64,
    pub waiting_since: Option<Duration>,
    pub shown: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Store {
    /// Durable.
    pub log: Vec<Frame>,
    /// The first `shown` frames of it show.
    pub shown: usize,
    /// Before that the journal does not reach back. Durable.
    pub begins: usize,
    pub leading: Option<u64>,
    /// The last frame is given to the link and not on this disk yet.
    pub is_unsynced: bool,
    /// The writer waits for the gate with the last frame.
    pub waits: bool,
    /// Set aside. Durable.
    pub aside: Ids,
    /// Of these the place is there and not what is in them.
    pub torn: Ids,
}

impl Store {
    pub fn head(&self) -> u64 {
        self.log.len() as u64
    }

    /// What is in its frames.
    pub fn has(&self) -> Ids {
        ids(&self.log) & !self.torn
    }

    pub fn tip_at(&self, seq: usize) -> Tip {
        let epoch = seq.checked_sub(1).map_or(1, |last| self.log[last].epoch);
        let position = Position { epoch, seq: seq as u64 };
        Tip { position, chain: chain(&self.log[..seq]), owner: None }
    }

    pub fn tips(&self) -> Vec<Tip> {
        let mut tips = vec![self.tip_at(self.log.len())];
        if self.shown < self.log.len() {
            tips.push(self.tip_at(self.shown));
        }
        tips
    }

    pub fn chain_at(&self, seq: u64) -> Option<Chain> {
        let seq = usize::try_from(seq).ok()?;
        (self.begins..=self.log.len()).contains(&seq).then(|| chain(&self.log[..seq]))
    }
}

/// Stands for the chain hash: equal if and only if the frames are.
pub fn chain(log: &[Frame]) -> Chain {
    let mut chain = [0; 32];
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for frame in log {
        hash = (hash ^ u64::from(frame.id) ^ (frame.epoch << 8)).wrapping_mul(0x0100_0000_01b3);
        hash ^= hash >> 29;
    }
    chain[..8].copy_from_slice(&hash.to_be_bytes());
    chain[8..16].copy_from_slice(&(log.len() as u64).to_be_bytes());
    Chain(chain)
}

/// What goes over a link.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Message {
    Hello(Hello),
    Beat(Beat),
    Frame { epoch: u64, shown: u64, seq: u64, frame: Frame, before: Chain },
    Has { epoch: u64, tip: Tip },
    Cut { epoch: u64 },
    Rows { epoch: u64, diverged: bool, rows: Vec<Frame> },
}

impl Message {
    /// That a node must have promised before it takes this.
    pub fn epoch(&self) -> u64 {
        match *self {
            Self::Frame { epoch, .. } | Self::Cut { epoch } | Self::Rows { epoch, .. } => epoch,
            _ => 0,
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Session {
    pub told: Option<(Role, u64)>,
    pub introduced: Option<Hello>,
    pub is_new: bool,
    /// The next frame to send.
    pub feed: Option<u64>,
    /// The last frame that is known to be the primary's.
    pub agreed: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "what is due is independent of each other")]
pub struct Node {
    pub is_up: bool,
    /// Another for each start.
    pub run: u32,
    pub now: Duration,
    pub state: State,
    /// As others are told; it may lag.
    pub posture: Standing,
    pub disk: Kept,
    pub store: Store,
    pub gate: Gate,
    /// Of the last step, not done yet.
    pub actions: VecDeque<Action>,
    /// An answer that was there at once.
    pub next: Option<Event>,
    /// Such answers, one after the other.
    pub at_once: u8,
    pub heard: VecDeque<Event>,
    pub events: VecDeque<Event>,
    pub session: Option<Session>,
    /// The epoch's first frame is to be made.
    pub begins_epoch: bool,
    /// It is to be reported when all shows.
    pub confirms: bool,
    pub drains: bool,
    pub serves: bool,
    /// Makes frames beside a primary, and handles none.
    pub accepts: bool,
}

impl Node {
    pub fn new(rules: Rules) -> Self {
        let state = State::new(rules, Kept::default(), Duration::ZERO);
        let store = Store {
            log: Vec::new(),
            shown: 0,
            begins: 0,
            leading: None,
            is_unsynced: false,
            waits: false,
            aside: 0,
            torn: 0,
        };
        Self {
            is_up: true,
            run: 0,
            now: Duration::ZERO,
            posture: state.standing(),
            state,
            disk: Kept::default(),
            store,
            gate: no_gate(),
            actions: VecDeque::new(),
            next: None,
            at_once: 0,
            heard: VecDeque::new(),
            events: VecDeque::new(),
            session: None,
            begins_epoch: false,
            confirms: false,
            drains: false,
            serves: false,
            accepts: false,
        }
    }

    pub fn is_idle(&self) -> bool {
        self.is_up && self.actions.is_empty() && self.next.is_none()
    }

    pub fn facts(&self) -> Facts {
        Facts {
            now: self.now,
            head: self.store.head(),
            peer_has: self.gate.peer_has,
            waiting_since: self.gate.waiting_since,
        }
    }

    /// Without what was not on disk. `checkpointed`: the tables have all that showed.
    pub fn crash(&mut self, checkpointed: bool) {
        if self.store.is_unsynced {
            self.store.log.pop();
        }
        let last = self.store.log.len().saturating_sub(1);
        let durable = if checkpointed { self.store.shown } else { 0 };
        let store = Store {
            shown: durable.max(last).max(self.store.begins),
            leading: None,
            is_unsynced: false,
            waits: false,
            ..self.store.clone()
        };
        let rules = self.state.rules.clone();
        *self =
            Self { is_up: false, run: self.run + 1, disk: self.disk, store, ..Self::new(rules) };
    }

    /// Of one that is down: with an empty folder in place of its own.
    pub fn wipe(&mut self, keeps_name: bool) {
        let mut rules = self.state.rules.clone();
        if !keeps_name {
            rules.me.0.iter_mut().for_each(|byte| *byte += 2);
        }
        *self = Self { is_up: false, run: self.run + 1, ..Self::new(rules) };
    }

    pub fn start(&mut self) {
        self.is_up = true;
        self.state = State::new(self.state.rules.clone(), self.disk, Duration::ZERO);
        self.posture = self.state.standing();
    }

    pub fn lead(&mut self, epoch: u64) {
        self.gate = Gate {
            epoch,
            peer_has: 0,
            shown: self.store.head(),
            waiting_since: None,
            needs: self.gate.needs,
        };
        self.store.leading = Some(epoch);
        // It shows before anything new is made.
        if self.store.shown < self.store.log.len() {
            self.store.waits = true;
            self.gate.waiting_since = (self.gate.needs == Needs::Both).then_some(self.now);
        }
        (self.begins_epoch, self.confirms) = (true, true);
        (self.serves, self.accepts, self.drains) = (false, false, false);
    }

    /// Of one that leads: but only accepts.
    pub fn accept(&mut self) {
        (self.confirms, self.accepts) = (false, true);
    }

    pub fn follow(&mut self) {
        self.gate.needs = Needs::Never;
        self.gate.waiting_since = None;
        (self.store.waits, self.store.is_unsynced, self.store.leading) = (false, false, None);
        (self.begins_epoch, self.confirms) = (false, false);
        (self.serves, self.drains) = (false, false);
        self.accepts = false;
    }

    pub fn need(&mut self, need: Need) {
        self.gate.needs = match need {
            Need::One => Needs::One,
            Need::Both => Needs::Both,
        };
    }

    /// The link is gone, and this node knows.
    pub fn end_session(&mut self) {
        use crate::model::pair::talk::Heard;
        if self.session.take().is_some() {
            self.gate.peer_has = 0;
            self.heard.push_back(Event::Heard(Heard::Down { gone: false }));
        }
    }
}

fn no_gate() -> Gate {
    Gate { needs: Needs::Never, epoch: 0, peer_has: 0, waiting_since: None, shown: 0 }
}
