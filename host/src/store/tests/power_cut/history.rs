//! What a store held after each of its commits, made from the frames, and what it promised.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;

use crate::{
    model::{message::MessageId, position::Chain},
    store::{
        Store,
        frame::{Frame, Op},
        row::{Ordinal, SolutionNo},
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
}

impl History {
    pub fn of_new(store: &Store) -> Self {
        let new = Kept { frame: Bytes::new(), chain: Chain::default(), rows: Rows::new() };
        let store_id = store.read().unwrap().identity().unwrap().store_id;
        Self { store_id, commits: vec![Arc::new(new)], receipts: Vec::new(), attempts: Vec::new() }
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
        let snapshot = store.read().map_err(|error| error.to_string())?;
        let mut frames = Vec::new();
        let take = |frame: &[u8]| {
            frames.push(Bytes::copy_from_slice(frame));
            Ok(true)
        };
        snapshot.journal(self.head() + 1, take).map_err(|error| error.to_string())?;
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
    let mut rows = before.rows.clone();
    for op in Frame::decode(&frame).map_err(|error| error.to_string())?.ops() {
        match op.map_err(|error| error.to_string())? {
            Op::Put { table, key, value } => {
                rows.insert((table, key.to_vec()), Bytes::copy_from_slice(value));
            }
            Op::Delete { table, key } => drop(rows.remove(&(table, key.to_vec()))),
        }
    }
    Ok(Kept { chain: before.chain.next(&frame), frame, rows })
}
