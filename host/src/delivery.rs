//! What a solution asked for goes out: HTTP requests from the outbox, at least once, always with the same key.
//!
//! [`queue`] says what is next, [`request`] what is sent, [`decide`] what an answer means; this file reads, calls and
//! writes. A node that dies between sending and writing sends again after its next start, with the same key.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, mpsc, watch},
    task::{self, JoinError, JoinSet},
    time::Instant,
};

use crate::{
    contract::manifest::{Class, Delivery},
    lease::Lease,
    model::clock::{Clock, UnixMs},
    net::http_client::Client,
    store::{
        Catalogue, ReadError, Store,
        row::{
            ORDINAL_BITS, Ordinal, Row,
            delivery::{DeliveryRow, DeliveryStatusRow, delivery_key},
            outbox::{OutboxKey, OutboxRow},
        },
        table::Table,
    },
    tasks::Tasks,
};

mod attempt;
mod decide;
mod queue;
mod request;

use attempt::{Attempt, Next};
use queue::{Effect, Queue};

/// Effects known in memory; the rest waits in the store.
const KNOWN_MAX: usize = 200_000;
/// Requests and results that are not on disk yet, together.
const UNRECORDED_MAX: usize = 4096;
/// Rows that one look at the outbox takes.
const SCAN: usize = 1024;
/// The longest sleep, so that a clock that was set is noticed.
const NAP: Duration = Duration::from_secs(1);
/// Between two looks whether requests may begin.
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);
/// How long stopping waits for answers.
const DRAIN: Duration = Duration::from_secs(5);

/// How many requests are made at once.
#[derive(Debug, Clone)]
pub struct Config {
    pub concurrency: usize,
    /// To one origin.
    pub per_target: usize,
}

/// Starts delivering what waits and what comes.
///
/// In a pair `lease` says when requests may begin.
pub fn start(
    config: Config,
    store: Store,
    client: Client,
    clock: Clock,
    lease: Option<Arc<Lease>>,
    tasks: &Tasks,
) {
    let stage = Stage::new(&config, store, client, clock, lease);
    tasks.spawn("delivery", |stop| stage.run(stop));
}

struct Stage {
    /// Effects before that place may be being made by the node that was primary before, until then.
    left: (Ordinal, Instant),
    queue: Queue,
    /// Requests, and results on their way to the disk.
    attempts: JoinSet<Next>,
    /// Whose they are.
    keys: BTreeMap<task::Id, OutboxKey>,
    answers: mpsc::Receiver<OutboxKey>,
    /// The last outbox row that was taken into the queue.
    cursor: Option<OutboxKey>,
    /// There may be rows behind the cursor.
    more: bool,
    shared: Arc<attempt::Shared>,
}

impl Stage {
    fn new(
        config: &Config,
        store: Store,
        client: Client,
        clock: Clock,
        lease: Option<Arc<Lease>>,
    ) -> Self {
        let catalogue = store.catalogue();
        let (answered, answers) = mpsc::channel(config.concurrency.max(1));
        let rest = lease.as_ref().map_or(Duration::ZERO, |lease| lease.rest());
        let first = store.journal_head().0.seq + 1;
        Self {
            left: (first << ORDINAL_BITS, Instant::now() + rest),
            queue: Queue::new(config.concurrency, config.per_target),
            attempts: JoinSet::new(),
            keys: BTreeMap::new(),
            answers,
            cursor: None,
            more: true,
            shared: Arc::new(attempt::Shared { store, client, clock, catalogue, lease, answered }),
        }
    }

