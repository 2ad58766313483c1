//! What waits in a lane and what runs: which message is next. Pure.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::{
    dispatch::order::Turn,
    model::{clock::UnixMs, message::Message},
    store::row::Ordinal,
};

/// Messages read ahead when the first of them may be handled.
pub(super) const READ_AHEAD: usize = 128;
/// Messages read ahead at most, to find one whose turn it is.
pub(super) const READ_AHEAD_MAX: usize = 4096;
/// Bytes of messages read ahead at most.
pub(super) const READ_AHEAD_BYTES: usize = 32 << 20;

/// A ready message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Waiting {
    pub ordinal: Ordinal,
    /// Attempts that were made.
    pub attempts: u32,
    pub turn: Turn,
    pub message: Message,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    /// All ready rows up to this ordinal were read.
    pub cursor: Option<Ordinal>,
    window: VecDeque<Waiting>,
    window_bytes: usize,
    /// Turns of messages that run or are held.
    taken: BTreeSet<Turn>,
    /// Messages that wait for their retry and hold back their turn.
    held: BTreeMap<(UnixMs, Ordinal), Waiting>,
    running: usize,
}

impl Queue {
    /// Takes in a row that was read behind the cursor.
    pub fn add(&mut self, waiting: Waiting, not_before_ms: UnixMs, now_ms: UnixMs) {
        self.cursor = Some(waiting.ordinal);
        if not_before_ms > now_ms {
            self.hold(waiting, not_before_ms);
        } else {
            self.window_bytes += waiting.message.content.body.len();
            self.window.push_back(waiting);
        }
    }

    /// Whether more rows should be read: none of those at hand may be handled, and there is room.
    pub fn wants_more(&self) -> bool {
        self.window.len() < READ_AHEAD_MAX
            && self.window_bytes < READ_AHEAD_BYTES
            && self.startable().is_none()
    }

    /// The next message whose turn it is.
    pub fn next(&mut self, now_ms: UnixMs) -> Option<Waiting> {
        let due = self.held.first_key_value().map(|((due_ms, _), _)| *due_ms);
        if due.is_some_and(|due_ms| due_ms <= now_ms) {
            // Its turn is taken by itself already.
            let (_, waiting) = self.held.pop_first()?;
            self.running += 1;
            return Some(waiting);
        }
        let waiting = self.window.remove(self.startable()?)?;
        self.window_bytes -= waiting.message.content.body.len();
        if waiting.turn != Turn::Free {
            self.taken.insert(waiting.turn.clone());
        }
        self.running += 1;
        Some(waiting)
    }

    pub fn has_next(&self, now_ms: UnixMs) -> bool {
        self.next_due().is_some_and(|due_ms| due_ms <= now_ms) || self.startable().is_some()
    }

    /// A message's attempt is over and it no longer holds back anything.
    pub fn finished(&mut self, turn: &Turn) {
        self.running -= 1;
        self.taken.remove(turn);
    }

    /// A message's attempt is over, and it holds back its turn until it is tried again.
    pub fn finished_holding(&mut self, waiting: Waiting, due_ms: UnixMs) {
        self.running -= 1;
        self.hold(waiting, due_ms);
    }

    /// A message's attempt does not count: it waits again in its place.
    pub fn put_back(&mut self, waiting: Waiting) {
        self.finished(&waiting.turn);
        self.window_bytes += waiting.message.content.body.len();
        let place = self.window.partition_point(|other| other.ordinal < waiting.ordinal);
        self.window.insert(place, waiting);
    }

    /// Whether nothing waits here.
    pub fn is_empty(&self) -> bool {
        self.window.is_empty() && self.held.is_empty()
    }

    pub fn running(&self) -> usize {
        self.running
    }

    /// When the first held message is due.
    pub fn next_due(&self) -> Option<UnixMs> {
        self.held.first_key_value().map(|((due_ms, _), _)| *due_ms)
    }

