//! Identities: 32 hexadecimal digits where people read, 16 bytes elsewhere.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use uuid::{Uuid, fmt::Simple};

use super::NoId;

pub(super) fn parse(text: &str) -> Result<[u8; 16], NoId> {
    text.parse::<Simple>().map(|id| id.into_uuid().into_bytes()).map_err(|_| NoId)
}

pub(super) fn serialize<S: Serializer>(id: &[u8; 16], to: S) -> Result<S::Ok, S::Error> {
    if to.is_human_readable() {
        return to.collect_str(Uuid::from_bytes_ref(id).as_simple());
    }
    id.serialize(to)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<[u8; 16], D::Error> {
    if from.is_human_readable() {
        return parse(&String::deserialize(from)?).map_err(D::Error::custom);
    }
    Deserialize::deserialize(from)
}
