//! Who is primary: what a node knows and what happened go in, what it knows then and what it does come out.
//!
//! No clock, no disk, no network: all of it is handed in, so that a model can drive this very code through every order of
//! events. The rules are in `docs/pair.md`. A record is changed only by asking for it, and what comes back late is
//! recognised by its epoch and version. Without a witness a node asks its own copy of the record.

use std::time::Duration;

use crate::model::pair::{
    Ask, InSync, Record, Role, StoreId,
    talk::{Heard, Hello, Standing},
};

mod event;
mod handover;
mod phase;
mod record;
mod sync;

pub use event::{Action, Event, Facts, Need, Told};
pub use phase::{Handover, Leading, Peer, Phase, Sync, Witness};

/// What does not change while a node runs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "what is configured is independent of each other"
)]
pub struct Rules {
    pub me: StoreId,
    pub is_main: bool,
    /// Another node has joined the pair before.
    pub has_peer: bool,
    /// Silence that counts as failure.
    pub silence: Duration,
    /// How long the primary waits for the standby to have a frame.
    pub ack_timeout: Duration,
    /// Between two asks for the same thing.
    pub ask_again: Duration,
    /// Between two looks at the witness, when there is nothing to ask of it.
    pub look: Duration,
    /// Whether the primary goes on without the standby.
    pub goes_on_alone: bool,
    /// Whether the record is asked of a witness.
    pub has_witness: bool,
    pub without_witness: WithoutWitness,
    /// How long the main server has to be in sync before it is handed its role; none: only by hand.
    pub failback_hold: Option<Duration>,
}

/// What a standby does when the primary is silent and there is no witness to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WithoutWitness {
    /// It takes over. If the primary lives and only the link is cut, both act until they meet.
    Act,
    /// It takes messages in, and leaves them to the primary or to an operator's word.
    AcceptOnly,
    /// It waits for an operator.
    Manual,
}

/// What survives a restart. On disk before anything that rests on it is done.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct Kept {
    /// Nothing below this epoch is obeyed.
    pub promise: u64,
    /// The newest record it has seen.
    pub record: Option<Record>,
    /// What the journal ends with was only accepted, beside another primary.
    #[serde(default)]
    pub accepted: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    pub rules: Rules,
    pub kept: Kept,
    pub phase: Phase,
    pub peer: Option<Peer>,
    /// When the record was last asked for, and nothing has come back.
    pub asked: Option<Duration>,
    /// The record has been read since the start.
    pub has_read: bool,
    pub witness: Witness,
    /// When the newest record became known.
    pub learned: Duration,
    /// When the witness was last looked at.
    pub looked: Duration,
    /// When roles changed by themselves.
    pub changes: Vec<Duration>,
    /// By hand, and even if something is missing.
    pub forced: bool,
    /// By hand.
    pub by_hand: bool,
}

/// What happens next.
pub fn step(mut state: State, event: Event, facts: &Facts) -> (State, Vec<Action>) {
    let mut actions = Vec::new();
    state.take(event, facts, &mut actions);
    state.go_on(facts, &mut actions);
    (state, actions)
}

impl State {
    pub fn new(rules: Rules, kept: Kept, now: Duration) -> Self {
        Self {
            rules,
            kept,
            phase: Phase::Starting { since: now },
            peer: None,
            asked: None,
            has_read: false,
            witness: Witness::Answers,
            learned: now,
            looked: now,
            changes: Vec::new(),
            forced: false,
            by_hand: false,
        }
    }

    pub fn role(&self) -> Role {
        match self.phase {
            Phase::Starting { .. } | Phase::Candidate => Role::Starting,
            Phase::Standby => Role::Standby,
            Phase::Accepting => Role::Accepting,
            Phase::Primary(_) => Role::Primary,
        }
    }

    pub fn standing(&self) -> Standing {
        let epoch = match &self.phase {
            Phase::Primary(leading) => leading.epoch,
            _ => self.kept.promise,
        };
        Standing { role: self.role(), epoch, record: self.kept.record }
    }

    /// When something is due by itself, if that can be said now: there is to be a step then.
    pub fn due(&self, facts: &Facts) -> Option<Duration> {
        let again = self.asked.map(|at| at + self.rules.ask_again);
        let silent = match &self.phase {
            Phase::Starting { since } => Some(*since + self.rules.silence),
            Phase::Standby | Phase::Accepting => {
                let heard = self.peer.as_ref().map_or(Duration::ZERO, |peer| peer.heard);
                Some(heard.saturating_add(self.rules.silence))
            }
            Phase::Candidate => None,
            Phase::Primary(_) => {
                facts.waiting_since.map(|since| since.saturating_add(self.rules.ack_timeout))
            }
        };
        [again, silent].into_iter().flatten().filter(|at| *at > facts.now).min()
    }

