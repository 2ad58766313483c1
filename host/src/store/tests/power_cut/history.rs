//! What a store held after each of its commits, made from the frames, and what it promised.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;

use crate::{
    model::{message::MessageId, position::Chain},
    store::{
        Store,
        frame::{Frame, Op},
        row::{
            Ordinal, Row, SolutionNo,
            segment::{SegmentKey, SweepRow},
        },
        segment::Entry,
        table::Table,
    },
};

pub type Rows = BTreeMap<(Table, Vec<u8>), Bytes>;

/// All rows as they are.
pub fn rows(store: &Store) -> Result<Rows, String> {
    let snapshot = store.read().map_err(|error| error.to_string())?;
    let mut rows = Rows::new();
    for table in Table::ALL {
        let take = |key: &[u8], value: &[u8]| {
            rows.insert((table, key.to_vec()), Bytes::copy_from_slice(value));
            Ok(true)
        };
        let scanned = snapshot.table(table).and_then(|table| table.scan(&[], take));
        scanned.map_err(|error| error.to_string())?;
    }
    Ok(rows)
}

/// One commit: its frame, and everything after it.
#[derive(Debug)]
pub struct Kept {
    pub frame: Bytes,
    pub chain: Chain,
    pub rows: Rows,
    pub archived: Archived,
}

/// Where messages are that moved.
#[derive(Debug, Clone, Default)]
pub struct Archived {
    pub sealed: BTreeMap<MessageId, SegmentKey>,
    /// Gone together with their segment.
    pub expired: BTreeSet<MessageId>,
}

impl Archived {
    pub fn knows(&self, id: MessageId) -> bool {
        self.sealed.contains_key(&id) || self.expired.contains(&id)
    }

    pub fn are_rich(&self) -> bool {
        self.sealed.len() + self.expired.len() > 10 && !self.expired.is_empty()
    }

    fn seal(&mut self, key: SegmentKey, sweep: SweepRow) {
        self.sealed.extend(sweep.ids.into_iter().map(|id| (MessageId(id), key)));
    }

    fn expire(&mut self, key: SegmentKey) {
        self.expired.extend(self.sealed.extract_if(.., |_, of| *of == key).map(|(id, _)| id));
    }
}

/// An attempt that was handed to the store.
#[derive(Debug, Clone, Copy)]
pub struct Attempt {
    /// The commit it was to be in.
    pub seq: u64,
    pub solution_no: SolutionNo,
    pub ordinal: Ordinal,
    pub id: MessageId,
    /// Attempts before it.
    pub earlier: u32,
}

/// Of one store, since it was made.
#[derive(Debug, Clone)]
pub struct History {
    pub store_id: [u8; 16],
    /// By sequence number; the first is the new store.
    pub commits: Vec<Arc<Kept>>,
    /// Messages with a receipt, and the commits they are in.
    pub receipts: Vec<(MessageId, u64)>,
    pub attempts: Vec<Attempt>,
    /// What each segment holds that was ever written.
    pub segments: BTreeMap<SegmentKey, Arc<[Entry]>>,
}

impl History {
    pub fn of_new(store: &Store) -> Self {
        let new = Kept {
            frame: Bytes::new(),
            chain: Chain::default(),
            rows: Rows::new(),
            archived: Archived::default(),
        };
        Self {
            store_id: store.read().unwrap().identity().unwrap().store_id,
            commits: vec![Arc::new(new)],
            receipts: Vec::new(),
            attempts: Vec::new(),
            segments: BTreeMap::new(),
        }
    }

    pub fn head(&self) -> u64 {
        self.commits.len() as u64 - 1
    }

    pub fn at(&self, seq: u64) -> Option<&Kept> {
        self.commits.get(usize::try_from(seq).ok()?).map(Arc::as_ref)
    }

    pub fn last(&self) -> &Kept {
        self.commits.last().expect("the new store is there")
    }

    /// Takes over what was committed since.
    pub fn follow(&mut self, store: &Store) -> Result<(), String> {
        let mut frames = Vec::new();
        let take = |frame: &[u8]| {
            frames.push(Bytes::copy_from_slice(frame));
            true
        };
        store.journal(self.head() + 1, take).map_err(|error| error.to_string())?;
        for frame in frames {
            self.commits.push(Arc::new(next(self.last(), frame)?));
        }
        Ok(())
    }

    /// What came after `head` did not happen.
    pub fn back_to(&mut self, head: u64) {
        self.commits.truncate(usize::try_from(head).expect("few commits") + 1);
        self.receipts.retain(|(_, seq)| *seq <= head);
        self.attempts.retain(|attempt| attempt.seq <= head);
    }
}

fn next(before: &Kept, frame: Bytes) -> Result<Kept, String> {
    let (mut rows, mut archived) = (before.rows.clone(), before.archived.clone());
    for op in Frame::decode(&frame).map_err(|error| error.to_string())?.ops() {
        match op.map_err(|error| error.to_string())? {
            Op::Put { table, key, value } => {
                if let (Table::Sweeps, Some(segment)) = (table, SegmentKey::from_bytes(key)) {
                    archived.seal(segment, SweepRow::decode(value).map_err(|e| e.to_string())?);
                }
                rows.insert((table, key.to_vec()), Bytes::copy_from_slice(value));
            }
            Op::Delete { table, key } => {
                if let (Table::Segments, Some(segment)) = (table, SegmentKey::from_bytes(key)) {
                    archived.expire(segment);
                }
                rows.remove(&(table, key.to_vec()));
            }
        }
    }
    Ok(Kept { chain: before.chain.next(&frame), frame, rows, archived })
}
