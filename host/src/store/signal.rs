//! The store's one signal: what a commit made ready, told to the stages that sleep until then.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::{Notify, oneshot, watch};

use super::{Catalogue, row::SolutionNo};
use crate::model::message::MessageId;

/// Where stages wait for commits.
#[derive(Debug)]
pub struct Signals {
    pub(super) catalogue: watch::Sender<Arc<Catalogue>>,
    /// New rows in `ready`.
    pub ready: ReadySignal,
    /// New rows in `outbox`.
    pub outbox: Notify,
    /// New rows in `timers`.
    pub timers: Notify,
    /// Messages whose handling is over.
    pub finished: FinishedSignal,
}

/// What one commit made ready; gathered while its changes are sequenced.
#[derive(Debug, Default)]
pub(super) struct Raised {
    pub ready: BTreeSet<SolutionNo>,
    pub outbox: bool,
    pub timers: bool,
    pub catalogue: bool,
    pub finished: Vec<MessageId>,
    /// Only counted.
    pub accepted: u64,
    pub delivered: u64,
}

impl Signals {
    pub(super) fn new(catalogue: Catalogue) -> Self {
        Self {
            catalogue: watch::Sender::new(Arc::new(catalogue)),
            ready: ReadySignal::default(),
            outbox: Notify::new(),
            timers: Notify::new(),
            finished: FinishedSignal::default(),
        }
    }

    pub(super) fn raise(&self, raised: &mut Raised) {
        if !raised.ready.is_empty() {
            self.ready.raise(&mut raised.ready);
        }
        if std::mem::take(&mut raised.outbox) {
            self.outbox.notify_one();
        }
        if std::mem::take(&mut raised.timers) {
            self.timers.notify_one();
        }
        self.finished.raise(&raised.finished);
        raised.finished.clear();
    }
}

/// Which solutions have messages to handle; one stage waits for it.
#[derive(Debug, Default)]
pub struct ReadySignal {
    /// Bounded by the number of solutions. Held for a few instructions, never across a wait.
    solutions: Mutex<BTreeSet<SolutionNo>>,
    notify: Notify,
}

impl ReadySignal {
    fn raise(&self, solutions: &mut BTreeSet<SolutionNo>) {
        self.solutions.lock().unwrap_or_else(PoisonError::into_inner).append(solutions);
        self.notify.notify_one();
    }

    /// Waits until some solution has new messages; returns which.
    pub async fn wait(&self) -> BTreeSet<SolutionNo> {
        loop {
            let solutions =
                std::mem::take(&mut *self.solutions.lock().unwrap_or_else(PoisonError::into_inner));
            if !solutions.is_empty() {
                return solutions;
            }
            self.notify.notified().await;
        }
    }
}

/// Senders that wait until their message's handling is over.
#[derive(Debug, Default)]
pub struct FinishedSignal {
    /// Length of `waiting`, so that a commit without waiting senders takes no lock.
    count: AtomicUsize,
    /// Bounded by the connections that ingress allows.
    waiting: Mutex<BTreeMap<MessageId, Vec<oneshot::Sender<()>>>>,
}

impl FinishedSignal {
    /// Register before looking at the message's row, or its end may be missed.
    pub fn register(&self, id: MessageId) -> oneshot::Receiver<()> {
        let (send, receive) = oneshot::channel();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        // Senders that gave up leave their entry behind; take the chance to clear this id's.
        let entry = waiting.entry(id).or_default();
        entry.retain(|sender| !sender.is_closed());
        entry.push(send);
        self.count.store(waiting.len(), Ordering::Release);
        receive
    }

    /// Whether any sender waits.
    pub fn is_awaited(&self) -> bool {
        self.count.load(Ordering::Acquire) > 0
    }

    /// Forgets whoever gave up waiting for `id`.
    pub fn forget(&self, id: MessageId) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = waiting.get_mut(&id) {
            entry.retain(|sender| !sender.is_closed());
            if entry.is_empty() {
                waiting.remove(&id);
            }
        }
        self.count.store(waiting.len(), Ordering::Release);
    }

    fn raise(&self, finished: &[MessageId]) {
        if finished.is_empty() || !self.is_awaited() {
            return;
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        for id in finished {
            for sender in waiting.remove(id).into_iter().flatten() {
                // A sender that gave up needs no answer.
                sender.send(()).ok();
            }
        }
        self.count.store(waiting.len(), Ordering::Release);
    }
}