    fn peer_is_up(&self) -> bool {
        self.peer.as_ref().is_some_and(|peer| peer.is_up)
    }

    fn take(&mut self, event: Event, facts: &Facts, actions: &mut Vec<Action>) {
        match event {
            Event::Tick => {}
            Event::Heard(Heard::Hello(hello)) => {
                let Hello { store, is_main, standing, .. } = *hello;
                let heard = facts.now;
                let peer = Peer { store, is_main, standing, is_up: true, is_gone: false, heard };
                self.peer = Some(peer);
                self.hear(standing, facts, actions);
            }
            Event::Heard(Heard::Beat(beat)) => {
                if let Some(peer) = &mut self.peer {
                    (peer.standing, peer.heard) = (beat.standing, facts.now);
                }
                self.hear(beat.standing, facts, actions);
            }
            Event::Heard(Heard::Down { gone }) => {
                if let Some(peer) = &mut self.peer {
                    (peer.is_up, peer.is_gone) = (false, gone);
                }
            }
            Event::Recorded(answer) => self.recorded(answer, facts, actions),
            Event::Shows(epoch) => {
                if let Phase::Primary(leading) = &self.phase
                    && (leading.epoch, leading.handover) == (epoch, Handover::No)
                {
                    actions.push(Action::Serve(epoch));
                }
            }
            Event::Stopped => {
                if let Phase::Primary(leading) = &mut self.phase
                    && let Handover::Draining { since } = leading.handover
                {
                    leading.handover = Handover::Ready { since };
                }
            }
            Event::Switchover => self.switch_over(facts, actions),
            Event::Promote { force } => self.promote_by_hand(force, facts, actions),
        }
    }

    fn promote_by_hand(&mut self, force: bool, facts: &Facts, actions: &mut Vec<Action>) {
        if let Some(why) = self.promotion_lacks(force) {
            actions.push(Action::Told(Told::Refused(why)));
            return;
        }
        self.stop_accepting(actions);
        (self.forced, self.by_hand) = (force, true);
        self.asked = None;
        self.stand(true, facts, actions);
    }

