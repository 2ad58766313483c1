//! A solution whose messages fail one after another is left alone for a while. Pure.

use std::time::Duration;

use crate::{
    model::{clock::UnixMs, outcome::Outcome},
    store::row::breaker::BreakerRow,
};

/// The first pause; it doubles each time the message that is tried after it fails too …
const FIRST_PAUSE: Duration = Duration::from_secs(10);
/// … up to this.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);

/// What an attempt says about the solution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    /// It works, even if it rejected the message.
    Works,
    Fails,
}

pub(super) fn sign(outcome: &Outcome) -> Sign {
    match outcome {
        Outcome::Done { .. } | Outcome::Rejected { .. } => Sign::Works,
        _ => Sign::Fails,
    }
}

/// The breaker of one solution; what of it must survive a restart is its row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Breaker {
    row: BreakerRow,
    /// Whether the row has changed in a way worth writing: it opened, or closed again.
    changed: bool,
}

impl Breaker {
    pub fn new(row: BreakerRow) -> Self {
        Self { row, changed: false }
    }

    /// Until when handling is paused, if it is. A pause longer than any began on a clock that was ahead.
    pub fn paused_until(&self, now_ms: UnixMs) -> Option<UnixMs> {
        let longest_ms = now_ms.saturating_add(pause(u32::MAX));
        (now_ms < self.row.until_ms && self.row.until_ms <= longest_ms).then_some(self.row.until_ms)
    }

    /// After a pause one message is tried before the others.
    pub fn is_trying(&self) -> bool {
        self.row.opened > 0
    }

    /// Takes in how an attempt went. `threshold` 0 never opens.
    pub fn note(&mut self, sign: Sign, threshold: u32, now_ms: UnixMs) {
        match sign {
            Sign::Works => {
                self.changed |= self.row.opened > 0;
                self.row = BreakerRow::default();
            }
            Sign::Fails => {
                self.row.failures = self.row.failures.saturating_add(1);
                let again = self.row.opened > 0;
                let is_open = self.paused_until(now_ms).is_some();
                if threshold > 0 && !is_open && (again || self.row.failures >= threshold) {
                    let pause = pause(self.row.opened);
                    self.row.opened = self.row.opened.saturating_add(1);
                    self.row.until_ms = now_ms.saturating_add(pause);
                    self.changed = true;
                }
            }
        }
    }

    /// The row, if it is to be written.
    pub fn take_changed(&mut self) -> Option<BreakerRow> {
        std::mem::take(&mut self.changed).then_some(self.row)
    }
}

fn pause(opened: u32) -> u64 {
    let pause = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(opened)).min(LONGEST_PAUSE);
    u64::try_from(pause.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_after_so_many_failures_and_closes_with_the_first_success() {
        let mut breaker = Breaker::default();
        breaker.note(Sign::Fails, 3, 0);
        breaker.note(Sign::Fails, 3, 0);
        breaker.note(Sign::Works, 3, 0);
        for _ in 0..2 {
            breaker.note(Sign::Fails, 3, 0);
            assert_eq!(breaker.paused_until(0), None);
        }
        assert_eq!(breaker.take_changed(), None, "nothing to write as long as it is closed");
        breaker.note(Sign::Fails, 3, 100);
        assert_eq!(breaker.paused_until(100), Some(10_100));
        assert_eq!(breaker.paused_until(10_100), None);
        assert!(breaker.is_trying());
        assert!(breaker.take_changed().is_some_and(|row| row.until_ms == 10_100));
        // What was running when it opened does not open it anew.
        breaker.note(Sign::Fails, 3, 200);
        assert_eq!((breaker.paused_until(200), breaker.take_changed()), (Some(10_100), None));
        breaker.note(Sign::Fails, 3, 10_100);
        assert_eq!(breaker.paused_until(10_100), Some(30_100), "twice as long");
        breaker.take_changed();
        let mut breaker = Breaker::new(breaker.row);
        breaker.note(Sign::Works, 3, 30_100);
        assert_eq!(breaker.take_changed(), Some(BreakerRow::default()));
        assert!(!breaker.is_trying());
    }

    #[test]
    fn a_clock_that_comes_back_does_not_prolong_a_pause() {
        let day = 24 * 60 * 60 * 1000;
        let mut breaker = Breaker::default();
        breaker.note(Sign::Fails, 1, day);
        assert_eq!(breaker.paused_until(day), Some(day + 10_000));
        assert_eq!(breaker.paused_until(1000), None);
        breaker.note(Sign::Fails, 1, 1000);
        assert_eq!(breaker.paused_until(1000), Some(21_000));
    }

    #[test]
    fn pauses_are_bounded_and_zero_turns_it_off() {
        let mut breaker = Breaker::default();
        let mut now = 0;
        for _ in 0..100 {
            breaker.note(Sign::Fails, 1, now);
            now = breaker.paused_until(now).unwrap();
        }
        breaker.note(Sign::Fails, 1, now);
        assert_eq!(breaker.paused_until(now), Some(now + 300_000));
        let mut off = Breaker::default();
        (0..1000).for_each(|_| off.note(Sign::Fails, 0, 0));
        assert_eq!(off.paused_until(0), None);
    }
}
