//! Every table: its number in the journal, its name in `store.redb`. Keys and values are in `docs/store-format.md`.

use redb::TableDefinition;

/// All tables look alike to redb: bytes to bytes.
pub type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// A table whose rows go through the journal. The number is part of the journal's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Table {
    /// What the deployed solutions are.
    Solutions = 1,
    /// Component files by SHA-256.
    Blobs = 2,
    Settings = 3,
    /// Messages as they were accepted.
    Messages = 4,
    /// Messages that may be handled now.
    Ready = 5,
    /// Messages that may be handled later.
    Timers = 6,
    /// What became of each message.
    Lives = 7,
    /// What solutions keep.
    State = 8,
    /// Effects to deliver.
    Outbox = 9,
    /// What became of each effect.
    Deliveries = 10,
    /// Messages and deliveries that nobody tries again by itself.
    DeadLetters = 11,
    /// When each schedule ticked last.
    Schedules = 12,
    /// Solutions that fail and are left alone for a while.
    Breakers = 13,
    /// What was taken in under a key.
    Dedupe = 14,
    /// When rows of `Dedupe` may go.
    DedupeExpiry = 15,
    /// Files of finished messages.
    Segments = 16,
    /// Messages that are in a segment and still here.
    Sweeps = 17,
    /// Who was primary from when on.
    Epochs = 18,
}

impl Table {
    pub const ALL: [Self; 18] = [
        Self::Solutions,
        Self::Blobs,
        Self::Settings,
        Self::Messages,
        Self::Ready,
        Self::Timers,
        Self::Lives,
        Self::State,
        Self::Outbox,
        Self::Deliveries,
        Self::DeadLetters,
        Self::Schedules,
        Self::Breakers,
        Self::Dedupe,
        Self::DedupeExpiry,
        Self::Segments,
        Self::Sweeps,
        Self::Epochs,
    ];

    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|table| *table as u8 == number)
    }

    /// Place in [`Table::ALL`].
    pub(super) fn index(self) -> usize {
        usize::from(self as u8) - 1
    }

    pub fn definition(self) -> Definition {
        TableDefinition::new(match self {
            Self::Solutions => "solutions",
            Self::Blobs => "blobs",
            Self::Settings => "settings",
            Self::Messages => "messages",
            Self::Ready => "ready",
            Self::Timers => "timers",
            Self::Lives => "lives",
            Self::State => "state",
            Self::Outbox => "outbox",
            Self::Deliveries => "deliveries",
            Self::DeadLetters => "dead_letters",
            Self::Schedules => "schedules",
            Self::Breakers => "breakers",
            Self::Dedupe => "dedupe",
            Self::DedupeExpiry => "dedupe_expiry",
            Self::Segments => "segments",
            Self::Sweeps => "sweeps",
            Self::Epochs => "epochs",
        })
    }
}

/// What is too long for its own place; not journaled.
pub(super) const PIECES: Definition = TableDefinition::new("pieces");
/// All whose rows are a store's content, in order, by number; 0 is that of pieces.
pub(super) fn all() -> impl Iterator<Item = (u8, Definition)> {
    let tables = Table::ALL.into_iter().map(|table| (table as u8, table.definition()));
    tables.chain([(0, PIECES)])
}

/// Format, identity and head of this node's store; not journaled.
pub(super) const NODE: Definition = TableDefinition::new("node");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_places_agree() {
        for (place, table) in Table::ALL.into_iter().enumerate() {
            assert_eq!(table.index(), place);
            assert_eq!(Table::from_number(table as u8), Some(table));
        }
        assert_eq!(Table::from_number(0), None);
        assert_eq!(Table::from_number(19), None);
    }
}
