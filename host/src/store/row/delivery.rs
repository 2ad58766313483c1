//! What became of an effect: every attempt to deliver it.
//!
//! Key: message id (16 bytes), index (2 bytes). Absent until the first attempt is over.

use serde::{Deserialize, Serialize};

use super::row;
use crate::model::{clock::UnixMs, message::MessageId};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryRow {
    pub method: String,
    pub url: String,
    pub status: DeliveryStatusRow,
    pub attempts: Vec<DeliveryAttemptRow>,
}

row!(DeliveryRow, "delivery", version 1);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DeliveryStatusRow {
    Again {
        due_ms: UnixMs,
    },
    Delivered,
    Dead,
    /// Of a request that must not be made twice: it may have been made.
    Begun {
        at_ms: UnixMs,
    },
    /// Nobody can know whether it was made, and it is not made again.
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryAttemptRow {
    pub started_ms: UnixMs,
    pub duration_us: u64,
    /// The receiver's status, if it answered.
    pub status: Option<u16>,
    /// What went wrong, if anything did.
    pub error: Option<String>,
    /// The beginning of the answer's body.
    pub answer: serde_bytes::ByteBuf,
}

pub fn delivery_key(id: MessageId, index: u16) -> [u8; 18] {
    let mut key = [0; 18];
    key[..16].copy_from_slice(&id.0);
    key[16..].copy_from_slice(&index.to_be_bytes());
    key
}

pub fn read_delivery_key(key: &[u8]) -> Option<(MessageId, u16)> {
    let (id, index) = key.split_first_chunk::<16>()?;
    Some((MessageId(*id), u16::from_be_bytes(index.try_into().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::{super::check_round_trip, *};

    #[test]
    fn round_trip() {
        let row = DeliveryRow {
            method: "GET".into(),
            url: "u".into(),
            status: DeliveryStatusRow::Delivered,
            attempts: vec![DeliveryAttemptRow {
                started_ms: 1,
                duration_us: 2,
                status: Some(200),
                error: None,
                answer: serde_bytes::ByteBuf::from(*b"ok"),
            }],
        };
        check_round_trip(&row, b"\x01\x03GET\x01u\x01\x01\x01\x02\x01\xc8\x01\x00\x02ok");
        let id = MessageId([3; 16]);
        assert_eq!(read_delivery_key(&delivery_key(id, 4)), Some((id, 4)));
        assert_eq!(read_delivery_key(b"short"), None);
    }
}
