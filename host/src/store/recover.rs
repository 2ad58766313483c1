//! Messages that one node of a pair had accepted and the other may not have.
//!
//! After the nodes were apart, what the one that is not primary accepted meanwhile comes to the primary again, with its
//! first id: nothing is lost, and what came there too is not taken twice. What its handling did is not carried over, but
//! effects that it made for certain are not made again.

use std::{collections::BTreeMap, io};

use serde::{Deserialize, Serialize};

use super::{
    ReadError, Store,
    frame::{Frame, FrameError, Op},
    records::Wanted,
    row::{
        Row,
        dedupe::{DedupeRow, read_dedupe_key},
        delivery::{DeliveryRow, DeliveryStatusRow, read_delivery_key},
        epoch::EpochRow,
        message::MessageRow,
    },
    table::Table,
};
use crate::model::{
    message::{MessageId, OnceKey},
    name::Name,
    pair::StoreId,
};

/// What a piece of it holds at most, in bytes …
const PIECE_BYTES: usize = 4 << 20;
/// … and in messages and effects; but for a message that is more by itself.
const PIECE_COUNT: usize = 8192;

/// A message from outside as it was accepted, and under which key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    pub id: MessageId,
    pub message: MessageRow,
    pub once: Option<(OnceKey, DedupeRow)>,
}

/// An effect that was made, for certain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    pub id: MessageId,
    pub index: u16,
    pub row: DeliveryRow,
}

/// What one node has and the other may not have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Apart {
    pub messages: Vec<Recovered>,
    /// Of these messages, and of those that both have.
    pub made: Vec<Made>,
}

/// [`Apart`], as far as it can be read.
#[derive(Debug)]
pub struct Accepted {
    pub apart: Apart,
    /// Segments, or parts of them, that are missing or damaged: what they had is not in it.
    pub unreadable: u64,
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
    /// There is another message under its key: it is not taken in.
    Conflicting,
}

impl Fate {
    const ALL: [Self; 5] =
        [Self::Taken, Self::Known, Self::SentAgain, Self::NoSolution, Self::Conflicting];

    /// For the wire.
    pub fn number(self) -> u8 {
        self as u8
    }

    pub fn of_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|fate| *fate as u8 == number)
    }
}

/// [`Apart`] as bytes: in files and between nodes.
#[derive(Serialize, Deserialize)]
struct Packed {
    messages: Vec<PackedMessage>,
    made: Vec<PackedMade>,
}

#[derive(Serialize, Deserialize)]
struct PackedMessage {
    id: [u8; 16],
    message: Vec<u8>,
    once: Option<([u8; 32], Vec<u8>)>,
}

#[derive(Serialize, Deserialize)]
struct PackedMade {
    id: [u8; 16],
    index: u16,
    row: Vec<u8>,
}

/// Bytes that are no messages.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    #[error("recovered messages cannot be read: {0}")]
    Postcard(#[from] postcard::Error),
    #[error(transparent)]
    Row(#[from] super::row::RowError),
}

impl Apart {
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.made.is_empty()
    }

    fn add(&mut self, more: Self) {
        self.messages.extend(more.messages);
        self.made.extend(more.made);
    }

    /// Cuts it up: each piece goes over a link, and into a store, as one. They may be taken in one after the other, with
    /// a crash between any two, and again from the first one on.
    ///
    /// An effect is in one piece with its message: as soon as that is there, it may be made.
    pub fn pieces(self) -> Vec<Self> {
        let mut made = BTreeMap::<_, Vec<_>>::new();
        for effect in self.made {
            made.entry(effect.id).or_default().push(effect);
        }
        let messages = self.messages.into_iter().map(|recovered| Self {
            made: made.remove(&recovered.id).unwrap_or_default(),
            messages: vec![recovered],
        });
        let messages: Vec<_> = messages.collect();
        // Of messages that both nodes have.
        let others = made.into_values().map(|made| Self { messages: Vec::new(), made });
        let mut pieces = Vec::<Self>::new();
        let (mut bytes, mut count) = (0, 0);
        for part in others.chain(messages) {
            let (more_bytes, more) = part.size();
            (bytes, count) = (bytes + more_bytes, count + more);
            match pieces.last_mut() {
                Some(piece) if bytes <= PIECE_BYTES && count <= PIECE_COUNT => piece.add(part),
                _ => {
                    (bytes, count) = (more_bytes, more);
                    pieces.push(part);
                }
            }
        }
        pieces
    }

    /// In bytes, about, and how many messages and effects.
    fn size(&self) -> (usize, usize) {
        let messages = self.messages.iter().map(|recovered| recovered.message.encode().len());
        let made = self.made.iter().map(|made| made.row.encode().len());
        (messages.chain(made).sum(), self.messages.len() + self.made.len())
    }

    pub fn pack(&self) -> Result<Vec<u8>, PackError> {
        let messages = self.messages.iter().map(|recovered| PackedMessage {
            id: recovered.id.0,
            message: recovered.message.encode(),
            once: recovered.once.as_ref().map(|(key, row)| (key.0, row.encode())),
        });
        let made = self.made.iter().map(|made| PackedMade {
            id: made.id.0,
            index: made.index,
            row: made.row.encode(),
        });
        let packed = Packed { messages: messages.collect(), made: made.collect() };
        Ok(postcard::to_stdvec(&packed)?)
    }

    pub fn unpack(bytes: &[u8]) -> Result<Self, PackError> {
        let packed: Packed = postcard::from_bytes(bytes)?;
        let messages = packed.messages.into_iter().map(|PackedMessage { id, message, once }| {
            let once = match once {
                Some((key, row)) => Some((OnceKey(key), DedupeRow::decode(&row)?)),
                None => None,
            };
            Ok(Recovered { id: MessageId(id), message: MessageRow::decode(&message)?, once })
        });
        let made = packed.made.into_iter().map(|PackedMade { id, index, row }| {
            Ok(Made { id: MessageId(id), index, row: DeliveryRow::decode(&row)? })
        });
        Ok(Self {
            messages: messages.collect::<Result<_, PackError>>()?,
            made: made.collect::<Result<_, PackError>>()?,
        })
    }
}

