//! Which node makes requests while it is not certain who is primary.
//!
//! Messages and state need no clock, requests do: what both nodes know of, both could make. So the primary of a pair that is
//! in sync begins one only while the standby leaves them to it, and a standby that has become primary waits that long
//! before it repeats what the other may be making.
//!
//! Each sign of life names the last one that was heard. The time counts from when *that* was sent, so that delay only
//! shortens it; and the standby waits a quarter longer than it has promised, so that clocks may run at different speeds.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::machine::awake;

/// Signs of life that are remembered until they are answered.
const UNANSWERED_MAX: usize = 256;

/// See the module.
#[derive(Debug)]
pub struct Lease {
    ttl: Duration,
    state: Mutex<State>,
}

/// What is known of time: pure, for who hands it in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    /// How long the other leaves requests to this node.
    ttl: Duration,
    /// Of the last sign of life of this node.
    number: u64,
    /// Those that were not answered yet, and when they were sent.
    sent: VecDeque<(u64, Duration)>,
    /// The last one of the other node, on this link.
    heard: u64,
    heard_at: Duration,
    /// Until when the other leaves requests to this node.
    until: Duration,
    /// When it heard the last sign of life that it has answered: it leaves them to the other from then on.
    granted: Duration,
    /// It is recorded that no other node can be primary.
    is_alone: bool,
    /// From when on this node repeats what the other may have been making.
    repeats_from: Duration,
    /// Who makes requests itself leaves none to the other.
    leads: bool,
}

impl Lease {
    pub fn new(ttl: Duration) -> Self {
        // It may have left them to the other just before it was started anew.
        Self { ttl, state: Mutex::new(State::new(ttl, awake())) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There is a new link: the other may have been started anew, and counts from one.
    pub fn linked(&self) {
        self.state().linked();
    }

    /// A sign of life goes out: its number, and that of the last one heard.
    pub fn say(&self) -> (u64, u64) {
        self.state().say(awake())
    }

    /// One came: its number, and that of the one it answers.
    pub fn hear(&self, number: u64, answers: u64) {
        self.state().hear(number, answers, awake());
    }

    /// Whether it is recorded that no other node can be primary.
    pub fn alone(&self, is_alone: bool) {
        self.state().alone(is_alone);
    }

    /// This node is primary from now on; `in_doubt`: the one before it may not know yet.
    pub fn begin(&self, in_doubt: bool) {
        self.state().begin(in_doubt);
    }

    /// This node is primary no more.
    pub fn follow(&self) {
        self.state().follow();
    }

    /// Whether a request may begin.
    pub fn may_begin(&self) -> bool {
        self.state().may_begin(awake())
    }

    /// Resolves when no request may begin any more.
    pub async fn over(&self) {
        loop {
            let left = self.state().left(awake());
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(self.ttl)).await;
        }
    }

    /// How long what the other may be making is left alone.
    pub fn rest(&self) -> Duration {
        self.state().rest(awake())
    }
}

impl State {
    pub(crate) fn new(ttl: Duration, now: Duration) -> Self {
        Self {
            ttl,
            number: 0,
            sent: VecDeque::new(),
            heard: 0,
            heard_at: now,
            until: Duration::ZERO,
            granted: now,
            is_alone: false,
            repeats_from: Duration::ZERO,
            leads: false,
        }
    }

    pub(crate) fn say(&mut self, now: Duration) -> (u64, u64) {
        self.number += 1;
        self.sent.push_back((self.number, now));
        if self.sent.len() > UNANSWERED_MAX {
            self.sent.pop_front();
        }
        let answers = if self.leads { 0 } else { self.heard };
        if answers > 0 {
            self.granted = self.heard_at;
        }
        (self.number, answers)
    }

    pub(crate) fn hear(&mut self, number: u64, answers: u64, now: Duration) {
        (self.heard, self.heard_at) = (number, now);
        while let Some(&(sent, at)) = self.sent.front()
            && sent <= answers
        {
            self.sent.pop_front();
            if sent == answers {
                self.until = self.until.max(at + self.ttl);
            }
        }
    }

    pub(crate) fn begin(&mut self, in_doubt: bool) {
        self.leads = true;
        let wait = self.ttl + self.ttl / 4;
        self.repeats_from = if in_doubt { self.granted + wait } else { Duration::ZERO };
    }

    /// There is a new link.
    pub(crate) fn linked(&mut self) {
        self.heard = 0;
        self.sent.clear();
    }

    pub(crate) fn alone(&mut self, is_alone: bool) {
        self.is_alone = is_alone;
    }

    pub(crate) fn follow(&mut self) {
        (self.leads, self.is_alone) = (false, false);
    }

    /// As if it were not primary.
    #[cfg(test)]
    pub(crate) fn grants(&mut self) {
        self.leads = false;
    }

    /// How long what the other may be making is left alone.
    pub(crate) fn rest(&self, now: Duration) -> Duration {
        self.repeats_from.saturating_sub(now)
    }

    pub(crate) fn may_begin(&self, now: Duration) -> bool {
        !self.left(now).is_zero()
    }

