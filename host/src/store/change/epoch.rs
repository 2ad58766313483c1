//! A node begins to be primary, or to accept beside one, or goes on.

use super::{Change, ChangeError};
use crate::{
    model::pair::StoreId,
    store::{row::epoch::EpochRow, sequencer::Sequencer, table::Table},
};

/// The first change of an epoch.
#[derive(Debug)]
pub struct BeginEpoch {
    pub owner: StoreId,
}

impl Change for BeginEpoch {
    type Answer = ();

    fn sequence(self, seq: &mut Sequencer<'_, '_>) -> Result<(), ChangeError> {
        let position = seq.position();
        let key = position.epoch.to_be_bytes();
        // It accepted in this epoch before it became primary in it: its first frame stays the first.
        let known = seq.get::<EpochRow>(Table::Epochs, &key)?;
        if known.is_some_and(|row| row.owner == self.owner) {
            return Ok(());
        }
        let row = EpochRow { owner: self.owner, first_seq: position.seq, began_ms: seq.now_ms() };
        seq.put(Table::Epochs, &key, &row);
        Ok(())
    }
}

/// Keeps nothing; whoever submits it learns when all before it shows.
#[derive(Debug)]
pub struct Nothing;

impl Change for Nothing {
    type Answer = ();

    fn sequence(self, _: &mut Sequencer<'_, '_>) -> Result<(), ChangeError> {
        Ok(())
    }
}
