//! What a run came to, for people and as JSON.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::{
    checker::Figures,
    history::{History, Seen},
    lock,
};

/// A gap belongs to a fault if it begins at most so long after its end, and before the next.
const SETTLING: Duration = Duration::from_secs(3);

#[derive(Debug, Serialize)]
pub struct Report {
    pub seed: u64,
    pub seconds: u64,
    pub holds: bool,
    pub takeovers: usize,
    #[serde(flatten)]
    pub figures: Figures,
    /// By fault: how long nobody got a receipt.
    pub gaps: BTreeMap<&'static str, Gaps>,
    /// From the last healing until receipts were on two disks again.
    pub whole_after: Times,
    pub refusals: BTreeMap<String, u64>,
    pub not_tested: Vec<String>,
    pub violations: Vec<String>,
}

/// In milliseconds.
#[derive(Debug, Default, Serialize)]
pub struct Times {
    pub times: usize,
    pub median_ms: u128,
    pub p99_ms: u128,
    pub longest_ms: u128,
}

#[derive(Debug, Serialize)]
pub struct Gaps {
    #[serde(flatten)]
    pub times: Times,
    /// Of so many, another fault fell into the same time.
    pub with_others: usize,
}

impl Report {
    pub fn new(history: &History, seed: u64, figures: Figures, not_tested: Vec<String>) -> Self {
        let seen = lock(&history.seen);
        Self {
            seed,
            seconds: history.began.elapsed().as_secs(),
            holds: seen.violations.is_empty(),
            takeovers: seen.primaries.len().saturating_sub(1),
            figures,
            gaps: gaps(&seen),
            whole_after: times(seen.whole_after.clone()),
            refusals: seen.refusals.clone(),
            not_tested,
            violations: seen.violations.clone(),
        }
    }

    pub fn lines(&self) -> Vec<String> {
        let Figures { sent, receipts_on_two_disks, receipts_on_one_disk, .. } = self.figures;
        let Figures { lost, doubled, doubled_and_reported, .. } = self.figures;
        let mut lines = vec![
            format!(
                "seed {}, {} s, {} changes of primary",
                self.seed, self.seconds, self.takeovers
            ),
            format!(
                "{sent} messages sent; receipts: {receipts_on_two_disks} on two disks, {receipts_on_one_disk} on one"
            ),
            format!("lost {lost}, doubled {doubled}, doubled and reported {doubled_and_reported}"),
            format!(
                "requests repeated with the same key {}, not made or not known and told so {}",
                self.figures.repeated_with_the_same_key, self.figures.told_as_unknown
            ),
            format!("no receipts: {:?}", self.refusals),
            row("from healed to in sync", &self.whole_after, ""),
            String::new(),
            "longest time without a receipt, by fault:".into(),
        ];
        for (fault, gaps) in &self.gaps {
            let others = format!("; {} with others", gaps.with_others);
            lines.push(row(fault, &gaps.times, &others));
        }
        lines.extend(self.not_tested.iter().map(|what| format!("NOT TESTED: {what}")));
        lines.extend(self.violations.iter().map(|what| format!("VIOLATION: {what}")));
        lines.push(if self.holds { "all holds" } else { "NOT as it should be" }.into());
        lines
    }
}

fn row(name: &str, times: &Times, more: &str) -> String {
    let Times { times, median_ms, p99_ms, longest_ms } = times;
    format!(
        "  {name:<22} {times:>4} times, median {median_ms:>5} ms, p99 {p99_ms:>5} ms, longest {longest_ms:>5} ms{more}"
    )
}

/// Of each fault, the longest time without a receipt that began in it or just after.
fn gaps(seen: &Seen) -> BTreeMap<&'static str, Gaps> {
    let receipts = seen.sent.iter().flat_map(|sent| &sent.receipts);
    let mut at: Vec<Instant> = receipts.map(|receipt| receipt.at).collect();
    at.sort_unstable();
    let mut by_fault = BTreeMap::<_, (Vec<Duration>, usize)>::new();
    for episode in &seen.episodes {
        let next =
            seen.episodes.iter().map(|next| next.began).filter(|at| *at >= episode.healed).min();
        let settled = episode.healed + SETTLING;
        let until = next.map_or(settled, |next| next.min(settled));
        let first = at.partition_point(|at| *at < episode.began).saturating_sub(1);
        let gap = at[first..]
            .windows(2)
            .take_while(|two| two[0] < until)
            .map(|two| two[1] - two[0])
            .max();
        let others = seen.episodes.iter().filter(|other| {
            other.fault != episode.fault
                && other.began < episode.healed
                && other.healed > episode.began
        });
        let entry = by_fault.entry(episode.fault).or_default();
        entry.0.extend(gap);
        entry.1 += usize::from(others.count() > 0);
    }
    let gaps = |(gaps, with_others)| Gaps { times: times(gaps), with_others };
    by_fault.into_iter().map(|(fault, found)| (fault, gaps(found))).collect()
}

fn times(mut times: Vec<Duration>) -> Times {
    times.sort_unstable();
    // The smallest that so many of a thousand are not longer than.
    let quantile = |share: usize| {
        let at = (times.len() * share).div_ceil(1000).saturating_sub(1);
        times.get(at).map_or(0, Duration::as_millis)
    };
    Times {
        times: times.len(),
        median_ms: quantile(500),
        p99_ms: quantile(990),
        longest_ms: quantile(1000),
    }
}
