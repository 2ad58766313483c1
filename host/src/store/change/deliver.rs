//! The end of an attempt to deliver an effect.

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
    Again { due_ms: UnixMs },
    Dead { reason: String },
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
            DeliverNext::Delivered => {
                seq.delete(Table::Outbox, &key.to_bytes());
                seq.count_delivered();
                seq.count_undelivered(solution_no, -1);
                DeliveryStatusRow::Delivered
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
