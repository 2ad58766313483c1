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

/// What does not change while a node runs.
#[expect(clippy::struct_excessive_bools, reason = "each is a line of the configuration")]
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rules {
    pub me: StoreId,
    pub is_main: bool,
    /// Silence that counts as failure.
    pub silence: Duration,
    /// How long the primary waits for the standby to have a frame.
    pub ack_timeout: Duration,
    /// Between two asks for the same thing.
    pub ask_again: Duration,
    /// Whether the primary goes on without the standby.
    pub goes_on_alone: bool,
    /// Whether the record is asked of a witness.
    pub has_witness: bool,
    /// Without one: whether a standby takes over by itself.
    pub acts_alone: bool,
    /// How long the main server has to be in sync before it is handed its role; none: only by hand.
    pub failback_hold: Option<Duration>,
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
}

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
    InSync,
    Alone,
    WitnessSilent,
    HandingOver,
    /// Too many changes of role by themselves: from now on by hand.
    Flapping,
    Refused(&'static str),
}

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
    pub witness_silent: bool,
    /// When roles changed by themselves.
    pub changes: Vec<Duration>,
    /// By hand, and even if something is missing.
    pub forced: bool,
}

/// Frames that the standby may be behind when it begins to count.
const JOIN_LAG: u64 = 64;
/// Changes of role by themselves in [`CHANGES_WINDOW`].
const CHANGES_MAX: usize = 3;
const CHANGES_WINDOW: Duration = Duration::from_hours(1);
/// How long a handover may take before it is given up.
const DRAIN: Duration = Duration::from_secs(30);

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
            witness_silent: false,
            changes: Vec::new(),
            forced: false,
        }
    }

    pub fn role(&self) -> Role {
        match self.phase {
            Phase::Starting { .. } | Phase::Candidate => Role::Starting,
            Phase::Standby => Role::Standby,
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
            Event::Recorded(answer) => {
                self.asked = None;
                let Ok(record) = answer else {
                    if !std::mem::replace(&mut self.witness_silent, true) {
                        actions.push(Action::Told(Told::WitnessSilent));
                    }
                    // Asked again in a while, also for another's sake.
                    self.asked = Some(facts.now);
                    return;
                };
                (self.has_read, self.witness_silent) = (true, false);
                self.learn(record, facts, actions);
                if matches!(self.phase, Phase::Candidate) {
                    // Refused: somebody was faster, or this node lacks something.
                    self.phase = self.phase_without_role(facts);
                    self.forced = false;
                }
            }
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
            Event::Promote { force } => match self.phase {
                Phase::Primary(_) => {
                    actions.push(Action::Told(Told::Refused("this node is primary")));
                }
                _ if self.peer_is_up() && !force => {
                    let why = "the other node is there: use `tandem pair switchover`";
                    actions.push(Action::Told(Told::Refused(why)));
                }
                _ => {
                    self.forced = force;
                    self.asked = None;
                    self.stand(true, facts, actions);
                }
            },
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
                    self.step_down(facts, actions);
                }
            }
            Phase::Starting { .. } | Phase::Candidate if theirs.epoch >= self.kept.promise => {
                self.phase = Phase::Standby;
                self.forced = false;
            }
            _ => {}
        }
    }

    /// A record, wherever it comes from, if it is newer than the one that is known.
    fn learn(&mut self, record: Option<Record>, facts: &Facts, actions: &mut Vec<Action>) {
        let Some(record) = record else { return };
        if self.kept.record.is_some_and(|known| !self.outranks(&record, &known)) {
            return;
        }
        let is_mine = |known: &Record| known.owner == self.rules.me;
        let was_mine = self.kept.record.as_ref().is_some_and(is_mine);
        self.kept.record = Some(record);
        let own = record.owner == self.rules.me;
        match &mut self.phase {
            Phase::Primary(leading) if record.epoch == leading.epoch && own => {
                let (before, both) = (leading.sync, matches!(record.in_sync, InSync::Both(..)));
                leading.sync = if both { Sync::Both } else { Sync::Alone };
                leading.both_since = both.then_some(facts.now);
                actions.push(Action::Keep(self.kept));
                actions.push(Action::Need(if both { Need::Both } else { Need::One }));
                if before != leading.sync {
                    actions.push(Action::Told(if both { Told::InSync } else { Told::Alone }));
                }
            }
            Phase::Primary(leading) if record.epoch >= leading.epoch && !own => {
                self.step_down(facts, actions);
            }
            _ if own && record.epoch > self.kept.promise => {
                let is_gone = self.peer.as_ref().is_some_and(|peer| peer.is_gone);
                // With both in sync it was handed over, or this node goes on after a restart: nobody else was primary.
                let in_doubt = !was_mine && !is_gone && matches!(record.in_sync, InSync::Only(_));
                self.promote(&record, in_doubt, facts, actions);
            }
            _ => {
                self.kept.promise = self.kept.promise.max(record.epoch);
                actions.push(Action::Keep(self.kept));
            }
        }
    }

    fn outranks(&self, record: &Record, known: &Record) -> bool {
        if record.epoch == known.epoch && record.owner != known.owner {
            // Without a witness both may have begun the same epoch: the main server's record counts, whatever its
            // version.
            return (record.owner == self.rules.me) == self.rules.is_main;
        }
        record.is_newer_than(known)
    }

    fn promote(
        &mut self,
        record: &Record,
        in_doubt: bool,
        facts: &Facts,
        actions: &mut Vec<Action>,
    ) {
        let both = matches!(record.in_sync, InSync::Both(..));
        let epoch = record.epoch;
        self.kept.promise = epoch;
        self.forced = false;
        self.phase = Phase::Primary(Leading {
            epoch,
            sync: if both { Sync::Both } else { Sync::Alone },
            both_since: both.then_some(facts.now),
            handover: Handover::No,
        });
        actions.push(Action::Keep(self.kept));
        actions.push(Action::Need(if both { Need::Both } else { Need::One }));
        actions.push(Action::Lead { epoch, in_doubt });
        actions.push(Action::Told(Told::Promoted { epoch, alone: !both }));
    }

    fn step_down(&mut self, _: &Facts, actions: &mut Vec<Action>) {
        self.phase = Phase::Standby;
        let epoch = self.kept.record.map_or(self.kept.promise, |record| record.epoch);
        self.kept.promise = self.kept.promise.max(epoch);
        actions.push(Action::Keep(self.kept));
        actions.push(Action::Follow);
        actions.push(Action::Told(Told::Demoted { epoch: self.kept.promise }));
    }

    /// Asks for a change of the record, unless an answer to the last ask may still come.
    fn ask(&mut self, ask: Ask, facts: &Facts, actions: &mut Vec<Action>) {
        if self.asked.is_some_and(|at| facts.now < at + self.rules.ask_again) {
            return;
        }
        self.asked = Some(facts.now);
        actions.push(Action::Ask(ask));
    }

    /// Asks to become primary.
    fn stand(&mut self, alone: bool, facts: &Facts, actions: &mut Vec<Action>) {
        let seen_epoch = self.kept.record.map_or(0, |record| record.epoch);
        self.phase = Phase::Candidate;
        let candidate = self.rules.me;
        let ask = if self.forced {
            Ask::Seize { candidate, seen_epoch }
        } else {
            Ask::Acquire { candidate, seen_epoch, alone }
        };
        self.ask(ask, facts, actions);
    }

    fn switch_over(&mut self, facts: &Facts, actions: &mut Vec<Action>) {
        let Phase::Primary(leading) = &mut self.phase else {
            return actions.push(Action::Told(Told::Refused("only a primary can hand over")));
        };
        if leading.sync != Sync::Both {
            return actions.push(Action::Told(Told::Refused("the other node is not in sync")));
        }
        if leading.handover == Handover::No {
            leading.handover = Handover::Draining { since: facts.now };
            actions.push(Action::Told(Told::HandingOver));
            actions.push(Action::Drain);
        }
    }

    /// What is due by itself.
    fn go_on(&mut self, facts: &Facts, actions: &mut Vec<Action>) {
        match self.phase.clone() {
            Phase::Starting { since } => self.find_out(since, facts, actions),
            Phase::Candidate => self.stand(true, facts, actions),
            Phase::Standby => self.watch(facts, actions),
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
            // Only the main server begins a pair, and only if the other knows of none.
            if self.rules.is_main && (self.peer_is_up() || has_waited) {
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

    /// A standby's: is the primary there?
    fn watch(&mut self, facts: &Facts, actions: &mut Vec<Action>) {
        let Some(record) = self.kept.record else { return };
        if !record.in_sync.has(self.rules.me) {
            return;
        }
        let is_silent = match &self.peer {
            Some(peer) => {
                peer.is_gone || facts.now >= peer.heard.saturating_add(self.rules.silence)
            }
            None => facts.now >= self.rules.silence,
        };
        let may = self.rules.has_witness || self.rules.acts_alone;
        let is_led = self
            .peer
            .as_ref()
            .is_some_and(|peer| peer.is_up && peer.standing.role == Role::Primary);
        if is_silent && may {
            self.changes.push(facts.now);
            self.stand(true, facts, actions);
        } else if record.owner == self.rules.me && self.peer_is_up() && !is_led {
            // A handover whose news was lost.
            self.stand(false, facts, actions);
        }
    }

    fn keep_in_sync(&mut self, leading: &Leading, facts: &Facts, actions: &mut Vec<Action>) {
        let Some(record) = self.kept.record else { return };
        let (owner, epoch, version) = (self.rules.me, leading.epoch, record.version);
        let overdue = facts
            .waiting_since
            .is_some_and(|since| facts.now >= since.saturating_add(self.rules.ack_timeout));
        let peer = self.peer.as_ref().filter(|peer| peer.is_up && !overdue);
        let only = Ask::SetInSync { owner, epoch, version, in_sync: InSync::Only(owner) };
        match (leading.sync, peer) {
            (Sync::Alone, Some(peer))
                if peer.standing.role == Role::Standby
                    && facts.peer_has > 0
                    && facts.peer_has.saturating_add(JOIN_LAG) >= facts.head =>
            {
                self.set_sync(Sync::Joining { from: None, asked: false });
                actions.push(Action::Need(Need::Both));
            }
            (Sync::Joining { from: None, asked }, Some(_)) => {
                self.set_sync(Sync::Joining { from: Some(facts.head), asked });
            }
            (Sync::Joining { from: Some(from), .. }, Some(peer)) if facts.peer_has >= from => {
                let in_sync = InSync::Both(owner, peer.store);
                self.set_sync(Sync::Joining { from: Some(from), asked: true });
                self.ask(Ask::SetInSync { owner, epoch, version, in_sync }, facts, actions);
            }
            (Sync::Joining { asked: false, .. }, None) => {
                self.set_sync(Sync::Alone);
                actions.push(Action::Need(Need::One));
            }
            // Whether that is recorded by now is not known.
            (Sync::Joining { asked: true, .. }, None) | (Sync::Shrinking, _) => {
                self.set_sync(Sync::Shrinking);
                self.ask(only, facts, actions);
            }
            (Sync::Both, None) if self.rules.goes_on_alone => {
                self.set_sync(Sync::Shrinking);
                self.asked = None;
                self.ask(only, facts, actions);
            }
            _ => {}
        }
    }

    fn set_sync(&mut self, sync: Sync) {
        if let Phase::Primary(leading) = &mut self.phase {
            leading.sync = sync;
            leading.both_since = None;
        }
    }

    fn hand_over(&mut self, facts: &Facts, actions: &mut Vec<Action>) {
        let Phase::Primary(leading) = self.phase.clone() else { return };
        let (Some(peer), Some(record)) = (self.peer.clone(), self.kept.record) else { return };
        match leading.handover {
            Handover::No => {
                let due = self
                    .rules
                    .failback_hold
                    .zip(leading.both_since)
                    .is_some_and(|(hold, since)| facts.now >= since.saturating_add(hold));
                if due && peer.is_main && !self.rules.is_main && peer.is_up {
                    self.fail_back(facts, actions);
                }
            }
            _ if leading.sync != Sync::Both => self.give_up_handover(facts, actions),
            // Also if nobody answers who keeps the record. Should it have been changed nevertheless, then nothing shows
            // here that the other node does not have, and the next answer makes this one step down.
            Handover::Draining { since } | Handover::Ready { since }
                if facts.now >= since + DRAIN =>
            {
                self.give_up_handover(facts, actions);
            }
            Handover::Ready { .. } if facts.peer_has >= facts.head => {
                let Leading { epoch, .. } = leading;
                let (owner, version, to) = (self.rules.me, record.version, peer.store);
                self.ask(Ask::Transfer { owner, epoch, version, to }, facts, actions);
            }
            Handover::Draining { .. } | Handover::Ready { .. } => {}
        }
    }

    /// The handover that the main server gets by itself.
    fn fail_back(&mut self, facts: &Facts, actions: &mut Vec<Action>) {
        let since = facts.now.saturating_sub(CHANGES_WINDOW);
        self.changes.retain(|at| *at >= since);
        if self.changes.len() >= CHANGES_MAX {
            self.rules.failback_hold = None;
            actions.push(Action::Told(Told::Flapping));
            return;
        }
        self.changes.push(facts.now);
        self.switch_over(facts, actions);
    }

    fn give_up_handover(&mut self, facts: &Facts, actions: &mut Vec<Action>) {
        if let Phase::Primary(leading) = &mut self.phase {
            leading.handover = Handover::No;
            // Not at once again, but again.
            leading.both_since = (leading.sync == Sync::Both).then_some(facts.now);
            actions.push(Action::Confirm(leading.epoch));
        }
    }
}
