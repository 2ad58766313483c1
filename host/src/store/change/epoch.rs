//! A node begins to be primary, or goes on.

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
        let row = EpochRow { owner: self.owner, first_seq: position.seq, began_ms: seq.now_ms() };
        seq.put(Table::Epochs, &position.epoch.to_be_bytes(), &row);
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
