//! The one writer: takes all changes that wait, applies them, and commits them with one frame of the journal.
//!
//! The frame makes a commit durable; only then the rows are shown. The tables' file takes many commits at once, in a
//! checkpoint: what it does not have after a crash is applied again from the journal.

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

use redb::{Database, Durability, WriteTransaction};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use super::{
    Change, Config, Kept, SubmitError,
    change::ChangeError,
    counts::{Counts, Told},
    disk,
    frame::FrameBuilder,
    journal::Journal,
    open::Opened,
    row::{
        Row,
        head::{HEAD_KEY, HeadRow, TAIL_KEY},
    },
    rows::{ApplyError, Rows},
    sequencer::{Memory, Sequencer},
    signal::{Raised, Signals},
    snapshot::ReadError,
    table::NODE,
};
use crate::model::{
    clock::{Clock, UnixMs},
    position::Position,
};

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
}

type Release = Box<dyn FnOnce(Result<Position, SubmitError>) + Send>;

/// A change together with whom to tell.
pub(super) struct Job(Box<dyn RunJob>);

trait RunJob: Send {
    fn is_awaited(&self) -> bool;
    /// Sequences the change. Whoever asked is told after the commit, of a refusal too: it may rest on what is not on
    /// disk yet.
    fn run(self: Box<Self>, seq: &mut Sequencer<'_, '_>) -> Result<Sequenced, ReadError>;
    fn refuse(self: Box<Self>, error: SubmitError);
}

enum Sequenced {
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
                then(committed.map(|position| Kept { position, answer }));
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
        Self(Box::new(Pending { change, then }))
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
        jobs.blocking_send(job).map_err(|_| self.closed())
    }

    /// A place in the queue, to be filled when a test wants to.
    #[cfg(test)]
    pub fn place(&self) -> mpsc::Permit<'_, Job> {
        self.jobs.as_ref().expect("it is open").try_reserve().expect("there is room")
    }

    pub fn closed(&self) -> SubmitError {
        let why = self.failure.borrow().clone();
        SubmitError::Closed(why.unwrap_or_else(|| "the node is stopping".to_owned()))
    }

    pub async fn failed(&self) -> String {
        let mut failure = self.failure.clone();
        loop {
            if let Some(why) = failure.borrow_and_update().clone() {
                return why;
            }
            if failure.changed().await.is_err() {
                // The writer ended in order; nothing failed and nothing will.
                return std::future::pending().await;
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
) -> std::io::Result<Handle> {
    let (jobs, queue) = mpsc::channel(QUEUE);
    let (failed, failure) = watch::channel(None);
    let Opened { db, catalogue, queued, undelivered, journal } = opened;
    let (mut queued, mut undelivered) = (Counts::new(queued), Counts::new(undelivered));
    queued.tell(&counters.queues);
    undelivered.tell(&counters.undelivered);
    counters.queued.store(counters.queues.sum(), Ordering::Relaxed);
    let (position, _) = lock(&journal).head();
    counters.epoch.store(position.epoch, Ordering::Relaxed);
    counters.seq.store(position.seq, Ordering::Relaxed);
    let writer = Writer {
        db,
        clock,
        config: config.clone(),
        position,
        memory: Memory::new(catalogue, queued, undelivered),
        frame: FrameBuilder::default(),
        raised: Raised::default(),
        gathered: VecDeque::new(),
        catalogue_moved: false,
        changes: 0,
        journal,
        unsettled_bytes: 0,
        unsettled_since: Instant::now(),
        checkpoint_due: false,
        disk_checked: None,
        signals,
        counters,
    };
    // The writer's own: it blocks while it commits. It is async only to wait for a time.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let thread = std::thread::Builder::new().name("store-writer".into()).spawn(move || {
        runtime.block_on(writer.run(queue, failed));
    })?;
    Ok(Handle { jobs: Some(jobs), failure, thread: Mutex::new(Some(thread)) })
}

