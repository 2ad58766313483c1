//! A message as it was accepted; written once, never changed.
//!
//! Key: message id (16 bytes).

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{SolutionNo, row};
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
    }
}
