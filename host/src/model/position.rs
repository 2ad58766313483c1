//! A place in the journal.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a change stands in the journal: the epoch it was made in and the number of its frame.
///
/// The chain hash that completes a position (`(epoch, seq, chain)`) is in the frame itself.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Position {
    pub epoch: u64,
    pub seq: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.epoch, self.seq)
    }
}

/// BLAKE3 over the previous chain hash and a frame: two journals with the same chain hash have the same past.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Chain(pub [u8; 32]);

impl Chain {
    #[must_use]
    pub fn next(self, frame: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.0);
        hasher.update(frame);
        Self(*hasher.finalize().as_bytes())
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(8).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// On how many disks something was kept when its receipt was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    One,
    Two,
}

impl Durability {
    pub fn disks(self) -> u8 {
        match self {
            Self::One => 1,
            Self::Two => 2,
        }
    }
}
