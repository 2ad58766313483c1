//! Messages with all that became of them, among the live ones or in a segment: the reader need not know which.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    archive::Archive,
    row::{
        Row,
        delivery::{DeliveryRow, delivery_key, read_delivery_key},
        message::MessageRow,
        segment::{SegmentKey, SegmentRow},
    },
    segment::{Entry, Record, Segment, SegmentError},
    snapshot::{ReadError, Snapshot, SnapshotRange, SnapshotTable},
    table::Table,
};
use crate::model::message::MessageId;

/// Which messages are looked for.
#[derive(Debug, Default)]
pub struct Wanted<'a> {
    /// Only those of this solution. Others may be handed out too: this spares looking into their files.
    pub solution: Option<&'a str>,
    /// Only those with this key; likewise.
    pub key: Option<&'a str>,
    /// Only those that are not finished; likewise.
    pub unfinished: bool,
    /// Only older ones than this.
    pub below: Option<MessageId>,
}

impl Snapshot {
    /// A message and all that became of it, wherever it is.
    pub fn record(&self, id: MessageId) -> Result<Option<Record>, ReadError> {
        if let Some(message) = self.get(Table::Messages, &id.0)? {
            let life = self.get(Table::Lives, &id.0)?;
            return Ok(Some(Record { id, message, life, deliveries: self.deliveries(id)? }));
        }
        let segments = self.segments()?.into_iter();
        let mut unreadable = None;
        for (key, _) in segments.filter(|(key, row)| key.first <= id && id.0 <= row.last) {
            match self.sealed(key, id) {
                Ok(None) => {}
                Ok(record) => return Ok(record),
                // It may be in another all the same.
                Err(error) => unreadable = Some(error),
            }
        }
        unreadable.map_or(Ok(None), |error| Err(error.into()))
    }

    fn sealed(&self, key: SegmentKey, id: MessageId) -> Result<Option<Record>, SegmentError> {
        let segment = self.archive().open(key)?;
        segment.get(id)?.map(|entry| segment.decode(&entry)).transpose()
    }

    fn deliveries(&self, id: MessageId) -> Result<Vec<(u16, DeliveryRow)>, ReadError> {
        let rows = self.delivery_rows(id)?.into_iter();
        rows.map(|(index, row)| Ok((index, DeliveryRow::decode(&row)?))).collect()
    }

    /// Rows of a message's deliveries, by index; those of a message among the live ones.
    pub fn delivery_rows(&self, id: MessageId) -> Result<Vec<(u16, Bytes)>, ReadError> {
        let mut deliveries = Vec::new();
        self.table(Table::Deliveries)?.scan(&delivery_key(id, 0), |key, value| {
            let (of, index) = read_delivery_key(key).ok_or(ReadError::Key("deliveries"))?;
            if of == id {
                deliveries.push((index, Bytes::copy_from_slice(value)));
            }
            Ok(of == id)
        })?;
        Ok(deliveries)
    }

    /// All segments, by solution and age.
    pub fn segments(&self) -> Result<Vec<(SegmentKey, SegmentRow)>, ReadError> {
        let mut segments = Vec::new();
        self.table(Table::Segments)?.scan(&[], |key, value| {
            let key = SegmentKey::from_bytes(key).ok_or(ReadError::Key("segments"))?;
            segments.push((key, SegmentRow::decode(value)?));
            Ok(true)
        })?;
        Ok(segments)
    }

    /// Messages, the newest first; without their deliveries.
    pub fn records(&self, wanted: &Wanted<'_>) -> Result<Records, ReadError> {
        let mut segments = if wanted.unfinished { Vec::new() } else { self.segments()? };
        segments.retain(|(key, row)| {
            // Messages for nobody, number 0, lie together whatever the name was.
            let solution = wanted.solution.is_none_or(|name| row.solution.as_str() == name);
            (solution || key.solution_no == 0) && wanted.below.is_none_or(|below| key.first < below)
        });
        segments.sort_by_key(|(_, row)| row.last);
        let below = wanted.below.as_ref().map(|id| &id.0[..]);
        Ok(Records {
            live: self.table(Table::Messages)?.back(below)?,
            lives: self.table(Table::Lives)?,
            next_live: None,
            archive: self.archive().clone(),
            sealed: segments.into_iter().map(|(key, row)| (key, MessageId(row.last))).collect(),
            open: Vec::new(),
            key: wanted.key.map(str::to_owned),
            below: wanted.below,
            failed: None,
        })
    }
}

