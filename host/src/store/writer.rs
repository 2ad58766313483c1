//! The one writer: takes all changes that wait, applies them, and commits them with one frame of the journal.
//!
//! The frame makes a commit durable; only then the rows are shown. The tables' file takes many commits at once, in a
//! checkpoint: what it does not have after a crash is applied again from the journal.
//!
//! A writer either leads ([`lead`]: changes become frames) or follows ([`follow`]: frames come from another node). A node
//! without a pair always leads.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use redb::{Database, WriteTransaction};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use super::{
    Change, Config, Kept, SubmitError,
    archive::Archive,
    change::ChangeError,
    content::Content,
    counts::Told,
    frame::FrameBuilder,
    journal::Journal,
    open::Opened,
    replica::Pulse,
    row::{
        Row,
        head::{FRAMES_KEY, HEAD_KEY, HeadRow, TAIL_KEY},
    },
    rows::ApplyError,
    sequencer::{Memory, Sequencer},
    signal::{Raised, Signals},
    snapshot::ReadError,
    staging,
    table::NODE,
    version::FrameVersion,
};
use crate::{
    machine,
    model::{
        clock::Clock,
        position::{Chain, Durability, Position},
    },
};

mod follow;
mod install;
mod lead;

pub use follow::OrderError;
pub(super) use follow::{Order, Waiting};
use install::Staged;
use lead::Leading;

/// Changes that may wait for the writer; beyond it whoever submits waits.
const QUEUE: usize = 8192;
/// One commit takes at most this many changes …
const CHANGES_PER_COMMIT: usize = 8192;
/// … and about this many bytes.
const BYTES_PER_COMMIT: usize = 8 << 20;
/// Memory that the frame keeps between commits.
const FRAME_BYTES_KEPT: usize = 2 * BYTES_PER_COMMIT;
/// How long changes that nobody waits for wait for company.
const LINGER: Duration = Duration::from_millis(2);
/// A checkpoint comes at least this often while anything is committed.
const CHECKPOINT: Duration = Duration::from_secs(1);
/// In a pair, an idle writer shows this often that the disk still takes what it is given.
const PROOF: Duration = Duration::from_secs(1);
/// Why a store is closed whose writer ended without a word: in order it ends only when nobody has the store any more.
const PANICKED: &str =
    "its writer panicked, which is a fault in this program; standard error says where";
/// How old the knowledge of free disk space may be.
const DISK_CHECK: Duration = Duration::from_millis(200);

/// What the writer counts.
#[derive(Debug, Default)]
pub struct Counters {
    pub commits: AtomicU64,
    /// Time of the last commits, as a moving average over about 16, in µs.
    pub commit_us: AtomicU64,
    pub changes: AtomicU64,
    pub journal_bytes: AtomicU64,
    pub accepted: AtomicU64,
    pub finished: AtomicU64,
    pub delivered: AtomicU64,
    /// Free bytes, if they are below the reserve; else 0.
    pub disk_low: AtomicU64,
    /// Messages ready or scheduled.
    pub queued: AtomicU64,
    pub epoch: AtomicU64,
    pub seq: AtomicU64,
    /// Messages of each solution that are ready or scheduled.
    pub queues: Told,
    /// Effects of each solution that wait to be delivered.
    pub undelivered: Told,
    /// When the writer was last seen to get on.
    pub pulse: Pulse,
}

/// Where a change was kept, and on how many disks.
type Place = (Position, Durability);
type Release = Box<dyn FnOnce(Result<Place, SubmitError>) + Send>;

/// What waits for the writer.
pub(super) enum Job {
    /// A change together with whom to tell.
    Change(Box<dyn RunJob>),
    Order(Order),
}

pub(super) trait RunJob: Send {
    fn is_awaited(&self) -> bool;
    /// Sequences the change. Whoever asked is told after the commit, of a refusal too: it may rest on what is not on
    /// disk yet.
    fn run(self: Box<Self>, seq: &mut Sequencer<'_, '_>) -> Result<Sequenced, ReadError>;
    fn refuse(self: Box<Self>, error: SubmitError);
}

pub(super) enum Sequenced {
    Kept(Release),
    Refused(Release),
}

struct Pending<C, F> {
    change: C,
    then: F,
}

