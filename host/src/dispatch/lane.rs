//! One solution's messages, handled one at a time in order of acceptance.
//!
//! A lane does not wait for the disk: it hands a batch of settled attempts to the store and goes on, seeing its own
//! writes through [`Pending`]. Nothing leaves the node before the batch is on disk, because effects, replies and
//! follow-ups are only found in the store. A node that dies runs again what was not on disk, on the state that was.

use std::{
    fmt::{self, Debug},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::{
    decide::{Facts, decide},
    settle::attempt_row,
    view::{LaneView, Pending},
    workers::{Run, Workers},
};
use crate::{
    contract::{
        handler::{Handler, Loader},
        manifest::Manifest,
    },
    model::{clock::Clock, message::Message},
    store::{
        Catalogue, ReadError, Store,
        catalogue::Solution,
        change::settle::{Settle, Settled},
        row::{
            Ordinal, Row, SolutionNo,
            message::MessageRow,
            ready::{ReadyRow, read_ready_key, ready_key},
        },
        snapshot::Snapshot,
        table::Table,
    },
};

/// A run reads at most this many messages …
const BATCH_MESSAGES: usize = 128;
/// … and about this many bytes of them.
const BATCH_BYTES: usize = 4 << 20;
/// A run takes about this long, then other solutions have their turn.
const SLICE: Duration = Duration::from_millis(5);
/// Batches on their way to the disk; beyond it the lane waits.
const BATCHES_IN_FLIGHT: u64 = 16;

/// What all lanes use.
#[derive(Debug)]
pub(super) struct Shared {
    pub store: Store,
    pub loader: Arc<dyn Loader>,
    pub clock: Clock,
    pub catalogue: watch::Receiver<Arc<Catalogue>>,
}

pub(super) struct Lane {
    no: SolutionNo,
    shared: Arc<Shared>,
    workers: Weak<Workers<Self>>,
    /// For `Arc`s to itself.
    this: Weak<Self>,
    /// Waiting for a place, or running.
    queued: AtomicBool,
    /// Something came since the last run began.
    wanted: AtomicBool,
    /// The last batch that is on disk.
    durable: AtomicU64,
    /// Only the one run at a time takes it; `unavailable` is read from outside.
    state: Mutex<State>,
    unavailable: Mutex<Option<String>>,
}

#[derive(Default)]
struct State {
    /// All ready rows up to this ordinal were handed to the handler.
    cursor: Option<Ordinal>,
    pending: Pending,
    /// The last batch that was handed to the store.
    sent: u64,
    loaded: Option<Loaded>,
}

/// The handler of one revision.
struct Loaded {
    revision: u32,
    handler: Arc<dyn Handler>,
}

/// Why a run ended.
#[derive(Debug, PartialEq, Eq)]
enum Pause {
    /// There may be more to do at once.
    More,
    /// Nothing to do until a signal comes.
    Nothing,
}

struct Waiting {
    ordinal: Ordinal,
    attempts: u32,
    message: Message,
}

impl Lane {
    pub fn new(no: SolutionNo, shared: Arc<Shared>, workers: &Arc<Workers<Self>>) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            no,
            shared,
            workers: Arc::downgrade(workers),
            this: this.clone(),
            queued: AtomicBool::new(false),
            wanted: AtomicBool::new(false),
            durable: AtomicU64::new(0),
            state: Mutex::default(),
            unavailable: Mutex::default(),
        })
    }

    /// Something may be there to do.
    pub fn wake(&self) {
        self.wanted.store(true, Ordering::SeqCst);
        if !self.queued.swap(true, Ordering::SeqCst) {
            self.enqueue();
        }
    }

    pub fn unavailable(&self) -> Option<String> {
        self.unavailable.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn enqueue(&self) {
        if let (Some(workers), Some(this)) = (self.workers.upgrade(), self.this.upgrade()) {
            workers.submit(this);
        }
    }

    fn handle_some(&self) -> Result<Pause, ReadError> {
        let mut state = self.lock();
        let state = &mut *state;
        if state.sent - self.durable.load(Ordering::SeqCst) >= BATCHES_IN_FLIGHT {
            return Ok(Pause::Nothing);
        }
        let catalogue = self.shared.catalogue.borrow().clone();
        let Some(solution) = catalogue.by_no(self.no) else { return Ok(Pause::Nothing) };
        if solution.paused.is_some() {
            return Ok(Pause::Nothing);
        }
        // Read first what is durable, then open the snapshot: it shows at least that.
        state.pending.forget_up_to(self.durable.load(Ordering::SeqCst));
        let snapshot = self.shared.store.read()?;
        let waiting = self.read_waiting(state.cursor, &snapshot)?;
        if waiting.is_empty() {
            return Ok(Pause::Nothing);
        }
        let (manifest, handler) = match self.load(state, solution, &snapshot)? {
            Ok(loaded) => loaded,
            Err(why) => {
                tracing::error!(solution = %solution.name, why, "messages wait: the solution cannot run");
                *self.unavailable.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
                return Ok(Pause::Nothing);
            }
        };
        *self.unavailable.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.handle_batch(state, waiting, &catalogue, solution, (manifest, &*handler), &snapshot)?;
        Ok(Pause::More)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_waiting(
        &self,
        cursor: Option<Ordinal>,
        snapshot: &Snapshot,
    ) -> Result<Vec<Waiting>, ReadError> {
        let from = ready_key(self.no, cursor.map_or(0, |cursor| cursor + 1));
        let messages = snapshot.table(Table::Messages)?;
        let (mut waiting, mut bytes) = (Vec::new(), 0);
        snapshot.table(Table::Ready)?.scan(&from, |key, value| {
            let (no, ordinal) = read_ready_key(key).ok_or(ReadError::Key("ready"))?;
            if no != self.no {
                return Ok(false);
            }
            let row = ReadyRow::decode(value)?;
            let message: MessageRow = messages.get(&row.id)?.ok_or(ReadError::Key("messages"))?;
            bytes += message.body.len();
            let message = message.into_message(row.id());
            waiting.push(Waiting { ordinal, attempts: row.attempts, message });
            Ok(waiting.len() < BATCH_MESSAGES && bytes < BATCH_BYTES)
        })?;
        Ok(waiting)
    }

    /// The handler of the active revision; or why there is none.
    #[expect(
        clippy::type_complexity,
        reason = "a read error closes the lane, a text is for the operator"
    )]
    fn load<'a>(
        &self,
        state: &mut State,
        solution: &'a Solution,
        snapshot: &Snapshot,
    ) -> Result<Result<(&'a Manifest, Arc<dyn Handler>), String>, ReadError> {
        let manifest = match &solution.manifest {
            Ok(manifest) => manifest,
            Err(why) => return Ok(Err(format!("its manifest is not understood: {why}"))),
        };
        if let Some(loaded) = state.loaded.as_ref().filter(|l| l.revision == solution.revision) {
            return Ok(Ok((manifest, loaded.handler.clone())));
        }
        let Some(bytes) = snapshot.table(Table::Blobs)?.get_bytes(&solution.digest.0)? else {
            return Ok(Err(format!("its component {} is missing", solution.digest)));
        };
        match self.shared.loader.load(solution.digest, &bytes, manifest) {
            Ok(handler) => {
                state.loaded =
                    Some(Loaded { revision: solution.revision, handler: handler.clone() });
                Ok(Ok((manifest, handler)))
            }
            Err(error) => Ok(Err(error.to_string())),
        }
    }

    fn handle_batch(
        &self,
        state: &mut State,
        waiting: Vec<Waiting>,
        catalogue: &Catalogue,
        solution: &Solution,
        (manifest, handler): (&Manifest, &dyn Handler),
        snapshot: &Snapshot,
    ) -> Result<(), ReadError> {
        let table = snapshot.table(Table::State)?;
        let began = Instant::now();
        let batch = state.sent + 1;
        let mut attempts = Vec::with_capacity(waiting.len());
        for Waiting { ordinal, attempts: made, message } in waiting {
            let view = LaneView {
                state: &table,
                pending: &state.pending,
                catalogue,
                solution: &solution.name,
                no: self.no,
            };
            let started_ms = self.shared.clock.now_ms();
            let handled = handler.handle(&message, made + 1, &view);
            state.pending.write(batch, &handled.effects.state);
            let next = decide(Facts {
                outcome: &handled.outcome,
                attempts: made + 1,
                retry: &manifest.retry,
                now_ms: self.shared.clock.now_ms(),
                jitter: rand::random(),
            });
            let attempt = attempt_row(&handled, started_ms, solution.revision);
            attempts.push(Settled {
                ordinal,
                id: message.id,
                attempt,
                effects: handled.effects,
                next,
            });
            state.cursor = Some(ordinal);
            if began.elapsed() > SLICE {
                break;
            }
        }
        state.sent = batch;
        let this = self.this.clone();
        let settle = Settle { solution_no: self.no, attempts };
        let sent = self.shared.store.submit_blocking(settle, move |result| {
            if let (Ok(_), Some(lane)) = (result, this.upgrade()) {
                lane.durable.store(batch, Ordering::SeqCst);
                lane.wake();
            }
        });
        if let Err(error) = sent {
            tracing::warn!(%error, "attempts were not kept; they are made again after the next start");
        }
        Ok(())
    }
}

impl Run for Lane {
    fn run(&self) {
        self.wanted.store(false, Ordering::SeqCst);
        let pause = self.handle_some().unwrap_or_else(|error| {
            tracing::error!(%error, solution = self.no, "messages cannot be read");
            Pause::Nothing
        });
        if pause == Pause::More {
            self.enqueue();
            return;
        }
        self.queued.store(false, Ordering::SeqCst);
        // A signal that came while this ran must not be lost.
        if self.wanted.load(Ordering::SeqCst) && !self.queued.swap(true, Ordering::SeqCst) {
            self.enqueue();
        }
    }
}

impl Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane").field("no", &self.no).finish_non_exhaustive()
    }
}
