//! An attempt and the decision on it become what the store is asked to keep.

use std::time::Duration;

use crate::{
    contract::handler::{Effects, Handled, Level},
    model::{
        clock::UnixMs,
        outcome::{Outcome, Reply},
    },
    store::row::life::{AttemptRow, LogRow, OutcomeRow, ReplyRow},
};

/// The row of an attempt; ids of what it published are filled in by the store.
pub(super) fn attempt_row(handled: &Handled, started_ms: UnixMs, revision: u32) -> AttemptRow {
    let Handled { outcome, effects, log, duration } = handled;
    let (state_written, state_deleted) = state_keys(effects);
    let lines =
        log.lines.iter().map(|line| LogRow { level: level(line.level), text: line.text.clone() });
    AttemptRow {
        started_ms,
        duration_us: u64::try_from(duration.as_micros()).unwrap_or(u64::MAX),
        revision,
        outcome: outcome_row(outcome),
        log: lines.collect(),
        log_dropped: log.dropped,
        state_written,
        state_deleted,
        published: Vec::new(),
        outbox: u16::try_from(effects.outbox.len()).unwrap_or(u16::MAX),
    }
}

fn state_keys(effects: &Effects) -> (Vec<String>, Vec<String>) {
    let (written, deleted): (Vec<_>, Vec<_>) =
        effects.state.iter().partition(|(_, value)| value.is_some());
    let names =
        |entries: Vec<&(String, _)>| entries.into_iter().map(|(key, _)| key.clone()).collect();
    (names(written), names(deleted))
}

fn level(level: Level) -> u8 {
    match level {
        Level::Debug => 0,
        Level::Info => 1,
        Level::Warn => 2,
        Level::Error => 3,
    }
}

fn outcome_row(outcome: &Outcome) -> OutcomeRow {
    match outcome.clone() {
        Outcome::Done { reply } => OutcomeRow::Done { reply: reply.map(reply_row) },
        Outcome::Retry { reason, after } => {
            OutcomeRow::Retry { reason, after_ms: after.map(millis) }
        }
        Outcome::Rejected { reason } => OutcomeRow::Rejected { reason },
        Outcome::Failed { reason } => OutcomeRow::Failed { reason },
        Outcome::Trapped { reason, backtrace } => OutcomeRow::Trapped { reason, backtrace },
        Outcome::TimedOut { limit } => OutcomeRow::TimedOut { limit_ms: millis(limit) },
        Outcome::OutOfMemory { limit_bytes } => OutcomeRow::OutOfMemory { limit_bytes },
        Outcome::Unavailable { reason } => OutcomeRow::Unavailable { reason },
    }
}

fn reply_row(reply: Reply) -> ReplyRow {
    let Reply { status, headers, content_type, body } = reply;
    let headers = headers.into_iter().map(|(name, value)| (name, value.into())).collect();
    ReplyRow { status, headers, content_type, body }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
