//! Messages that one node of a pair had accepted and the other may not have.
//!
//! After the nodes were apart, what the one that is not primary accepted meanwhile comes to the primary again, with its
//! first id: nothing is lost, and what came there too is not taken twice. What its handling did is not carried over.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    ReadError, Store,
    frame::{Frame, FrameError, Op},
    records::Wanted,
    row::{
        Row,
        dedupe::{DedupeRow, read_dedupe_key},
        message::MessageRow,
    },
    table::Table,
};
use crate::model::{
    message::{MessageId, OnceKey},
    name::Name,
};

/// A message from outside as it was accepted, and under which key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    pub id: MessageId,
    pub message: MessageRow,
    pub once: Option<(OnceKey, DedupeRow)>,
}

/// What became of one that was brought to the primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// It was not there, and is now.
    Taken,
    /// It was there.
    Known,
    /// Its sender had sent it there again, under the same key.
    SentAgain,
    /// No such solution is deployed there.
    NoSolution,
}

impl Fate {
    const ALL: [Self; 4] = [Self::Taken, Self::Known, Self::SentAgain, Self::NoSolution];

    /// For the wire.
    pub fn number(self) -> u8 {
        self as u8
    }

    pub fn of_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|fate| *fate as u8 == number)
    }
}

/// [`Recovered`] as bytes: in files and between nodes.
#[derive(Serialize, Deserialize)]
struct Packed {
    id: [u8; 16],
    message: Vec<u8>,
    once: Option<([u8; 32], Vec<u8>)>,
}

/// Bytes that are no messages.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    #[error("recovered messages cannot be read: {0}")]
    Postcard(#[from] postcard::Error),
    #[error(transparent)]
    Row(#[from] super::row::RowError),
}

/// Packs messages.
pub fn pack(messages: &[Recovered]) -> Result<Vec<u8>, PackError> {
    let packed = messages.iter().map(|recovered| Packed {
        id: recovered.id.0,
        message: recovered.message.encode(),
        once: recovered.once.as_ref().map(|(key, row)| (key.0, row.encode())),
    });
    Ok(postcard::to_stdvec(&packed.collect::<Vec<_>>())?)
}

/// Reads what [`pack`] wrote.
pub fn unpack(bytes: &[u8]) -> Result<Vec<Recovered>, PackError> {
    let packed: Vec<Packed> = postcard::from_bytes(bytes)?;
    let unpacked = packed.into_iter().map(|Packed { id, message, once }| {
        let once = match once {
            Some((key, row)) => Some((OnceKey(key), DedupeRow::decode(&row)?)),
            None => None,
        };
        Ok(Recovered { id: MessageId(id), message: MessageRow::decode(&message)?, once })
    });
    unpacked.collect()
}

/// Messages from outside that a frame takes in.
pub fn accepted_in(frame: &Bytes) -> Result<Vec<Recovered>, FrameError> {
    let mut messages = Vec::new();
    let mut keys = BTreeMap::new();
    for op in Frame::decode(frame)?.ops() {
        match op? {
            Op::Put { table: Table::Messages, key, value } => {
                if let (Ok(id), Ok(message)) = (key.try_into(), MessageRow::decode(value)) {
                    messages.push((MessageId(id), message));
                }
            }
            Op::Put { table: Table::Dedupe, key, value } => note_key(&mut keys, key, value),
            _ => {}
        }
    }
    Ok(from_outside(messages, &mut keys))
}

fn note_key(keys: &mut BTreeMap<MessageId, (OnceKey, DedupeRow)>, key: &[u8], value: &[u8]) {
    if let (Some(once), Ok(row)) = (read_dedupe_key(key), DedupeRow::decode(value)) {
        keys.insert(row.id(), (once, row));
    }
}

/// Leaves out what other messages' handling published: it comes of them again.
fn from_outside(
    messages: Vec<(MessageId, MessageRow)>,
    keys: &mut BTreeMap<MessageId, (OnceKey, DedupeRow)>,
) -> Vec<Recovered> {
    let outside = messages.into_iter().filter(|(_, message)| message.parent.is_none());
    outside.map(|(id, message)| Recovered { id, message, once: keys.remove(&id) }).collect()
}

impl Store {
    /// Messages from outside that were accepted in frames after `seq`, wherever they are now. Blocks.
    pub fn accepted_after(&self, seq: u64) -> Result<Vec<Recovered>, ReadError> {
        let snapshot = self.read()?;
        let mut messages = Vec::new();
        for record in snapshot.records(&Wanted::default())? {
            let record = record?;
            if record.message.position.seq > seq {
                messages.push((record.id, record.message));
            }
        }
        let mut keys = BTreeMap::new();
        snapshot.table(Table::Dedupe)?.scan(&[], |key, value| {
            note_key(&mut keys, key, value);
            Ok(true)
        })?;
        Ok(from_outside(messages, &mut keys))
    }

    /// Which of these are not here, nor in the archive. Blocks.
    pub fn unknown_of(&self, messages: &[Recovered]) -> Result<Vec<bool>, ReadError> {
        let snapshot = self.read()?;
        messages.iter().map(|recovered| Ok(snapshot.record(recovered.id)?.is_none())).collect()
    }
}

/// For reports: how many of which solution.
pub fn by_solution(messages: &[Recovered]) -> BTreeMap<Name, u64> {
    let mut counts = BTreeMap::new();
    for recovered in messages {
        *counts.entry(recovered.message.solution.clone()).or_default() += 1;
    }
    counts
}
