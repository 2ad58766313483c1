//! Two nodes, a link, a witness: everything that can happen next, one thing at a time.

use std::{collections::VecDeque, time::Duration};

use super::{
    super::step::{Event, Facts, Phase, Rules, Sync, WithoutWitness, step},
    node::{Ids, Message, Needs, Node, Session, ids},
};
use crate::model::pair::{
    Ask, Record, StoreId,
    talk::{Beat, Heard},
};
use crate::model::position::Chain;

mod act;
mod check;
mod link;

pub const STORES: [StoreId; 2] = [StoreId([1; 16]), StoreId([2; 16])];

/// What is not as it should be: the model has to notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Defect {
    /// The witness changes who is in sync for whoever owns the epoch, also for what comes late.
    VersionsIgnored,
    /// One disk is enough while the other node is to be recorded.
    OneWhileJoining,
    /// One disk is enough before it is recorded that the other node does not count.
    OneWhileShrinking,
    /// The witness makes anybody primary.
    AnybodyPromoted,
    /// A promise is not on disk.
    PromiseForgotten,
    /// A node obeys a primary of an epoch below its promise: takes its frames and rows, and takes back what it has.
    OldEpochsObeyed,
    /// A standby shows what it is told, whether or not the primary has that very frame.
    ShowsAnything,
    /// The same epoch and number are taken for the same frame, also without a witness.
    PositionsTrusted,
    /// Stages start before what the journal had shows.
    ServesAtOnce,
    /// What was planned on a link before its node led and stepped down is carried out after it.
    LinkOutlivesRole,
    /// Rows that are a standby's own past take back what came after them.
    RowsTakeBack,
    /// Rows that replace another past do so again when they come twice.
    RowsReplaceTwice,
    /// A standby that lacks nothing does not say so on a new link.
    SilentWhenLevel,
    /// A node that only accepts handles, too.
    AcceptingHandles,
    /// What was only accepted goes when the primary's rows come.
    AcceptedDropped,
    /// A node takes a record for news that is older than the one it knows.
    OldRecordsTaken,
    /// A primary whose witness does not answer goes on alone.
    AloneWithoutWitness,
    /// Journals with as many frames are taken for the same.
    LengthsCompared,
    /// An emptied store comes back under the name that it had.
    NameOutlivesData,
    /// A standby that dies while it takes a frame keeps its place and not what is in it.
    HalfFrameKept,
    /// Frames are taken that were made after the epoch in which their sender says to lead.
    LaterFramesTaken,
    /// A main server with an empty disk begins the pair anew before it has met the other node.
    BegunAnew,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Setup {
    pub has_witness: bool,
    pub without_witness: WithoutWitness,
    pub goes_on_alone: bool,
    pub fails_back: bool,
    pub defect: Option<Defect>,
}

/// The record after the ask.
pub type Answer = Option<Record>;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Asked {
    pub node: usize,
    /// Nobody waits for the answer any more, if it is not the node's.
    pub run: u32,
    pub ask: Ask,
    pub answer: Option<Answer>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    pub setup: Setup,
    pub nodes: [Node; 2],
    /// To each node, in order.
    pub link: [VecDeque<Message>; 2],
    pub record: Option<Record>,
    pub witness_is_up: bool,
    pub asks: Vec<Asked>,
    pub next_id: u8,
    pub acked: Ids,
    /// Acknowledged by a node that handled, too.
    pub handled: Ids,
    /// An operator made a node primary.
    pub by_hand: bool,
    /// Who acknowledged in which epoch.
    pub ackers: Vec<(u64, usize)>,
    /// Shown only because a node that had it began to lead.
    pub carried: Ids,
    pub violation: Option<String>,
}

/// What can happen next.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Move {
    Tick(usize, u64),
    Act(usize),
    Hear(usize),
    Learn(usize, usize),
    Posture(usize),
    Speak(usize),
    Beat(usize),
    Receive(usize),
    Make(usize),
    Sync(usize),
    Show(usize),
    Stop(usize),
    Connect,
    End(usize),
    Probe(usize),
    Serve(usize),
    Answer(usize),
    /// The node gives up waiting; the ask is still on its way.
    GiveUp(usize),
    Lose(usize),
    Witness,
    Crash(usize, bool),
    Start(usize),
    /// A node that is down loses its disk.
    Wipe(usize),
    Forget(usize),
    Order(usize, Event),
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub fn rules(setup: &Setup, node: usize) -> Rules {
    Rules {
        me: STORES[node],
        is_main: node == 0,
        has_peer: setup.defect != Some(Defect::BegunAnew),
        silence: ms(30),
        ack_timeout: ms(20),
        ask_again: ms(10),
        look: Duration::from_hours(1),
        goes_on_alone: setup.goes_on_alone,
        has_witness: setup.has_witness,
        without_witness: setup.without_witness,
        failback_hold: setup.fails_back.then_some(ms(60)),
    }
}

