//! Where a change meets the rows: what it may read, and the operations it leaves behind.
//!
//! A change reads rows as all changes before it left them, and writes operations into the frame. They are applied when
//! it succeeds and forgotten when it is refused, so a change is all or nothing; it does not see its own operations.

use std::{fmt, sync::Arc};

use uuid::Builder;

use super::{
    Catalogue,
    change::{ChangeError, Refusal},
    counts::Counts,
    frame::FrameBuilder,
    row::{ORDINAL_BITS, Ordinal, Row, SolutionNo},
    rows::Rows,
    signal::Raised,
    snapshot::ReadError,
    table::Table,
};
use crate::{
    machine,
    model::{clock::UnixMs, message::MessageId, position::Position},
};

/// Handed to every [`super::Change`].
pub struct Sequencer<'a, 'txn> {
    pub(super) rows: &'a mut Rows<'txn>,
    pub(super) frame: &'a mut FrameBuilder,
    pub(super) memory: &'a mut Memory,
    pub(super) raised: &'a mut Raised,
    pub(super) position: Position,
    pub(super) now_ms: UnixMs,
}

/// What the writer knows beside the rows; all of it can be made from them.
pub(super) struct Memory {
    pub catalogue: Arc<Catalogue>,
    /// Messages of each solution that are ready or scheduled.
    pub queued: Counts,
    /// Effects of each solution that wait to be delivered.
    pub undelivered: Counts,
    /// Free bytes, if they are below the reserve.
    pub disk_low: Option<u64>,
    /// Ordinals given in this frame.
    pub given: u32,
    /// As a number.
    pub last_id: u128,
    pub scratch: Vec<u8>,
}

impl fmt::Debug for Sequencer<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sequencer").field("position", &self.position).finish_non_exhaustive()
    }
}

impl Sequencer<'_, '_> {
    /// Where the change will stand in the journal.
    pub fn position(&self) -> Position {
        self.position
    }

    /// The time of the commit's beginning.
    pub fn now_ms(&self) -> UnixMs {
        self.now_ms
    }

    pub fn catalogue(&self) -> Arc<Catalogue> {
        self.memory.catalogue.clone()
    }

    /// Messages of a solution that are ready or scheduled.
    pub fn queued(&self, solution: SolutionNo) -> u64 {
        self.memory.queued.get(solution)
    }

    /// Refuses if the disk has less room than the reserve.
    pub fn needs_room(&self) -> Result<(), Refusal> {
        match self.memory.disk_low {
            Some(free_bytes) => Err(Refusal::DiskFull { free_bytes }),
            None => Ok(()),
        }
    }

    pub fn get<R: Row>(&self, table: Table, key: &[u8]) -> Result<Option<R>, ChangeError> {
        let row = self.rows.read(self.frame.bytes(), table, key, R::decode)?;
        Ok(row.transpose().map_err(ReadError::from)?)
    }

    pub fn contains(&self, table: Table, key: &[u8]) -> Result<bool, ChangeError> {
        Ok(self.rows.read(self.frame.bytes(), table, key, |_| ())?.is_some())
    }

    /// Keys and values from `from` on, in order, while `take` says so.
    pub fn scan(
        &mut self,
        table: Table,
        from: &[u8],
        take: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), ChangeError> {
        Ok(self.rows.scan(self.frame.bytes(), table, from, take)?)
    }

    pub fn put<R: Row>(&mut self, table: Table, key: &[u8], row: &R) {
        row.encode_into(&mut self.memory.scratch);
        self.frame.put(table, key, &self.memory.scratch);
    }

    pub fn put_bytes(&mut self, table: Table, key: &[u8], value: &[u8]) {
        self.frame.put(table, key, value);
    }

    pub fn delete(&mut self, table: Table, key: &[u8]) {
        self.frame.delete(table, key);
    }

    /// A new message id, above all that this node gave before.
    pub fn new_id(&mut self) -> MessageId {
        let drawn = Builder::from_unix_timestamp_millis(self.now_ms, &machine::random());
        let above = u128::from(u32::from_be_bytes(machine::random())) + 1;
        let id = drawn.as_uuid().as_u128().max(self.memory.last_id + above);
        self.memory.last_id = id;
        MessageId(id.to_be_bytes())
    }

    /// The next place in the order of acceptance.
    pub fn new_ordinal(&mut self) -> Ordinal {
        let given = self.memory.given;
        assert!(given < 1 << ORDINAL_BITS, "the writer ends a frame long before");
        self.memory.given += 1;
        self.position.seq << ORDINAL_BITS | u64::from(given)
    }

    /// Counts messages into (or out of) a solution's queue, if the change succeeds.
    pub fn count_queued(&mut self, solution: SolutionNo, by: i64) {
        self.memory.queued.count(solution, by);
    }

    /// Counts effects that wait to be delivered, if the change succeeds.
    pub fn count_undelivered(&mut self, solution: SolutionNo, by: i64) {
        self.memory.undelivered.count(solution, by);
    }

    /// Effects of a solution that wait to be delivered; dead letters are none of them.
    pub fn undelivered(&self, solution: SolutionNo) -> u64 {
        self.memory.undelivered.get(solution)
    }

    pub fn count_accepted(&mut self) {
        self.raised.accepted += 1;
    }

    pub fn count_delivered(&mut self) {
        self.raised.delivered += 1;
    }

    pub fn wake_dispatch(&mut self, solution: SolutionNo) {
        self.raised.ready.insert(solution);
    }

    pub fn wake_delivery(&mut self) {
        self.raised.outbox = true;
    }

    pub fn wake_timers(&mut self) {
        self.raised.timers = true;
    }

    pub fn catalogue_changed(&mut self) {
        self.raised.catalogue = true;
    }

    /// The message's handling is over: whoever waits for it is told after the commit.
    pub fn finished(&mut self, id: MessageId) {
        self.raised.finished.push(id);
    }
}

impl Memory {
    pub fn new(catalogue: Arc<Catalogue>, queued: Counts, undelivered: Counts) -> Self {
        Self {
            catalogue,
            queued,
            undelivered,
            disk_low: None,
            given: 0,
            last_id: 0,
            scratch: Vec::new(),
        }
    }

    pub fn begin_change(&mut self) {
        self.queued.begin_change();
        self.undelivered.begin_change();
    }

    pub fn take_over_counts(&mut self) {
        self.queued.take_over();
        self.undelivered.take_over();
    }
}
