//! What a pair asks of a store: to lead or to follow, and to give and take frames and rows.

use std::{
    io,
    sync::{Arc, PoisonError, atomic::Ordering},
};

use bytes::Bytes;
use redb::{ReadableDatabase, ReadableTable};
use tokio::sync::{mpsc, oneshot};

use super::{
    ReadError, Snapshot, Store, SubmitError,
    content::Content,
    replica::Replica,
    row::{Row, epoch::EpochRow, head::HeadRow, segment::SegmentKey},
    staging::row_bytes,
    table::{self, Table},
    writer::{Job, Order},
};
use crate::model::{
    pair::{StoreId, talk::Tip},
    position::{Chain, Position},
};

pub use super::{
    staging::{Installing, Span},
    writer::OrderError,
};

/// Of a store that was never one of a pair.
const FIRST_EPOCH: u64 = 1;
/// Rows that a snapshot hands over together, in bytes.
const PART_BYTES: u64 = 1 << 20;

impl Store {
    async fn order<T>(
        &self,
        order: impl FnOnce(oneshot::Sender<Result<T, OrderError>>) -> Order,
    ) -> Result<T, OrderError> {
        let (then, answer) = oneshot::channel();
        let closed = |error: SubmitError| OrderError::Closed(error.to_string());
        self.0.writer.send(Job::Order(order(then))).await.map_err(closed)?;
        answer.await.unwrap_or_else(|_| Err(closed(self.0.writer.closed())))
    }

    /// From now on changes are kept, in that epoch, and shown when `replica` says so. Answers where the journal ends.
    pub async fn lead(
        &self,
        epoch: u64,
        replica: Option<Arc<dyn Replica>>,
    ) -> Result<Position, OrderError> {
        self.order(|then| Order::Lead { epoch, replica, then }).await
    }

    /// From now on changes are refused. Answers where the journal ends; its last frame may not be shown.
    pub async fn follow(&self) -> Result<(Position, Chain), OrderError> {
        self.order(|then| Order::Follow { then }).await
    }

    /// Keeps frames that the other node made, each with the chain hash before it. When this returns they are on disk; those up to `shown` will show.
    /// Answers where the journal ends.
    pub async fn take(
        &self,
        frames: Vec<(Chain, Bytes)>,
        shown: u64,
    ) -> Result<(Position, Chain), OrderError> {
        self.order(|then| Order::Take { frames, shown, then }).await
    }

    /// The last frame, if it is not shown.
    pub fn unshown(&self) -> Result<Option<Bytes>, ReadError> {
        let shown = self.read()?.head()?.position;
        let (last, _) = self.journal_head();
        let frame = (last.seq > shown.seq).then(|| self.frame(last.seq)).transpose();
        Ok(frame.map_err(redb::StorageError::from)?.flatten())
    }

    /// Takes the last frame back, if it is not shown, and hands it over.
    pub async fn cut_last(&self) -> Result<Option<Bytes>, OrderError> {
        self.order(|then| Order::Cut { then }).await
    }

    /// Replaces all rows by those that come through `parts`, if they are complete and right. `spans` is told first what is
    /// here; what comes and is not complete stays for the next time.
    pub async fn install(
        &self,
        parts: mpsc::Receiver<Installing>,
        spans: oneshot::Sender<Vec<Span>>,
    ) -> Result<(), OrderError> {
        self.order(|then| Order::Install { parts, spans, then }).await
    }

    /// Where the journal ends. Its last frame may not be shown.
    pub fn journal_head(&self) -> (Position, Chain) {
        self.0.journal.lock().unwrap_or_else(PoisonError::into_inner).head()
    }

    /// The chain hash after a frame, if the journal still has it.
    pub fn chain_at(&self, seq: u64) -> Option<Chain> {
        self.0.journal.lock().unwrap_or_else(PoisonError::into_inner).chain_at(seq)
    }

    /// The epoch in which frame `seq` was made.
    pub fn epoch_of(&self, seq: u64) -> Result<u64, ReadError> {
        // Before the first pair there was no change of epoch.
        let mut epoch = FIRST_EPOCH;
        self.read()?.table(Table::Epochs)?.scan(&[], |key, value| {
            let began = u64::from_be_bytes(key.try_into().map_err(|_| ReadError::Key("epochs"))?);
            if EpochRow::decode(value)?.first_seq <= seq {
                epoch = began;
            }
            Ok(true)
        })?;
        Ok(epoch)
    }

    /// Who was primary in an epoch, if it began in a pair.
    pub fn owner_of(&self, epoch: u64) -> Result<Option<StoreId>, ReadError> {
        let row = self.read()?.get::<EpochRow>(Table::Epochs, &epoch.to_be_bytes())?;
        Ok(row.map(|row| row.owner))
    }

    /// The first frame of the first epoch after `epoch`, if there is one.
    pub fn epoch_after(&self, epoch: u64) -> Result<Option<u64>, ReadError> {
        let mut first = None;
        let from = epoch.saturating_add(1).to_be_bytes();
        self.read()?.table(Table::Epochs)?.scan(&from, |_, value| {
            first = Some(EpochRow::decode(value)?.first_seq);
            Ok(false)
        })?;
        Ok(first)
    }

    /// Keeps frames after `seq` in the journal, beyond its bound, until this is said again; with `u64::MAX` none. The
    /// writer says so itself when they become too many, or the disk nearly full.
    pub fn keep_after(&self, seq: u64) {
        self.0.keep_after.store(seq, Ordering::Relaxed);
    }

    /// The other node takes frames up to that version: they are written in the highest that both know.
    pub fn agree_on_frames(&self, theirs: u8) {
        self.0.frames.agree(theirs);
    }