impl World {
    pub fn new(setup: Setup) -> Self {
        Self {
            nodes: [0, 1].map(|node| Node::new(rules(&setup, node))),
            setup,
            link: Default::default(),
            record: None,
            witness_is_up: true,
            asks: Vec::new(),
            next_id: 0,
            acked: 0,
            handled: 0,
            by_hand: false,
            ackers: Vec::new(),
            carried: 0,
            violation: None,
        }
    }

    pub fn fault(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    fn has(&self, defect: Defect) -> bool {
        self.setup.defect == Some(defect)
    }

    /// All but faults and orders.
    pub fn usual(&self, moves: &mut Vec<Move>) {
        for n in 0..2 {
            let node = &self.nodes[n];
            if !node.is_up {
                continue;
            }
            if !node.is_idle() {
                moves.push(Move::Act(n));
            } else {
                if !node.heard.is_empty() {
                    moves.push(Move::Hear(n));
                }
                if !node.events.is_empty() {
                    moves.push(Move::Learn(n, 0));
                }
            }
            if node.posture != node.state.standing() && node.is_idle() {
                moves.push(Move::Posture(n));
            }
            if node.session.is_some() {
                if self.has_to_say(n) {
                    moves.push(Move::Speak(n));
                }
                // A promise comes before the first answer in a new epoch.
                let promised = node.posture.epoch;
                match self.link[n].front().map(|next| next.epoch() <= promised) {
                    Some(true) => moves.push(Move::Receive(n)),
                    None if self.nodes[1 - n].session.is_none() => moves.push(Move::End(n)),
                    Some(false) | None => {}
                }
            }
            if node.store.is_unsynced {
                moves.push(Move::Sync(n));
            }
            if node.store.waits && self.may_show(n) {
                moves.push(Move::Show(n));
            }
            if node.drains {
                moves.push(Move::Stop(n));
            }
            if node.begins_epoch && self.may_make(n) {
                moves.push(Move::Make(n));
            }
        }
        if self.nodes.iter().all(|node| node.is_up) && self.nodes[1].session.is_none() {
            moves.push(Move::Connect);
        }
        for (at, asked) in self.asks.iter().enumerate() {
            if asked.answer.is_some() {
                moves.push(Move::Answer(at));
            } else if self.witness_is_up {
                moves.push(Move::Serve(at));
            } else if asked.run == self.nodes[asked.node].run {
                moves.push(Move::GiveUp(at));
            }
        }
    }

    pub fn may_make(&self, n: usize) -> bool {
        let store = &self.nodes[n].store;
        self.nodes[n].is_up
            && store.leading.is_some()
            && !store.is_unsynced
            && !store.waits
            && store.shown == store.log.len()
            && self.next_id < 120
    }

    fn may_show(&self, n: usize) -> bool {
        let (store, gate) = (&self.nodes[n].store, &self.nodes[n].gate);
        let there = gate.peer_has >= store.head() && store.leading == Some(gate.epoch);
        there || gate.needs != Needs::Both
    }

    #[expect(clippy::too_many_lines, reason = "one table of all that can happen")]
    pub fn go(&mut self, what: &Move) {
        match *what {
            Move::Tick(n, by) => {
                self.nodes[n].now += ms(by);
                if self.nodes[n].is_idle() {
                    self.decide(n, Event::Tick);
                }
            }
            Move::Act(n) => {
                self.act(n);
                if self.nodes[n].is_idle() {
                    self.nodes[n].at_once = 0;
                }
            }
            Move::Hear(n) => {
                if let Some(event) = self.nodes[n].heard.pop_front() {
                    self.decide(n, event);
                }
            }
            Move::Learn(n, at) => {
                if let Some(event) = self.nodes[n].events.remove(at) {
                    self.decide(n, event);
                }
            }
            Move::Posture(n) => self.nodes[n].posture = self.nodes[n].state.standing(),
            Move::Speak(n) => self.speak(n),
            Move::Beat(n) => {
                let node = &self.nodes[n];
                let head = node.store.tip_at(node.store.log.len()).position;
                let (standing, shown) = (node.posture, node.store.shown as u64);
                let beat = Beat {
                    number: 0,
                    answers: 0,
                    standing,
                    head,
                    shown,
                    chain: Chain::default(),
                    content: [0; 16],
                };
                self.say(n, Message::Beat(beat));
            }
            Move::Receive(n) => {
                if let Some(message) = self.link[n].pop_front() {
                    self.receive(n, message);
                }
            }
            Move::Make(n) => self.make(n),
            Move::Sync(n) => {
                let now = self.nodes[n].now;
                let Node { store, gate, .. } = &mut self.nodes[n];
                (store.is_unsynced, store.waits) = (false, true);
                gate.waiting_since = (gate.needs == Needs::Both).then_some(now);
            }
            Move::Show(n) => self.show(n),
            Move::Stop(n) => {
                self.nodes[n].drains = false;
                self.nodes[n].events.push_back(Event::Stopped);
            }
            Move::Connect => {
                self.link.iter_mut().for_each(VecDeque::clear);
                // The main server may not know yet that the old link is gone.
                self.nodes.iter_mut().for_each(|node| node.session = Some(Session::default()));
            }
            Move::End(n) => self.nodes[n].end_session(),
            Move::Probe(n) => {
                self.nodes[n].heard.push_back(Event::Heard(Heard::Down { gone: true }));
            }
            Move::Serve(at) => self.serve(at),
            Move::Answer(at) => {
                let Asked { node, run, answer, .. } = self.asks.remove(at);
                if run == self.nodes[node].run && self.nodes[node].is_up {
                    self.nodes[node].events.push_back(Event::Recorded(answer.ok_or(())));
                }
            }
            Move::GiveUp(at) => {
                let node = self.asks[at].node;
                self.nodes[node].events.push_back(Event::Recorded(Err(())));
            }
            Move::Lose(at) => {
                let Asked { node, run, .. } = self.asks.remove(at);
                if run == self.nodes[node].run && self.nodes[node].is_up {
                    self.nodes[node].events.push_back(Event::Recorded(Err(())));
                }
            }
            Move::Witness => self.witness_is_up = !self.witness_is_up,
            Move::Crash(n, checkpointed) => self.crash(n, checkpointed),
            Move::Wipe(n) => self.wipe(n),
            Move::Start(n) => self.nodes[n].start(),
            Move::Forget(n) => {
                let store = &mut self.nodes[n].store;
                store.begins = store.shown.saturating_sub(1).max(store.begins);
            }
            Move::Order(n, ref event) => {
                self.by_hand |= matches!(event, Event::Promote { .. });
                self.nodes[n].events.push_back(event.clone());
            }
        }
        self.check();
    }

    fn decide(&mut self, n: usize, event: Event) {
        let takes_old = self.has(Defect::OldRecordsTaken);
        let is_alone = self.has(Defect::AloneWithoutWitness) && event == Event::Recorded(Err(()));
        let node = &mut self.nodes[n];
        let facts: Facts = node.facts();
        if let (true, Event::Recorded(Ok(Some(record))), Some(known)) =
            (takes_old, &event, node.state.kept.record)
            && record.epoch == known.epoch
        {
            node.state.kept.record = None;
        }
        let (after, actions) = step(node.state.clone(), event, &facts);
        node.state = after;
        node.actions.extend(actions);
        if let (true, Phase::Primary(leading)) = (is_alone, &node.state.phase)
            && leading.sync == Sync::Shrinking
        {
            node.gate.needs = Needs::One;
        }
    }

    /// Whether the node may lose its disk and nothing is lost: what it had is recorded to be on the other; and without a
    /// witness is there, as a record is of no more worth than who keeps it.
    pub fn may_lose_disk(&self, n: usize) -> bool {
        let other = &self.nodes[1 - n];
        let has_all = self.acked & !ids(&other.store.log[..other.store.shown]) == 0;
        let record = if self.setup.has_witness { self.record } else { other.disk.record };
        !self.nodes[n].is_up
            && (self.setup.has_witness || has_all)
            && record.is_some_and(|record| record.in_sync.has(other.state.rules.me))
    }
}
