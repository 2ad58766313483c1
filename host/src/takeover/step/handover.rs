//! A primary's: the other node is to be primary, by hand or because it is the main server.

use std::time::Duration;

use super::{Action, Facts, Handover, Leading, Phase, State, Sync, Told, Witness};
use crate::model::pair::Ask;

/// Changes of role by themselves in [`CHANGES_WINDOW`].
const CHANGES_MAX: usize = 3;
const CHANGES_WINDOW: Duration = Duration::from_hours(1);
/// How long a handover may take before it is given up.
const DRAIN: Duration = Duration::from_secs(30);

impl State {
    /// Why this node cannot hand over as things are.
    pub fn handover_lacks(&self) -> Option<&'static str> {
        match &self.phase {
            Phase::Primary(leading) if leading.sync != Sync::Both => {
                Some("the other node is not in sync")
            }
            // The stages would stop for nothing.
            Phase::Primary(_) if self.rules.has_witness && self.witness != Witness::Answers => {
                Some("the witness, which has to record it, does not answer as it should")
            }
            Phase::Primary(_) => None,
            _ => Some("this node is not primary"),
        }
    }

    pub(super) fn switch_over(&mut self, facts: &Facts, actions: &mut Vec<Action>) {
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

    pub(super) fn hand_over(&mut self, facts: &Facts, actions: &mut Vec<Action>) {
        let Phase::Primary(leading) = self.phase.clone() else { return };
        let (Some(peer), Some(record)) = (self.peer.clone(), self.kept.record) else { return };
        match leading.handover {
            Handover::No => {
                let due = self
                    .rules
                    .failback_hold
                    .zip(leading.both_since)
                    .is_some_and(|(hold, since)| facts.now >= since.saturating_add(hold));
                let is_wanted = due && peer.is_main && !self.rules.is_main && peer.is_up;
                match self.handover_lacks() {
                    None if is_wanted => self.fail_back(facts, actions),
                    // Does it still not answer?
                    Some(_) if is_wanted => self.ask(Ask::Read, facts, actions),
                    _ => {}
                }
            }
            _ if leading.sync != Sync::Both => self.give_up_handover(facts, actions),
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
    pub(super) fn fail_back(&mut self, facts: &Facts, actions: &mut Vec<Action>) {
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

    /// Nobody answers who keeps the record, or it is not what it was. Should it have been changed nevertheless, then nothing
    /// shows here that the other node does not have, and the next answer makes this one step down.
    pub(super) fn give_up_unrecorded(&mut self, facts: &Facts, actions: &mut Vec<Action>) {
        if let Phase::Primary(leading) = &self.phase
            && matches!(leading.handover, Handover::Ready { .. })
        {
            self.give_up_handover(facts, actions);
        }
    }

    pub(super) fn give_up_handover(&mut self, facts: &Facts, actions: &mut Vec<Action>) {
        if let Phase::Primary(leading) = &mut self.phase {
            leading.handover = Handover::No;
            // Not at once again, but again.
            leading.both_since = (leading.sync == Sync::Both).then_some(facts.now);
            actions.push(Action::Confirm(leading.epoch));
        }
    }
}