impl<C: Change, F: FnOnce(Result<Kept<C::Answer>, SubmitError>) + Send + 'static> RunJob
    for Pending<C, F>
{
    fn is_awaited(&self) -> bool {
        C::AWAITED
    }

    fn run(self: Box<Self>, seq: &mut Sequencer<'_, '_>) -> Result<Sequenced, ReadError> {
        let Self { change, then } = *self;
        match change.sequence(seq) {
            Ok(answer) => Ok(Sequenced::Kept(Box::new(move |committed| {
                then(committed.map(|(position, durability)| Kept { position, durability, answer }));
            }))),
            Err(ChangeError::Refused(refusal)) => {
                Ok(Sequenced::Refused(Box::new(move |committed| {
                    then(committed.and(Err(refusal.into())));
                })))
            }
            Err(ChangeError::Read(error)) => {
                then(Err(SubmitError::Closed(error.to_string())));
                Err(error)
            }
        }
    }

    fn refuse(self: Box<Self>, error: SubmitError) {
        (self.then)(Err(error));
    }
}

impl Job {
    pub fn new<C: Change>(
        change: C,
        then: impl FnOnce(Result<Kept<C::Answer>, SubmitError>) + Send + 'static,
    ) -> Self {
        Self::Change(Box::new(Pending { change, then }))
    }

    fn refuse(self, error: SubmitError) {
        match self {
            Self::Change(change) => change.refuse(error),
            Self::Order(order) => order.refuse(error),
        }
    }
}

/// The stages' end of the writer. Dropping it lets the writer finish what waits and close the store.
pub(super) struct Handle {
    jobs: Option<mpsc::Sender<Job>>,
    failure: watch::Receiver<Option<String>>,
    /// Joined on drop, so that the file is closed when the store is gone.
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Handle {
    pub async fn send(&self, job: Job) -> Result<(), SubmitError> {
        let jobs = self.jobs.as_ref().ok_or_else(|| self.closed())?;
        jobs.send(job).await.map_err(|_| self.closed())
    }

    pub fn send_blocking(&self, job: Job) -> Result<(), SubmitError> {
        let jobs = self.jobs.as_ref().ok_or_else(|| self.closed())?;
        if machine::is_simulated() {
            // Nobody else could make room meanwhile.
            return jobs.try_send(job).map_err(|_| self.closed());
        }
        jobs.blocking_send(job).map_err(|_| self.closed())
    }

    /// A place in the queue, to be filled when a test wants to.
    #[cfg(test)]
    pub fn place(&self) -> mpsc::Permit<'_, Job> {
        self.jobs.as_ref().expect("it is open").try_reserve().expect("there is room")
    }

    pub fn closed(&self) -> SubmitError {
        let why = self.failure.borrow().clone();
        SubmitError::Closed(why.unwrap_or_else(|| PANICKED.to_owned()))
    }

