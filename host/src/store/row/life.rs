//! What became of a message: its status and every attempt to handle it.
//!
//! Key: message id (16 bytes). Absent until the first attempt is over.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::row;
use crate::model::clock::UnixMs;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LifeRow {
    pub status: StatusRow,
    pub attempts: Vec<AttemptRow>,
}

row!(LifeRow, "life", version 1);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StatusRow {
    /// To be tried again, not before this time; a timer or a ready row says so too.
    Again {
        due_ms: UnixMs,
    },
    Done,
    Dead,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptRow {
    pub started_ms: UnixMs,
    pub duration_us: u64,
    /// Revision of the solution that ran.
    pub revision: u32,
    pub outcome: OutcomeRow,
    pub log: Vec<LogRow>,
    pub log_dropped: u32,
    pub state_written: Vec<String>,
    pub state_deleted: Vec<String>,
    pub published: Vec<[u8; 16]>,
    pub outbox: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum OutcomeRow {
    Done { reply: Option<ReplyRow> },
    Retry { reason: String, after_ms: Option<u64> },
    Rejected { reason: String },
    Failed { reason: String },
    Trapped { reason: String, backtrace: Vec<String> },
    TimedOut { limit_ms: u64 },
    OutOfMemory { limit_bytes: u64 },
    Unavailable { reason: String },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplyRow {
    pub status: u16,
    pub headers: Vec<(String, serde_bytes::ByteBuf)>,
    pub content_type: Option<String>,
    pub body: Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRow {
    /// 0 debug, 1 info, 2 warn, 3 error.
    pub level: u8,
    pub text: String,
}

#[cfg(test)]
mod tests {
    use super::{super::check_round_trip, *};

    #[test]
    fn round_trip() {
        let row = LifeRow {
            status: StatusRow::Again { due_ms: 9 },
            attempts: vec![AttemptRow {
                started_ms: 1,
                duration_us: 2,
                revision: 3,
                outcome: OutcomeRow::Retry { reason: "r".into(), after_ms: Some(4) },
                log: vec![LogRow { level: 1, text: "t".into() }],
                log_dropped: 0,
                state_written: vec!["k".into()],
                state_deleted: vec![],
                published: vec![],
                outbox: 1,
            }],
        };
        let bytes =
            b"\x01\x00\x09\x01\x01\x02\x03\x01\x01r\x01\x04\x01\x01\x01t\x00\x01\x01k\x00\x00\x01";
        check_round_trip(&row, bytes);
    }
}
