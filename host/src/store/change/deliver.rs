//! Attempts to deliver an effect: how they end, and that one begins which must not be made twice.

use super::{Change, ChangeError};
use crate::{
    model::{clock::UnixMs, message::MessageId},
    store::{
        row::{
            SolutionNo,
            dead_letter::DeadLetterRow,
            delivery::{DeliveryAttemptRow, DeliveryRow, DeliveryStatusRow, delivery_key},
            outbox::OutboxKey,
        },
        sequencer::Sequencer,
        table::Table,
    },
};

/// One attempt and what becomes of the effect.
#[derive(Debug)]
pub struct Deliver {
    pub key: OutboxKey,
    pub id: MessageId,
    pub solution_no: SolutionNo,
    pub method: String,
    pub url: String,
    pub attempt: DeliveryAttemptRow,
    pub next: DeliverNext,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeliverNext {
    Delivered,
    Again {
        due_ms: UnixMs,
    },
    Dead {
        reason: String,
    },
    /// Not again, and not to an operator.
    Unknown,
}

/// An attempt begins of which the next node must know: on disk before the request is made.
#[derive(Debug)]
pub struct BeginDelivery {
    pub key: OutboxKey,
    pub id: MessageId,
    pub method: String,
    pub url: String,
}

impl Change for BeginDelivery {
    /// Whether it may be made.
    type Answer = bool;

    fn sequence(self, seq: &mut Sequencer<'_, '_>) -> Result<bool, ChangeError> {
        let Self { key, id, method, url } = self;
        let row_key = delivery_key(id, key.index);
        let earlier = seq.get::<DeliveryRow>(Table::Deliveries, &row_key)?;
        let is_begun = earlier
            .as_ref()
            .is_some_and(|row| matches!(row.status, DeliveryStatusRow::Begun { .. }));
        if is_begun || !seq.contains(Table::Outbox, &key.to_bytes())? {
            return Ok(false);
        }
        let attempts = earlier.map_or_else(Vec::new, |row| row.attempts);
        let status = DeliveryStatusRow::Begun { at_ms: seq.now_ms() };
        seq.put(Table::Deliveries, &row_key, &DeliveryRow { method, url, status, attempts });
        Ok(true)
    }
}

/// An effect is over that is in the outbox still: the other node had made it.
#[derive(Debug)]
pub struct CloseDelivery {
    pub key: OutboxKey,
    pub solution_no: SolutionNo,
}

impl Change for CloseDelivery {
    type Answer = ();

    const AWAITED: bool = false;

    fn sequence(self, seq: &mut Sequencer<'_, '_>) -> Result<(), ChangeError> {
        if seq.contains(Table::Outbox, &self.key.to_bytes())? {
            seq.delete(Table::Outbox, &self.key.to_bytes());
            seq.count_undelivered(self.solution_no, -1);
        }
        Ok(())
    }
}

impl Change for Deliver {
    type Answer = ();

    const AWAITED: bool = false;

    fn sequence(self, seq: &mut Sequencer<'_, '_>) -> Result<(), ChangeError> {
        let Self { key, id, solution_no, method, url, attempt, next } = self;
        if !seq.contains(Table::Outbox, &key.to_bytes())? {
            // Discarded by an operator while it was being delivered.
            return Ok(());
        }
        let row_key = delivery_key(id, key.index);
        let earlier = seq.get::<DeliveryRow>(Table::Deliveries, &row_key)?;
        let mut attempts = earlier.map_or_else(Vec::new, |row| row.attempts);
        attempts.push(attempt);
        let status = match next {
            DeliverNext::Delivered | DeliverNext::Unknown => {
                seq.delete(Table::Outbox, &key.to_bytes());
                seq.count_undelivered(solution_no, -1);
                if next == DeliverNext::Delivered {
                    seq.count_delivered();
                    DeliveryStatusRow::Delivered
                } else {
                    DeliveryStatusRow::Unknown
                }
            }
            DeliverNext::Again { due_ms } => DeliveryStatusRow::Again { due_ms },
            DeliverNext::Dead { reason } => {
                let outbox = Some((key.ordinal, key.index));
                let row = DeadLetterRow { solution_no, since_ms: seq.now_ms(), reason, outbox };
                seq.put(Table::DeadLetters, &row_key, &row);
                seq.count_undelivered(solution_no, -1);
                DeliveryStatusRow::Dead
            }
        };
        seq.put(Table::Deliveries, &row_key, &DeliveryRow { method, url, status, attempts });
        Ok(())
    }
}
