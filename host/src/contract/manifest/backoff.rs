//! How long to wait before trying again.

use std::time::Duration;

use super::Backoff;

/// Share of a wait that jitter adds or takes away, so that what failed together does not come back together.
const JITTER: f64 = 0.2;

impl Backoff {
    /// The wait after the attempt numbered `attempt`, the first being 1. `jitter` is random in 0 to 1.
    pub fn wait(&self, attempt: u32, jitter: f64) -> Duration {
        let doublings = attempt.saturating_sub(1).min(31);
        let wait = self.first.saturating_mul(1 << doublings).min(self.max);
        wait.mul_f64(1.0 - JITTER + 2.0 * JITTER * jitter.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_most() {
        let backoff = Backoff { first: Duration::from_secs(1), max: Duration::from_mins(5) };
        for (attempt, seconds) in
            [(0, 1), (1, 1), (2, 2), (3, 4), (9, 256), (10, 300), (33, 300), (u32::MAX, 300)]
        {
            assert_eq!(backoff.wait(attempt, 0.5), Duration::from_secs(seconds), "{attempt}");
        }
    }

    #[test]
    fn jitter_is_a_fifth_either_way() {
        let backoff = Backoff { first: Duration::from_secs(10), max: Duration::from_secs(10) };
        for (jitter, ms) in [(0.0, 8000), (0.5, 10_000), (1.0, 12_000), (-7.0, 8000), (7.0, 12_000)]
        {
            assert_eq!(backoff.wait(1, jitter).as_millis(), ms, "{jitter}");
        }
    }

    #[test]
    fn the_longest_backoff_overflows_nothing() {
        let backoff = Backoff { first: Duration::MAX, max: Duration::from_hours(24) };
        assert_eq!(backoff.wait(40, 1.0), Duration::from_hours(24).mul_f64(1.2));
    }
}