    pub async fn failed(&self) -> String {
        let mut failure = self.failure.clone();
        loop {
            let why = failure.borrow_and_update().clone();
            if let Some(why) = why {
                return why;
            }
            if failure.changed().await.is_err() {
                return PANICKED.to_owned();
            }
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.jobs = None;
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        // The last clone of the store may be dropped by a callback on the writer's own thread: it ends by itself then.
        if let Some(thread) = thread.filter(|t| t.thread().id() != std::thread::current().id()) {
            drop(thread.join());
        }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handle")
    }
}

/// Starts the writer's thread.
pub(super) fn start(
    config: &Config,
    clock: Clock,
    opened: Opened,
    signals: Arc<Signals>,
    counters: Arc<Counters>,
    (keep_after, frames): (Arc<AtomicU64>, Arc<FrameVersion>),
) -> std::io::Result<Handle> {
    let (jobs, queue) = mpsc::channel(QUEUE);
    let (failed, failure) = watch::channel(None);
    let Opened { db, memory, journal, archive, content, waiting } = opened;
    let (position, _) = lock(&journal).head();
    let leading = (!config.paired).then(|| Leading { epoch: position.epoch, replica: None });
    // If that cannot be told, looking costs little.
    let has_staged = staging::is_there(&db).unwrap_or(true);
    let mut writer = Writer {
        db,
        clock,
        config: config.clone(),
        position,
        memory,
        frame: FrameBuilder::default(),
        raised: Raised::default(),
        gathered: VecDeque::new(),
        order: None,
        leading,
        waiting,
        content,
        durability: Durability::One,
        catalogue_moved: false,
        changes: 0,
        journal,
        keep_after,
        kept: (u64::MAX, 0),
        frames,
        kept_version: 1,
        staged: if has_staged { Staged::Some } else { Staged::None },
        archive,
        unsettled_bytes: 0,
        unsettled_since: Instant::now(),
        checkpoint_due: false,
        disk_checked: None,
        signals,
        counters,
    };
    writer.tell_all();
    // It blocks while it commits.
    let thread = machine::thread("store-writer", move || writer.run(queue, failed))?;
    Ok(Handle { jobs: Some(jobs), failure, thread: Mutex::new(thread) })
}

struct Writer {
    db: Arc<Database>,
    clock: Clock,
    config: Config,
    /// Of the last frame in the journal.
    position: Position,
    memory: Memory,
    frame: FrameBuilder,
    raised: Raised,
    /// Taken from the queue, but not sequenced yet.
    gathered: VecDeque<Box<dyn RunJob>>,
    /// Taken from the queue behind them.
    order: Option<Order>,
    /// None: it follows.
    leading: Option<Leading>,
    /// In the journal, but not shown: whether the other node has them is not known.
    waiting: VecDeque<Waiting>,
    /// Of all rows that are shown.
    content: Content,
    /// On how many disks the last frame was when it was shown.
    durability: Durability,
    catalogue_moved: bool,
    /// Sequenced and not counted yet.
    changes: u64,
    /// Shared with those who read it.
    journal: Arc<Mutex<Journal>>,
    /// Frames after this one are for a standby, which gets them.
    keep_after: Arc<AtomicU64>,
    /// Bytes of frames since it was said to keep those after this one.
    kept: (u64, u64),
    frames: Arc<FrameVersion>,
    /// The version of frames that the tables' file was told.
    kept_version: u8,
    staged: Staged,
    archive: Arc<Archive>,
    /// Bytes of frames that only the journal has on disk.
    unsettled_bytes: u64,
    /// When the first of them was written.
    unsettled_since: Instant,
    checkpoint_due: bool,
    disk_checked: Option<Instant>,
    signals: Arc<Signals>,
    counters: Arc<Counters>,
}

/// What the writer does next.
enum Next {
    Jobs,
    Order(Order),
    Checkpoint,
    Proof,
    End,
}

fn lock(journal: &Mutex<Journal>) -> MutexGuard<'_, Journal> {
    journal.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The store cannot go on.
#[derive(Debug, thiserror::Error)]
enum Fatal {
    #[error("cannot write: {0}")]
    Transaction(#[from] redb::TransactionError),
    #[error("cannot write: {0}")]
    Durability(#[from] redb::SetDurabilityError),
    #[error("cannot write: {0}")]
    Table(#[from] redb::TableError),
    #[error("cannot write: {0}")]
    Storage(#[from] redb::StorageError),
    #[error("cannot write: {0}")]
    Redb(#[from] redb::Error),
    #[error("cannot commit: {0}")]
    Commit(#[from] redb::CommitError),
    #[error("cannot write the journal: {0}")]
    Journal(#[from] std::io::Error),
    #[error("cannot apply a change: {0}")]
    Apply(#[from] ApplyError),
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl Writer {
    async fn run(mut self, mut queue: mpsc::Receiver<Job>, failed: watch::Sender<Option<String>>) {
        let mut releases = Vec::new();
        loop {
            let next = self.next(&mut queue).await;
            let began = Instant::now();
            let outcome = match next {
                Next::End if self.unsettled_bytes == 0 => return,
                Next::Order(order) => self.obey(order).await,
                Next::Proof => lock(&self.journal).prove().map_err(Fatal::from),
                Next::Jobs => self.commit_waiting(&mut queue, &mut releases).await,
                Next::Checkpoint | Next::End => {
                    self.checkpoint_due = true;
                    self.checkpoint()
                }
            };
            if let Err(error) = outcome {
                tracing::error!(%error, "the store is closed for good");
                // Said first, so that whoever is turned away from now on learns why.
                failed.send_replace(Some(error.to_string()));
                let closed = SubmitError::Closed(error.to_string());
                releases.drain(..).for_each(|release: Release| release(Err(closed.clone())));
                queue.close();
                self.gathered.drain(..).for_each(|job| job.refuse(closed.clone()));
                self.order.take().into_iter().for_each(|order| order.refuse(closed.clone()));
                // To its end, not until it is empty: whoever got a place before it closed may fill it only now.
                while let Some(job) = queue.recv().await {
                    job.refuse(closed.clone());
                }
                return;
            }
            self.counters.pulse.beat();
            if std::mem::take(&mut self.catalogue_moved) {
                self.signals.catalogue.send_replace(self.memory.catalogue.clone());
            }
            self.count(began.elapsed());
            let place = (self.position, self.durability);
            releases.drain(..).for_each(|release| release(Ok(place)));
            self.signals.raise(&mut self.raised);
        }
    }

    /// Waits for changes, or until it is time for something else.
    async fn next(&mut self, queue: &mut mpsc::Receiver<Job>) -> Next {
        if let Some(order) = self.order.take() {
            return Next::Order(order);
        }
        let due = match (self.unsettled_bytes, self.config.paired) {
            (0, false) => None,
            (0, true) => Some((Instant::now() + PROOF, Next::Proof)),
            _ => Some((self.unsettled_since + CHECKPOINT, Next::Checkpoint)),
        };
        let first = match due {
            None => queue.recv().await,
            Some((until, then)) => match tokio::time::timeout_at(until, queue.recv()).await {
                Ok(first) => first,
                Err(_) => return then,
            },
        };
        match first {
            None => Next::End,
            Some(Job::Order(order)) => Next::Order(order),
            Some(Job::Change(first)) => {
                self.gather(first, queue).await;
                Next::Jobs
            }
        }
    }

    /// Lets what nobody waits for linger until something comes that somebody does wait for.
    async fn gather(&mut self, first: Box<dyn RunJob>, queue: &mut mpsc::Receiver<Job>) {
        let mut hurry = first.is_awaited() || self.signals.finished.is_awaited();
        self.gathered.push_back(first);
        let until = Instant::now() + LINGER;
        while !hurry && self.gathered.len() < CHANGES_PER_COMMIT {
            match tokio::time::timeout_at(until, queue.recv()).await {
                Ok(Some(Job::Change(job))) => {
                    hurry = job.is_awaited();
                    self.gathered.push_back(job);
                }
                Ok(Some(Job::Order(order))) => {
                    self.order = Some(order);
                    return;
                }
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// Adds a frame to the journal; it is durable after the next sync.
    fn append(&mut self, position: Position, frame: &[u8]) -> std::io::Result<Chain> {
        let chain = lock(&self.journal).append(position, frame)?;
        if self.unsettled_bytes == 0 {
            self.unsettled_since = Instant::now();
        }
        self.unsettled_bytes += frame.len() as u64;
        let kept_after = self.keep_after.load(Ordering::Relaxed);
        if self.kept.0 != kept_after {
            self.kept = (kept_after, 0);
        }
        self.kept.1 += frame.len() as u64;
        self.position = position;
        Ok(chain)
    }

    /// Shows the rows of all frames up to `position` to readers; if it is time, puts all that only the journal has into
    /// the tables' file.
    fn show(
        &mut self,
        mut txn: WriteTransaction,
        position: Position,
        chain: Chain,
    ) -> Result<(), Fatal> {
        let head = HeadRow { position, chain, content: self.content };
        txn.open_table(NODE)?.insert(HEAD_KEY, head.encode().as_slice())?;
        if self.kept_version != self.frames.used() {
            self.kept_version = self.frames.used();
            txn.open_table(NODE)?.insert(FRAMES_KEY, [self.kept_version].as_slice())?;
        }
        let is_checkpoint = self.checkpoint_due
            || self.unsettled_bytes >= self.config.checkpoint_bytes
            || self.unsettled_since.elapsed() >= CHECKPOINT;
        if !is_checkpoint {
            txn.set_durability(redb::Durability::None)?;
            return Ok(txn.commit()?);
        }
        let kept_after = self.kept_after();
        let tail = lock(&self.journal).tail(kept_after.min(position.seq));
        txn.open_table(NODE)?.insert(TAIL_KEY, tail.encode().as_slice())?;
        // After a crash the file opens at once, and hostile data cannot confuse its recovery.
        txn.set_two_phase_commit(true);
        txn.set_quick_repair(true);
        txn.commit()?;
        lock(&self.journal).forget_before(tail);
        self.unsettled_bytes = 0;
        self.checkpoint_due = false;
        Ok(())
    }

    /// After which frame they are kept for a standby; not if that takes too much room.
    fn kept_after(&self) -> u64 {
        let after = self.keep_after.load(Ordering::Relaxed);
        let bytes = if self.kept.0 == after { self.kept.1 } else { 0 };
        if after == u64::MAX || (bytes <= self.config.kept_bytes && self.memory.disk_low.is_none())
        {
            return after;
        }
        // Another wish may have come meanwhile.
        let gone =
            self.keep_after.compare_exchange(after, u64::MAX, Ordering::Relaxed, Ordering::Relaxed);
        if gone.is_ok() {
            tracing::warn!(bytes, "no more frames are kept for the other node than for any");
        }
        u64::MAX
    }

    /// Puts what is shown into the tables' file.
    fn checkpoint(&mut self) -> Result<(), Fatal> {
        let txn = self.db.begin_write()?;
        let (position, chain) = self.shown();
        self.show(txn, position, chain)
    }

    /// The last frame whose rows are shown.
    fn shown(&self) -> (Position, Chain) {
        match self.waiting.front() {
            Some(first) => (first.before, first.chain_before),
            None => lock(&self.journal).head(),
        }
    }

    fn check_disk(&mut self) {
        if self.disk_checked.is_some_and(|at| at.elapsed() < DISK_CHECK) {
            return;
        }
        self.disk_checked = Some(Instant::now());
        let free = machine::free_bytes(&self.config.dir);
        let low = free.filter(|&free| free < self.config.reserve_bytes);
        if low.is_some() != self.memory.disk_low.is_some() {
            let reserve = self.config.reserve_bytes;
            if let Some(free) = low {
                tracing::warn!(free, reserve, "disk nearly full: new messages are refused");
            } else {
                tracing::info!("the disk has room again: new messages are accepted");
            }
        }
        self.counters.disk_low.store(low.unwrap_or(0), Ordering::Relaxed);
        self.memory.disk_low = low;
    }

    fn count(&mut self, took: Duration) {
        let counters = &self.counters;
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let before = counters.commit_us.load(Ordering::Relaxed);
        let average = if before == 0 { took } else { before - before / 16 + took / 16 };
        counters.commit_us.store(average, Ordering::Relaxed);
        counters.commits.fetch_add(1, Ordering::Relaxed);
        counters.changes.fetch_add(std::mem::take(&mut self.changes), Ordering::Relaxed);
        let journal_bytes = lock(&self.journal).frame_bytes();
        counters.journal_bytes.store(journal_bytes, Ordering::Relaxed);
        counters.accepted.fetch_add(std::mem::take(&mut self.raised.accepted), Ordering::Relaxed);
        counters.delivered.fetch_add(std::mem::take(&mut self.raised.delivered), Ordering::Relaxed);
        counters.finished.fetch_add(self.raised.finished.len() as u64, Ordering::Relaxed);
        self.memory.queued.tell(&counters.queues);
        self.memory.undelivered.tell(&counters.undelivered);
        counters.queued.store(counters.queues.sum(), Ordering::Relaxed);
        counters.epoch.store(self.position.epoch, Ordering::Relaxed);
        counters.seq.store(self.position.seq, Ordering::Relaxed);
    }

    /// Counts as if everything were new.
    fn tell_all(&mut self) {
        let counters = &self.counters;
        self.memory.queued.tell(&counters.queues);
        self.memory.undelivered.tell(&counters.undelivered);
        counters.queued.store(counters.queues.sum(), Ordering::Relaxed);
        counters.epoch.store(self.position.epoch, Ordering::Relaxed);
        counters.seq.store(self.position.seq, Ordering::Relaxed);
    }
}