    /// The version of frames that whoever follows this store must take.
    pub fn frame_version(&self) -> u8 {
        self.0.frames.used()
    }

    /// The places where this journal can be compared with another's: its end, and, if its last frame is not shown, the
    /// end without that.
    pub fn tips(&self) -> Vec<Tip> {
        let shown = self.read().and_then(|snapshot| snapshot.head());
        let (position, chain) = self.journal_head();
        let tip = |position: Position, chain| {
            let owner = self.owner_of(position.epoch).ok().flatten();
            Tip { position, chain, owner }
        };
        let mut tips = vec![tip(position, chain)];
        if let Ok(HeadRow { position, chain, .. }) = shown
            && position != tips[0].position
        {
            tips.push(tip(position, chain));
        }
        tips
    }

    /// The frame with that number, if the journal still has it.
    pub fn frame(&self, seq: u64) -> io::Result<Option<Bytes>> {
        let journal = self.0.journal.lock().unwrap_or_else(PoisonError::into_inner);
        let found = journal.frame_from(seq)?;
        Ok(found.filter(|(found, _)| *found == seq).map(|(_, frame)| frame.into()))
    }

    /// The content hash, counted anew over all rows, and the head that goes with them. Blocks, and reads everything.
    pub fn recount(&self) -> Result<(HeadRow, Content), ReadError> {
        let mut content = Content::default();
        let mut head = None;
        self.give_rows(&[], |part| {
            match part {
                Installing::Rows { table, rows, .. } => {
                    for (key, value) in &rows {
                        content.add(Content::of(table, key, value));
                    }
                }
                Installing::Same { .. } => {}
                Installing::Done(row) => head = Some(row),
            }
            true
        })?;
        Ok((head.ok_or(ReadError::Key("node"))?, content))
    }

    /// A segment that a row names and whose file is not here, if there is one.
    pub fn missing_segment(&self) -> Result<Option<SegmentKey>, ReadError> {
        let segments = self.read()?.segments()?;
        let missing = segments.iter().find(|(key, row)| self.archive().lacks(*key, row));
        Ok(missing.map(|(key, _)| *key))
    }

    /// Files of segments that no row names any more go.
    pub fn clean_archive(&self) -> Result<(), ReadError> {
        let segments = self.read()?.segments()?;
        if let Err(error) = self.archive().clean(&segments.iter().map(|(key, _)| *key).collect()) {
            tracing::warn!(%error, "the archive's folder cannot be cleaned");
        }
        Ok(())
    }

    /// Hands all rows, as of now, to `give` in parts, and the head that goes with them at last; those of `spans` that are
    /// the same here are not handed over. `give` says whether to go on. Blocks.
    pub fn give_rows(
        &self,
        spans: &[Span],
        mut give: impl FnMut(Installing) -> bool,
    ) -> Result<Option<HeadRow>, ReadError> {
        let txn = self.0.db.begin_read()?;
        let head = Snapshot::head_of(&txn)?;
        for (number, definition) in table::all() {
            let spans = spans.iter().filter(|span| span.table == number);
            if !give_table(&txn.open_table(definition)?, number, spans, &mut give)? {
                return Ok(None);
            }
        }
        Ok(give(Installing::Done(head)).then_some(head))
    }
}

/// Rows that are gathered until they are handed over.
#[derive(Default)]
struct Part {
    rows: Vec<(Bytes, Bytes)>,
    /// Of the rows since the last span's end, also of those that were handed over.
    bytes: u64,
    content: Content,
    /// Of the rows that are here.
    waiting: u64,
}

impl Part {
    fn add(&mut self, number: u8, key: &[u8], value: &[u8], is_compared: bool) {
        self.bytes += row_bytes(key, value);
        self.waiting += row_bytes(key, value);
        if is_compared {
            self.content.add(Content::of(number, key, value));
        }
        self.rows.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
    }

    /// Hands over what is gathered, in the middle of a span or behind the last.
    fn cut(&mut self, table: u8, upto: Option<Bytes>) -> Installing {
        self.waiting = 0;
        Installing::Rows { table, rows: std::mem::take(&mut self.rows), upto }
    }

    /// The same at a span's end.
    fn end(&mut self, span: &Span) -> Installing {
        let part = std::mem::take(self);
        let Span { table, last, bytes, content } = span.clone();
        if (part.bytes, part.content) == (bytes, content) {
            return Installing::Same { table, upto: last };
        }
        Installing::Rows { table, rows: part.rows, upto: Some(last) }
    }
}

/// Hands the rows of a table over, in parts; says whether to go on.
fn give_table<'s>(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    number: u8,
    mut spans: impl Iterator<Item = &'s Span>,
    give: &mut impl FnMut(Installing) -> bool,
) -> Result<bool, ReadError> {
    let mut part = Part::default();
    let mut span = spans.next();
    for entry in table.iter()? {
        let (key, value) = entry?;
        let (key, value) = (key.value(), value.value());
        while let Some(ended) = span.filter(|span| *span.last < *key) {
            if !give(part.end(ended)) {
                return Ok(false);
            }
            span = spans.next();
        }
        part.add(number, key, value, span.is_some());
        // While it may still be the same, it waits.
        let differs = span.is_none_or(|span| part.bytes > span.bytes);
        if differs
            && part.waiting >= PART_BYTES
            && !give(part.cut(number, Some(Bytes::copy_from_slice(key))))
        {
            return Ok(false);
        }
    }
    for ended in span.into_iter().chain(spans) {
        if !give(part.end(ended)) {
            return Ok(false);
        }
    }
    Ok(give(part.cut(number, None)))
}
