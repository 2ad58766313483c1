//! One solution's messages, handled in the order that its manifest asks for.
//!
//! A lane does not wait for the disk: it hands batches of settled attempts to the store and goes on, seeing its own
//! writes through [`Pending`]. Nothing leaves the node before the batch is on disk, because effects, replies and
//! follow-ups are only found in the store. A node that dies runs again what was not on disk, on the state that was.
//!
//! Attempts that run at the same time are sequenced one after the other. One that read what was written meanwhile is
//! run again, at last while nothing else is sequenced: the outcome is as if they had run in the order of sequencing.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fmt::{self, Debug},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use super::{
    alarms::Alarms,
    breaker::{Breaker, sign},
    decide::{Facts, decide},
    order::turn_of,
    room::{Room, Wanted, wanted},
    settle::attempt_row,
    view::{LaneView, Pending, Reads},
    workers::{Run, Workers},
};
use crate::{
    contract::{
        handler::{Effects, Handled, Handler, Loader, Publication},
        manifest::Manifest,
    },
    machine,
    model::{clock::Clock, outcome::Outcome},
    store::{
        Catalogue, ReadError, Store,
        catalogue::Solution,
        change::settle::{Next, Settle, Settled},
        row::{
            Row, SolutionNo,
            message::MessageRow,
            ready::{ReadyRow, read_ready_key, ready_key},
        },
        snapshot::{Snapshot, SnapshotTable},
        table::Table,
    },
};

mod queue;

use queue::{Queue, READ_AHEAD, Waiting};

/// A batch has at most this many attempts.
const BATCH: usize = 128;
/// A run takes about this long, then other solutions have their turn.
const SLICE: Duration = Duration::from_millis(5);
/// Batches on their way to the disk; beyond it the lane waits.
const BATCHES_IN_FLIGHT: u64 = 16;
/// A stale attempt is run again beside others this often; then alone.
const STALE_RUNS_MAX: u32 = 3;
/// How often a lane that waits for room looks by itself; mostly it is told.
const LOOK_FOR_ROOM_MS: u64 = 1000;

/// What all lanes use.
#[derive(Debug)]
pub(super) struct Shared {
    pub store: Store,
    pub loader: Arc<dyn Loader>,
    pub clock: Clock,
    pub catalogue: watch::Receiver<Arc<Catalogue>>,
    pub alarms: Alarms,
    pub room: Room,
    /// Attempts that were run again because what they had read was stale.
    pub stale: AtomicU64,
}

pub(super) struct Lane {
    no: SolutionNo,
    shared: Arc<Shared>,
    workers: Weak<Workers<Self>>,
    /// For `Arc`s to itself.
    this: Weak<Self>,
    /// Runs that wait for a place or run; at most `limit`.
    runs: AtomicUsize,
    limit: AtomicUsize,
    /// Something came since the last run began.
    wanted: AtomicBool,
    /// The last batch that is on disk.
    durable: AtomicU64,
    // Locks are taken in this order: submitting, sequenced, then one of the others. Each but `sequenced` (for a stale
    // attempt's last run) and `submitting` (while the store's queue is full) is held for moments.
    /// Batches go to the store in the order in which they were sequenced, until the lane has ended.
    submitting: Mutex<Submitting>,
    sequenced: Mutex<Sequenced>,
    queue: Mutex<Queue>,
    pending: RwLock<Pending>,
    /// The last durable batch when each run's snapshot was opened, and how many runs have it.
    snapshots: Mutex<BTreeMap<u64, usize>>,
    loaded: Mutex<Option<Loaded>>,
    held: Mutex<Option<Held>>,
    condition: Mutex<Option<String>>,
}

#[derive(Default)]
struct Submitting {
    has_ended: bool,
}

/// Attempts whose place in the order is fixed, but that were not handed to the store yet.
#[derive(Default)]
struct Sequenced {
    attempts: Vec<Settled>,
    /// Room that they took in other queues, or in their own.
    room: Wanted,
    /// The last batch that was handed to the store.
    sent: u64,
    /// None until the first run has read it.
    breaker: Option<Breaker>,
}