/// Messages from outside that a frame takes in, and effects that were made by then.
pub fn accepted_in(frame: &[u8]) -> Result<Apart, FrameError> {
    let (mut messages, mut made) = (Vec::new(), Vec::new());
    let mut keys = BTreeMap::new();
    for op in Frame::decode(frame)?.ops() {
        match op? {
            Op::Put { table: Table::Messages, key, value } => {
                if let (Ok(id), Ok(message)) = (key.try_into(), MessageRow::decode(value)) {
                    messages.push((MessageId(id), message));
                }
            }
            Op::Put { table: Table::Dedupe, key, value } => note_key(&mut keys, key, value),
            Op::Put { table: Table::Deliveries, key, value } => note_made(&mut made, key, value),
            _ => {}
        }
    }
    Ok(Apart { messages: from_outside(messages, &mut keys), made })
}

fn note_key(keys: &mut BTreeMap<MessageId, (OnceKey, DedupeRow)>, key: &[u8], value: &[u8]) {
    if let (Some(once), Ok(row)) = (read_dedupe_key(key), DedupeRow::decode(value)) {
        keys.insert(row.id(), (once, row));
    }
}

fn note_made(made: &mut Vec<Made>, key: &[u8], value: &[u8]) {
    if let (Some((id, index)), Ok(mut row)) = (read_delivery_key(key), DeliveryRow::decode(value))
        && row.status == DeliveryStatusRow::Delivered
    {
        // The others came to nothing.
        row.attempts.drain(..row.attempts.len().saturating_sub(1));
        made.push(Made { id, index, row });
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
    /// Messages from outside that were accepted in frames after `seq`, those of them that are `wanted`, and all effects
    /// that were made and are not in the archive. Blocks.
    pub fn accepted_after(&self, seq: u64, wanted: &Wanted<'_>) -> Result<Accepted, ReadError> {
        let snapshot = self.read()?;
        let (mut messages, mut unreadable) = (Vec::new(), 0);
        for record in snapshot.records(wanted)? {
            match record {
                Ok(record) if record.message.position.seq > seq => {
                    messages.push((record.id, record.message));
                }
                Ok(_) => {}
                Err(ReadError::Segment(error)) => {
                    unreadable += 1;
                    tracing::warn!(%error, "finished messages in the archive cannot be read");
                }
                Err(error) => return Err(error),
            }
        }
        // Records come by their ids, the newest first; they are taken in again as they were accepted.
        messages.sort_by_key(|(id, message)| (message.position, *id));
        let mut keys = BTreeMap::new();
        snapshot.table(Table::Dedupe)?.scan(&[], |key, value| {
            note_key(&mut keys, key, value);
            Ok(true)
        })?;
        let mut made = Vec::new();
        snapshot.table(Table::Deliveries)?.scan(&[], |key, value| {
            note_made(&mut made, key, value);
            Ok(true)
        })?;
        let mut apart = Apart { messages: from_outside(messages, &mut keys), made };
        // Who died right after it wrote a frame does not show it, though it may have given receipts for it.
        let shown = snapshot.head()?.position.seq;
        let mut damaged = None;
        self.journal(shown.max(seq) + 1, |frame| {
            match accepted_in(frame) {
                Ok(more) => apart.add(more),
                Err(error) => damaged = Some(error),
            }
            damaged.is_none()
        })
        .map_err(redb::StorageError::from)?;
        match damaged {
            Some(error) => Err(redb::StorageError::from(io::Error::other(error)).into()),
            None => Ok(Accepted { apart, unreadable }),
        }
    }

    /// Up to which frame another primary made what is here, if the last epochs are this node's own. What follows is in
    /// no other store, and of what does not, at most the last frame.
    pub fn parted(&self) -> Result<Option<u64>, ReadError> {
        let snapshot = self.read()?;
        let own = StoreId(snapshot.identity()?.store_id);
        let mut first = None;
        snapshot.table(Table::Epochs)?.scan(&[], |_, value| {
            let row = EpochRow::decode(value)?;
            first = (row.owner == own).then(|| first.unwrap_or(row.first_seq));
            Ok(true)
        })?;
        // The last of the other may not have been on its disk when it died.
        Ok(first.map(|first_seq| first_seq.saturating_sub(2)))
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
