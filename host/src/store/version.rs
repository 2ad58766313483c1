//! In which version frames are written: the highest that both nodes of a pair take, and never again a lower one.
//!
//! A node alone writes the highest that it knows. One of a pair goes on with what its journal has until the other has
//! said what it takes, so that an older program can come back as long as it was not replaced. Once a version is in use,
//! a program that does not take it is none for this pair.

use std::sync::atomic::{AtomicU8, Ordering};

use super::frame;

/// The version of frames of one store.
#[derive(Debug)]
pub struct FrameVersion {
    /// What the other node takes, too.
    common: AtomicU8,
    /// The highest that was ever kept here.
    used: AtomicU8,
}

impl FrameVersion {
    pub(super) fn new(used: u8, is_paired: bool) -> Self {
        let (lowest, highest) = frame::VERSIONS;
        let common = if is_paired { lowest } else { highest };
        Self { common: AtomicU8::new(common), used: AtomicU8::new(used.max(lowest)) }
    }

    /// The other node takes frames up to this version.
    pub(super) fn agree(&self, theirs: u8) {
        let (lowest, highest) = frame::VERSIONS;
        self.common.store(theirs.clamp(lowest, highest), Ordering::Relaxed);
    }

    /// Of the frame that is written now.
    pub(super) fn next(&self) -> u8 {
        self.keep(self.common.load(Ordering::Relaxed));
        self.used()
    }

    /// There is a frame of that version.
    pub(super) fn keep(&self, version: u8) {
        self.used.fetch_max(version, Ordering::Relaxed);
    }

    pub fn used(&self) -> u8 {
        self.used.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_common_version_is_written_and_never_a_lower_one_again() {
        let alone = FrameVersion::new(0, false);
        assert_eq!(alone.next(), frame::VERSIONS.1);
        let paired = FrameVersion::new(0, true);
        assert_eq!(paired.next(), 1, "nothing is known of the other");
        paired.agree(1);
        assert_eq!(paired.next(), 1);
        paired.agree(200);
        assert_eq!((paired.used(), paired.next()), (1, frame::VERSIONS.1));
        paired.agree(1);
        assert_eq!(paired.next(), frame::VERSIONS.1);
        assert_eq!(FrameVersion::new(2, true).next(), 2, "as its journal");
    }
}