/// An iterator over messages, the newest first. It goes on after what cannot be read.
pub struct Records {
    live: SnapshotRange,
    lives: SnapshotTable,
    next_live: Option<(MessageId, MessageRow)>,
    archive: Arc<Archive>,
    /// Segments that were not opened yet, with their last message; the newest is last.
    sealed: Vec<(SegmentKey, MessageId)>,
    open: Vec<Cursor>,
    key: Option<String>,
    below: Option<MessageId>,
    /// Why the next block of one that was open could not be read; told next.
    failed: Option<ReadError>,
}

impl std::fmt::Debug for Records {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Records").field("sealed", &self.sealed.len()).finish_non_exhaustive()
    }
}

/// A place in a segment, moving backwards.
struct Cursor {
    segment: Arc<Segment>,
    /// Blocks that were not read yet; the next is last.
    blocks: Vec<usize>,
    /// Of the block that was read; the next is last. Never empty between calls.
    entries: Vec<Entry>,
}

impl Cursor {
    fn newest(&self) -> Option<MessageId> {
        self.entries.last().map(|entry| MessageId(entry.id))
    }

    /// Reads the next block if none is at hand.
    fn fill(&mut self, below: Option<MessageId>) -> Result<(), ReadError> {
        while self.entries.is_empty()
            && let Some(block) = self.blocks.pop()
        {
            self.entries = self.segment.block(block)?;
            self.entries.retain(|entry| below.is_none_or(|below| entry.id < below.0));
        }
        Ok(())
    }
}

impl Records {
    fn open(&mut self, key: SegmentKey) -> Result<(), ReadError> {
        let segment = self.archive.open(key)?;
        let mut blocks = match &self.key {
            Some(key) => segment.blocks_with_key(key)?,
            None => (0..segment.blocks()).collect(),
        };
        if let Some(below) = self.below {
            let last = segment.block_of(below);
            blocks.retain(|block| last.is_some_and(|last| *block <= last));
        }
        let mut cursor = Cursor { segment, blocks, entries: Vec::new() };
        cursor.fill(self.below)?;
        if !cursor.entries.is_empty() {
            self.open.push(cursor);
        }
        Ok(())
    }

    fn peek_live(&mut self) -> Result<Option<MessageId>, ReadError> {
        if self.next_live.is_none()
            && let Some(row) = self.live.next()
        {
            let (key, value) = row?;
            let id = MessageId(key[..].try_into().map_err(|_| ReadError::Key("messages"))?);
            self.next_live = Some((id, MessageRow::decode(&value)?));
        }
        Ok(self.next_live.as_ref().map(|(id, _)| *id))
    }

    fn advance(&mut self) -> Result<Option<Record>, ReadError> {
        let live = self.peek_live()?;
        let newest = loop {
            let newest = self.open.iter().filter_map(Cursor::newest).max().max(live);
            match self.sealed.pop_if(|(_, last)| newest.is_none_or(|newest| *last >= newest)) {
                Some((key, _)) => self.open(key)?,
                None => break newest,
            }
        };
        let Some(newest) = newest else { return Ok(None) };
        let mut record = None;
        if live == Some(newest)
            && let Some((id, message)) = self.next_live.take()
        {
            let life = self.lives.get(&id.0)?;
            record = Some(Record { id, message, life, deliveries: Vec::new() });
        }
        // A message that is being moved is in both places.
        for cursor in &mut self.open {
            if cursor.newest() == Some(newest)
                && let Some(entry) = cursor.entries.pop()
            {
                if record.is_none() {
                    record = Some(cursor.segment.decode(&entry)?);
                }
                // What this one is, is known.
                self.failed = cursor.fill(self.below).err().or(self.failed.take());
            }
        }
        self.open.retain(|cursor| !cursor.entries.is_empty());
        Ok(record)
    }
}

impl Iterator for Records {
    type Item = Result<Record, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.failed.take().map_or_else(|| self.advance().transpose(), |error| Some(Err(error)))
    }
}