    async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let store = self.shared.store.clone();
        let wake: &Notify = &store.signals().outbox;
        loop {
            if let Err(error) = self.fill() {
                tracing::error!(%error, "the outbox cannot be read");
            }
            let now_ms = self.shared.clock.now_ms();
            let may_begin = self.shared.may_begin();
            while may_begin
                && self.attempts.len() < UNRECORDED_MAX
                && let Some(key) = self.queue.next(now_ms)
            {
                if let Some(due_ms) = self.is_left(key, now_ms) {
                    self.queue.finished(key, Next::Again { due_ms });
                    continue;
                }
                let attempt = Attempt { key, shared: self.shared.clone() };
                self.begin(key, attempt.make());
            }
            let nap = if may_begin { NAP } else { BETWEEN_LOOKS };
            let wait = self.queue.sleep(now_ms).filter(|_| may_begin).unwrap_or(nap).min(nap);
            tokio::select! {
                biased;
                _ = stop.wait_for(|&stop| stop) => break,
                Some(done) = self.attempts.join_next_with_id() => self.take_back(done),
                Some(key) = self.answers.recv() => {
                    self.queue.answered(key);
                    while let Ok(key) = self.answers.try_recv() {
                        self.queue.answered(key);
                    }
                }
                () = wake.notified() => self.more = true,
                () = tokio::time::sleep(wait) => {}
            }
        }
        self.answers.close();
        // What is not answered by then is sent again after the next start, with the same key.
        let drain = async { while self.attempts.join_next().await.is_some() {} };
        tokio::time::timeout(DRAIN, drain).await.ok();
    }

    /// When it may be made, if not yet.
    fn is_left(&self, key: OutboxKey, now_ms: UnixMs) -> Option<UnixMs> {
        let (before, until) = self.left;
        let rest = until.saturating_duration_since(Instant::now());
        let is_left = key.ordinal < before && !rest.is_zero();
        is_left.then(|| now_ms + u64::try_from(rest.as_millis()).unwrap_or(u64::MAX) + 1)
    }

    fn begin(&mut self, key: OutboxKey, attempt: impl Future<Output = Next> + Send + 'static) {
        let task = self.attempts.spawn(attempt);
        self.keys.insert(task.id(), key);
    }

    fn take_back(&mut self, done: Result<(task::Id, Next), JoinError>) {
        let mut next = Some(done);
        while let Some(done) = next {
            // One that panics must not keep its place.
            let (task, next_of_it) = done.unwrap_or_else(|error| {
                tracing::error!(%error, "a delivery task failed");
                (error.id(), self.shared.later())
            });
            if let Some(key) = self.keys.remove(&task) {
                self.queue.finished(key, next_of_it);
            }
            next = self.attempts.try_join_next_with_id();
        }
    }

    /// Takes rows behind the cursor into the queue.
    fn fill(&mut self) -> Result<(), ReadError> {
        while self.more && self.queue.len() < KNOWN_MAX {
            self.more = false;
            let snapshot = self.shared.store.read()?;
            let deliveries = snapshot.table(Table::Deliveries)?;
            let from =
                self.cursor.map_or_else(Vec::new, |key| [&key.to_bytes()[..], &[0]].concat());
            let mut taken = 0;
            snapshot.table(Table::Outbox)?.scan(&from, |key, value| {
                if taken == SCAN {
                    self.more = true;
                    return Ok(false);
                }
                taken += 1;
                let key = OutboxKey::from_bytes(key).ok_or(ReadError::Key("outbox"))?;
                self.cursor = Some(key);
                let row = OutboxRow::decode(value)?;
                let delivery: Option<DeliveryRow> =
                    deliveries.get(&delivery_key(row.id(), key.index))?;
                let due_ms = match delivery.map(|delivery| delivery.status) {
                    Some(DeliveryStatusRow::Again { due_ms }) => due_ms,
                    Some(DeliveryStatusRow::Dead) => return Ok(true),
                    // Of those that are over or have begun the attempt takes care.
                    _ => 0,
                };
                self.queue.add(key, effect(&row), due_ms);
                Ok(true)
            })?;
        }
        Ok(())
    }
}

fn effect(row: &OutboxRow) -> Effect {
    Effect {
        origin: origin(&row.url),
        lane: row.order.as_ref().map(|order| (row.solution_no, order.clone())),
    }
}

/// Scheme, host and port; the whole text if it is no URL, which the attempt will find out.
fn origin(url: &str) -> Arc<str> {
    let after_scheme = url.find("://").map_or(0, |at| at + 3);
    let end = url[after_scheme..].find(['/', '?', '#']).map_or(url.len(), |at| after_scheme + at);
    url[..end].into()
}

/// The delivery policy of the solution. If it is gone or cannot be read, nobody has said that a request may be repeated:
/// an operator is asked.
fn policy(catalogue: &Catalogue, row: &OutboxRow) -> Delivery {
    let solution = catalogue.by_no(row.solution_no);
    let manifest = solution.and_then(|solution| solution.manifest.as_ref().ok());
    manifest.map_or_else(
        || Delivery { class: Class::Ask, ..Delivery::default() },
        |manifest| manifest.delivery.clone(),
    )
}

#[cfg(test)]
mod tests;
