//! What is kept: the journal of every change, the tables it makes, and one writer with group commit.
//!
//! Stages hand typed changes ([`change`]) to the one writer ([`writer`]), which turns all that wait into row operations
//! ([`frame`]), makes them durable as one frame of the journal ([`journal`]) and then shows the rows that they make.
//! The tables' file follows in checkpoints; what it does not have after a crash is applied again ([`open`]). Stages read
//! through [`Snapshot`] and are woken by [`signal`]. What a solution's rows mean is not decided here.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
};

use tokio::sync::{oneshot, watch};

use crate::{
    machine,
    model::position::{Durability, Position},
};

pub mod archive;
pub mod catalogue;
pub mod change;
pub mod content;
pub mod counts;
pub mod frame;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod open;
mod journal;
pub mod packed;
mod pieces;
pub mod records;
pub mod recover;
pub mod replica;
pub mod replicate;
pub mod segment;
pub mod row;
mod rows;
pub mod sequencer;
pub mod signal;
pub mod snapshot;
pub mod staging;
pub mod table;
pub mod version;
mod writer;
#[cfg(test)]
pub(crate) mod tests;

pub use catalogue::Catalogue;
pub use change::{Change, Refusal};
pub use snapshot::{ReadError, Snapshot};

/// How the store is opened.
#[derive(Debug, Clone)]
pub struct Config {
    /// The folder; the tables are `store.redb` in it, the journal is `store.journal`.
    pub dir: PathBuf,
    /// redb's page cache, in bytes.
    pub cache_bytes: usize,
    /// Below this much free disk, in bytes, no new messages are taken; settling and delivering go on.
    pub reserve_bytes: u64,
    /// Journal kept for a standby, in bytes.
    pub journal_bytes: u64,
    /// Journal kept for a standby that gets all rows and then the frames since, in bytes.
    pub kept_bytes: u64,
    /// When only the journal has so many bytes of frames, the tables' file takes them.
    pub checkpoint_bytes: u64,
    /// Whether there is another node: then the store follows until it is told to lead.
    pub paired: bool,
}

/// The store of a node. Clones share it; the last one to go closes it.
#[derive(Clone)]
pub struct Store(Arc<Shared>);

struct Shared {
    db: Arc<redb::Database>,
    /// Taken when closing, so that the writer sees the end of its queue.
    writer: writer::Handle,
    signals: Arc<signal::Signals>,
    counters: Arc<writer::Counters>,
    path: PathBuf,
    archive: Arc<archive::Archive>,
    journal: Arc<Mutex<journal::Journal>>,
    keep_after: Arc<AtomicU64>,
    frames: Arc<version::FrameVersion>,
}

/// A change that is on disk.
#[derive(Debug, Clone, Copy)]
pub struct Kept<A> {
    pub position: Position,
    pub durability: Durability,
    pub answer: A,
}

/// Why a change was not kept.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SubmitError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Another node is, or may be: nothing was kept.
    #[error("this node is not primary; send to the one that is")]
    NotPrimary,
    /// The store is closed for good: nothing more can be kept until the node is started again.
    #[error("the store is closed: {0}")]
    Closed(String),
}

impl Store {
    /// Hands a change to the writer and waits until it is on disk.
    pub async fn submit<C: Change>(&self, change: C) -> Result<Kept<C::Answer>, SubmitError> {
        let (send, receive) = oneshot::channel();
        let job = writer::Job::new(change, move |result| {
            // The asker may have gone away; the change is kept all the same.
            drop(send.send(result));
        });
        self.0.writer.send(job).await?;
        receive.await.unwrap_or_else(|_| Err(self.0.writer.closed()))
    }

    /// Hands a change to the writer; `then` is called on the writer's thread once it is on disk or refused.
    ///
    /// Blocks while the writer's queue is full: never call it from a task.
    pub fn submit_blocking<C: Change>(
        &self,
        change: C,
        then: impl FnOnce(Result<Kept<C::Answer>, SubmitError>) + Send + 'static,
    ) -> Result<(), SubmitError> {
        self.0.writer.send_blocking(writer::Job::new(change, then))
    }

    /// The committed state of everything, as of now.
    pub fn read(&self) -> Result<Snapshot, ReadError> {
        Snapshot::open(&self.0.db, self.0.archive.clone())
    }

    /// Hands the journal's frames from number `from` on, in order, to `take`, until it says no.
    pub fn journal(&self, from: u64, mut take: impl FnMut(&[u8]) -> bool) -> io::Result<()> {
        let mut next = from;
        loop {
            let frame =
                self.0.journal.lock().unwrap_or_else(PoisonError::into_inner).frame_from(next)?;
            match frame {
                Some((seq, frame)) if take(&frame) => next = seq + 1,
                _ => return Ok(()),
            }
        }
    }

    /// Solutions and settings as they are now, and as they change.
    pub fn catalogue(&self) -> watch::Receiver<Arc<Catalogue>> {
        self.0.signals.catalogue.subscribe()
    }

    pub fn signals(&self) -> &signal::Signals {
        &self.0.signals
    }

    pub fn counters(&self) -> &writer::Counters {
        &self.0.counters
    }

    /// Resolves, with the reason, when the store has closed because it could not write or its writer panicked.
    pub async fn failed(&self) -> String {
        self.0.writer.failed().await
    }

    pub fn archive(&self) -> &archive::Archive {
        &self.0.archive
    }

    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Bytes of the tables' file.
    pub fn file_bytes(&self) -> u64 {
        std::fs::metadata(&self.0.path).map_or(0, |meta| meta.len())
    }

    /// Bytes free on the disk, if they are below the reserve.
    pub fn disk_low(&self) -> Option<u64> {
        let free = self.0.counters.disk_low.load(std::sync::atomic::Ordering::Relaxed);
        (free > 0).then_some(free)
    }

    /// Bytes free on the disk it is on.
    pub fn disk_free_bytes(&self) -> Option<u64> {
        machine::free_bytes(&self.0.path)
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("path", &self.0.path).finish_non_exhaustive()
    }
}
