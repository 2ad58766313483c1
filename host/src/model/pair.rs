//! Who is who in a pair, and the record of who may be primary.
//!
//! The record is one small value that changes only by compare-and-set ([`Record::after`]). A witness keeps it where
//! there is one. Data is safe without any clock: nothing is acknowledged before every node that is recorded as in sync
//! has it, and only such a node may become primary.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

mod hex;
pub mod ready;
pub mod talk;

/// A store's identity: of its data, not of a machine. A copy, a restored or a wiped store has another.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StoreId(#[serde(with = "hex")] pub [u8; 16]);

/// A pair's identity, made when the first of its nodes invites the second.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PairId(#[serde(with = "hex")] pub [u8; 16]);

/// A text that is no identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an identity has 32 hexadecimal digits")]
pub struct NoId;

/// What a node is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Accepts, handles and delivers.
    Primary,
    /// Keeps what the primary keeps, and passes on what it is sent.
    Standby,
    /// Finds out which of the two it is; it does neither meanwhile.
    Starting,
    /// Accepts, and neither handles nor delivers: it does not hear the primary, which may live.
    Accepting,
}

/// Which stores have everything that was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InSync {
    Only(StoreId),
    Both(StoreId, StoreId),
}

/// Who may be primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Record {
    /// Goes up by one whenever the primary changes.
    pub epoch: u64,
    pub owner: StoreId,
    pub in_sync: InSync,
    /// Changes within the epoch.
    pub version: u64,
}

/// What a node asks of the record. Each names what it knows, so that what comes late changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ask {
    Read,
    /// The first record of a pair.
    Begin {
        owner: StoreId,
        epoch: u64,
    },
    /// To become primary in the next epoch; `alone`: and to be the only one in sync, because the other is gone.
    Acquire {
        candidate: StoreId,
        seen_epoch: u64,
        alone: bool,
    },
    /// An operator's word: to become primary and the only one in sync, whatever this node lacks.
    Seize {
        candidate: StoreId,
        seen_epoch: u64,
    },
    SetInSync {
        owner: StoreId,
        epoch: u64,
        version: u64,
        in_sync: InSync,
    },
    /// To hand over: the next epoch is another's.
    Transfer {
        owner: StoreId,
        epoch: u64,
        version: u64,
        to: StoreId,
    },
}

impl InSync {
    pub fn has(self, store: StoreId) -> bool {
        match self {
            Self::Only(one) => one == store,
            Self::Both(one, other) => one == store || other == store,
        }
    }
}

impl Record {
    /// The record after `ask`, if it changes: the rules of the register, wherever it is kept.
    pub fn after(record: Option<&Self>, ask: &Ask) -> Option<Self> {
        let Some(now) = record else {
            let Ask::Begin { owner, epoch } = *ask else { return None };
            let in_sync = InSync::Only(owner);
            return Some(Self { epoch, owner, in_sync, version: 0 });
        };
        match *ask {
            Ask::Read | Ask::Begin { .. } => None,
            Ask::Acquire { candidate, seen_epoch, alone } => {
                let granted = seen_epoch == now.epoch && now.in_sync.has(candidate);
                let in_sync = if alone { InSync::Only(candidate) } else { now.in_sync };
                let epoch = now.epoch.checked_add(1)?;
                granted.then_some(Self { epoch, owner: candidate, in_sync, version: 0 })
            }
            Ask::Seize { candidate, seen_epoch } => {
                let epoch = now.epoch.checked_add(1)?;
                let in_sync = InSync::Only(candidate);
                (seen_epoch == now.epoch).then_some(Self {
                    epoch,
                    owner: candidate,
                    in_sync,
                    version: 0,
                })
            }
            Ask::SetInSync { owner, epoch, version, in_sync } => {
                let granted = now.is(owner, epoch) && now.version == version && in_sync.has(owner);
                let version = version.checked_add(1)?;
                granted.then_some(Self { in_sync, version, ..*now })
            }
            Ask::Transfer { owner, epoch, version, to } => {
                let granted = now.is(owner, epoch) && now.version == version && now.in_sync.has(to);
                let epoch = epoch.checked_add(1)?;
                granted.then_some(Self { epoch, owner: to, version: 0, ..*now })
            }
        }
    }

    fn is(&self, owner: StoreId, epoch: u64) -> bool {
        self.owner == owner && self.epoch == epoch
    }

    /// Whether this one was made after `other`.
    pub fn is_newer_than(&self, other: &Self) -> bool {
        (self.epoch, self.version) > (other.epoch, other.version)
    }
}

impl StoreId {
    /// A new one, that no other store has.
    pub fn random() -> Self {
        Self(Uuid::new_v4().into_bytes())
    }
}

impl PairId {
    /// A new one, that no other pair has.
    pub fn random() -> Self {
        Self(Uuid::new_v4().into_bytes())
    }
}

/// A store's short name, for people.
impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(4).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreId({self})")
    }
}

impl fmt::Display for PairId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for PairId {
    type Err = NoId;

    fn from_str(text: &str) -> Result<Self, NoId> {
        hex::parse(text).map(Self)
    }
}

impl fmt::Debug for PairId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PairId({self})")
    }
}

