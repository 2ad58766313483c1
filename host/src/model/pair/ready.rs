//! Whether a node that is not primary could be, as it finds itself.

use serde::{Deserialize, Serialize};

use crate::model::name::{Digest, Name};

/// What a standby says of itself, whenever it changes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Readiness {
    /// What keeps it from taking over, or from acting well then; empty: nothing.
    pub lacks: Vec<Lack>,
    /// What is deployed, by name.
    pub components: Vec<Prepared>,
}

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Lack {
    pub what: What,
    /// A clause, as are all below.
    pub why: String,
    /// What an operator does about it.
    pub remedy: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    Link,
    InSync,
    Witness,
    Component,
    Intake,
    Disk,
    Clock,
}

/// A deployed component on this node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Prepared {
    pub solution: Name,
    pub revision: u32,
    pub digest: Digest,
    /// Verifying it and compiling it, or taking the compiled code from the cache.
    pub took_ms: u64,
    /// Why it cannot run here.
    pub fault: Option<String>,
}

impl What {
    pub fn word(self) -> &'static str {
        match self {
            Self::Link => "link",
            Self::InSync => "in-sync",
            Self::Witness => "witness",
            Self::Component => "component",
            Self::Intake => "intake",
            Self::Disk => "disk",
            Self::Clock => "clock",
        }
    }
}

impl Lack {
    pub fn new(what: What, why: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what, why: why.into(), remedy: remedy.into() }
    }
}

impl std::fmt::Display for Lack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}; {}", self.why, self.remedy)
    }
}

/// How far the other node's clock is ahead of this one's, in milliseconds: between these two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ahead {
    pub least: i64,
    pub most: i64,
}

impl Ahead {
    /// Asked and answered by this node's clock; in between the other's showed `there`.
    pub fn new(asked_ms: u64, there_ms: u64, answered_ms: u64) -> Self {
        let signed = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
        let there = signed(there_ms);
        let (one, other) = (there - signed(answered_ms), there - signed(asked_ms));
        Self { least: one.min(other), most: one.max(other) }
    }

    /// The most likely.
    pub fn about_ms(self) -> i64 {
        self.least.midpoint(self.most)
    }

    /// So far the clocks differ for certain: what the way took could be on either leg.
    pub fn surely_ms(self) -> u64 {
        if self.least > 0 {
            self.least.unsigned_abs()
        } else if self.most < 0 {
            self.most.unsigned_abs()
        } else {
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_way_is_no_wrong_clock() {
        let even = Ahead::new(1000, 1005, 1010);
        assert_eq!((even.about_ms(), even.surely_ms()), (0, 0));
        // Two seconds on one leg look like a clock that is a second off, and may be none.
        assert_eq!(Ahead::new(1000, 3000, 3000).surely_ms(), 0);
        let ahead = Ahead::new(1000, 61_000, 1010);
        assert_eq!((ahead.about_ms(), ahead.surely_ms()), (59_995, 59_990));
        let behind = Ahead::new(61_000, 1000, 61_010);
        assert_eq!((behind.about_ms(), behind.surely_ms()), (-60_005, 60_000));
        // This node's clock was set back meanwhile.
        assert_eq!(Ahead::new(5000, 1000, 1000).surely_ms(), 0);
    }
}
