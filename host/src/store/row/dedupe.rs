//! What a source took in under a key, so that a sender that repeats itself gets the first receipt again.
//!
//! Key: solution number (4 bytes), source, a zero byte, once-key (32 bytes). Kept until its window is over, which
//! `dedupe_expiry` finds without a scan: expiry in Unix ms (8 bytes), then the key of the row that expires.

use serde::{Deserialize, Serialize};

use super::{SolutionNo, key, row};
use crate::model::{
    clock::UnixMs,
    message::{Fingerprint, MessageId, OnceKey},
    name::Name,
    position::Position,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DedupeRow {
    pub id: [u8; 16],
    pub position: Position,
    pub fingerprint: Fingerprint,
    pub expires_ms: UnixMs,
}

row!(DedupeRow, "dedupe", version 1);

impl DedupeRow {
    pub fn id(&self) -> MessageId {
        MessageId(self.id)
    }
}

/// The key says it all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DedupeExpiryRow;

row!(DedupeExpiryRow, "dedupe expiry", version 1);

pub fn dedupe_key(solution: SolutionNo, source: &Name, once: OnceKey) -> Vec<u8> {
    key([&solution.to_be_bytes(), source.as_str().as_bytes(), &[0], &once.0])
}

/// The key that a row is for.
pub fn read_dedupe_key(key: &[u8]) -> Option<OnceKey> {
    key.split_last_chunk::<32>().map(|(_, once)| OnceKey(*once))
}

pub fn dedupe_expiry_key(expires_ms: UnixMs, dedupe_key: &[u8]) -> Vec<u8> {
    key([&expires_ms.to_be_bytes(), dedupe_key])
}

/// When a row expires, and its key.
pub fn read_dedupe_expiry_key(key: &[u8]) -> Option<(UnixMs, &[u8])> {
    let (expires, dedupe_key) = key.split_first_chunk::<8>()?;
    Some((UnixMs::from_be_bytes(*expires), dedupe_key))
}

#[cfg(test)]
mod tests {
    use super::{super::check_round_trip, *};

    #[test]
    fn round_trip() {
        let row = DedupeRow {
            id: [7; 16],
            position: Position { epoch: 1, seq: 300 },
            fingerprint: Fingerprint([8; 16]),
            expires_ms: 2,
        };
        let bytes = [&[1_u8][..], &[7; 16], &[1, 0xac, 2], &[8; 16], &[2]].concat();
        check_round_trip(&row, &bytes);
        check_round_trip(&DedupeExpiryRow, &[1]);
    }

    #[test]
    fn keys() {
        let key = dedupe_key(1, &"in".parse().unwrap(), OnceKey([9; 32]));
        assert_eq!(key, [&[0, 0, 0, 1, b'i', b'n', 0][..], &[9; 32]].concat());
        let expiry = dedupe_expiry_key(5, &key);
        assert_eq!(read_dedupe_expiry_key(&expiry), Some((5, key.as_slice())));
        assert!(expiry < dedupe_expiry_key(6, &[]), "the first to expire is the first row");
        assert_eq!(read_dedupe_expiry_key(b"short"), None);
    }
}
