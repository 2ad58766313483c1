//! What came under a key is taken in once: later ones get the first one's receipt, until the key's window is over.

use std::time::Duration;

use super::{ChangeError, Refusal};
use crate::{
    model::{
        clock::UnixMs,
        message::{Fingerprint, MessageId, OnceKey},
        name::Name,
        position::Position,
    },
    store::{
        row::{
            SolutionNo,
            dedupe::{
                DedupeExpiryRow, DedupeRow, dedupe_expiry_key, dedupe_key, read_dedupe_expiry_key,
            },
        },
        sequencer::Sequencer,
        table::Table,
    },
};

/// Expired keys that one change lets go, beside two for each key that it adds: they go faster than they come.
const LET_GO: usize = 2;

/// What makes a message one that is taken in once.
#[derive(Debug, Clone, Copy)]
pub struct Once {
    pub key: OnceKey,
    pub fingerprint: Fingerprint,
    /// How long the key is remembered.
    pub window: Duration,
}

/// What a sender is told of a message that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    pub id: MessageId,
    pub position: Position,
    /// It came before; this is the receipt it got then.
    pub is_duplicate: bool,
}

/// What is known under a key.
pub(super) enum Known {
    Nothing,
    /// A row whose window is over, and when that was: to be written over.
    Expired(UnixMs),
    Before(Receipt),
}

/// Looks a key up. The same key with another body is refused.
pub(super) fn look_up(
    seq: &Sequencer<'_, '_>,
    row_key: &[u8],
    once: &Once,
    line: Option<usize>,
) -> Result<Known, ChangeError> {
    let Some(row) = seq.get::<DedupeRow>(Table::Dedupe, row_key)? else {
        return Ok(Known::Nothing);
    };
    if row.expires_ms <= seq.now_ms() {
        return Ok(Known::Expired(row.expires_ms));
    }
    if row.fingerprint != once.fingerprint {
        return Err(Refusal::KeyReused { first: row.id(), line }.into());
    }
    let (id, position) = (row.id(), row.position);
    Ok(Known::Before(Receipt { id, position, is_duplicate: true }))
}

/// Remembers under which key a message was taken in.
pub(super) fn remember(
    seq: &mut Sequencer<'_, '_>,
    row_key: &[u8],
    once: &Once,
    known: &Known,
    id: MessageId,
) {
    if let Known::Expired(expires_ms) = known {
        seq.delete(Table::DedupeExpiry, &dedupe_expiry_key(*expires_ms, row_key));
    }
    let window = u64::try_from(once.window.as_millis()).unwrap_or(u64::MAX);
    let expires_ms = seq.now_ms().saturating_add(window);
    let position = seq.position();
    let row = DedupeRow { id: id.0, position, fingerprint: once.fingerprint, expires_ms };
    seq.put(Table::Dedupe, row_key, &row);
    seq.put(Table::DedupeExpiry, &dedupe_expiry_key(expires_ms, row_key), &DedupeExpiryRow);
}

/// Lets some keys go whose windows are over; `added` are about to be remembered, and must be remembered after this.
pub(super) fn expire(seq: &mut Sequencer<'_, '_>, added: usize) -> Result<(), ChangeError> {
    let (now_ms, most) = (seq.now_ms(), LET_GO + 2 * added);
    let mut over = Vec::new();
    seq.scan(Table::DedupeExpiry, &[], |key, _| {
        let is_over = read_dedupe_expiry_key(key).is_some_and(|(expires, _)| expires <= now_ms);
        if is_over {
            over.push(key.to_vec());
        }
        is_over && over.len() < most
    })?;
    for key in over {
        if let Some((_, row_key)) = read_dedupe_expiry_key(&key) {
            seq.delete(Table::Dedupe, row_key);
        }
        seq.delete(Table::DedupeExpiry, &key);
    }
    Ok(())
}

pub(super) fn row_key(solution: SolutionNo, source: &Name, once: &Once) -> Vec<u8> {
    dedupe_key(solution, source, once.key)
}