    /// How long requests may begin from now on. A tenth is for the way from here to the wire.
    fn left(&self, now: Duration) -> Duration {
        if self.is_alone {
            return Duration::MAX;
        }
        self.until.saturating_sub(now + self.ttl / 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(1);

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn time_counts_from_when_the_answered_one_was_sent() {
        let (mut primary, mut standby) = (State::new(TTL, at(0)), State::new(TTL, at(0)));
        assert!(!primary.may_begin(at(0)), "nobody has left anything to it");
        let (first, _) = primary.say(at(100));
        standby.hear(first, 0, at(150));
        let (_, second) = (primary.say(at(200)), primary.say(at(300)));
        let (number, answers) = standby.say(at(700));
        assert_eq!(answers, first);
        primary.hear(number, answers, at(900));
        assert!(primary.may_begin(at(999)) && !primary.may_begin(at(1000)), "1100, less a tenth");
        // Late, and of one that was answered before.
        primary.hear(number, answers, at(900));
        assert!(!primary.may_begin(at(1000)));
        standby.hear(second.0, 0, at(750));
        let (number, answers) = standby.say(at(800));
        primary.hear(number, answers, at(900));
        assert!(primary.may_begin(at(1199)) && !primary.may_begin(at(1200)));

        primary.is_alone = true;
        assert!(primary.may_begin(at(9000)));
    }

    #[tokio::test]
    async fn it_is_over_when_the_other_is_not_heard_any_more() {
        let lease = Lease::new(Duration::from_millis(50));
        lease.over().await;
        let (number, _) = lease.say();
        lease.hear(1, number);
        assert!(lease.may_begin());
        lease.over().await;
        assert!(!lease.may_begin());
        lease.alone(true);
        let still = tokio::time::timeout(Duration::from_millis(200), lease.over()).await;
        assert!(still.is_err(), "there is nobody else");
    }

    #[test]
    fn who_takes_over_waits_longer_than_it_has_promised() {
        let mut standby = State::new(TTL, at(0));
        standby.hear(1, 0, at(500));
        standby.say(at(700));
        standby.say(at(1200));
        standby.begin(true);
        assert_eq!(standby.repeats_from, at(1750));
        standby.begin(false);
        assert_eq!(standby.repeats_from, Duration::ZERO);
        // Started anew: what it had said is not known.
        let mut fresh = State::new(TTL, at(5000));
        fresh.begin(true);
        assert_eq!(fresh.repeats_from, at(6250));
    }

    /// A node that had become primary went on answering, and so the one before it, that did not know yet, had time left
    /// after the new one had begun to repeat.
    #[test]
    fn who_leads_leaves_no_requests_to_the_other() {
        let (mut old, mut new) = (State::new(TTL, at(0)), State::new(TTL, at(0)));
        let (number, _) = old.say(at(200));
        new.hear(number, 0, at(200));
        new.begin(true);
        assert_eq!(new.rest(at(200)), at(1050), "it has left nothing since it was started");
        let (number, answers) = new.say(at(1000));
        old.hear(number, answers, at(1000));
        assert!(!old.may_begin(at(1000)));

        new.follow();
        assert_eq!(new.say(at(1100)).1, 1, "as a standby it does again");
    }

    /// What has come by `now` and before the link was cut: when it comes, number, answers.
    fn hear(
        lane: &mut Vec<(u64, u64, u64)>,
        state: &mut State,
        now: u64,
        cut: u64,
        clock: Duration,
    ) {
        lane.retain(|&(comes, number, answers)| {
            // What is sent on a link comes in order: an old one that comes late has been overtaken.
            if comes <= now && comes < cut && number > state.heard {
                state.hear(number, answers, clock);
            }
            comes > now
        });
    }

    /// Whatever is delayed or lost: while one may begin, the other does not repeat.
    #[test]
    fn never_both() {
        let mut random = 1_u64;
        let mut next = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) % below
        };
        let (mut held, mut taken) = (0, 0);
        for _ in 0..2000 {
            let (mut primary, mut standby) = (State::new(TTL, at(0)), State::new(TTL, at(0)));
            let (mut to_standby, mut to_primary) = (Vec::new(), Vec::new());
            let cut = next(3000);
            let mut acts = false;
            // The primary's clock may go slower, by a fifth.
            let slow = next(2) == 1;
            for now in (0..6000).step_by(50) {
                let primary_now = if slow { at(now * 4 / 5) } else { at(now) };
                if next(3) > 0 {
                    let (number, answers) = primary.say(primary_now);
                    to_standby.push((now + next(900), number, answers));
                }
                if next(3) > 0 && !acts {
                    let (number, answers) = standby.say(at(now));
                    to_primary.push((now + next(900), number, answers));
                }
                hear(&mut to_standby, &mut standby, now, cut, at(now));
                hear(&mut to_primary, &mut primary, now, cut, primary_now);
                if now >= cut + 500 && !acts {
                    acts = true;
                    standby.begin(true);
                }
                if acts && at(now) >= standby.repeats_from {
                    taken += 1;
                    assert!(!primary.may_begin(primary_now), "both at {now}");
                } else if acts && primary.may_begin(primary_now) {
                    held += 1;
                }
            }
        }
        assert!(held > 0 && taken > 0, "the wait was needed {held} times, and over {taken} times");
    }
}
