//! A primary's: whether the other node counts.

use super::{Action, Facts, Leading, Need, Phase, State, Sync};
use crate::model::pair::{Ask, InSync, Role};

/// Frames that the standby may be behind when it begins to count.
const JOIN_LAG: u64 = 64;

impl State {
    pub(super) fn keep_in_sync(
        &mut self,
        leading: &Leading,
        facts: &Facts,
        actions: &mut Vec<Action>,
    ) {
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
            // Another store has taken the place of the one that is recorded.
            (Sync::Both, Some(peer)) if !record.in_sync.has(peer.store) => {
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

    pub(super) fn set_sync(&mut self, sync: Sync) {
        if let Phase::Primary(leading) = &mut self.phase {
            leading.sync = sync;
            leading.both_since = None;
        }
    }
}
