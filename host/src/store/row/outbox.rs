//! An effect to deliver. Deleted when it was delivered or discarded; kept while it is a dead letter.
//!
//! Key: ordinal (8 bytes), index among the message's effects (2 bytes): in the order they were asked for.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Ordinal, Row, RowError, SolutionNo, row};
use crate::model::message::MessageId;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxRow {
    pub id: [u8; 16],
    pub solution_no: SolutionNo,
    pub method: String,
    pub url: String,
    pub headers: Vec<(String, serde_bytes::ByteBuf)>,
    pub body: Bytes,
    pub order: Option<String>,
}

row!(OutboxRow, "outbox", version 1);

impl OutboxRow {
    pub fn id(&self) -> MessageId {
        MessageId(self.id)
    }
}

/// What an outbox row begins with.
#[derive(Debug, Deserialize)]
pub struct OutboxHead {
    id: [u8; 16],
}

impl OutboxHead {
    /// Reads no further than it must: the body stays where it is.
    pub fn decode(row: &[u8]) -> Result<Self, RowError> {
        let damaged = RowError { kind: OutboxRow::KIND, version: row.first().copied() };
        match row.split_first() {
            Some((&OutboxRow::VERSION, rest)) => {
                postcard::take_from_bytes(rest).map(|(head, _)| head).map_err(|_| damaged)
            }
            _ => Err(damaged),
        }
    }

    pub fn id(&self) -> MessageId {
        MessageId(self.id)
    }
}

/// Names an effect in the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct OutboxKey {
    pub ordinal: Ordinal,
    pub index: u16,
}

impl OutboxKey {
    pub fn to_bytes(self) -> [u8; 10] {
        let mut key = [0; 10];
        key[..8].copy_from_slice(&self.ordinal.to_be_bytes());
        key[8..].copy_from_slice(&self.index.to_be_bytes());
        key
    }

    pub fn from_bytes(key: &[u8]) -> Option<Self> {
        let (ordinal, index) = key.split_first_chunk::<8>()?;
        let index = u16::from_be_bytes(index.try_into().ok()?);
        Some(Self { ordinal: Ordinal::from_be_bytes(*ordinal), index })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::check_round_trip, *};

    #[test]
    fn round_trip() {
        let row = OutboxRow {
            id: [1; 16],
            solution_no: 2,
            method: "POST".into(),
            url: "u".into(),
            headers: vec![],
            body: Bytes::from_static(b"b"),
            order: Some("o".into()),
        };
        let bytes = [&[1_u8][..], &[1; 16], b"\x02\x04POST\x01u\x00\x01b\x01\x01o"].concat();
        check_round_trip(&row, &bytes);
        assert_eq!(OutboxHead::decode(&bytes).unwrap().id(), row.id());
        let key = OutboxKey { ordinal: 5, index: 6 };
        assert_eq!(OutboxKey::from_bytes(&key.to_bytes()), Some(key));
        assert_eq!(OutboxKey::from_bytes(b"short"), None);
    }
}