struct Writer {
    db: Arc<Database>,
    clock: Clock,
    config: Config,
    /// Of the last frame.
    position: Position,
    memory: Memory,
    frame: FrameBuilder,
    raised: Raised,
    /// Taken from the queue, but not sequenced yet.
    gathered: VecDeque<Job>,
    catalogue_moved: bool,
    /// Sequenced and not counted yet.
    changes: u64,
    /// Shared with those who read it.
    journal: Arc<Mutex<Journal>>,
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
    Checkpoint,
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
            match self.next(&mut queue).await {
                Next::Jobs => {}
                Next::End if self.unsettled_bytes == 0 => return,
                Next::Checkpoint | Next::End => self.checkpoint_due = true,
            }
            let began = Instant::now();
            let outcome = self.commit_waiting(&mut queue, &mut releases);
            if let Err(error) = outcome {
                tracing::error!(%error, "the store is closed for good");
                // Said first, so that whoever is turned away from now on learns why.
                failed.send_replace(Some(error.to_string()));
                let closed = SubmitError::Closed(error.to_string());
                releases.drain(..).for_each(|release: Release| release(Err(closed.clone())));
                queue.close();
                self.gathered.drain(..).for_each(|job| job.0.refuse(closed.clone()));
                // To its end, not until it is empty: whoever got a place before it closed may fill it only now.
                while let Some(job) = queue.recv().await {
                    job.0.refuse(closed.clone());
                }
                return;
            }
            let position = self.position;
            if std::mem::take(&mut self.catalogue_moved) {
                self.signals.catalogue.send_replace(self.memory.catalogue.clone());
            }
            self.count(began.elapsed());
            releases.drain(..).for_each(|release| release(Ok(position)));
            self.signals.raise(&mut self.raised);
        }
    }

    /// Waits for changes, or until it is time for a checkpoint.
    async fn next(&mut self, queue: &mut mpsc::Receiver<Job>) -> Next {
        let first = if self.unsettled_bytes == 0 {
            queue.recv().await
        } else {
            match tokio::time::timeout_at(self.unsettled_since + CHECKPOINT, queue.recv()).await {
                Ok(first) => first,
                Err(_) => return Next::Checkpoint,
            }
        };
        let Some(first) = first else { return Next::End };
        self.gather(first, queue).await;
        Next::Jobs
    }

    /// Lets what nobody waits for linger until something comes that somebody does wait for.
    async fn gather(&mut self, first: Job, queue: &mut mpsc::Receiver<Job>) {
        let mut hurry = first.0.is_awaited() || self.signals.finished.is_awaited();
        self.gathered.push_back(first);
        let until = Instant::now() + LINGER;
        while !hurry && self.gathered.len() < CHANGES_PER_COMMIT {
            match tokio::time::timeout_at(until, queue.recv()).await {
                Ok(Some(job)) => {
                    hurry = job.0.is_awaited();
                    self.gathered.push_back(job);
                }
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// Applies what was gathered and all that wait behind it, and commits them as one frame. Without any it is only a
    /// checkpoint.
    fn commit_waiting(
        &mut self,
        queue: &mut mpsc::Receiver<Job>,
        releases: &mut Vec<Release>,
    ) -> Result<(), Fatal> {
        self.check_disk();
        let now_ms = self.clock.now_ms();
        let Position { epoch, seq } = self.position;
        let position = Position { epoch, seq: seq + 1 };
        self.frame.begin(position, now_ms);
        self.memory.given = 0;

        let txn = self.db.begin_write()?;
        let mut rows = Rows::open(&txn)?;
        let mut next = self.gathered.pop_front();
        let mut taken = 0;
        while let Some(job) = next {
            self.sequence(job, position, now_ms, &mut rows, releases)?;
            taken += 1;
            let room = taken < CHANGES_PER_COMMIT && self.frame.len() < BYTES_PER_COMMIT;
            next = match self.gathered.pop_front() {
                None if room => queue.try_recv().ok(),
                gathered => gathered,
            };
        }
        rows.bring_all(self.frame.bytes()).map_err(ApplyError::from)?;
        drop(rows);
        if self.frame.is_empty() && !self.checkpoint_due {
            // Every change was refused or had nothing to do.
            txn.abort()?;
            return Ok(());
        }
        if !self.frame.is_empty() {
            self.append(&txn, position)?;
        }
        self.finish(txn)?;
        if self.frame.len() > FRAME_BYTES_KEPT {
            self.frame.shrink(FRAME_BYTES_KEPT);
        }
        Ok(())
    }

    fn sequence(
        &mut self,
        job: Job,
        position: Position,
        now_ms: UnixMs,
        rows: &mut Rows<'_>,
        releases: &mut Vec<Release>,
    ) -> Result<(), Fatal> {
        let mark = self.frame.mark();
        self.memory.begin_change();
        let mut seq = Sequencer {
            rows,
            frame: &mut self.frame,
            memory: &mut self.memory,
            raised: &mut self.raised,
            position,
            now_ms,
        };
        match job.0.run(&mut seq)? {
            Sequenced::Kept(release) => releases.push(release),
            Sequenced::Refused(release) => {
                self.frame.back_to(mark);
                releases.push(release);
                return Ok(());
            }
        }
        self.changes += 1;
        rows.gather(self.frame.ops_since(mark), self.frame.len()).map_err(ApplyError::from)?;
        self.memory.take_over_counts();
        if std::mem::take(&mut self.raised.catalogue) {
            self.catalogue_moved = true;
            self.memory.catalogue = Arc::new(rows.catalogue(self.frame.bytes())?);
        }
        Ok(())
    }

    /// Makes the frame durable, and moves the head.
    fn append(&mut self, txn: &WriteTransaction, position: Position) -> Result<(), Fatal> {
        let chain = lock(&self.journal).append(position, self.frame.bytes())?;
        if self.unsettled_bytes == 0 {
            self.unsettled_since = Instant::now();
        }
        self.unsettled_bytes += self.frame.len() as u64;
        let head = HeadRow { position, chain };
        txn.open_table(NODE)?.insert(HEAD_KEY, head.encode().as_slice())?;
        self.position = position;
        Ok(())
    }

    /// Shows the rows to readers; if it is time, puts all that only the journal has into the tables' file.
    fn finish(&mut self, mut txn: WriteTransaction) -> Result<(), Fatal> {
        let is_checkpoint = self.checkpoint_due
            || self.unsettled_bytes >= self.config.checkpoint_bytes
            || self.unsettled_since.elapsed() >= CHECKPOINT;
        if !is_checkpoint {
            txn.set_durability(Durability::None)?;
            return Ok(txn.commit()?);
        }
        let tail = lock(&self.journal).tail();
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

    fn check_disk(&mut self) {
        if self.disk_checked.is_some_and(|at| at.elapsed() < DISK_CHECK) {
            return;
        }
        self.disk_checked = Some(Instant::now());
        let free = disk::free_bytes(&self.config.dir);
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
        counters.seq.store(self.position.seq, Ordering::Relaxed);
    }
}
