//! What a primary gives its standby: frames from the last common one on, or all rows and then frames.

use bytes::Bytes;
use tokio::sync::mpsc;

use super::SessionError;
use crate::{
    durability::Gate,
    model::{
        pair::talk::{Said, Tip},
        position::{Chain, Position},
    },
    store::{Store, replicate::Installing},
};

/// Parts of rows that are read ahead.
const AHEAD: usize = 2;

/// Where the feeding is.
#[derive(Debug)]
pub(super) enum Feed {
    None,
    /// The next frame's number.
    Frames(u64),
    Rows(mpsc::Receiver<Installing>),
}

pub(super) enum Part {
    /// A frame, and the chain hash before it.
    Frame(Chain, Bytes),
    Rows(Installing),
    /// The journal does not have the next frame any more.
    Lost,
}

/// What a standby whose journal ends at one of `tips` needs, and what it has to be told first.
pub(super) fn plan(store: &Store, gate: &Gate, epoch: u64, tips: &[Tip]) -> (Feed, Option<Said>) {
    let is_common = |tip: &Tip| store.chain_at(tip.position.seq) == Some(tip.chain);
    match tips.iter().position(is_common) {
        Some(0) => {
            let Position { seq, .. } = tips[0].position;
            gate.has(epoch, seq);
            (Feed::Frames(seq + 1), None)
        }
        // It introduces itself again when that is done.
        Some(_) => (Feed::None, Some(Said::Cut { epoch })),
        None => {
            let diverged = !tips.iter().all(|tip| is_past(store, tip));
            let common = tips.iter().map(|tip| common(store, tip)).min().unwrap_or(0);
            (Feed::rows(store), Some(Said::Rows { epoch, diverged, common }))
        }
    }
}

/// A frame up to which a journal that ends at `tip` is this store's past. It may reach further.
fn common(store: &Store, tip: &Tip) -> u64 {
    // Without a witness two nodes may have begun the same epoch.
    if !store.owner_of(tip.position.epoch).is_ok_and(|owner| owner == tip.owner) {
        return 0;
    }
    // Whoever was primary then had what the other had when the next epoch began.
    let parted = store.epoch_after(tip.position.epoch).ok().flatten();
    parted.map_or(0, |first_seq| tip.position.seq.min(first_seq.saturating_sub(1)))
}

/// Whether that place lies in this store's past, before what the journal still has.
fn is_past(store: &Store, tip: &Tip) -> bool {
    let Position { epoch, seq } = tip.position;
    let is_out_of_reach = store.chain_at(seq).is_none() && seq < store.journal_head().0.seq;
    // Without a witness two nodes may have begun the same epoch.
    is_out_of_reach
        && store.epoch_of(seq).is_ok_and(|known| known == epoch)
        && store.owner_of(epoch).is_ok_and(|owner| owner == tip.owner)
}

impl Feed {
    /// All rows as of now.
    pub fn rows(store: &Store) -> Self {
        // What comes from now on is needed behind the rows.
        store.keep_after(store.journal_head().0.seq.saturating_sub(1));
        let (give, parts) = mpsc::channel(AHEAD);
        let store = store.clone();
        tokio::task::spawn_blocking(move || {
            let given = store.give_rows(|part| give.blocking_send(part).is_ok());
            if let Err(error) = given {
                tracing::error!(%error, "the rows for the other node cannot be read");
            }
        });
        Self::Rows(parts)
    }

    /// The next part; waits until there is one. May be dropped while it waits.
    pub async fn next(&mut self, store: &Store, gate: &Gate) -> Result<Part, SessionError> {
        match self {
            Self::None => std::future::pending().await,
            Self::Frames(next) => loop {
                let waits = gate.offered.notified();
                if *next <= store.journal_head().0.seq {
                    let frame =
                        gate.recent(*next).map_or_else(|| store.frame(*next), |f| Ok(Some(f)))?;
                    let before = store.chain_at(*next - 1);
                    let (Some(frame), Some(before)) = (frame, before) else {
                        return Ok(Part::Lost);
                    };
                    *next += 1;
                    return Ok(Part::Frame(before, frame));
                }
                // It has caught up: the journal's bound holds again.
                store.keep_after(u64::MAX);
                waits.await;
            },
            Self::Rows(parts) => {
                let Some(part) = parts.recv().await else {
                    return Err(SessionError::Unfit("the rows broke off here".to_owned()));
                };
                if let Installing::Done(head) = &part {
                    *self = Self::Frames(head.position.seq + 1);
                }
                Ok(Part::Rows(part))
            }
        }
    }
}
