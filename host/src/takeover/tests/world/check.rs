//! What must hold after each step.

use super::{
    super::super::step::{Phase, Sync, WithoutWitness},
    World,
};
use crate::model::pair::{InSync, Role};

impl World {
    pub(super) fn check(&mut self) {
        let [a, b] = [0, 1].map(|n| self.nodes[n].store.has());
        let leading = [0, 1].map(|n| self.nodes[n].store.leading);
        if self.setup.has_witness {
            let Some(record) = self.record else { return };
            for (n, has) in [a, b].into_iter().enumerate() {
                if record.in_sync.has(self.nodes[n].state.rules.me) && self.acked & !has != 0 {
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
        if self.setup.without_witness == WithoutWitness::Act || self.by_hand {
            return;
        }
        if (0..2).all(|n| leading[n].is_some() && !self.nodes[n].accepts) {
            self.fault("two primaries, and nobody wanted that".to_owned());
        }
        if self.handled & !(a | b) != 0 {
            self.fault("what was handled gave way to what was only accepted".to_owned());
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
            && record.in_sync.has(other.state.rules.me)
            && first.store.leading == Some(leading.epoch)
            && other.store.leading.is_none()
            && first.serves
            && first.store.log == other.store.log
            && first.store.shown == first.store.log.len();
        whole.then_some(primary)
    }
}
