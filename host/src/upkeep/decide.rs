//! Whose messages move into a segment next, and which segments are too old.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::tally::Tally;
use crate::{
    contract::manifest::Retention,
    model::{clock::UnixMs, message::MessageId},
    store::{
        Catalogue,
        row::{
            SolutionNo,
            segment::{SegmentKey, SegmentRow},
        },
    },
};

/// A segment spans at most this part of the time that its messages are kept, because it goes as a whole.
const SPAN: u32 = 10;
/// A segment has at most this part of what may stay among the live messages, so that much stays.
const PART: u64 = 4;
/// No segment is made of more than this, in bytes of rows.
const SEGMENT_BYTES_MAX: u64 = 64 << 20;
/// Nor of more messages: they are named in one row.
const SEGMENT_MESSAGES_MAX: usize = 100_000;

pub(super) struct Facts {
    pub now_ms: UnixMs,
    pub live_bytes: u64,
    pub catalogue: Arc<Catalogue>,
}

/// Messages of one solution, the oldest first.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Move {
    pub solution_no: SolutionNo,
    pub ids: Vec<MessageId>,
}

fn ms(time: Duration) -> UnixMs {
    UnixMs::try_from(time.as_millis()).unwrap_or(UnixMs::MAX)
}

impl Facts {
    /// Messages of a solution that is gone are kept for the usual time. One whose manifest cannot be read any more may
    /// want them longer: they are kept until it can.
    fn retention(&self, no: SolutionNo) -> Retention {
        match self.catalogue.by_no(no).map(|solution| &solution.manifest) {
            None => Retention::default(),
            Some(Ok(manifest)) => manifest.retention,
            Some(Err(_)) => Retention { time: Duration::MAX, size: None },
        }
    }

    /// Messages from before this are not kept.
    pub fn oldest_kept_ms(&self, no: SolutionNo) -> UnixMs {
        self.now_ms.saturating_sub(ms(self.retention(no).time))
    }
}

/// While more than may stay is there: the oldest of the solution that has most.
pub(super) fn decide(tally: &Tally, facts: &Facts) -> Option<Move> {
    if tally.bytes() <= facts.live_bytes {
        return None;
    }
    let (no, finished) = tally.finished.iter().max_by_key(|(_, finished)| finished.bytes)?;
    let (first, _) = finished.messages.front()?;
    let until_ms = first.time_ms().saturating_add(ms(facts.retention(*no).time / SPAN));
    let mut room = (facts.live_bytes / PART).min(SEGMENT_BYTES_MAX);
    let fits = |(id, bytes): &&(MessageId, u32)| {
        let fits = id == first || (room > 0 && id.time_ms() <= until_ms);
        room = room.saturating_sub(u64::from(*bytes));
        fits
    };
    let ids = finished.messages.iter().take_while(fits).take(SEGMENT_MESSAGES_MAX);
    Some(Move { solution_no: *no, ids: ids.map(|(id, _)| *id).collect() })
}

/// Segments that need not be kept: all of their messages are too old, or their solution has too many bytes.
pub(super) fn expired(segments: &[(SegmentKey, SegmentRow)], facts: &Facts) -> Vec<SegmentKey> {
    let mut kept_bytes = BTreeMap::<SolutionNo, u64>::new();
    let mut expired = Vec::new();
    // The youngest first; they lie by solution and age.
    for (key, row) in segments.iter().rev() {
        let retention = facts.retention(key.solution_no);
        let kept = kept_bytes.entry(key.solution_no).or_default();
        *kept = kept.saturating_add(row.bytes);
        let too_old = MessageId(row.last).time_ms() < facts.oldest_kept_ms(key.solution_no);
        if too_old || retention.size.is_some_and(|size| *kept > size) {
            expired.push(*key);
        }
    }
    expired
}
