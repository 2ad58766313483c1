//! Lanes that are to be woken at a time: one alarm a lane.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;

use crate::{model::clock::UnixMs, store::row::SolutionNo};

/// The longest sleep, so that a clock that was set is noticed.
const NAP: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Alarms {
    /// Bounded by the number of solutions. Held for a look-up.
    times: Mutex<BTreeMap<SolutionNo, UnixMs>>,
    changed: Notify,
}

impl Alarms {
    /// Wakes the lane at `at_ms`; an alarm that was set for it before is forgotten.
    pub fn set(&self, no: SolutionNo, at_ms: UnixMs) {
        let before = self.times.lock().unwrap_or_else(PoisonError::into_inner).insert(no, at_ms);
        if before != Some(at_ms) {
            self.changed.notify_one();
        }
    }

    /// Lanes whose time has come.
    pub fn take_due(&self, now_ms: UnixMs) -> Vec<SolutionNo> {
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        let due: Vec<_> =
            times.iter().filter(|(_, at_ms)| **at_ms <= now_ms).map(|(no, _)| *no).collect();
        for no in &due {
            times.remove(no);
        }
        due
    }

    /// Waits until some alarm may be due.
    pub async fn wait(&self, now_ms: UnixMs) {
        let first =
            self.times.lock().unwrap_or_else(PoisonError::into_inner).values().min().copied();
        let Some(first) = first else { return self.changed.notified().await };
        let sleep = Duration::from_millis(first.saturating_sub(now_ms)).min(NAP);
        tokio::select! {
            biased;
            () = tokio::time::sleep(sleep) => {}
            () = self.changed.notified() => {}
        }
    }
}
