//! What came of what was sent, as far as its senders know.

use std::{collections::VecDeque, time::Duration};

use serde::Serialize;
use tokio::time::Instant;

use crate::control::wire::Status;

use super::{
    receiver::Figures,
    traffic::{Item, What},
};

/// Receipts that the percentiles are taken over.
const LATENCIES: usize = 2_000;
const EVENTS: usize = 6;

/// One request's end.
#[derive(Debug)]
pub struct Answered {
    pub item: Item,
    pub came: Came,
    pub took: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Came {
    Receipt {
        id: String,
    },
    /// The node said no: it has kept nothing.
    Refusal {
        why: String,
    },
    /// Nobody knows whether the node has kept it.
    Nothing {
        why: String,
    },
}

/// One message with a receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    pub id: String,
    pub what: What,
}

#[derive(Debug)]
pub struct Tally {
    begun: Instant,
    sent: Vec<Sent>,
    /// Without an answer.
    unclear: Vec<What>,
    refused: u64,
    latencies_us: VecDeque<u64>,
    events: VecDeque<String>,
}

/// All that is shown in one second; with `--json` just so.
#[derive(Debug, Clone, Serialize)]
pub struct Picture {
    pub elapsed_s: u64,
    /// Receipts given to the demo's own senders.
    pub accepted: u64,
    pub refused: u64,
    pub unanswered: u64,
    /// As the node counts: also what the schedule and other solutions sent. None if it did not say.
    pub node: Option<NodeFigures>,
    pub receiver: Figures,
    pub receipt_p50_us: u64,
    pub receipt_p99_us: u64,
    #[serde(skip)]
    pub events: Vec<String>,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub struct NodeFigures {
    pub accepted: u64,
    pub handled: u64,
    pub queued: u64,
    /// Rejected by a solution, in the dead letters.
    pub rejected: u64,
    pub delivered: u64,
    pub deliveries_pending: u64,
    pub deliveries_dead: u64,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            sent: Vec::new(),
            unclear: Vec::new(),
            refused: 0,
            latencies_us: VecDeque::new(),
            events: VecDeque::new(),
        }
    }
}

impl Tally {
    pub fn take(&mut self, answered: Answered) {
        let Answered { item, came, took } = answered;
        match came {
            Came::Receipt { id } => {
                if self.latencies_us.len() == LATENCIES {
                    self.latencies_us.pop_front();
                }
                self.latencies_us.push_back(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
                if matches!(item.what, What::Wrong { .. }) {
                    self.event(&format!("sent {}, to be rejected", item.title));
                }
                self.sent.push(Sent { id, what: item.what });
            }
            Came::Refusal { why } => {
                self.refused += 1;
                self.event(&format!("the node refused {}: {why}", item.title));
            }
            Came::Nothing { why } => {
                self.event(&format!("no answer for {}: {why}", item.title));
                self.unclear.push(item.what);
            }
        }
    }

    /// Something to be seen.
    pub fn event(&mut self, text: &str) {
        if self.events.len() == EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(format!("{:>4} s  {text}", self.begun.elapsed().as_secs()));
    }

    pub fn sent(&self) -> &[Sent] {
        &self.sent
    }

    pub fn unclear(&self) -> &[What] {
        &self.unclear
    }

    pub fn picture(&self, status: Option<&Status>, receiver: Figures) -> Picture {
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let mut latencies: Vec<u64> = self.latencies_us.iter().copied().collect();
        latencies.sort_unstable();
        Picture {
            elapsed_s: self.begun.elapsed().as_secs(),
            accepted: count(self.sent.len()),
            refused: self.refused,
            unanswered: count(self.unclear.len()),
            node: status.map(|status| NodeFigures {
                accepted: status.messages.accepted,
                handled: status.messages.handled,
                queued: status.messages.queued,
                rejected: status.messages.dead,
                delivered: status.deliveries.delivered,
                deliveries_pending: status.deliveries.pending,
                deliveries_dead: status.deliveries.dead,
            }),
            receiver,
            receipt_p50_us: percentile(&latencies, 50),
            receipt_p99_us: percentile(&latencies, 99),
            events: self.events.iter().cloned().collect(),
        }
    }
}

/// Nearest rank; 0 of nothing.
fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(came: Came, ms: u64) -> Answered {
        let what = What::Lead { number: 1 };
        let item = Item { what, body: String::new(), key: None, title: "Mara".into() };
        Answered { item, came, took: Duration::from_millis(ms) }
    }

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let hundred: Vec<u64> = (1..=100).collect();
        assert_eq!((percentile(&hundred, 50), percentile(&hundred, 99)), (50, 99));
        assert_eq!((percentile(&[7], 50), percentile(&[7], 99), percentile(&[], 99)), (7, 7, 0));
    }

    #[tokio::test]
    async fn answers_are_told_apart() {
        let mut tally = Tally::default();
        tally.take(answered(Came::Receipt { id: "a".into() }, 3));
        tally.take(answered(Came::Refusal { why: "429 queue-full".into() }, 1));
        tally.take(answered(Came::Nothing { why: "broke".into() }, 1));
        let picture = tally.picture(None, Figures::default());
        assert_eq!((picture.accepted, picture.refused, picture.unanswered), (1, 1, 1));
        assert_eq!(picture.receipt_p50_us, 3_000);
        assert_eq!(picture.events.len(), 2);
        assert_eq!(tally.unclear(), [What::Lead { number: 1 }]);
    }
}
