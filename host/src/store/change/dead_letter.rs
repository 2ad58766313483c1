//! An operator's word on a dead letter: try it again, or let it go.

use super::{Change, ChangeError, Refusal, accept::queue};
use crate::{
    model::message::MessageId,
    store::{
        row::{
            dead_letter::DeadLetterRow,
            delivery::{DeliveryRow, DeliveryStatusRow, delivery_key},
            life::{LifeRow, StatusRow},
            message::MessageRow,
            outbox::{OutboxKey, OutboxRow},
        },
        sequencer::Sequencer,
        table::Table,
    },
};

/// A dead message is tried once more.
#[derive(Debug)]
pub struct RetryMessage {
    pub id: MessageId,
}

impl Change for RetryMessage {
    type Answer = ();

    fn sequence(self, seq: &mut Sequencer<'_, '_>) -> Result<(), ChangeError> {
        let id = self.id;
        let message = find_dead(seq, id)?;
        let catalogue = seq.catalogue();
        // By name: it may have been deployed, or deployed anew, since.
        let solution = catalogue
            .solution(message.solution.as_str())
            .ok_or_else(|| Refusal::UnknownSolution(message.solution.to_string()))?;
        let attempts =
            seq.get::<LifeRow>(Table::Lives, &id.0)?.map_or_else(Vec::new, |l| l.attempts);
        let made = u32::try_from(attempts.len()).unwrap_or(u32::MAX);
        let status = StatusRow::Again { due_ms: seq.now_ms() };
        seq.put(Table::Lives, &id.0, &LifeRow { status, attempts });
        seq.delete(Table::DeadLetters, &id.0);
        queue(seq, solution.no, id, made, None);
        seq.count_queued(solution.no, 1);
        Ok(())
    }
}

/// A dead message is let go; its life stays for looking up.
#[derive(Debug)]
pub struct DiscardMessage {
    pub id: MessageId,
}

impl Change for DiscardMessage {
    type Answer = ();

    fn sequence(self, seq: &mut Sequencer<'_, '_>) -> Result<(), ChangeError> {
        find_dead(seq, self.id)?;
        seq.delete(Table::DeadLetters, &self.id.0);
        Ok(())
    }
}

fn find_dead(seq: &Sequencer<'_, '_>, id: MessageId) -> Result<MessageRow, ChangeError> {
    let message = seq.get(Table::Messages, &id.0)?.ok_or(Refusal::UnknownMessage(id))?;
    if !seq.contains(Table::DeadLetters, &id.0)? {
        return Err(Refusal::NotDead(id).into());
    }
    Ok(message)
}

/// A dead delivery is tried once more.
#[derive(Debug)]
pub struct RetryDelivery {
    pub id: MessageId,
    pub index: u16,
}

impl Change for RetryDelivery {
    type Answer = ();

    fn sequence(self, seq: &mut Sequencer<'_, '_>) -> Result<(), ChangeError> {
        let Self { id, index } = self;
        let key = delivery_key(id, index);
        let dead = find_dead_delivery(seq, id, index)?;
        // Under a new place in the order, because delivery reads the outbox forward.
        if let Some(old) = dead.outbox_key()
            && let Some(effect) = seq.get::<OutboxRow>(Table::Outbox, &old.to_bytes())?
        {
            seq.delete(Table::Outbox, &old.to_bytes());
            seq.count_undelivered(effect.solution_no, 1);
            let ordinal = seq.new_ordinal();
            seq.put(Table::Outbox, &OutboxKey { ordinal, index }.to_bytes(), &effect);
        }
        if let Some(mut delivery) = seq.get::<DeliveryRow>(Table::Deliveries, &key)? {
            delivery.status = DeliveryStatusRow::Again { due_ms: seq.now_ms() };
            seq.put(Table::Deliveries, &key, &delivery);
        }
        seq.delete(Table::DeadLetters, &key);
        seq.wake_delivery();
        Ok(())
    }
}

/// A dead delivery is let go; its attempts stay for looking up.
#[derive(Debug)]
pub struct DiscardDelivery {
    pub id: MessageId,
    pub index: u16,
}

impl Change for DiscardDelivery {
    type Answer = ();

    fn sequence(self, seq: &mut Sequencer<'_, '_>) -> Result<(), ChangeError> {
        let Self { id, index } = self;
        let dead = find_dead_delivery(seq, id, index)?;
        if let Some(key) = dead.outbox_key() {
            seq.delete(Table::Outbox, &key.to_bytes());
        }
        seq.delete(Table::DeadLetters, &delivery_key(id, index));
        Ok(())
    }
}

fn find_dead_delivery(
    seq: &Sequencer<'_, '_>,
    id: MessageId,
    index: u16,
) -> Result<DeadLetterRow, ChangeError> {
    let row = seq.get(Table::DeadLetters, &delivery_key(id, index))?;
    Ok(row.ok_or(Refusal::UnknownDelivery { id, index })?)
}
