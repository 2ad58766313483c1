//! The other node, as the writer sees it.

use std::{
    fmt,
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

use crate::model::position::{Durability, Position};

/// What stands between a frame on this disk and showing its rows.
///
/// Nothing that a frame says leaves the node before both are through: no receipt, no row, no signal.
pub trait Replica: fmt::Debug + Send + Sync {
    /// The frame is about to be written here: hand it to the other node now, so that both disks work at once.
    fn offer(&self, position: Position, frame: Bytes);

    /// Waits until the frame, which is on this disk, may be shown. Beats `here` often while it waits.
    fn wait<'a>(&'a self, position: Position, here: &'a Pulse) -> Waiting<'a>;
}

/// On how many disks it is, once it may be shown.
pub type Waiting<'a> = Pin<Box<dyn Future<Output = Result<Durability, Overtaken>> + Send + 'a>>;

/// Another node may be primary: what is not shown yet must not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overtaken;

/// When the writer was last seen to get on. A stuck disk stops it.
#[derive(Debug)]
pub struct Pulse {
    start: Instant,
    /// Since `start`.
    last_ms: AtomicU64,
}

impl Default for Pulse {
    fn default() -> Self {
        Self { start: Instant::now(), last_ms: AtomicU64::new(0) }
    }
}

impl Pulse {
    pub fn beat(&self) {
        self.last_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    /// For so long it is not seen although it gets on: one step takes long.
    pub(super) fn pause(&self, time: Duration) {
        let time_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(self.now_ms().saturating_add(time_ms), Ordering::Relaxed);
    }

    pub fn age(&self) -> Duration {
        Duration::from_millis(self.now_ms().saturating_sub(self.last_ms.load(Ordering::Relaxed)))
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
