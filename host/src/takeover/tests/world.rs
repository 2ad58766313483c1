//! Two nodes, a link, a witness: everything that can happen next, one thing at a time.

use std::{collections::VecDeque, time::Duration};

use super::{
    super::step::{Action, Event, Facts, Kept, Phase, Rules, Sync, step},
    node::{Frame, Ids, Message, Needs, Node, Session, Store, bit, chain, ids},
};
use crate::model::{
    pair::{
        Ask, InSync, PairId, Record, Role, StoreId,
        talk::{Beat, Heard, Hello, PROTOCOLS, Tip},
    },
    position::{Chain, Position},
};

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
    /// A node takes back and replaces what it has for a primary of a lower epoch.
    CutForAnybody,
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
    /// A standby that lacks nothing does not say so on a new link.
    SilentWhenLevel,
}

#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is an operator's choice")]
pub struct Setup {
    pub has_witness: bool,
    pub acts_alone: bool,
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

#[derive(Debug, Clone)]
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
        silence: ms(30),
        ack_timeout: ms(20),
        ask_again: ms(10),
        goes_on_alone: setup.goes_on_alone,
        has_witness: setup.has_witness,
        acts_alone: setup.acts_alone,
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
            && self.next_id < 120
    }

    fn may_show(&self, n: usize) -> bool {
        let (store, gate) = (&self.nodes[n].store, &self.nodes[n].gate);
        let epoch = store.log.last().map_or(0, |last| last.epoch);
        let there = gate.peer_has >= store.head() && gate.epoch == epoch;
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
                let asked = &mut self.asks[at];
                asked.run = u32::MAX;
                let node = asked.node;
                self.nodes[node].events.push_back(Event::Recorded(Err(())));
            }
            Move::Lose(at) => {
                let Asked { node, run, .. } = self.asks.remove(at);
                if run == self.nodes[node].run && self.nodes[node].is_up {
                    self.nodes[node].events.push_back(Event::Recorded(Err(())));
                }
            }
            Move::Witness => self.witness_is_up = !self.witness_is_up,
            Move::Crash(n, checkpointed) => self.nodes[n].crash(checkpointed),
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
        let facts: Facts = self.nodes[n].facts();
        let (after, actions) = step(self.nodes[n].state.clone(), event, &facts);
        self.nodes[n].state = after;
        self.nodes[n].actions.extend(actions);
    }

    fn act(&mut self, n: usize) {
        let Some(action) = self.nodes[n].actions.pop_front() else {
            if let Some(event) = self.nodes[n].next.take() {
                self.decide(n, event);
                self.nodes[n].at_once += 1;
                if self.nodes[n].at_once > 10 {
                    self.fault(format!("node {n} asks itself for ever"));
                }
            }
            return;
        };
        match action {
            Action::Keep(kept) => self.keep(n, kept),
            Action::Ask(ask) if self.setup.has_witness => {
                let run = self.nodes[n].run;
                self.asks.push(Asked { node: n, run, ask, answer: None });
            }
            Action::Ask(ask) => {
                let record = self.nodes[n].state.kept.record;
                let now = Record::after(record.as_ref(), &ask).or(record);
                self.nodes[n].next = Some(Event::Recorded(Ok(now)));
            }
            Action::Need(need) => self.nodes[n].need(need),
            Action::Lead { epoch, .. } => {
                if self.nodes[n].store.leading.is_some() && self.nodes[n].store.waits {
                    self.fault(format!("node {n} is to lead {epoch} while a frame waits"));
                }
                let store = &self.nodes[n].store;
                self.carried |= ids(&store.log[store.shown..]);
                self.nodes[n].lead(epoch);
                self.confirm(n);
            }
            Action::Follow => {
                self.nodes[n].follow();
                if !self.has(Defect::LinkOutlivesRole) {
                    self.nodes[n].end_session();
                }
            }
            Action::Drain => (self.nodes[n].drains, self.nodes[n].serves) = (true, false),
            Action::Confirm(_) => {
                self.nodes[n].drains = false;
                self.nodes[n].confirms = true;
                self.confirm(n);
            }
            Action::Serve(epoch) => {
                let Store { log, shown, .. } = &self.nodes[n].store;
                if log[*shown..].iter().any(|frame| frame.epoch < epoch) {
                    self.fault(format!("node {n} serves and does not show what it had"));
                }
                self.nodes[n].serves = true;
            }
            Action::Told(_) => {}
        }
        if let Phase::Primary(leading) = &self.nodes[n].state.phase {
            let wrong = match leading.sync {
                Sync::Joining { .. } => self.has(Defect::OneWhileJoining),
                Sync::Shrinking => self.has(Defect::OneWhileShrinking),
                _ => false,
            };
            if wrong {
                self.nodes[n].gate.needs = Needs::One;
            }
        }
    }

    fn keep(&mut self, n: usize, kept: Kept) {
        if kept.promise < self.nodes[n].disk.promise {
            self.fault(format!("node {n} takes back its promise"));
        }
        if !self.has(Defect::PromiseForgotten) {
            self.nodes[n].disk = kept;
        }
    }

    fn serve(&mut self, at: usize) {
        let now = self.record;
        let ask = match (self.setup.defect, self.asks[at].ask, now) {
            (
                Some(Defect::VersionsIgnored),
                Ask::SetInSync { owner, epoch, in_sync, .. },
                Some(now),
            ) => Ask::SetInSync { owner, epoch, version: now.version, in_sync },
            (Some(Defect::AnybodyPromoted), Ask::Acquire { candidate, seen_epoch, .. }, _) => {
                Ask::Seize { candidate, seen_epoch }
            }
            (_, ask, _) => ask,
        };
        self.record = Record::after(now.as_ref(), &ask).or(now);
        self.asks[at].answer = Some(self.record);
    }

    fn make(&mut self, n: usize) {
        let id = self.next_id;
        self.next_id += 1;
        let node = &mut self.nodes[n];
        node.begins_epoch = false;
        node.store.log.extend(node.store.leading.map(|epoch| Frame { epoch, id }));
        node.store.is_unsynced = true;
    }

    fn show(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        node.store.waits = false;
        node.gate.waiting_since = None;
        if node.gate.needs == Needs::Never {
            node.store.leading = None;
            return;
        }
        node.store.shown = node.store.log.len();
        node.gate.shown = node.store.head();
        self.confirm(n);
        let node = &self.nodes[n];
        let Some(&Frame { epoch, id }) = node.store.log.last() else { return };
        self.acked |= bit(id);
        match self.ackers.iter().find(|(of, _)| *of == epoch) {
            None => self.ackers.push((epoch, n)),
            Some((_, who)) if *who != n && self.setup.has_witness => {
                self.fault(format!("both acknowledge in epoch {epoch}"));
            }
            Some(_) => {}
        }
    }

    /// Reports that all shows, if that was asked and is so.
    fn confirm(&mut self, n: usize) {
        let at_once = self.has(Defect::ServesAtOnce);
        let node = &mut self.nodes[n];
        let shows = node.store.shown == node.store.log.len() && !node.begins_epoch;
        if let Some(epoch) = node.store.leading.filter(|_| node.confirms && (shows || at_once)) {
            node.confirms = false;
            node.events.push_back(Event::Shows(epoch));
        }
    }

    fn say(&mut self, n: usize, message: Message) {
        if self.nodes[1 - n].session.is_some() {
            self.link[1 - n].push_back(message);
        }
    }

    fn hello(&self, n: usize) -> Hello {
        let node = &self.nodes[n];
        Hello {
            protocols: PROTOCOLS,
            frames: 1,
            pair: PairId::default(),
            store: STORES[n],
            is_main: n == 0,
            hooks: String::new(),
            program: String::new(),
            standing: node.posture,
            tips: node.store.tips(),
        }
    }

    fn introduce(&mut self, n: usize) {
        let hello = self.hello(n);
        self.say(n, Message::Hello(hello));
    }

    fn has_to_say(&self, n: usize) -> bool {
        let node = &self.nodes[n];
        let Some(session) = &node.session else { return false };
        session.told != Some((node.posture.role, node.posture.epoch))
            || session.is_new
            || session.feed.is_some_and(|next| self.frame_at(n, next).is_some())
    }

    fn frame_at(&self, n: usize, seq: u64) -> Option<Frame> {
        let store = &self.nodes[n].store;
        let at = usize::try_from(seq).ok()?.checked_sub(1)?;
        store.log.get(at).copied()
    }

    fn speak(&mut self, n: usize) {
        let posture = self.nodes[n].posture;
        let as_what = Some((posture.role, posture.epoch));
        let Some(session) = &mut self.nodes[n].session else { return };
        if session.told != as_what {
            session.told = as_what;
            self.introduce(n);
            return self.plan(n);
        }
        if std::mem::take(&mut session.is_new) {
            return self.plan(n);
        }
        let Some(next) = session.feed else { return };
        if next <= self.nodes[n].store.begins as u64 {
            return self.give_rows(n, false);
        }
        if let (Some(frame), Some(session)) = (self.frame_at(n, next), &mut self.nodes[n].session) {
            session.feed = Some(next + 1);
            let (epoch, shown) = (posture.epoch, self.nodes[n].gate.shown);
            let before = chain(&self.nodes[n].store.log[..usize::try_from(next - 1).unwrap_or(0)]);
            self.say(n, Message::Frame { epoch, shown, seq: next, frame, before });
        }
    }

    fn plan(&mut self, n: usize) {
        let is_silent = self.has(Defect::SilentWhenLevel);
        let is_sure = self.setup.has_witness || self.has(Defect::PositionsTrusted);
        let node = &mut self.nodes[n];
        let (Role::Primary, epoch) = (node.posture.role, node.posture.epoch) else {
            if let Some(session) = &mut node.session {
                session.feed = None;
            }
            return;
        };
        let Some(session) = &mut node.session else { return };
        session.feed = None;
        let Some(hello) = &session.introduced else { return };
        if hello.standing.role == Role::Primary {
            return;
        }
        let store = &node.store;
        let is_common = |tip: &Tip| store.chain_at(tip.position.seq) == Some(tip.chain);
        match hello.tips.iter().position(is_common) {
            Some(0) => {
                // The last common frame once more: that it is there has to be said again on each link.
                let seq = hello.tips[0].position.seq;
                let again = seq > store.begins as u64 && !is_silent;
                session.feed = Some(if again { seq } else { seq + 1 });
            }
            Some(_) => self.say(n, Message::Cut { epoch }),
            None => {
                let is_past = |tip: &Tip| {
                    let Position { epoch, seq } = tip.position;
                    store.chain_at(seq).is_none()
                        && seq < store.head()
                        && store.tip_at(usize::try_from(seq).unwrap_or(0)).position.epoch == epoch
                };
                // Without a witness both may have made frames in one epoch.
                let diverged = !is_sure || !hello.tips.iter().all(is_past);
                self.give_rows(n, diverged);
            }
        }
    }

    fn give_rows(&mut self, n: usize, diverged: bool) {
        let node = &mut self.nodes[n];
        let rows = node.store.log[..node.store.shown].to_vec();
        if let Some(session) = &mut node.session {
            session.feed = Some(rows.len() as u64 + 1);
        }
        let epoch = node.posture.epoch;
        self.say(n, Message::Rows { epoch, diverged, rows });
    }

    fn receive(&mut self, n: usize, message: Message) {
        let posture = self.nodes[n].posture;
        let is_fenced = |epoch| epoch < posture.epoch || posture.role == Role::Primary;
        match message {
            Message::Hello(hello) => {
                let heard = Event::Heard(Heard::Hello(Box::new(hello.clone())));
                let node = &mut self.nodes[n];
                node.heard.push_back(heard);
                if let Some(session) = &mut node.session {
                    (session.introduced, session.is_new) = (Some(hello), true);
                }
            }
            Message::Beat(beat) => {
                self.nodes[n].heard.push_back(Event::Heard(Heard::Beat(beat)));
                let leads = beat.standing.role == Role::Primary;
                if !leads || posture.role != Role::Standby || beat.standing.epoch < posture.epoch {
                    return;
                }
                let agreed = self.nodes[n].session.as_ref().map_or(0, |session| session.agreed);
                let upto = if self.has(Defect::ShowsAnything) { u64::MAX } else { agreed };
                self.show_waiting(n, beat.shown.min(upto));
            }
            Message::Frame { epoch, shown, seq, frame, before } => {
                if is_fenced(epoch) {
                    return;
                }
                self.take(n, (epoch, shown, seq), frame, before);
            }
            Message::Has { epoch, tip: Tip { position, chain, .. } } => {
                let node = &mut self.nodes[n];
                if node.store.chain_at(position.seq) != Some(chain) {
                    return node.end_session();
                }
                if node.gate.epoch == epoch {
                    node.gate.peer_has = node.gate.peer_has.max(position.seq);
                }
            }
            Message::Cut { epoch } => {
                if is_fenced(epoch) && !self.has(Defect::CutForAnybody) {
                    return;
                }
                let store = &mut self.nodes[n].store;
                if store.leading.is_none() && store.shown < store.log.len() {
                    store.aside |= store.log.pop().map_or(0, |frame| bit(frame.id));
                }
                self.introduce(n);
            }
            Message::Rows { epoch, diverged, rows } => {
                if is_fenced(epoch) && !self.has(Defect::CutForAnybody) {
                    return;
                }
                self.install(n, diverged, rows);
            }
        }
    }

    fn show_waiting(&mut self, n: usize, upto: u64) {
        let store = &mut self.nodes[n].store;
        if store.leading.is_none() {
            store.shown = store.shown.max(store.log.len().min(usize::try_from(upto).unwrap_or(0)));
        }
    }

    fn take(
        &mut self,
        n: usize,
        (epoch, shown, seq): (u64, u64, u64),
        frame: Frame,
        before: Chain,
    ) {
        let shows_anything = self.has(Defect::ShowsAnything);
        let node = &mut self.nodes[n];
        let store = &mut node.store;
        let last = store.log.last().map_or(0, |last| last.epoch);
        let at = usize::try_from(seq).unwrap_or(0);
        let is_right = if at <= store.log.len() {
            at <= store.begins || store.log[at - 1] == frame
        } else {
            at == store.log.len() + 1 && frame.epoch >= last && before == chain(&store.log)
        };
        if store.leading.is_some() || !is_right {
            return node.end_session();
        }
        if at > store.log.len() {
            store.log.push(frame);
        }
        let mut upto = shown;
        if let Some(session) = &mut node.session {
            session.agreed = session.agreed.max(seq);
            upto = upto.min(session.agreed);
        }
        let tip = store.tip_at(store.log.len());
        self.show_waiting(n, if shows_anything { shown } else { upto });
        self.say(n, Message::Has { epoch, tip });
    }

    fn install(&mut self, n: usize, diverged: bool, rows: Vec<Frame>) {
        let takes_back = self.has(Defect::RowsTakeBack);
        let node = &mut self.nodes[n];
        let store = &mut node.store;
        if diverged {
            store.aside |= ids(&store.log);
        }
        if store.leading.is_some() {
            return node.end_session();
        }
        let gone = ids(&store.log[..store.shown]) & !ids(&rows);
        let is_past = !diverged && store.chain_at(rows.len() as u64) == Some(chain(&rows));
        let gone = if is_past && !takes_back { 0 } else { gone };
        if !is_past || takes_back {
            (store.shown, store.begins, store.log) = (rows.len(), rows.len(), rows);
        }
        let tip = store.tip_at(store.log.len());
        if let Some(session) = &mut node.session {
            session.agreed = tip.position.seq;
        }
        let epoch = node.posture.epoch;
        self.say(n, Message::Has { epoch, tip });
        if self.setup.has_witness && gone & self.acked != 0 {
            self.fault(format!("node {n} replaces acknowledged frames"));
        }
        if self.setup.has_witness && gone & !self.carried != 0 {
            self.fault(format!("node {n} replaces what it has shown"));
        }
    }

    fn check(&mut self) {
        let [a, b] = [0, 1].map(|n| ids(&self.nodes[n].store.log));
        let leading = [0, 1].map(|n| self.nodes[n].store.leading);
        if self.setup.has_witness {
            let Some(record) = self.record else { return };
            for (n, has) in [a, b].into_iter().enumerate() {
                if record.in_sync.has(STORES[n]) && self.acked & !has != 0 {
                    self.fault(format!("node {n} is in sync and lacks what was acknowledged"));
                }
                if leading[n] == Some(record.epoch) && self.acked & !has != 0 {
                    self.fault(format!("primary {n} lacks what was acknowledged"));
                }
            }
            if leading[0].is_some() && leading[0] == leading[1] {
                self.fault(format!("two primaries in epoch {:?}", leading[0]));
            }
            if self.acked & !(a | b) != 0 {
                self.fault("acknowledged frames are only set aside".to_owned());
            }
            return;
        }
        let aside = self.nodes[0].store.aside | self.nodes[1].store.aside;
        if self.acked & !(a | b | aside) != 0 {
            self.fault("acknowledged frames are nowhere".to_owned());
        }
        let are_two = leading[0].is_some() && leading[1].is_some();
        if are_two && !self.setup.acts_alone && !self.by_hand {
            self.fault("two primaries, and nobody wanted that".to_owned());
        }
    }

    /// Whether the pair is whole: one primary, both in sync, the same on both.
    pub fn is_whole(&self) -> Option<usize> {
        let primary = (0..2).find(|&n| self.nodes[n].state.role() == Role::Primary)?;
        let (first, other) = (&self.nodes[primary], &self.nodes[1 - primary]);
        let Phase::Primary(leading) = &first.state.phase else { return None };
        let record = first.state.kept.record?;
        let whole = other.state.role() == Role::Standby
            && leading.sync == Sync::Both
            && matches!(record.in_sync, InSync::Both(..))
            && first.store.leading == Some(leading.epoch)
            && other.store.leading.is_none()
            && first.serves
            && first.store.log == other.store.log
            && first.store.shown == first.store.log.len();
        whole.then_some(primary)
    }
}