    /// Why an operator cannot make this node primary.
    fn promotion_lacks(&self, force: bool) -> Option<&'static str> {
        let is_replaced = self.kept.record.is_some_and(|record| self.primary_is_replaced(&record));
        match self.phase {
            Phase::Primary(_) => Some("this node is primary"),
            _ if force => None,
            // Who accepts does not hear it, whatever the link looks like.
            Phase::Starting { .. } | Phase::Standby | Phase::Candidate
                if self.peer_is_up() && !is_replaced =>
            {
                Some("the other node is there: use `tandem pair switchover`")
            }
            _ if self.kept.record.is_none() && self.rules.has_peer => Some(
                "this node's store is new, and the other node may have everything: start that one",
            ),
            _ => None,
        }
    }

    /// A standby without a record would wait for ever: nobody has begun the pair.
    fn phase_without_role(&self, facts: &Facts) -> Phase {
        match self.kept.record {
            Some(_) => Phase::Standby,
            None => Phase::Starting { since: facts.now },
        }
    }

    /// What the other node says of itself.
    fn hear(&mut self, theirs: Standing, facts: &Facts, actions: &mut Vec<Action>) {
        self.learn(theirs.record, facts, actions);
        if theirs.epoch > self.kept.promise {
            self.kept.promise = theirs.epoch;
            actions.push(Action::Keep(self.kept));
        }
        if theirs.role != Role::Primary {
            return;
        }
        match &self.phase {
            Phase::Primary(leading) => {
                let is_theirs = theirs.epoch > leading.epoch
                    || (theirs.epoch == leading.epoch && !self.rules.is_main);
                if is_theirs {
                    self.step_down(actions);
                }
            }
            Phase::Starting { .. } | Phase::Candidate | Phase::Accepting
                if theirs.epoch >= self.kept.promise =>
            {
                self.stop_accepting(actions);
                self.phase = Phase::Standby;
                (self.forced, self.by_hand) = (false, false);
            }
            _ => {}
        }
    }

    fn step_down(&mut self, actions: &mut Vec<Action>) {
        self.phase = Phase::Standby;
        let epoch = self.kept.record.map_or(self.kept.promise, |record| record.epoch);
        self.kept.promise = self.kept.promise.max(epoch);
        actions.push(Action::Keep(self.kept));
        actions.push(Action::Follow);
        actions.push(Action::Told(Told::Demoted { epoch: self.kept.promise }));
    }

    /// The epoch is the next, so that what is accepted is this node's own should an operator make it primary. It
    /// promises nothing: the primary, and not this node, is who goes on.
    fn accept(&mut self, record: &Record, actions: &mut Vec<Action>) {
        let Some(epoch) = record.epoch.checked_add(1) else { return };
        self.phase = Phase::Accepting;
        self.kept.accepted = true;
        actions.push(Action::Keep(self.kept));
        actions.push(Action::Need(Need::One));
        actions.push(Action::Accept(epoch));
        actions.push(Action::Told(Told::Accepting));
    }

    fn stop_accepting(&mut self, actions: &mut Vec<Action>) {
        if self.phase == Phase::Accepting {
            self.phase = Phase::Standby;
            actions.push(Action::Follow);
            actions.push(Action::Told(Told::AcceptedEnough));
        }
    }

    /// What is due by itself.
    fn go_on(&mut self, facts: &Facts, actions: &mut Vec<Action>) {
        if self.rules.has_witness && facts.now >= self.looked.saturating_add(self.rules.look) {
            self.looked = facts.now;
            self.ask(Ask::Read, facts, actions);
        }
        match self.phase.clone() {
            Phase::Starting { since } => self.find_out(since, facts, actions),
            Phase::Candidate => self.stand(true, facts, actions),
            Phase::Standby | Phase::Accepting => self.watch(facts, actions),
            Phase::Primary(leading) => {
                self.keep_in_sync(&leading, facts, actions);
                self.hand_over(facts, actions);
            }
        }
    }

    fn find_out(&mut self, since: Duration, facts: &Facts, actions: &mut Vec<Action>) {
        if self.rules.has_witness && !self.has_read {
            return self.ask(Ask::Read, facts, actions);
        }
        let has_waited = facts.now >= since + self.rules.silence;
        let me = self.rules.me;
        let Some(record) = self.kept.record else {
            // Only the main server begins a pair, and only if the other knows of none. Who joined it before may have all that
            // this node has lost.
            let is_known = self.peer_is_up() || has_waited && !self.rules.has_peer;
            if self.rules.is_main && is_known {
                let epoch = self.kept.promise.max(1);
                self.ask(Ask::Begin { owner: me, epoch }, facts, actions);
            }
            return;
        };
        match (record.owner == me, record.in_sync) {
            // Also right after it began.
            (true, InSync::Only(_)) => self.stand(true, facts, actions),
            (true, InSync::Both(..)) if self.peer_is_up() => self.stand(false, facts, actions),
            (true, InSync::Both(..)) if has_waited => self.stand(true, facts, actions),
            (false, _) if has_waited => self.phase = Phase::Standby,
            (true | false, _) => {}
        }
    }

    /// Another store has taken the primary's place: that one never speaks again. Somebody has put it there, so an operator
    /// need not be waited for.
    fn primary_is_replaced(&self, record: &Record) -> bool {
        let is_neither = |peer: &Peer| ![self.rules.me, peer.store].contains(&record.owner);
        self.peer.as_ref().is_some_and(|peer| peer.is_up && is_neither(peer))
    }

    /// A standby's: is the primary there?
    fn watch(&mut self, facts: &Facts, actions: &mut Vec<Action>) {
        let Some(record) = self.kept.record else { return };
        if !record.in_sync.has(self.rules.me) {
            return;
        }
        let is_replaced = self.primary_is_replaced(&record);
        let is_silent = match &self.peer {
            Some(peer) => {
                let is_late = facts.now >= peer.heard.saturating_add(self.rules.silence);
                peer.is_gone || is_replaced || is_late
            }
            None => facts.now >= self.rules.silence,
        };
        let policy = self.rules.without_witness;
        let may = self.rules.has_witness || policy == WithoutWitness::Act || is_replaced;
        let is_led = self
            .peer
            .as_ref()
            .is_some_and(|peer| peer.is_up && peer.standing.role == Role::Primary);
        if is_silent && may {
            self.stand(true, facts, actions);
        } else if record.owner == self.rules.me && self.peer_is_up() && !is_led {
            // A handover whose news was lost.
            self.stop_accepting(actions);
            self.stand(false, facts, actions);
        } else if is_silent && policy == WithoutWitness::AcceptOnly && self.phase == Phase::Standby
        {
            self.accept(&record, actions);
        }
    }
}
