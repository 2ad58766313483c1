//! Time as something handed in, so that a test can turn it.

use std::{
    fmt::Debug,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Unix time in milliseconds. For display, schedules and due times; never for safety.
pub type UnixMs = u64;

/// Where a stage asks what time it is.
#[derive(Debug, Clone)]
pub struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    System,
    Manual(Arc<AtomicU64>),
    /// What it showed at that moment, and goes on from.
    From(Arc<AtomicU64>, tokio::time::Instant),
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands at `now` until [`Clock::advance`] moves it; clones share the hands.
    pub fn manual(now: UnixMs) -> Self {
        Self(Source::Manual(Arc::new(AtomicU64::new(now))))
    }

    /// A clock that shows `now`, goes as the runtime's time goes, and can be moved; clones share the hands.
    pub fn running(now: UnixMs) -> Self {
        Self(Source::From(Arc::new(AtomicU64::new(now)), tokio::time::Instant::now()))
    }

    pub fn now_ms(&self) -> UnixMs {
        match &self.0 {
            #[expect(
                clippy::disallowed_methods,
                reason = "the one place that reads the machine's clock"
            )]
            Source::System => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX)),
            Source::Manual(now) => now.load(Ordering::SeqCst),
            Source::From(then, since) => {
                let passed = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
                then.load(Ordering::SeqCst).saturating_add(passed)
            }
        }
    }

    /// Moves a clock forward that is not the machine's; the machine's clock moves by itself.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(now) | Source::From(now, _) = &self.0 {
            now.fetch_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
        }
    }

    /// Moves a clock that is not the machine's forward or back, as somebody may set one that runs.
    pub fn shift(&self, by_ms: i64) {
        if let Source::Manual(now) | Source::From(now, _) = &self.0 {
            let shifted = |now: u64| Some(now.saturating_add_signed(by_ms));
            now.fetch_update(Ordering::SeqCst, Ordering::SeqCst, shifted).ok();
        }
    }

    /// Sets a manual clock, also back, as a machine's clock can be.
    pub fn set(&self, to: UnixMs) {
        if let Source::Manual(now) = &self.0 {
            now.store(to, Ordering::SeqCst);
        }
    }
}
