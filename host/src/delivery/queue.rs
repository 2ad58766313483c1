//! Which effect goes out next. Pure: effects, times and results in; keys out.
//!
//! An effect waits for its time, then for its turn in its lane (if it has one), then for a place at its target. A slow
//! target fills its own places only. The place is free when the request is over; the effect is over when that is on
//! disk, and only then has the next of its lane its turn.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use super::attempt::Next;
use crate::{
    model::clock::UnixMs,
    store::row::{SolutionNo, outbox::OutboxKey},
};

/// Effects of one solution that go out one after the other.
type LaneKey = (SolutionNo, String);

/// What the queue knows of an effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Effect {
    pub origin: Arc<str>,
    pub lane: Option<LaneKey>,
}

#[derive(Debug)]
pub(super) struct Queue {
    concurrency: usize,
    per_target: usize,
    known: BTreeMap<OutboxKey, Effect>,
    /// Not before their time.
    due: BTreeSet<(UnixMs, OutboxKey)>,
    /// Behind the first of their lane, in order, each with its time. A lane without entries is removed.
    lanes: BTreeMap<LaneKey, VecDeque<(OutboxKey, UnixMs)>>,
    /// Ready to go, by target. A target without waiting and running ones is removed.
    targets: BTreeMap<Arc<str>, Target>,
    /// Effects that hold a place.
    sending: BTreeSet<OutboxKey>,
    /// Targets that have both a waiting effect and a free place, in turn.
    turn: VecDeque<Arc<str>>,
}

#[derive(Debug, Default)]
struct Target {
    waiting: VecDeque<OutboxKey>,
    running: usize,
    in_turn: bool,
}

impl Queue {
    pub fn new(concurrency: usize, per_target: usize) -> Self {
        Self {
            concurrency: concurrency.max(1),
            per_target: per_target.max(1),
            known: BTreeMap::new(),
            due: BTreeSet::new(),
            lanes: BTreeMap::new(),
            targets: BTreeMap::new(),
            sending: BTreeSet::new(),
            turn: VecDeque::new(),
        }
    }

    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Takes in an effect. Effects of a lane are added in their order.
    pub fn add(&mut self, key: OutboxKey, effect: Effect, due_ms: UnixMs) {
        let lane = effect.lane.clone();
        if self.known.insert(key, effect).is_some() {
            return;
        }
        if let Some(lane) = lane {
            let lane = self.lanes.entry(lane).or_default();
            lane.push_back((key, due_ms));
            if lane.len() > 1 {
                return;
            }
        }
        self.due.insert((due_ms, key));
    }

    /// The next effect to send, if one may go now.
    pub fn next(&mut self, now_ms: UnixMs) -> Option<OutboxKey> {
        while let Some(&(due_ms, key)) = self.due.first()
            && due_ms <= now_ms
        {
            self.due.pop_first();
            self.ready(key);
        }
        if self.sending.len() >= self.concurrency {
            return None;
        }
        let origin = self.turn.pop_front()?;
        let target = self.targets.get_mut(&origin)?;
        let key = target.waiting.pop_front()?;
        target.running += 1;
        self.sending.insert(key);
        target.in_turn = !target.waiting.is_empty() && target.running < self.per_target;
        if target.in_turn {
            self.turn.push_back(origin);
        }
        Some(key)
    }

    /// How long until an effect that waits for its time is due; none if there is none.
    pub fn sleep(&self, now_ms: UnixMs) -> Option<Duration> {
        self.due.first().map(|(due_ms, _)| Duration::from_millis(due_ms.saturating_sub(now_ms)))
    }

    /// The request is over, whatever came of it: its place is free.
    pub fn answered(&mut self, key: OutboxKey) {
        if !self.sending.remove(&key) {
            return;
        }
        if let Some(origin) = self.known.get(&key).map(|effect| effect.origin.clone()) {
            self.leave_target(&origin);
        }
    }

    /// What came of the attempt is on disk.
    pub fn finished(&mut self, key: OutboxKey, next: Next) {
        self.answered(key);
        let Some(effect) = self.known.get(&key).cloned() else { return };
        match next {
            Next::Again { due_ms } => drop(self.due.insert((due_ms, key))),
            Next::Over => {
                self.known.remove(&key);
                self.advance_lane(effect.lane);
            }
        }
    }

    fn ready(&mut self, key: OutboxKey) {
        let Some(effect) = self.known.get(&key) else { return };
        let origin = effect.origin.clone();
        let target = self.targets.entry(origin.clone()).or_default();
        target.waiting.push_back(key);
        self.take_turn(&origin);
    }

