//! The end of attempts to handle messages: completion, state, outbox, follow-ups and log, all in one transaction.

use bytes::Bytes;

use super::{
    Change, ChangeError,
    accept::{NewMessage, check_source, keep, keep_row, queue},
};
use crate::{
    contract::handler::{Effects, Publication, Request},
    model::{clock::UnixMs, message::MessageId, name::Name},
    store::{
        row::{
            Ordinal, SolutionNo,
            breaker::BreakerRow,
            dead_letter::DeadLetterRow,
            life::{AttemptRow, LifeRow, StatusRow},
            outbox::{OutboxKey, OutboxRow},
            ready::{ReadyRow, ready_key},
            state::state_key,
        },
        sequencer::Sequencer,
        table::Table,
    },
};

/// Attempts of one solution, in the order they were made.
#[derive(Debug)]
pub struct Settle {
    pub solution_no: SolutionNo,
    pub attempts: Vec<Settled>,
    /// The solution's breaker, if it opened or closed.
    pub breaker: Option<BreakerRow>,
}

/// One attempt.
#[derive(Debug)]
pub struct Settled {
    pub ordinal: Ordinal,
    pub id: MessageId,
    /// Attempts before it, so that an attempt that is handed in twice counts once.
    pub earlier: u32,
    /// What happened; the ids it published are filled in here.
    pub attempt: AttemptRow,
    pub effects: Effects,
    pub next: Next,
}

/// What becomes of the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    Done,
    Again {
        due_ms: UnixMs,
    },
    /// Again, and what is behind it in its order waits.
    Hold {
        due_ms: UnixMs,
    },
    Dead {
        reason: String,
    },
}

impl Change for Settle {
    type Answer = ();

    const AWAITED: bool = false;

    fn sequence(self, seq: &mut Sequencer<'_, '_>) -> Result<(), ChangeError> {
        for settled in self.attempts {
            settle(seq, self.solution_no, settled)?;
        }
        if let Some(breaker) = self.breaker {
            seq.put(Table::Breakers, &self.solution_no.to_be_bytes(), &breaker);
        }
        Ok(())
    }
}

fn settle(
    seq: &mut Sequencer<'_, '_>,
    solution_no: SolutionNo,
    settled: Settled,
) -> Result<(), ChangeError> {
    let Settled { ordinal, id, earlier, mut attempt, effects, next } = settled;
    let key = ready_key(solution_no, ordinal);
    let ready = seq.get::<ReadyRow>(Table::Ready, &key)?;
    if ready.is_none_or(|ready| ready.attempts != earlier) {
        // Discarded by an operator while it was handled, or settled before: what it did does not count.
        return Ok(());
    }
    let lived = match earlier {
        0 => None,
        _ => seq.get::<LifeRow>(Table::Lives, &id.0)?,
    };
    seq.delete(Table::Ready, &key);
    seq.count_queued(solution_no, -1);

    for (name, value) in effects.state {
        write_state(seq, solution_no, &name, value);
    }
    let ordinal = if effects.outbox.is_empty() { 0 } else { seq.new_ordinal() };
    seq.count_undelivered(solution_no, i64::try_from(effects.outbox.len()).unwrap_or(i64::MAX));
    for (index, request) in effects.outbox.into_iter().enumerate() {
        let index = u16::try_from(index).expect("an attempt asks for at most 1000 requests");
        let key = OutboxKey { ordinal, index };
        seq.put(Table::Outbox, &key.to_bytes(), &outbox_row(id, solution_no, request));
        seq.wake_delivery();
    }
    for publication in effects.publish {
        attempt.published.push(publish(seq, id, publication).0);
    }
    let status = match next {
        Next::Done => StatusRow::Done,
        Next::Again { due_ms } => {
            queue(seq, solution_no, id, earlier + 1, Some(due_ms));
            seq.count_queued(solution_no, 1);
            StatusRow::Again { due_ms }
        }
        Next::Hold { due_ms } => {
            let attempts = earlier + 1;
            seq.put(Table::Ready, &key, &ReadyRow { id: id.0, attempts, not_before_ms: due_ms });
            seq.count_queued(solution_no, 1);
            StatusRow::Again { due_ms }
        }
        Next::Dead { reason } => {
            bury(seq, solution_no, id, reason);
            StatusRow::Dead
        }
    };
    if !matches!(status, StatusRow::Again { .. }) {
        seq.finished(id);
    }
    let mut attempts = lived.map_or_else(Vec::new, |life| life.attempts);
    attempts.push(attempt);
    seq.put(Table::Lives, &id.0, &LifeRow { status, attempts });
    Ok(())
}

fn write_state(seq: &mut Sequencer<'_, '_>, no: SolutionNo, name: &str, value: Option<Bytes>) {
    let key = state_key(no, name);
    match value {
        Some(value) => seq.put_bytes(Table::State, &key, &value),
        None => seq.delete(Table::State, &key),
    }
}

fn outbox_row(id: MessageId, solution_no: SolutionNo, request: Request) -> OutboxRow {
    let headers = request.headers.into_iter().map(|(name, value)| (name, value.into())).collect();
    let Request { method, url, body, order, .. } = request;
    OutboxRow { id: id.0, solution_no, method, url, headers, body, order }
}

/// Keeps a published message; one that nobody can handle becomes a dead letter rather than being lost.
fn publish(seq: &mut Sequencer<'_, '_>, parent: MessageId, publication: Publication) -> MessageId {
    let Publication { solution, content, after } = publication;
    let (id, now_ms) = (seq.new_id(), seq.now_ms());
    let due = after
        .map(|wait| now_ms.saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)));
    let message = NewMessage { id, time_ms: now_ms, parent: Some(parent), content, due };
    let catalogue = seq.catalogue();
    let receiver = catalogue.solution(solution.as_str());
    match receiver.map(|s| (s, check_source(s, &message.content.source, "message"))) {
        Some((receiver, Ok(()))) => keep(seq, receiver, message),
        Some((receiver, Err(refusal))) => {
            keep_dead(seq, receiver.no, &solution, message, refusal.to_string());
        }
        None => {
            let reason = format!("solution `{solution}` was not deployed when this was published");
            keep_dead(seq, 0, &solution, message, reason);
        }
    }
    id
}

fn keep_dead(
    seq: &mut Sequencer<'_, '_>,
    solution_no: SolutionNo,
    solution: &Name,
    message: NewMessage,
    reason: String,
) {
    let id = message.id;
    keep_row(seq, solution, solution_no, message);
    bury(seq, solution_no, id, reason);
    seq.put(Table::Lives, &id.0, &LifeRow { status: StatusRow::Dead, attempts: Vec::new() });
}

fn bury(seq: &mut Sequencer<'_, '_>, solution_no: SolutionNo, id: MessageId, reason: String) {
    let row = DeadLetterRow { solution_no, since_ms: seq.now_ms(), reason, outbox: None };
    seq.put(Table::DeadLetters, &id.0, &row);
}
