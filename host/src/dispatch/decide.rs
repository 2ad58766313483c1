//! Outcome, history and policy in; what becomes of the message out. No I/O, no clock of its own.

use crate::{
    contract::manifest::{Blocks, Retry},
    model::{clock::UnixMs, outcome::Outcome},
    store::change::settle::Next,
};

/// What is known when an attempt is over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts<'a> {
    pub outcome: &'a Outcome,
    /// Attempts in all, this one included.
    pub attempts: u32,
    pub retry: &'a Retry,
    pub now_ms: UnixMs,
    /// Chance, 0 to 1.
    pub jitter: f64,
}

pub(super) fn decide(facts: Facts<'_>) -> Next {
    let Facts { outcome, attempts, retry, now_ms, jitter } = facts;
    let asked = match outcome {
        Outcome::Done { .. } => return Next::Done,
        Outcome::Rejected { reason } => return Next::Dead { reason: reason.clone() },
        Outcome::Retry { after, .. } => *after,
        _ => None,
    };
    if attempts >= retry.attempts {
        let reason = outcome.reason().unwrap_or_default();
        return Next::Dead {
            reason: format!("{} after {attempts} attempts: {reason}", outcome.word()),
        };
    }
    let wait = asked.unwrap_or_else(|| retry.backoff.wait(attempts, jitter));
    let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    let due_ms = now_ms.saturating_add(wait_ms);
    match retry.blocks {
        Blocks::Key => Next::Hold { due_ms },
        Blocks::Nothing => Next::Again { due_ms },
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::contract::manifest::Backoff;

    #[track_caller]
    fn check(outcome: Outcome, attempts: u32, expected: Next) {
        let backoff = Backoff { first: Duration::from_secs(1), max: Duration::from_secs(8) };
        let retry = Retry { attempts: 5, backoff, ..Retry::default() };
        let facts = Facts { outcome: &outcome, attempts, retry: &retry, now_ms: 1000, jitter: 0.5 };
        assert_eq!(decide(facts), expected);
    }

    #[test]
    fn what_becomes_of_a_message() {
        let failed = || Outcome::Failed { reason: "f".into() };
        let retry = |after| Outcome::Retry { reason: "r".into(), after };
        check(Outcome::Done { reply: None }, 1, Next::Done);
        check(Outcome::Rejected { reason: "no".into() }, 1, Next::Dead { reason: "no".into() });
        check(failed(), 1, Next::Again { due_ms: 2000 });
        check(failed(), 2, Next::Again { due_ms: 3000 });
        check(failed(), 4, Next::Again { due_ms: 9000 });
        check(failed(), 5, Next::Dead { reason: "failed after 5 attempts: f".into() });
        check(retry(Some(Duration::from_millis(70))), 1, Next::Again { due_ms: 1070 });
        check(retry(None), 1, Next::Again { due_ms: 2000 });
        check(
            retry(Some(Duration::ZERO)),
            5,
            Next::Dead { reason: "retry after 5 attempts: r".into() },
        );
        check(retry(Some(Duration::MAX)), 1, Next::Again { due_ms: u64::MAX });
        check(
            Outcome::TimedOut { limit: Duration::from_secs(1) },
            5,
            Next::Dead {
                reason: "timed-out after 5 attempts: ran longer than its limit of 1s".into(),
            },
        );
    }
}