/// Why the lane handles nothing: what its next message asks for has no room.
#[derive(Debug)]
enum Held {
    /// The disk is below the reserve.
    Disk,
    /// Too much waits to be delivered.
    Outbox,
    /// A queue is full, and so it may be only because this lane's own batches are not on disk yet.
    Briefly,
    /// A queue is full.
    Queue(Wanted),
}

/// The handler of one revision.
struct Loaded {
    revision: u32,
    handler: Arc<dyn Handler>,
}

/// All that one run works with.
struct Context<'a> {
    catalogue: &'a Catalogue,
    solution: &'a Solution,
    manifest: &'a Manifest,
    handler: &'a dyn Handler,
    snapshot: &'a Snapshot,
    state: &'a SnapshotTable,
}

/// An attempt that publishes what has no room.
enum NoRoom {
    /// Does not count; the message is handled again when there may be room.
    Wait,
    /// Waiting is in vain, and why: the attempt failed.
    Fail(String),
}

/// Why a run ended.
#[derive(Debug, PartialEq, Eq)]
enum Pause {
    /// There may be more to do at once.
    More,
    /// Nothing to do until a signal comes.
    Nothing,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lane {
    pub fn new(no: SolutionNo, shared: Arc<Shared>, workers: &Arc<Workers<Self>>) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            no,
            shared,
            workers: Arc::downgrade(workers),
            this: this.clone(),
            runs: AtomicUsize::new(0),
            limit: AtomicUsize::new(1),
            wanted: AtomicBool::new(false),
            durable: AtomicU64::new(0),
            submitting: Mutex::default(),
            sequenced: Mutex::default(),
            queue: Mutex::default(),
            pending: RwLock::default(),
            snapshots: Mutex::default(),
            loaded: Mutex::default(),
            held: Mutex::default(),
            condition: Mutex::default(),
        })
    }

    /// Something may be there to do.
    pub fn wake(&self) {
        self.wanted.store(true, Ordering::SeqCst);
        self.add_run();
    }

    /// Why it handles nothing although messages wait, if so.
    pub fn condition(&self) -> Option<String> {
        lock(&self.condition).clone()
    }

    /// One more run, if there may be one more.
    fn add_run(&self) {
        let limit = self.limit.load(Ordering::SeqCst);
        let add = |runs: usize| (runs < limit).then_some(runs + 1);
        if self.runs.fetch_update(Ordering::SeqCst, Ordering::SeqCst, add).is_ok() {
            self.enqueue();
        }
    }

    fn enqueue(&self) {
        if let (Some(workers), Some(this)) = (self.workers.upgrade(), self.this.upgrade()) {
            workers.submit(this);
        }
    }

    fn run_slice(&self) -> Result<Pause, ReadError> {
        let catalogue = self.shared.catalogue.borrow().clone();
        let Some(solution) = catalogue.by_no(self.no).filter(|s| s.paused.is_none()) else {
            return Ok(Pause::Nothing);
        };
        let durable = self.durable.load(Ordering::SeqCst);
        if lock(&self.sequenced).sent - durable >= BATCHES_IN_FLIGHT {
            return Ok(Pause::Nothing);
        }
        // The snapshot, opened after `durable` was read, shows at least that; until the run ends, later writes stay
        // in `pending`.
        let _in_use = InUse::new(self, durable);
        let snapshot = self.shared.store.read()?;
        if !self.has_messages(&snapshot)? {
            return Ok(Pause::Nothing);
        }
        let (manifest, handler) = match self.load(solution, &snapshot)? {
            Ok(loaded) => loaded,
            Err(why) => {
                tracing::error!(solution = %solution.name, why, "messages wait: the solution cannot run");
                *lock(&self.condition) = Some(why);
                return Ok(Pause::Nothing);
            }
        };
        self.limit.store(manifest.handling.concurrency, Ordering::SeqCst);
        self.read_breaker(&snapshot)?;
        let state = snapshot.table(Table::State)?;
        let context = Context {
            catalogue: &catalogue,
            solution,
            manifest,
            handler: &*handler,
            snapshot: &snapshot,
            state: &state,
        };
        let pause = self.handle_some(&context);
        // Whatever happened, what is sequenced goes to the store.
        self.flush();
        pause
    }

    /// Whether there is anything to load the solution's component for.
    fn has_messages(&self, snapshot: &Snapshot) -> Result<bool, ReadError> {
        let queue = lock(&self.queue);
        let mut found = !queue.is_empty();
        if !found {
            let from = ready_key(self.no, queue.cursor.map_or(0, |cursor| cursor + 1));
            snapshot.table(Table::Ready)?.scan(&from, |key, _| {
                found = read_ready_key(key).is_some_and(|(no, _)| no == self.no);
                Ok(false)
            })?;
        }
        Ok(found)
    }

    /// Handles messages until the slice is over or there are none whose turn it is.
    fn handle_some(&self, context: &Context<'_>) -> Result<Pause, ReadError> {
        let began = Instant::now();
        loop {
            let Some(waiting) = self.begin(context)? else { return Ok(Pause::Nothing) };
            if context.manifest.handling.concurrency > 1
                && lock(&self.queue).has_next(self.shared.clock.now_ms())
            {
                self.add_run();
            }
            self.handle(waiting, context);
            if lock(&self.sequenced).attempts.len() >= BATCH {
                self.flush();
            }
            if began.elapsed() > SLICE {
                return Ok(Pause::More);
            }
        }
    }

    /// The next message whose turn it is.
    fn begin(&self, context: &Context<'_>) -> Result<Option<Waiting>, ReadError> {
        let now_ms = self.shared.clock.now_ms();
        let (breaker, is_under_way) = {
            let sequenced = lock(&self.sequenced);
            (sequenced.breaker.unwrap_or_default(), self.is_under_way(&sequenced))
        };
        let mut queue = lock(&self.queue);
        if let Some(until_ms) = breaker.paused_until(now_ms) {
            self.shared.alarms.set(self.no, until_ms);
            let wait = Duration::from_millis(until_ms - now_ms);
            *lock(&self.condition) = Some(format!(
                "its messages failed one after another; the next attempt is in {} s",
                wait.as_secs() + 1
            ));
            return Ok(None);
        }
        if self.is_held(is_under_way || queue.running() > 0, context) {
            self.shared.alarms.set(self.no, now_ms + LOOK_FOR_ROOM_MS);
            return Ok(None);
        }
        if self.is_outbox_full(context) {
            let bound = context.manifest.limits.outbox;
            self.hold(
                Held::Outbox,
                format!(
                    "{bound} requests wait to be delivered, which is its bound ([limits] outbox)"
                ),
            );
            self.shared.alarms.set(self.no, now_ms + LOOK_FOR_ROOM_MS);
            return Ok(None);
        }
        *lock(&self.condition) = None;
        if breaker.is_trying() && queue.running() > 0 {
            return Ok(None);
        }
        if queue.wants_more() {
            self.read_ahead(&mut queue, context)?;
        }
        let next = queue.next(now_ms);
        if let (None, Some(due_ms)) = (&next, queue.next_due()) {
            self.shared.alarms.set(self.no, due_ms);
        }
        Ok(next)
    }

    /// Whether the lane waits for room for what it publishes. `is_under_way` says if it made some itself meanwhile.
    fn is_held(&self, is_under_way: bool, context: &Context<'_>) -> bool {
        let Shared { store, room, .. } = &*self.shared;
        let mut held = lock(&self.held);
        let is_held = match &*held {
            None => false,
            Some(Held::Disk) => {
                // With each change the writer looks at the disk, and there may be no other.
                let nothing = Settle { solution_no: self.no, attempts: Vec::new(), breaker: None };
                store.submit_blocking(nothing, |_| {}).ok();
                store.disk_low().is_some()
            }
            Some(Held::Outbox) => self.is_outbox_full(context),
            Some(Held::Briefly) => is_under_way,
            Some(Held::Queue(wanted)) => {
                room.is_full(wanted, context.catalogue, |no| store.counters().queues.of(no))
            }
        };
        if !is_held && held.take().is_some() {
            room.go_on(self.no);
        }
        is_held
    }

    /// Whether something that this lane did is not on disk yet.
    fn is_under_way(&self, sequenced: &Sequenced) -> bool {
        !sequenced.attempts.is_empty() || sequenced.sent > self.durable.load(Ordering::SeqCst)
    }

    fn read_ahead(&self, queue: &mut Queue, context: &Context<'_>) -> Result<(), ReadError> {
        let now_ms = self.shared.clock.now_ms();
        let from = ready_key(self.no, queue.cursor.map_or(0, |cursor| cursor + 1));
        let messages = context.snapshot.table(Table::Messages)?;
        let mut room = READ_AHEAD;
        context.snapshot.table(Table::Ready)?.scan(&from, |key, value| {
            let (no, ordinal) = read_ready_key(key).ok_or(ReadError::Key("ready"))?;
            if no != self.no {
                return Ok(false);
            }
            let row = ReadyRow::decode(value)?;
            let message: MessageRow = messages.get(&row.id)?.ok_or(ReadError::Key("messages"))?;
            let message = message.into_message(row.id());
            let turn = turn_of(&context.manifest.handling.order, &message);
            let waiting = Waiting { ordinal, attempts: row.attempts, turn, message };
            queue.add(waiting, row.not_before_ms, now_ms);
            room -= 1;
            // On, until there is something to do and some more at hand.
            Ok(room > 0 || queue.wants_more())
        })
    }

    fn read_breaker(&self, snapshot: &Snapshot) -> Result<(), ReadError> {
        let mut sequenced = lock(&self.sequenced);
        if sequenced.breaker.is_none() {
            let row = snapshot.get(Table::Breakers, &self.no.to_be_bytes())?;
            sequenced.breaker = Some(Breaker::new(row.unwrap_or_default()));
        }
        Ok(())
    }

    /// The handler of the active revision; or why there is none.
    #[expect(
        clippy::type_complexity,
        reason = "a read error ends the run, a text is for the operator"
    )]
    fn load<'a>(
        &self,
        solution: &'a Solution,
        snapshot: &Snapshot,
    ) -> Result<Result<(&'a Manifest, Arc<dyn Handler>), String>, ReadError> {
        let manifest = match &solution.manifest {
            Ok(manifest) => manifest,
            Err(why) => return Ok(Err(format!("its manifest is not understood: {why}"))),
        };
        let mut loaded = lock(&self.loaded);
        if let Some(loaded) = loaded.as_ref().filter(|l| l.revision == solution.revision) {
            return Ok(Ok((manifest, loaded.handler.clone())));
        }
        let Some(bytes) = snapshot.table(Table::Blobs)?.get_bytes(&solution.digest.0)? else {
            return Ok(Err(format!("its component {} is missing", solution.digest)));
        };
        match self.shared.loader.load(solution.digest, &bytes, manifest) {
            Ok(handler) => {
                *loaded = Some(Loaded { revision: solution.revision, handler: handler.clone() });
                Ok(Ok((manifest, handler)))
            }
            Err(error) => Ok(Err(error.to_string())),
        }
    }

    /// Makes one attempt, again if it was stale, and sequences it.
    fn handle(&self, waiting: Waiting, context: &Context<'_>) {
        let mut stale = 0;
        loop {
            // The last one is made while nothing else is sequenced: it cannot be stale.
            let alone = (stale == STALE_RUNS_MAX).then(|| lock(&self.sequenced));
            let began_ms = self.shared.clock.now_ms();
            let version = self.pending.read().unwrap_or_else(PoisonError::into_inner).version();
            let (handled, reads) = self.attempt(&waiting, context);
            let sequenced = alone.unwrap_or_else(|| lock(&self.sequenced));
            let pending = self.pending.read().unwrap_or_else(PoisonError::into_inner);
            if reads.is_some_and(|reads| pending.is_stale(&reads, version)) {
                self.shared.stale.fetch_add(1, Ordering::Relaxed);
                stale += 1;
                continue;
            }
            drop(pending);
            self.sequence(sequenced, waiting, handled, began_ms, context);
            return;
        }
    }

    fn attempt(&self, waiting: &Waiting, context: &Context<'_>) -> (Handled, Option<Reads>) {
        let concurrent = context.manifest.handling.concurrency > 1;
        let view = LaneView {
            state: context.state,
            pending: &self.pending,
            reads: concurrent.then(RefCell::default),
            catalogue: context.catalogue,
            solution: &context.solution.name,
            no: self.no,
        };
        let handled = context.handler.handle(&waiting.message, waiting.attempts + 1, &view);
        (handled, view.reads.map(RefCell::into_inner))
    }

    fn sequence(
        &self,
        mut sequenced: MutexGuard<'_, Sequenced>,
        waiting: Waiting,
        handled: Handled,
        started_ms: u64,
        context: &Context<'_>,
    ) {
        let room = self.take_room(&mut sequenced, &handled.effects.publish, context);
        // A breaker that opens would leave a circle of full queues closed.
        let counts = room.is_ok();
        let handled = match room {
            Ok(()) => handled,
            Err(NoRoom::Wait) => return lock(&self.queue).put_back(waiting),
            Err(NoRoom::Fail(reason)) => Handled {
                outcome: Outcome::Unavailable { reason },
                effects: Effects::default(),
                ..handled
            },
        };
        let now_ms = self.shared.clock.now_ms();
        let retry = &context.manifest.retry;
        let batch = sequenced.sent + 1;
        let writes = &handled.effects.state;
        self.pending.write().unwrap_or_else(PoisonError::into_inner).write(batch, writes);
        let next = decide(Facts {
            outcome: &handled.outcome,
            attempts: waiting.attempts + 1,
            retry,
            now_ms,
            jitter: machine::chance(),
        });
        if counts {
            let breaker = sequenced.breaker.get_or_insert_default();
            breaker.note(sign(&handled.outcome), retry.breaker, now_ms);
        }
        let attempt = attempt_row(&handled, started_ms, context.solution.revision);
        sequenced.attempts.push(Settled {
            ordinal: waiting.ordinal,
            id: waiting.message.id,
            earlier: waiting.attempts,
            attempt,
            effects: handled.effects,
            next: next.clone(),
        });
        drop(sequenced);
        let mut queue = lock(&self.queue);
        match next {
            Next::Hold { due_ms } => {
                let waiting = Waiting { attempts: waiting.attempts + 1, ..waiting };
                queue.finished_holding(waiting, due_ms);
            }
            Next::Done | Next::Again { .. } | Next::Dead { .. } => queue.finished(&waiting.turn),
        }
    }

    /// Whether its effects must be delivered before more are asked for. What is under way may go beyond the bound.
    fn is_outbox_full(&self, context: &Context<'_>) -> bool {
        let waiting = self.shared.store.counters().undelivered.of(self.no);
        waiting >= context.manifest.limits.outbox
    }

    /// Takes the room that the attempt's publications need. Without it the attempt does not count, or it failed.
    fn take_room(
        &self,
        sequenced: &mut Sequenced,
        publications: &[Publication],
        context: &Context<'_>,
    ) -> Result<(), NoRoom> {
        if publications.is_empty() {
            return Ok(());
        }
        let Shared { store, room, .. } = &*self.shared;
        if store.disk_low().is_some() {
            self.hold(Held::Disk, "what it publishes has no room on the disk".to_owned());
            return Err(NoRoom::Wait);
        }
        let wanted = wanted(self.no, publications, context.catalogue);
        let queued = |no| store.counters().queues.of(no);
        let Err(full) = room.take(&wanted, context.catalogue, queued) else {
            for (receiver, count) in wanted {
                *sequenced.room.entry(receiver).or_default() += count;
            }
            return Ok(());
        };
        // This attempt is running itself.
        if self.is_under_way(sequenced) || lock(&self.queue).running() > 1 {
            self.hold(Held::Briefly, full.to_string());
            return Err(NoRoom::Wait);
        }
        match room.wait(self.no, &wanted, &full) {
            Ok(()) => {
                self.hold(Held::Queue(wanted), full.to_string());
                Err(NoRoom::Wait)
            }
            Err(hopeless) => Err(NoRoom::Fail(format!("{full}; {hopeless}"))),
        }
    }

    fn hold(&self, held: Held, why: String) {
        *lock(&self.held) = Some(held);
        *lock(&self.condition) = Some(why);
    }

    /// Nothing more goes to the store: a handler that runs for too long must not come between those of the next term.
    pub fn end(&self) {
        lock(&self.submitting).has_ended = true;
    }

    /// Hands what is sequenced to the store, in order.
    fn flush(&self) {
        let in_order = lock(&self.submitting);
        if in_order.has_ended {
            return;
        }
        let (settle, batch, room) = {
            let mut sequenced = lock(&self.sequenced);
            if sequenced.attempts.is_empty() {
                return;
            }
            sequenced.sent += 1;
            let breaker = sequenced.breaker.as_mut().and_then(Breaker::take_changed);
            let attempts = std::mem::take(&mut sequenced.attempts);
            let room = std::mem::take(&mut sequenced.room);
            (Settle { solution_no: self.no, attempts, breaker }, sequenced.sent, room)
        };
        let (this, shared) = (self.this.clone(), self.shared.clone());
        let sent = self.shared.store.submit_blocking(settle, move |result| {
            // By now the messages count in their queues.
            shared.room.release(&room);
            if let (Ok(_), Some(lane)) = (result, this.upgrade()) {
                lane.durable.store(batch, Ordering::SeqCst);
                lane.wake();
                for sender in shared.room.waiting_for(lane.no) {
                    shared.alarms.set(sender, 0);
                }
            }
        });
        if let Err(error) = sent {
            tracing::warn!(%error, "attempts were not kept; they are made again after the next start");
        }
    }
}