impl Role {
    pub fn word(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Standby => "standby",
            Self::Starting => "starting",
            Self::Accepting => "accepting",
        }
    }

    /// Whether it makes frames of its own, and takes none of another.
    pub fn makes_frames(self) -> bool {
        matches!(self, Self::Primary | Self::Accepting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: StoreId = StoreId([1; 16]);
    const B: StoreId = StoreId([2; 16]);

    fn record() -> Record {
        let first = Record::after(None, &Ask::Begin { owner: A, epoch: 1 }).unwrap();
        let in_sync = InSync::Both(A, B);
        Record::after(Some(&first), &Ask::SetInSync { owner: A, epoch: 1, version: 0, in_sync })
            .unwrap()
    }

    #[test]
    fn only_who_is_in_sync_and_knows_the_epoch_becomes_primary() {
        let both = record();
        let acquire = |candidate, seen_epoch, alone| Ask::Acquire { candidate, seen_epoch, alone };
        let taken = Record::after(Some(&both), &acquire(B, 1, true)).unwrap();
        assert_eq!((taken.epoch, taken.owner, taken.in_sync), (2, B, InSync::Only(B)));
        // Late, twice, and from who is not in sync any more.
        assert_eq!(Record::after(Some(&taken), &acquire(B, 1, true)), None);
        assert_eq!(Record::after(Some(&taken), &acquire(A, 2, false)), None);
        assert_eq!(
            Record::after(Some(&both), &acquire(B, 1, false)).unwrap().in_sync,
            both.in_sync
        );
        assert!(taken.is_newer_than(&both) && !both.is_newer_than(&taken));
    }

    #[test]
    fn who_is_in_sync_changes_once_a_version_and_only_for_the_owner() {
        let both = record();
        let only = |owner, epoch, version| Ask::SetInSync {
            owner,
            epoch,
            version,
            in_sync: InSync::Only(owner),
        };
        assert_eq!(Record::after(Some(&both), &only(A, 1, 0)), None, "an old version");
        assert_eq!(Record::after(Some(&both), &only(B, 1, 1)), None, "not the owner");
        assert_eq!(Record::after(Some(&both), &only(A, 2, 1)), None, "another epoch");
        let solo = Record::after(Some(&both), &only(A, 1, 1)).unwrap();
        assert_eq!((solo.in_sync, solo.version), (InSync::Only(A), 2));
        let without_owner =
            Ask::SetInSync { owner: A, epoch: 1, version: 1, in_sync: InSync::Only(B) };
        assert_eq!(Record::after(Some(&both), &without_owner), None);
    }

    #[test]
    fn handing_over_needs_another_in_sync() {
        let both = record();
        let transfer = |version| Ask::Transfer { owner: A, epoch: 1, version, to: B };
        let after = Record::after(Some(&both), &transfer(1)).unwrap();
        assert_eq!((after.epoch, after.owner, after.version), (2, B, 0));
        assert_eq!(Record::after(Some(&both), &transfer(0)), None);
        let solo = Record { in_sync: InSync::Only(A), ..both };
        assert_eq!(Record::after(Some(&solo), &transfer(1)), None);
    }

    #[test]
    fn identities_are_digits_where_people_read() {
        let text = r#"{"acquire":{"candidate":"01010101010101010101010101010101","seen_epoch":3,"alone":true}}"#;
        let ask = Ask::Acquire { candidate: A, seen_epoch: 3, alone: true };
        assert_eq!(serde_json::to_string(&ask).unwrap(), text);
        assert_eq!(serde_json::from_str::<Ask>(text).unwrap(), ask);
        assert_eq!(postcard::to_stdvec(&A).unwrap(), [1; 16]);
        assert_eq!(postcard::from_bytes::<StoreId>(&[1; 16]), Ok(A));

        let pair = PairId([0xa5; 16]);
        assert_eq!(pair.to_string().parse(), Ok(pair));
        for wrong in
            ["", "a5", "a5a5a5a5-a5a5-a5a5-a5a5-a5a5a5a5a5a5", "g5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5"]
        {
            assert_eq!(wrong.parse::<PairId>(), Err(NoId), "{wrong}");
        }
    }

    #[test]
    fn the_last_epoch_has_no_next() {
        let last = Record { epoch: u64::MAX, ..record() };
        let acquire = Ask::Acquire { candidate: A, seen_epoch: u64::MAX, alone: false };
        assert_eq!(Record::after(Some(&last), &acquire), None);
        let transfer = Ask::Transfer { owner: A, epoch: u64::MAX, version: 1, to: B };
        assert_eq!(Record::after(Some(&last), &transfer), None);
        // Nor has the last version, which a file may say it has. Found by a fuzzer.
        let last = Record { version: u64::MAX, ..record() };
        let in_sync = InSync::Only(A);
        let alone = Ask::SetInSync { owner: A, epoch: 1, version: u64::MAX, in_sync };
        assert_eq!(Record::after(Some(&last), &alone), None);
    }

    #[test]
    fn a_record_begins_once() {
        assert_eq!(Record::after(None, &Ask::Read), None);
        assert_eq!(Record::after(Some(&record()), &Ask::Begin { owner: B, epoch: 9 }), None);
    }
}
