//! A message: id, source, headers, key, body.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{clock::UnixMs, name::Name};

/// Names a message on both nodes, for ever. UUIDv7, so that ids sort by time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub [u8; 16]);

impl MessageId {
    /// The id of a schedule's tick: made from the schedule and its nominal time, so that it cannot fire twice.
    pub fn of_tick(solution: &Name, source: &Name, nominal: UnixMs) -> Self {
        let mut hasher = blake3::Hasher::new();
        for part in [solution.as_str().as_bytes(), b"\0", source.as_str().as_bytes(), b"\0"] {
            hasher.update(part);
        }
        hasher.update(&nominal.to_be_bytes());
        let mut rest = [0; 10];
        rest.copy_from_slice(&hasher.finalize().as_bytes()[..10]);
        Self(uuid::Builder::from_unix_timestamp_millis(nominal, &rest).into_uuid().into_bytes())
    }

    pub fn parse(text: &str) -> Option<Self> {
        Uuid::try_parse(text).ok().map(|uuid| Self(uuid.into_bytes()))
    }

    /// The idempotency key of the message's effect at `index`: the same for every attempt, on either node.
    pub fn effect_key(self, index: u16) -> String {
        format!("{self}-{index}")
    }

    /// Not above any id of that time.
    pub fn first_at(time: UnixMs) -> Self {
        let mut id = [0; 16];
        id[..6].copy_from_slice(&time.min((1 << 48) - 1).to_be_bytes()[2..]);
        Self(id)
    }

    /// The time in the id: when the message was accepted, or a tick's nominal time.
    pub fn time_ms(self) -> UnixMs {
        let b = self.0;
        u64::from_be_bytes([0, 0, b[0], b[1], b[2], b[3], b[4], b[5]])
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Uuid::from_bytes(self.0), f)
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Names what a sender wants taken in once, among all that its source takes in: BLAKE3 of whatever the sender calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OnceKey(pub [u8; 32]);

/// Tells whether two bodies under the same [`OnceKey`] are the same: the beginning of BLAKE3 of content type and body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint(pub [u8; 16]);

/// A header's name (lower case) and value (bytes, as HTTP has them).
pub type Header = (String, Vec<u8>);

/// What makes up a message before the store has given it an id and a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    pub source: Name,
    pub headers: Vec<Header>,
    pub content_type: Option<String>,
    pub key: Option<String>,
    pub body: Bytes,
}

/// A message that the store has kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub id: MessageId,
    pub solution: Name,
    /// Unix ms of acceptance; for a tick, its nominal time.
    pub time_ms: UnixMs,
    pub content: Content,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticks_id_depends_on_schedule_and_nominal_time_only() {
        let (a, b): (Name, Name) = ("watch".parse().unwrap(), "every-minute".parse().unwrap());
        let id = MessageId::of_tick(&a, &b, 1_700_000_000_000);
        assert_eq!(id, MessageId::of_tick(&a, &b, 1_700_000_000_000));
        assert_ne!(id, MessageId::of_tick(&a, &b, 1_700_000_060_000));
        assert_ne!(id, MessageId::of_tick(&b, &a, 1_700_000_000_000));
        assert_eq!(id.time_ms(), 1_700_000_000_000);
        let (first, next) =
            (MessageId::first_at(id.time_ms()), MessageId::first_at(id.time_ms() + 1));
        assert!(first < id && id < next);
        assert_eq!(MessageId::first_at(u64::MAX).time_ms(), (1 << 48) - 1);
        assert_eq!(MessageId::parse(&id.to_string()), Some(id));
    }
}
