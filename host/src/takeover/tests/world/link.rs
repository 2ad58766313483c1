//! What the nodes say to each other, and what they do with it.

use super::{
    super::super::step::Event,
    super::node::{Frame, Message, bit, chain, ids},
    Defect, World,
};
use crate::model::{
    pair::{
        PairId, Role,
        talk::{Heard, Hello, PROTOCOLS, Tip},
    },
    position::{Chain, Position},
};

impl World {
    pub(super) fn say(&mut self, n: usize, message: Message) {
        if self.nodes[1 - n].session.is_some() {
            self.link[1 - n].push_back(message);
        }
    }

    pub(super) fn hello(&self, n: usize) -> Hello {
        let node = &self.nodes[n];
        Hello {
            protocols: PROTOCOLS,
            frames: 1,
            pair: PairId::default(),
            store: node.state.rules.me,
            is_main: n == 0,
            hooks: String::new(),
            program: String::new(),
            standing: node.posture,
            tips: node.store.tips(),
        }
    }

    pub(super) fn introduce(&mut self, n: usize) {
        let hello = self.hello(n);
        self.say(n, Message::Hello(hello));
    }

    pub(super) fn has_to_say(&self, n: usize) -> bool {
        let node = &self.nodes[n];
        let Some(session) = &node.session else { return false };
        session.told != Some((node.posture.role, node.posture.epoch))
            || session.is_new
            || session.feed.is_some_and(|next| self.frame_at(n, next).is_some())
    }

    pub(super) fn frame_at(&self, n: usize, seq: u64) -> Option<Frame> {
        let store = &self.nodes[n].store;
        let at = usize::try_from(seq).ok()?.checked_sub(1)?;
        store.log.get(at).copied()
    }

    pub(super) fn speak(&mut self, n: usize) {
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

    pub(super) fn plan(&mut self, n: usize) {
        let is_silent = self.has(Defect::SilentWhenLevel);
        let counts_only = self.has(Defect::LengthsCompared);
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
        if hello.standing.role.makes_frames() {
            return;
        }
        let store = &node.store;
        let is_common = |tip: &Tip| match store.chain_at(tip.position.seq) {
            Some(chain) => chain == tip.chain || counts_only,
            None => false,
        };
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
                match hello.tips.as_slice() {
                    [last, shown] if is_sure && !is_past(last) && is_past(shown) => {
                        self.say(n, Message::Cut { epoch });
                    }
                    tips => {
                        let diverged = !is_sure || !tips.iter().all(is_past);
                        self.give_rows(n, diverged);
                    }
                }
            }
        }
    }

    pub(super) fn give_rows(&mut self, n: usize, diverged: bool) {
        let node = &mut self.nodes[n];
        let rows = node.store.log[..node.store.shown].to_vec();
        if let Some(session) = &mut node.session {
            session.feed = Some(rows.len() as u64 + 1);
        }
        let epoch = node.posture.epoch;
        self.say(n, Message::Rows { epoch, diverged, rows });
    }

    pub(super) fn receive(&mut self, n: usize, message: Message) {
        let posture = self.nodes[n].posture;
        let obeys_all = self.has(Defect::OldEpochsObeyed);
        let is_fenced =
            |epoch| !obeys_all && (epoch < posture.epoch || posture.role.makes_frames());
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
                let counts_only = self.has(Defect::LengthsCompared);
                let node = &mut self.nodes[n];
                if node.store.chain_at(position.seq) != Some(chain) && !counts_only {
                    return node.end_session();
                }
                if node.gate.epoch == epoch {
                    node.gate.peer_has = node.gate.peer_has.max(position.seq);
                }
            }
            Message::Cut { epoch } => {
                if is_fenced(epoch) {
                    return;
                }
                let store = &mut self.nodes[n].store;
                if store.leading.is_none() && store.shown < store.log.len() {
                    store.aside |= store.log.pop().map_or(0, |frame| bit(frame.id));
                }
                let head = store.head();
                if let Some(session) = &mut self.nodes[n].session {
                    session.agreed = session.agreed.min(head);
                }
                self.introduce(n);
            }
            Message::Rows { epoch, rows, .. }
                if rows.last().is_some_and(|last| last.epoch > epoch)
                    && !self.has(Defect::LaterFramesTaken) =>
            {
                self.nodes[n].end_session();
            }
            Message::Rows { epoch, diverged, rows } => {
                if is_fenced(epoch) {
                    return;
                }
                self.install(n, diverged, rows);
            }
        }
    }

    pub(super) fn show_waiting(&mut self, n: usize, upto: u64) {
        let store = &mut self.nodes[n].store;
        if store.leading.is_none() {
            store.shown = store.shown.max(store.log.len().min(usize::try_from(upto).unwrap_or(0)));
        }
    }

    pub(super) fn take(
        &mut self,
        n: usize,
        (epoch, shown, seq): (u64, u64, u64),
        frame: Frame,
        before: Chain,
    ) {
        let shows_anything = self.has(Defect::ShowsAnything);
        let counts_only = self.has(Defect::LengthsCompared);
        let is_later = frame.epoch > epoch && !self.has(Defect::LaterFramesTaken);
        let node = &mut self.nodes[n];
        let store = &mut node.store;
        let last = store.log.last().map_or(0, |last| last.epoch);
        let at = usize::try_from(seq).unwrap_or(0);
        let is_right = if at <= store.log.len() {
            at <= store.begins || store.log[at - 1] == frame || counts_only
        } else {
            let follows = frame.epoch >= last && before == chain(&store.log);
            at == store.log.len() + 1 && (follows || counts_only)
        };
        if store.leading.is_some() || !is_right || is_later {
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

    pub(super) fn install(&mut self, n: usize, diverged: bool, rows: Vec<Frame>) {
        let takes_back = self.has(Defect::RowsTakeBack);
        let drops = self.has(Defect::AcceptedDropped) && self.nodes[n].state.kept.accepted;
        let again = self.has(Defect::RowsReplaceTwice);
        let node = &mut self.nodes[n];
        let store = &mut node.store;
        // Asked for twice: since the first came all that is here is the primary's.
        let is_its = node.session.as_ref().is_some_and(|session| session.agreed == store.head());
        let diverged = diverged && (!is_its || store.log.is_empty() || again);
        if diverged && !drops {
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
            store.torn = 0;
        }
        let tip = store.tip_at(store.log.len());
        if let Some(session) = &mut node.session {
            session.agreed = tip.position.seq;
        }
        let epoch = node.posture.epoch;
        self.say(n, Message::Has { epoch, tip });
        let me = self.nodes[n].state.rules.me;
        let counts = self.record.is_some_and(|record| record.in_sync.has(me));
        if self.setup.has_witness && counts && gone & self.acked != 0 {
            self.fault(format!("node {n} replaces acknowledged frames"));
        }
        if self.setup.has_witness && gone & !self.carried & !self.acked != 0 {
            self.fault(format!("node {n} replaces what it has shown"));
        }
    }
}