    fn hold(&mut self, waiting: Waiting, due_ms: UnixMs) {
        if waiting.turn != Turn::Free {
            self.taken.insert(waiting.turn.clone());
        }
        self.held.insert((due_ms, waiting.ordinal), waiting);
    }

    fn startable(&self) -> Option<usize> {
        self.window.iter().position(|waiting| !self.taken.contains(&waiting.turn))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::model::message::{Content, MessageId};

    fn waiting(ordinal: Ordinal, turn: Turn) -> Waiting {
        let content = Content {
            source: "in".parse().unwrap(),
            headers: Vec::new(),
            content_type: None,
            key: None,
            body: Bytes::from_static(b"1234"),
        };
        let message =
            Message { id: MessageId([0; 16]), solution: "s".parse().unwrap(), time_ms: 0, content };
        Waiting { ordinal, attempts: 0, turn, message }
    }

    fn key(text: &str) -> Turn {
        Turn::Key(text.into())
    }

    fn queue(turns: &[Turn]) -> Queue {
        let mut queue = Queue::default();
        for (ordinal, turn) in (1..).zip(turns) {
            queue.add(waiting(ordinal, turn.clone()), 0, 0);
        }
        queue
    }

    fn drain(queue: &mut Queue, now_ms: UnixMs) -> Vec<Ordinal> {
        std::iter::from_fn(|| queue.next(now_ms)).map(|waiting| waiting.ordinal).collect()
    }

    #[test]
    fn in_order_of_acceptance_one_at_a_time() {
        let mut queue = queue(&[Turn::Serial, Turn::Serial]);
        assert_eq!(drain(&mut queue, 0), [1]);
        assert!(queue.wants_more());
        queue.finished(&Turn::Serial);
        assert_eq!(drain(&mut queue, 0), [2]);
    }

    #[test]
    fn keys_wait_for_themselves_only() {
        let mut queue = queue(&[key("a"), key("a"), key("b"), Turn::Free, key("b"), Turn::Free]);
        assert_eq!(drain(&mut queue, 0), [1, 3, 4, 6]);
        queue.finished(&key("b"));
        assert_eq!(drain(&mut queue, 0), [5]);
        queue.finished(&Turn::Free);
        queue.finished(&key("a"));
        assert_eq!(drain(&mut queue, 0), [2]);
        assert_eq!(queue.running(), 3);
        assert_eq!(queue.window_bytes, 0);
    }

    #[test]
    fn what_is_put_back_is_in_its_place() {
        let mut queue = queue(&[key("a"), key("b"), key("a")]);
        let (first, second) = (queue.next(0).unwrap(), queue.next(0).unwrap());
        queue.put_back(second);
        queue.put_back(first);
        assert_eq!((queue.running(), queue.window_bytes), (0, 12));
        assert_eq!(drain(&mut queue, 0), [1, 2]);
    }

    #[test]
    fn a_held_message_holds_back_its_key_until_it_is_over() {
        let mut queue = queue(&[key("a"), key("a"), key("b")]);
        let first = queue.next(0).unwrap();
        queue.finished_holding(first, 50);
        assert_eq!(drain(&mut queue, 49), [3]);
        assert_eq!(queue.next_due(), Some(50));
        assert!(!queue.has_next(49) && queue.has_next(50));
        assert_eq!(drain(&mut queue, 50), [1]);
        queue.finished(&key("a"));
        assert_eq!(drain(&mut queue, 50), [2]);
    }

    #[test]
    fn a_message_that_was_held_when_the_node_stopped_is_held_again() {
        let mut queue = Queue::default();
        queue.add(waiting(1, key("a")), 100, 10);
        queue.add(waiting(2, key("a")), 0, 10);
        assert_eq!(drain(&mut queue, 99), Vec::<Ordinal>::new());
        assert_eq!(drain(&mut queue, 100), [1]);
        assert_eq!(queue.cursor, Some(2));
    }
}
