//! Messages that the other node of the pair had accepted are taken in here.

use std::collections::BTreeSet;

use super::{Change, ChangeError, accept, accept::NewMessage};
use crate::{
    model::message::Content,
    store::{
        recover::{Fate, Made, Recovered},
        row::{
            dedupe::{DedupeExpiryRow, DedupeRow, dedupe_expiry_key, dedupe_key},
            delivery::{DeliveryRow, DeliveryStatusRow, delivery_key},
        },
        sequencer::Sequencer,
        table::Table,
    },
};

/// Each keeps its first id. Bounds of queues do not hold for them: they have their receipts.
#[derive(Debug)]
pub struct Recover {
    pub messages: Vec<Recovered>,
    pub made: Vec<Made>,
}

impl Change for Recover {
    /// In their order.
    type Answer = Vec<Fate>;

    fn sequence(self, seq: &mut Sequencer<'_, '_>) -> Result<Vec<Fate>, ChangeError> {
        let (mut fates, mut taken) = (Vec::new(), BTreeSet::new());
        for recovered in self.messages {
            let id = recovered.id;
            let fate = take_in(seq, recovered)?;
            if fate == Fate::Taken {
                taken.insert(id);
            }
            fates.push(fate);
        }
        for made in self.made {
            // A change does not see its own rows.
            if taken.contains(&made.id) || seq.contains(Table::Messages, &made.id.0)? {
                note(seq, made)?;
            }
        }
        Ok(fates)
    }
}

/// An effect that the other node made: whoever is about to make it here finds that out.
fn note(seq: &mut Sequencer<'_, '_>, made: Made) -> Result<(), ChangeError> {
    let Made { id, index, mut row } = made;
    let key = delivery_key(id, index);
    let known = seq.get::<DeliveryRow>(Table::Deliveries, &key)?;
    let is_open = known.as_ref().is_none_or(|known| {
        matches!(known.status, DeliveryStatusRow::Again { .. } | DeliveryStatusRow::Begun { .. })
    });
    if !is_open {
        return Ok(());
    }
    if let Some(known) = known {
        row.attempts.splice(..0, known.attempts);
    }
    seq.put(Table::Deliveries, &key, &row);
    Ok(())
}

fn take_in(seq: &mut Sequencer<'_, '_>, recovered: Recovered) -> Result<Fate, ChangeError> {
    let Recovered { id, message, once } = recovered;
    let catalogue = seq.catalogue();
    let Some(solution) = catalogue.solution(message.solution.as_str()) else {
        return Ok(Fate::NoSolution);
    };
    if seq.contains(Table::Messages, &id.0)? {
        return Ok(Fate::Known);
    }
    if let Some((key, row)) = once {
        let row_key = dedupe_key(solution.no, &message.source, key);
        let known = seq.get::<DedupeRow>(Table::Dedupe, &row_key)?;
        if let Some(known) = known.filter(|known| known.expires_ms > seq.now_ms()) {
            let is_same = known.fingerprint == row.fingerprint;
            return Ok(if is_same { Fate::SentAgain } else { Fate::Conflicting });
        }
        if let Some(known) = known {
            seq.delete(Table::DedupeExpiry, &dedupe_expiry_key(known.expires_ms, &row_key));
        }
        let row = DedupeRow { position: seq.position(), ..row };
        seq.put(Table::Dedupe, &row_key, &row);
        seq.put(
            Table::DedupeExpiry,
            &dedupe_expiry_key(row.expires_ms, &row_key),
            &DedupeExpiryRow,
        );
    }
    let headers = message.headers.into_iter();
    let content = Content {
        source: message.source,
        headers: headers.map(|(name, value)| (name, value.into_vec())).collect(),
        content_type: message.content_type,
        key: message.key,
        body: message.body,
    };
    let new =
        NewMessage { id, time_ms: message.time_ms, parent: None, content, due: message.due_ms };
    accept::keep(seq, solution, new);
    Ok(Fate::Taken)
}