    fn take_turn(&mut self, origin: &Arc<str>) {
        let Some(target) = self.targets.get_mut(origin) else { return };
        if !target.in_turn && !target.waiting.is_empty() && target.running < self.per_target {
            target.in_turn = true;
            self.turn.push_back(origin.clone());
        }
    }

    fn leave_target(&mut self, origin: &Arc<str>) {
        let Some(target) = self.targets.get_mut(origin) else { return };
        target.running -= 1;
        if target.running == 0 && target.waiting.is_empty() {
            self.targets.remove(origin);
        } else {
            self.take_turn(origin);
        }
    }

    /// The first of the lane is over: the next has its turn.
    fn advance_lane(&mut self, lane: Option<LaneKey>) {
        let Some(lane) = lane else { return };
        let Some(waiting) = self.lanes.get_mut(&lane) else { return };
        waiting.pop_front();
        match waiting.front() {
            Some(&(key, due_ms)) => drop(self.due.insert((due_ms, key))),
            None => drop(self.lanes.remove(&lane)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(ordinal: u64) -> OutboxKey {
        OutboxKey { ordinal, index: 0 }
    }

    fn to(origin: &str) -> Effect {
        Effect { origin: origin.into(), lane: None }
    }

    fn ordered(origin: &str, lane: &str) -> Effect {
        Effect { origin: origin.into(), lane: Some((1, lane.into())) }
    }

    fn drain(queue: &mut Queue, now_ms: UnixMs) -> Vec<u64> {
        std::iter::from_fn(|| queue.next(now_ms)).map(|key| key.ordinal).collect()
    }

    #[test]
    fn a_slow_target_fills_its_own_places_only() {
        let mut queue = Queue::new(4, 2);
        (1..=10).for_each(|n| queue.add(key(n), to("slow"), 0));
        (11..=13).for_each(|n| queue.add(key(n), to("quick"), 0));
        assert_eq!(drain(&mut queue, 0), [1, 11, 2, 12]);
        queue.finished(key(11), Next::Over);
        assert_eq!(drain(&mut queue, 0), [13]);
        queue.finished(key(12), Next::Over);
        queue.finished(key(13), Next::Over);
        assert_eq!(drain(&mut queue, 0), Vec::<u64>::new());
        queue.finished(key(1), Next::Over);
        assert_eq!(drain(&mut queue, 0), [3]);
    }

    #[test]
    fn a_lane_goes_one_after_the_other_also_through_retries() {
        let mut queue = Queue::new(10, 10);
        (1..=3).for_each(|n| queue.add(key(n), ordered("t", "l"), 0));
        queue.add(key(4), ordered("t", "other"), 0);
        assert_eq!(drain(&mut queue, 0), [1, 4]);
        queue.finished(key(1), Next::Again { due_ms: 50 });
        assert_eq!(drain(&mut queue, 49), Vec::<u64>::new());
        assert_eq!(queue.sleep(20), Some(Duration::from_millis(30)));
        assert_eq!(drain(&mut queue, 50), [1]);
        queue.finished(key(1), Next::Over);
        assert_eq!(drain(&mut queue, 50), [2]);
        queue.finished(key(2), Next::Over);
        assert_eq!(drain(&mut queue, 50), [3]);
        queue.finished(key(3), Next::Over);
        queue.finished(key(4), Next::Over);
        assert_eq!(queue.len(), 0);
        assert!(queue.lanes.is_empty() && queue.targets.is_empty() && queue.due.is_empty());
    }

    #[test]
    fn a_place_is_free_when_the_answer_is_there_but_a_lane_waits_for_the_disk() {
        let mut queue = Queue::new(1, 1);
        queue.add(key(1), ordered("t", "l"), 0);
        queue.add(key(2), ordered("t", "l"), 0);
        queue.add(key(3), to("t"), 0);
        assert_eq!(drain(&mut queue, 0), [1]);
        queue.answered(key(1));
        queue.answered(key(1));
        assert_eq!(drain(&mut queue, 0), [3]);
        queue.answered(key(3));
        assert_eq!(drain(&mut queue, 0), Vec::<u64>::new());
        queue.finished(key(1), Next::Over);
        assert_eq!(drain(&mut queue, 0), [2]);
    }

    #[test]
    fn effects_wait_for_their_time() {
        let mut queue = Queue::new(1, 1);
        queue.add(key(1), to("a"), 100);
        queue.add(key(2), to("b"), 0);
        assert_eq!(drain(&mut queue, 99), [2]);
        assert_eq!(drain(&mut queue, 100), Vec::<u64>::new(), "no place is free");
        queue.finished(key(2), Next::Over);
        assert_eq!(drain(&mut queue, 100), [1]);
    }
}
