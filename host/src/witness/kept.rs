//! A pair's record as bytes: a version, and then postcard.

use serde::{Deserialize, Serialize};

use crate::model::pair::Record;

const VERSION: u8 = 2;

/// SHA-256 of a token.
pub(super) type TokenHash = [u8; 32];

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    pub record: Record,
    /// Of the token that the pair began with. A folder has none.
    pub token: Option<TokenHash>,
}

impl Kept {
    pub(super) fn encode(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![VERSION]).expect("plain data is written into memory")
    }

    /// None if another version of this program wrote it, or it is damaged.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (&version, rest) = bytes.split_first()?;
        if version != VERSION {
            return None;
        }
        let (kept, rest) = postcard::take_from_bytes(rest).ok()?;
        rest.is_empty().then_some(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::pair::{InSync, StoreId};

    #[test]
    fn the_bytes_stay_as_they_are() {
        let (a, b) = (StoreId([1; 16]), StoreId([2; 16]));
        let record = Record { epoch: 3, owner: a, in_sync: InSync::Both(a, b), version: 300 };
        let mut bytes = vec![VERSION, 3];
        bytes.extend([1; 16]);
        bytes.push(1);
        bytes.extend([[1; 16], [2; 16]].concat());
        bytes.extend([0xac, 0x02]);
        let kept = Kept { record, token: None };
        assert_eq!(kept.encode(), [&bytes[..], &[0]].concat());
        assert_eq!(Kept::decode(&kept.encode()), Some(kept));
        let kept = Kept { record, token: Some([7; 32]) };
        assert_eq!(kept.encode(), [&bytes[..], &[1], &[7; 32]].concat());
        assert_eq!(Kept::decode(&kept.encode()), Some(kept.clone()));

        bytes[0] = VERSION + 1;
        assert_eq!(Kept::decode(&bytes), None);
        assert_eq!(Kept::decode(&kept.encode()[..60]), None);
        // Found by a fuzzer: what was behind a record was passed over.
        assert_eq!(Kept::decode(&[&kept.encode()[..], &[0]].concat()), None);
        assert_eq!(Kept::decode(&[]), None);
    }
}
