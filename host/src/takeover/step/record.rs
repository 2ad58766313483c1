//! The record: what is learned of it, what follows from it, and what is asked of it.

use std::time::Duration;

use super::{Action, Facts, Handover, Leading, Need, Phase, State, Sync, Told, Witness};
use crate::model::pair::{Ask, InSync, Record, Role};

/// No answer of the witness is on its way for longer.
const LATE: Duration = Duration::from_secs(3);

impl State {
    /// What the record is now, or that nobody answered.
    pub(super) fn recorded(
        &mut self,
        answer: Result<Option<Record>, ()>,
        facts: &Facts,
        actions: &mut Vec<Action>,
    ) {
        self.asked = None;
        let Ok(record) = answer else {
            if std::mem::replace(&mut self.witness, Witness::Silent) != Witness::Silent {
                actions.push(Action::Told(Told::WitnessSilent));
            }
            // Asked again in a while, also for another's sake.
            self.asked = Some(facts.now);
            return self.give_up_unrecorded(facts, actions);
        };
        self.has_read = true;
        let place = |record: Record| (record.epoch, record.version);
        // Else it may have been asked before.
        let has_forgotten = facts.now >= self.learned.saturating_add(LATE)
            && record.map(place) < self.kept.record.map(place);
        let now = if has_forgotten { Witness::Forgot } else { Witness::Answers };
        if std::mem::replace(&mut self.witness, now) != now && has_forgotten {
            actions.push(Action::Told(Told::WitnessForgot));
        }
        self.learn(record, facts, actions);
        if has_forgotten {
            self.give_up_unrecorded(facts, actions);
        }
        if record.is_none() && has_forgotten {
            self.begin_anew(facts, actions);
        }
        if matches!(self.phase, Phase::Candidate) {
            // Refused: somebody was faster, or this node lacks something.
            self.phase = self.phase_without_role(facts);
            (self.forced, self.by_hand) = (false, false);
        }
    }

    /// A record, wherever it comes from, if it is newer than the one that is known.
    pub(super) fn learn(
        &mut self,
        record: Option<Record>,
        facts: &Facts,
        actions: &mut Vec<Action>,
    ) {
        let Some(record) = record else { return };
        if self.kept.record.is_some_and(|known| !self.outranks(&record, &known)) {
            return;
        }
        let was_mine = self.kept.record.is_some_and(|known| known.owner == self.rules.me);
        self.kept.record = Some(record);
        self.learned = facts.now;
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
                self.step_down(actions);
            }
            _ if own && record.epoch > self.kept.promise => {
                // With both in sync it was handed over, or this node goes on after a restart: nobody else was primary. Who
                // seems to be gone may be behind a wall that answers for it.
                let in_doubt = !was_mine && matches!(record.in_sync, InSync::Only(_));
                self.promote(&record, in_doubt, facts, actions);
            }
            _ => {
                self.kept.promise = self.kept.promise.max(record.epoch);
                // Only who has looked what this node has changes who is in sync.
                let is_looked_at = record.version > 0 && record.in_sync.has(self.rules.me);
                self.kept.accepted &= !is_looked_at;
                actions.push(Action::Keep(self.kept));
            }
        }
    }

    pub(super) fn outranks(&self, record: &Record, known: &Record) -> bool {
        if record.epoch == known.epoch && record.owner != known.owner {
            // Without a witness both may have begun the same epoch: the main server's record counts, whatever its
            // version.
            return (record.owner == self.rules.me) == self.rules.is_main;
        }
        record.is_newer_than(known)
    }

    pub(super) fn promote(
        &mut self,
        record: &Record,
        in_doubt: bool,
        facts: &Facts,
        actions: &mut Vec<Action>,
    ) {
        let both = matches!(record.in_sync, InSync::Both(..));
        let epoch = record.epoch;
        self.stop_accepting(actions);
        self.kept.promise = epoch;
        self.kept.accepted = false;
        if in_doubt && !self.by_hand {
            self.changes.push(facts.now);
        }
        (self.forced, self.by_hand) = (false, false);
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

    /// Asks for a change of the record, unless an answer to the last ask may still come.
    pub(super) fn ask(&mut self, ask: Ask, facts: &Facts, actions: &mut Vec<Action>) {
        if self.asked.is_some_and(|at| facts.now < at + self.rules.ask_again) {
            return;
        }
        self.asked = Some(facts.now);
        actions.push(Action::Ask(ask));
    }

    /// Asks to become primary.
    pub(super) fn stand(&mut self, alone: bool, facts: &Facts, actions: &mut Vec<Action>) {
        let seen_epoch = self.kept.record.map_or(0, |record| record.epoch);
        self.phase = Phase::Candidate;
        let candidate = self.rules.me;
        let ask = if self.rules.is_main && self.kept.record.is_none() && self.forced {
            Ask::Begin { owner: candidate, epoch: self.kept.promise.max(1) }
        } else if self.forced {
            Ask::Seize { candidate, seen_epoch }
        } else {
            Ask::Acquire { candidate, seen_epoch, alone }
        };
        self.ask(ask, facts, actions);
    }

    /// The witness was emptied. While both nodes see each other no third can be primary, so the pair begins anew, beyond
    /// every epoch that there was; the stages go on through that.
    pub(super) fn begin_anew(&mut self, facts: &Facts, actions: &mut Vec<Action>) {
        let (Phase::Primary(leading), Some(peer)) = (&self.phase, &self.peer) else { return };
        let is_calm = leading.handover == Handover::No && leading.sync == Sync::Both;
        if is_calm && peer.is_up && peer.standing.role == Role::Standby {
            let epoch = self.kept.promise.max(peer.standing.epoch).saturating_add(1);
            self.ask(Ask::Begin { owner: self.rules.me, epoch }, facts, actions);
        }
    }
}
