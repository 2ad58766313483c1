//! A message as it was accepted; written once, never changed.
//!
//! Key: message id (16 bytes).

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Row, RowError, SolutionNo, row};
use crate::model::{
    clock::UnixMs,
    message::{Content, Message, MessageId},
    name::Name,
    position::Position,
};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageRow {
    pub solution: Name,
    pub solution_no: SolutionNo,
    pub source: Name,
    pub time_ms: UnixMs,
    pub position: Position,
    /// The message whose handling published it.
    pub parent: Option<[u8; 16]>,
    /// Published not to be handled before this time.
    pub due_ms: Option<UnixMs>,
    pub headers: Vec<(String, serde_bytes::ByteBuf)>,
    pub content_type: Option<String>,
    pub key: Option<String>,
    pub body: Bytes,
}

row!(MessageRow, "message", version 1);

/// What a message row begins with.
#[derive(Debug, Deserialize)]
pub struct MessageHead {
    pub solution: Name,
    pub solution_no: SolutionNo,
}

impl MessageHead {
    /// Reads no further than it must: the body stays where it is.
    pub fn decode(row: &[u8]) -> Result<Self, RowError> {
        let damaged = RowError { kind: MessageRow::KIND, version: row.first().copied() };
        match row.split_first() {
            Some((&MessageRow::VERSION, rest)) => {
                postcard::take_from_bytes(rest).map(|(head, _)| head).map_err(|_| damaged)
            }
            _ => Err(damaged),
        }
    }
}

impl MessageRow {
    pub fn into_message(self, id: MessageId) -> Message {
        let headers =
            self.headers.into_iter().map(|(name, value)| (name, value.into_vec())).collect();
        let Self { solution, source, time_ms, content_type, key, body, .. } = self;
        Message {
            id,
            solution,
            time_ms,
            content: Content { source, headers, content_type, key, body },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::check_round_trip, *};

    #[test]
    fn round_trip() {
        let row = MessageRow {
            solution: "a".parse().unwrap(),
            solution_no: 1,
            source: "b".parse().unwrap(),
            time_ms: 2,
            position: Position { epoch: 1, seq: 3 },
            parent: None,
            due_ms: None,
            headers: vec![("h".into(), serde_bytes::ByteBuf::from(*b"v"))],
            content_type: Some("t".into()),
            key: None,
            body: Bytes::from_static(b"xyz"),
        };
        let bytes = b"\x01\x01a\x01\x01b\x02\x01\x03\x00\x00\x01\x01h\x01v\x01\x01t\x00\x03xyz";
        check_round_trip(&row, bytes);
        let head = MessageHead::decode(bytes).unwrap();
        assert_eq!((head.solution, head.solution_no), (row.solution, row.solution_no));
        MessageHead::decode(b"\x02").unwrap_err();
    }
}
