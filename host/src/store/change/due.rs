//! Messages whose time has come move from the timers to the ready ones.

use super::{Change, ChangeError, accept::queue};
use crate::{
    model::{clock::UnixMs, message::MessageId},
    store::{
        row::{
            Row,
            timer::{TimerRow, read_timer_key, timer_key},
        },
        sequencer::Sequencer,
        snapshot::ReadError,
        table::Table,
    },
};

/// At most this many at once; the rest at once after it.
pub const DUE_PER_CHANGE: usize = 1000;

/// Everything due at `now_ms`.
#[derive(Debug)]
pub struct Due {
    pub now_ms: UnixMs,
}

impl Change for Due {
    /// How many it was.
    type Answer = usize;

    fn sequence(self, seq: &mut Sequencer<'_, '_>) -> Result<usize, ChangeError> {
        let mut due: Vec<(UnixMs, MessageId, TimerRow)> = Vec::new();
        let mut damage = None;
        seq.scan(Table::Timers, &[], |key, value| {
            match (read_timer_key(key), TimerRow::decode(value)) {
                (Some((due_ms, id)), Ok(row)) if due_ms <= self.now_ms => {
                    due.push((due_ms, id, row));
                }
                (Some(_), Ok(_)) => return false,
                (None, _) => damage = Some(ReadError::Key("timers")),
                (_, Err(error)) => damage = Some(error.into()),
            }
            damage.is_none() && due.len() < DUE_PER_CHANGE
        })?;
        if let Some(error) = damage {
            return Err(error.into());
        }
        let count = due.len();
        for (due_ms, id, row) in due {
            seq.delete(Table::Timers, &timer_key(due_ms, id));
            queue(seq, row.solution_no, id, row.attempts, None);
        }
        Ok(count)
    }
}