/// While it lives, writes that its snapshot does not show stay in the lane's pending state.
struct InUse<'a> {
    lane: &'a Lane,
    durable: u64,
}

impl<'a> InUse<'a> {
    fn new(lane: &'a Lane, durable: u64) -> Self {
        let mut snapshots = lock(&lane.snapshots);
        *snapshots.entry(durable).or_default() += 1;
        let oldest = *snapshots.keys().next().expect("one was just put in");
        lane.pending.write().unwrap_or_else(PoisonError::into_inner).forget_up_to(oldest);
        Self { lane, durable }
    }
}

impl Drop for InUse<'_> {
    fn drop(&mut self) {
        let mut snapshots = lock(&self.lane.snapshots);
        if let Some(count) = snapshots.get_mut(&self.durable) {
            *count -= 1;
            if *count == 0 {
                snapshots.remove(&self.durable);
            }
        }
    }
}

impl Run for Lane {
    fn run(&self) {
        self.wanted.store(false, Ordering::SeqCst);
        let pause = self.run_slice().unwrap_or_else(|error| {
            tracing::error!(%error, solution = self.no, "messages cannot be read");
            Pause::Nothing
        });
        if pause == Pause::More {
            self.enqueue();
            return;
        }
        self.runs.fetch_sub(1, Ordering::SeqCst);
        // A signal that came while this ran must not be lost.
        if self.wanted.load(Ordering::SeqCst) {
            self.add_run();
        }
    }
}

impl Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane").field("no", &self.no).finish_non_exhaustive()
    }
}
