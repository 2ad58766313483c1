//! What senders know of what they sent.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use serde::Serialize;
use tokio::time::Instant;

use crate::control::wire::Receipt;

use super::traffic::What;

/// One message with a receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipted {
    pub what: What,
    pub id: String,
    pub epoch: u64,
    /// Disks that had it.
    pub durability: u8,
    pub at: Instant,
}

#[derive(Debug, Default)]
pub struct Tally {
    pub sent: u64,
    pub receipts: Vec<Receipted>,
    /// Sent, and given up without a receipt: whether it is there nobody knows.
    pub given_up: Vec<What>,
    /// Tries that got no receipt: no answer, or "not now".
    pub failed_tries: u64,
    /// Of those, the last one's reason.
    pub last_trouble: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Figures {
    pub sent: u64,
    pub receipts: u64,
    pub on_two_disks: u64,
    pub on_one_disk: u64,
    pub failed_tries: u64,
}

/// Written by every sender, for a few lines and never across an await.
#[derive(Debug, Clone, Default)]
pub struct Shared(Arc<Mutex<Tally>>);

impl Shared {
    pub fn lock(&self) -> MutexGuard<'_, Tally> {
        self.0.lock().expect("whoever holds it does not panic")
    }
}

impl Tally {
    pub fn receipt(&mut self, what: What, receipt: Receipt) {
        let Receipt { id, epoch, durability, .. } = receipt;
        self.receipts.push(Receipted { what, id, epoch, durability, at: Instant::now() });
    }

    pub fn figures(&self) -> Figures {
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let on_two = self.receipts.iter().filter(|receipt| receipt.durability >= 2).count();
        Figures {
            sent: self.sent,
            receipts: count(self.receipts.len()),
            on_two_disks: count(on_two),
            on_one_disk: count(self.receipts.len() - on_two),
            failed_tries: self.failed_tries,
        }
    }

    /// When the first receipt of an epoch after this one came.
    pub fn first_after(&self, epoch: u64) -> Option<Instant> {
        self.receipts.iter().find(|receipt| receipt.epoch > epoch).map(|receipt| receipt.at)
    }

    /// How many receipts came in the last second.
    pub fn rate(&self) -> usize {
        let now = Instant::now();
        let is_recent = |at: Instant| now.duration_since(at) < Duration::from_secs(1);
        self.receipts.iter().rev().take_while(|receipt| is_recent(receipt.at)).count()
    }

    /// The longest time from `from` to `until` in which no receipt came.
    pub fn longest_gap(&self, from: Instant, until: Instant) -> Duration {
        let within = |at: &Instant| (from..until).contains(at);
        let times = self.receipts.iter().map(|receipt| receipt.at).filter(within);
        let mut before = from;
        times.chain([until]).fold(Duration::ZERO, |longest, at| {
            let gap = at.duration_since(before);
            before = at;
            longest.max(gap)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(begun: Instant, receipts: &[(u64, u64, u8)]) -> Tally {
        let receipts = receipts.iter().map(|&(ms, epoch, durability)| Receipted {
            what: What::Lead { number: 1 },
            id: ms.to_string(),
            epoch,
            durability,
            at: begun + Duration::from_millis(ms),
        });
        Tally { receipts: receipts.collect(), ..Tally::default() }
    }

    #[test]
    fn gaps_are_measured_to_both_ends() {
        let begun = Instant::now();
        let at = |ms| begun + Duration::from_millis(ms);
        let tally = tally(begun, &[(100, 1, 2), (150, 1, 2), (450, 2, 1), (500, 2, 1)]);
        let gap = |from, until| tally.longest_gap(at(from), at(until)).as_millis();
        assert_eq!((gap(0, 600), gap(460, 600), gap(500, 1_000)), (300, 100, 500));
        assert_eq!((gap(0, 40), gap(440, 460)), (40, 10));
    }

    #[test]
    fn receipts_are_counted_by_their_disks_and_found_by_their_epoch() {
        let begun = Instant::now();
        let tally = tally(begun, &[(100, 1, 2), (450, 2, 1), (500, 2, 2)]);
        let Figures { receipts, on_two_disks, on_one_disk, .. } = tally.figures();
        assert_eq!((receipts, on_two_disks, on_one_disk), (3, 2, 1));
        assert_eq!(tally.first_after(1), Some(begun + Duration::from_millis(450)));
        assert_eq!(tally.first_after(2), None);
    }
}
