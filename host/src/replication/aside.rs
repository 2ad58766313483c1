//! What the nodes tell each other beside the journal: whether the standby could take over, what time it is, and new keys.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Interval, MissedTickBehavior},
};

use crate::{
    machine,
    model::{
        clock::Clock,
        pair::{
            ready::{Ahead, Readiness},
            talk::Said,
        },
    },
    net::{
        keys::{FolderError, Rotation},
        link::Fingerprint,
    },
};

/// Between two looks at the other's clock.
const CLOCKS: Duration = Duration::from_secs(2);

/// Where it comes from and where it goes; clones share it.
#[derive(Debug, Clone)]
pub struct Aside {
    pub clock: Clock,
    /// How this node finds itself; none while it is primary.
    pub own: watch::Receiver<Option<Arc<Readiness>>>,
    /// How the other finds itself; none without a link.
    pub other: Arc<watch::Sender<Option<Arc<Readiness>>>>,
    /// None before the first answer on a link.
    pub ahead: Arc<watch::Sender<Option<Ahead>>>,
    /// Whether this standby's rows are not the primary's although one journal has led to both; looked at with each sign of life.
    pub differs: Arc<watch::Sender<bool>>,
    pub rotation: Rotation,
}

/// Says it on one link.
pub(super) struct Saying {
    own: watch::Receiver<Option<Arc<Readiness>>>,
    clock: Clock,
    clocks: Interval,
    next_key: watch::Receiver<Option<Fingerprint>>,
}

impl Aside {
    pub(super) fn saying(&self) -> Saying {
        let mut own = self.own.clone();
        own.mark_changed();
        let mut clocks = tokio::time::interval(CLOCKS);
        clocks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut next_key = self.rotation.next();
        next_key.mark_changed();
        let clock = self.clock.clone();
        Saying { own, clock, clocks, next_key }
    }

    /// Takes in what the other has said aside, and gives the answer if there is one.
    pub(super) async fn hear(&self, said: Said) -> Option<Said> {
        match said {
            Said::Ready(readiness) => drop(self.other.send_replace(Some(Arc::new(*readiness)))),
            Said::WhatTime { asked_ms } => {
                return Some(Said::Time { asked_ms, now_ms: self.clock.now_ms() });
            }
            Said::Time { asked_ms, now_ms } => {
                let ahead = Ahead::new(asked_ms, now_ms, self.clock.now_ms());
                self.ahead.send_replace(Some(ahead));
            }
            Said::NewKey { key } => {
                let pinned = self.keep_key(move |rotation| rotation.pin(Fingerprint(key))).await;
                return pinned.then_some(Said::Pinned { key });
            }
            Said::Pinned { key } => {
                self.keep_key(move |rotation| rotation.adopt(Fingerprint(key))).await;
            }
            _ => {}
        }
        None
    }

    /// Changes the keys on the disk; says whether that went well.
    async fn keep_key(
        &self,
        change: impl FnOnce(Rotation) -> Result<(), FolderError> + Send + 'static,
    ) -> bool {
        let rotation = self.rotation.clone();
        match machine::blocking(move || change(rotation)).await {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(%error, "the pair's keys stay as they are");
                false
            }
        }
    }

    /// There is no link any more.
    pub(super) fn end(&self) {
        self.other.send_replace(None);
        self.ahead.send_replace(None);
    }
}

impl Saying {
    /// The next that is to be said. May be dropped while it waits.
    pub async fn next(&mut self) -> Said {
        loop {
            tokio::select! {
                biased;
                Ok(()) = self.own.changed() => {
                    if let Some(own) = &*self.own.borrow_and_update() {
                        return Said::Ready(Box::new(Readiness::clone(own)));
                    }
                }
                _ = self.clocks.tick() => {
                    return Said::WhatTime { asked_ms: self.clock.now_ms() };
                }
                Ok(()) = self.next_key.changed() => {
                    let next = *self.next_key.borrow_and_update();
                    if let Some(Fingerprint(key)) = next {
                        return Said::NewKey { key };
                    }
                }
            }
        }
    }
}
