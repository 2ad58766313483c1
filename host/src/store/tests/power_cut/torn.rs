//! What a power cut leaves of writes that were not synced. The example `simulate` takes it in too.

use rand::{Rng, rngs::StdRng, seq::SliceRandom};

/// A disk writes whole sectors or leaves them; beyond that it promises nothing before a sync.
const SECTOR: usize = 512;

/// What becomes of the writes after the last sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Nothing,
    Everything,
    /// Those before some point, the last of them torn.
    Prefix,
    /// Any of them, some torn.
    Some,
    /// Any of them, some torn, in any order.
    Shuffled,
    /// All but one, in any order.
    AllButOne,
}

impl Style {
    pub const ALL: [Self; 6] = [
        Self::Nothing,
        Self::Everything,
        Self::Prefix,
        Self::Some,
        Self::Shuffled,
        Self::AllButOne,
    ];

    /// Says which of `writes` reach the disk, one after the other, and whether torn.
    pub fn choose(
        self,
        writes: usize,
        rng: &mut StdRng,
        mut reaches: impl FnMut(usize, bool, &mut StdRng),
    ) {
        if self == Self::Nothing {
            return;
        }
        let mut order: Vec<_> = (0..writes).collect();
        if matches!(self, Self::Shuffled | Self::AllButOne) {
            order.shuffle(rng);
        }
        let special = if order.is_empty() { 0 } else { rng.random_range(0..order.len()) };
        for (n, write) in order.into_iter().enumerate() {
            let (kept, torn) = match self {
                Self::Nothing => (false, false),
                Self::Everything => (true, false),
                Self::Prefix => (n <= special, n == special),
                Self::AllButOne => (n != special, false),
                Self::Some | Self::Shuffled => (rng.random(), rng.random_ratio(1, 4)),
            };
            if kept {
                reaches(write, torn, rng);
            }
        }
    }
}

/// Writes to a file of `len` bytes, whole or only some of the sectors. Beyond the end the file may have grown for it,
/// or not.
pub fn land(
    len: usize,
    at: usize,
    bytes: &[u8],
    torn: bool,
    rng: &mut StdRng,
    mut write: impl FnMut(usize, &[u8]),
) {
    let grows = rng.random();
    let mut from = 0;
    while from < bytes.len() {
        let to = bytes.len().min((at + from) / SECTOR * SECTOR + SECTOR - at);
        let lost = torn && rng.random();
        if !lost && (at + to <= len || grows) {
            write(at + from, &bytes[from..to]);
        }
        from = to;
    }
}
