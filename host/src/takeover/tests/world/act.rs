//! What a node does, and what the witness does.

use super::{
    super::super::step::{Action, Event, Kept, Phase, Sync},
    super::node::{Frame, Needs, Store, bit, ids},
    Asked, Defect, World,
};
use crate::model::pair::{Ask, Record};

impl World {
    pub(super) fn act(&mut self, n: usize) {
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
            Action::Accept(epoch) => {
                self.nodes[n].lead(epoch);
                if !self.has(Defect::AcceptingHandles) {
                    self.nodes[n].accept();
                }
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

    pub(super) fn keep(&mut self, n: usize, kept: Kept) {
        if kept.promise < self.nodes[n].disk.promise {
            self.fault(format!("node {n} takes back its promise"));
        }
        if !self.has(Defect::PromiseForgotten) {
            self.nodes[n].disk = kept;
        }
    }

    pub(super) fn serve(&mut self, at: usize) {
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

    pub(super) fn make(&mut self, n: usize) {
        let id = self.next_id;
        self.next_id += 1;
        let node = &mut self.nodes[n];
        node.begins_epoch = false;
        node.store.log.extend(node.store.leading.map(|epoch| Frame { epoch, id }));
        node.store.is_unsynced = true;
    }

    pub(super) fn crash(&mut self, n: usize, checkpointed: bool) {
        let Store { log, shown, leading, .. } = &self.nodes[n].store;
        let half = log[*shown..].last().map_or(0, |frame| bit(frame.id));
        let is_half = self.has(Defect::HalfFrameKept) && leading.is_none();
        self.nodes[n].crash(checkpointed);
        if is_half {
            self.nodes[n].store.torn |= half;
        }
    }

    /// What it asked is not on its way any more by the time it has another disk.
    pub(super) fn wipe(&mut self, n: usize) {
        self.asks.retain(|asked| asked.node != n);
        let keeps_name = self.has(Defect::NameOutlivesData);
        self.nodes[n].wipe(keeps_name);
    }

    pub(super) fn show(&mut self, n: usize) {
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
        if node.store.leading != Some(epoch) {
            return;
        }
        self.acked |= bit(id);
        if !self.nodes[n].accepts {
            self.handled |= bit(id);
        }
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
}
