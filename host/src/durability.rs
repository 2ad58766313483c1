//! Who has kept what: between the writer, which may not show a frame before, and the other node.
//!
//! The writer offers each frame and waits ([`Gate`] is its [`Replica`]); the link takes what was offered and says what
//! has come there.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::{sync::Notify, time::Instant};

use crate::{
    model::position::{Durability, Position},
    store::replica::{Overtaken, Pulse, Replica, Waiting},
};

/// Frames kept in memory for a standby that is almost there; one that lags reads the journal.
const OFFERED_MAX: usize = 64;
/// … and their bytes.
const OFFERED_BYTES_MAX: usize = 32 << 20;
/// How often the writer says that it is there while it waits.
const HERE: Duration = Duration::from_millis(20);

/// What a frame needs before it shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// This disk.
    One,
    /// Both disks.
    Both,
    /// It is not to show: another node may be primary.
    Never,
}

#[derive(Debug)]
struct State {
    needs: Needs,
    /// The epoch that counts.
    epoch: u64,
    /// Up to where the other node has it.
    peer_has: u64,
    /// Since when the writer waits for the other node.
    waiting_since: Option<Instant>,
    /// The last frames, for who sends them.
    offered: VecDeque<(u64, Bytes)>,
    offered_bytes: usize,
    /// The last frame that may show.
    shown: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Gate {
    state: Mutex<State>,
    /// For the writer.
    changed: Notify,
    /// For who sends frames.
    pub offered: Notify,
    /// For who decides what is needed.
    pub heard: Notify,
}

/// A look at the gate.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    pub peer_has: u64,
    pub waiting_since: Option<Instant>,
    pub shown: u64,
}

impl Default for Gate {
    fn default() -> Self {
        let state = State {
            needs: Needs::Never,
            epoch: 0,
            peer_has: 0,
            waiting_since: None,
            offered: VecDeque::new(),
            offered_bytes: 0,
            shown: 0,
        };
        Self {
            state: Mutex::new(state),
            changed: Notify::new(),
            offered: Notify::new(),
            heard: Notify::new(),
        }
    }
}

impl State {
    /// What becomes of the frame; none while it has to wait.
    fn look_at(&mut self, position: Position) -> Option<Result<Durability, Overtaken>> {
        let there = self.peer_has >= position.seq && self.epoch >= position.epoch;
        let durability = match self.needs {
            Needs::Never => Err(Overtaken),
            Needs::Both | Needs::One if there => Ok(Durability::Two),
            Needs::One => Ok(Durability::One),
            Needs::Both => {
                self.waiting_since.get_or_insert_with(Instant::now);
                return None;
            }
        };
        self.waiting_since = None;
        if durability.is_ok() {
            self.shown = position.seq;
        }
        Some(durability)
    }
}

impl Gate {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new epoch begins here, behind frame `head`.
    pub fn begin(&self, epoch: u64, head: u64) {
        let mut state = self.state();
        (state.epoch, state.peer_has, state.shown) = (epoch, 0, head);
        state.waiting_since = None;
        state.offered.clear();
        state.offered_bytes = 0;
    }

    pub fn need(&self, needs: Needs) {
        self.state().needs = needs;
        self.changed.notify_one();
    }

    /// The other node has all frames up to `seq` on disk.
    pub fn has(&self, epoch: u64, seq: u64) {
        let mut state = self.state();
        if state.epoch == epoch && state.peer_has < seq {
            state.peer_has = seq;
            drop(state);
            self.changed.notify_one();
            self.heard.notify_one();
        }
    }

    /// There is no link any more: what the other node has is to be found out anew.
    pub fn lost(&self) {
        self.state().peer_has = 0;
        self.heard.notify_one();
    }

    pub fn look(&self) -> Look {
        let state = self.state();
        let State { peer_has, waiting_since, shown, .. } = *state;
        Look { peer_has, waiting_since, shown }
    }

    /// The frame with that number, if it was offered a moment ago.
    pub fn recent(&self, seq: u64) -> Option<Bytes> {
        let state = self.state();
        let (first, _) = state.offered.front()?;
        let place = usize::try_from(seq.checked_sub(*first)?).ok()?;
        state.offered.get(place).map(|(_, frame)| frame.clone())
    }
}

impl Replica for Gate {
    fn offer(&self, position: Position, frame: Bytes) {
        let mut state = self.state();
        state.offered_bytes += frame.len();
        state.offered.push_back((position.seq, frame));
        while state.offered.len() > OFFERED_MAX
            || (state.offered.len() > 1 && state.offered_bytes > OFFERED_BYTES_MAX)
        {
            let gone = state.offered.pop_front().map_or(0, |(_, frame)| frame.len());
            state.offered_bytes -= gone;
        }
        drop(state);
        self.offered.notify_one();
    }

    fn wait<'a>(&'a self, position: Position, here: &'a Pulse) -> Waiting<'a> {
        Box::pin(async move {
            loop {
                let changed = self.changed.notified();
                let may_show = self.state().look_at(position);
                if let Some(durability) = may_show {
                    return durability;
                }
                here.beat();
                // If nothing has changed, it is looked at once more.
                tokio::time::timeout(HERE, changed).await.ok();
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::task::{JoinSet, yield_now};

    use super::*;

    fn at(seq: u64) -> Position {
        Position { epoch: 2, seq }
    }

    type Waits = JoinSet<Result<Durability, Overtaken>>;

    fn wait(waits: &mut Waits, gate: &Arc<Gate>, seq: u64) {
        let gate = gate.clone();
        waits.spawn(async move { gate.wait(at(seq), &Pulse::default()).await });
    }

    #[tokio::test]
    async fn a_frame_waits_for_what_it_needs() {
        let (gate, pulse) = (Arc::new(Gate::default()), Pulse::default());
        assert_eq!(gate.wait(at(1), &pulse).await, Err(Overtaken), "nobody leads yet");
        gate.begin(2, 6);
        gate.need(Needs::One);
        assert_eq!(gate.wait(at(7), &pulse).await, Ok(Durability::One));
        gate.need(Needs::Both);
        let mut waits = Waits::new();
        wait(&mut waits, &gate, 8);
        while gate.look().waiting_since.is_none() {
            yield_now().await;
        }
        gate.has(1, 8);
        gate.has(2, 7);
        yield_now().await;
        assert!(waits.try_join_next().is_none(), "of another epoch, and of an earlier frame");
        gate.has(2, 8);
        assert_eq!(waits.join_next().await.unwrap().unwrap(), Ok(Durability::Two));
        assert_eq!((gate.look().shown, gate.look().waiting_since), (8, None));
        wait(&mut waits, &gate, 9);
        gate.need(Needs::Never);
        assert_eq!(waits.join_next().await.unwrap().unwrap(), Err(Overtaken));
        assert_eq!(gate.look().shown, 8);
    }

    #[test]
    fn the_last_frames_are_at_hand() {
        let gate = Gate::default();
        for seq in 1..=100 {
            gate.offer(at(seq), Bytes::from(seq.to_string()));
        }
        assert_eq!(gate.recent(100).unwrap(), "100");
        assert_eq!(gate.recent(101), None);
        assert_eq!(gate.recent(100 - OFFERED_MAX as u64), None);
        assert_eq!(gate.recent(101 - OFFERED_MAX as u64).unwrap(), "37");
    }
}
