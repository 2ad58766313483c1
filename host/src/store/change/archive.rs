//! Finished messages leave for a segment, or for good.
//!
//! In steps, so that no commit takes long: [`Seal`] names the segment and whom it holds, [`Sweep`] deletes them here a
//! few at a time, and [`Swept`] says that all are gone. Until then they are in both places, the same.

use super::{Change, ChangeError};
use crate::{
    model::message::MessageId,
    store::{
        row::{
            delivery::delivery_key,
            segment::{SegmentKey, SegmentRow, SweepRow},
        },
        sequencer::Sequencer,
        table::Table,
    },
};

/// A file that is on disk, whole, is part of the store from now on.
#[derive(Debug)]
pub struct Seal {
    pub key: SegmentKey,
    pub segment: SegmentRow,
    pub ids: Vec<[u8; 16]>,
}

impl Change for Seal {
    type Answer = ();

    fn sequence(self, seq: &mut Sequencer<'_, '_>) -> Result<(), ChangeError> {
        let Self { key, segment, ids } = self;
        seq.put(Table::Segments, &key.to_bytes(), &segment);
        seq.put(Table::Sweeps, &key.to_bytes(), &SweepRow { ids });
        Ok(())
    }
}

/// Deletes finished messages.
#[derive(Debug)]
pub struct Sweep {
    /// With the indexes of their deliveries.
    pub messages: Vec<(MessageId, Vec<u16>)>,
}

impl Change for Sweep {
    type Answer = ();

    fn sequence(self, seq: &mut Sequencer<'_, '_>) -> Result<(), ChangeError> {
        // Table by table and in the order of their keys, as they lie on disk.
        for (id, _) in &self.messages {
            seq.delete(Table::Messages, &id.0);
        }
        for (id, _) in &self.messages {
            seq.delete(Table::Lives, &id.0);
        }
        for (id, deliveries) in &self.messages {
            for index in deliveries {
                seq.delete(Table::Deliveries, &delivery_key(*id, *index));
            }
        }
        Ok(())
    }
}

/// All messages of a segment are gone from here.
#[derive(Debug)]
pub struct Swept {
    pub key: SegmentKey,
}

impl Change for Swept {
    type Answer = ();

    fn sequence(self, seq: &mut Sequencer<'_, '_>) -> Result<(), ChangeError> {
        seq.delete(Table::Sweeps, &self.key.to_bytes());
        Ok(())
    }
}

/// Segments whose time is over are no part of the store any more; their files may be deleted.
#[derive(Debug)]
pub struct Expire {
    pub segments: Vec<SegmentKey>,
}

impl Change for Expire {
    type Answer = ();

    fn sequence(self, seq: &mut Sequencer<'_, '_>) -> Result<(), ChangeError> {
        for key in self.segments {
            seq.delete(Table::Segments, &key.to_bytes());
            seq.delete(Table::Sweeps, &key.to_bytes());
        }
        Ok(())
    }
}
