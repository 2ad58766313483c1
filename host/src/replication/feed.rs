//! What a primary gives its standby: frames from the last common one on, or all rows and then frames.

use std::time::Duration;

use bytes::Bytes;
use tokio::{sync::mpsc, time::Instant};

use super::SessionError;
use crate::{
    durability::Gate,
    machine,
    model::{
        pair::talk::{Said, Tip},
        position::{Chain, Position},
    },
    store::{
        Store,
        replicate::{Installing, Span},
    },
};

pub(super) const LOST: &str = "the frames that the other node needs next are not kept any more (`copy_frames` in [pair], or the disk): it is asked again what it has, and gets what it lacks";
pub(super) const NO_ROOM: &str =
    "the other node lacks rows, and this node's disk is too full to give them: free some space";
/// Parts of rows that are read ahead.
const AHEAD: usize = 2;
/// Less than this is not waited for.
const PAUSE_MIN: Duration = Duration::from_millis(2);

/// Where the feeding is.
#[derive(Debug)]
pub(super) enum Feed {
    None,
    /// The next frame's number.
    Frames(u64),
    /// The other node was told that rows will come, and is to say what it has.
    Asked,
    Rows(Rows),
}

/// Rows on their way out.
#[derive(Debug)]
pub(super) struct Rows {
    parts: mpsc::Receiver<Installing>,
    /// Frames after this one are needed behind them.
    after: u64,
    pace: Pace,
    began: Instant,
    bytes: u64,
}

/// How fast rows and segments are given: handling messages goes first.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Bytes per second; 0: as fast as they can be read.
    rate: u64,
    /// When the next may go.
    next: Instant,
}

impl Pace {
    pub fn new(rate: u64) -> Self {
        Self { rate, next: Instant::now() }
    }

    /// So many bytes go now.
    pub fn spend(&mut self, bytes: u64) {
        if let Some(micros) = bytes.saturating_mul(1_000_000).checked_div(self.rate) {
            self.next = self.next.max(Instant::now()) + Duration::from_micros(micros);
        }
    }

    /// Until the next may go.
    pub async fn wait(&self) {
        if self.next > Instant::now() + PAUSE_MIN {
            tokio::time::sleep_until(self.next).await;
        }
    }
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
        None if lacks_last_only(store, tips) => (Feed::None, Some(Said::Cut { epoch })),
        None => {
            let diverged = !tips.iter().all(|tip| is_past(store, tip));
            let common = tips.iter().map(|tip| common(store, tip)).min().unwrap_or(0);
            (Feed::Asked, Some(Said::Rows { epoch, diverged, common }))
        }
    }
}

/// Whether all but a last frame that was never shown lies in this store's past: that frame alone has to go.
fn lacks_last_only(store: &Store, tips: &[Tip]) -> bool {
    matches!(tips, [last, shown] if !is_past(store, last) && is_past(store, shown))
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
    /// What the other node has, before rows go there. An answer to what was asked before this was changes nothing: it has
    /// begun.
    pub fn begin_rows(&mut self, store: &Store, spans: Vec<Span>, copy_rate: u64) {
        if matches!(self, Self::Asked) {
            *self = Self::rows(store, spans, copy_rate);
        }
    }

    /// All rows as of now but for those that the other node has, as fast as `rate` lets them go.
    fn rows(store: &Store, spans: Vec<Span>, rate: u64) -> Self {
        // What comes from now on is needed behind the rows.
        let head = store.journal_head().0.seq;
        // The last frame may not be shown yet, and so be missing in the rows.
        let is_there = head > 0 && store.chain_at(head - 1).is_some();
        let after = if is_there { head - 1 } else { head };
        store.keep_after(after);
        let store = store.clone();
        let parts = machine::produce(AHEAD, move |give| {
            let given = store.give_rows(&spans, give);
            if let Err(error) = given {
                tracing::error!(%error, "the rows for the other node cannot be read");
            }
        });
        let (pace, began) = (Pace::new(rate), Instant::now());
        Self::Rows(Rows { parts, after, pace, began, bytes: 0 })
    }

    /// The next part; waits until there is one. May be dropped while it waits.
    pub async fn next(&mut self, store: &Store, gate: &Gate) -> Result<Part, SessionError> {
        match self {
            Self::None | Self::Asked => std::future::pending().await,
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
            Self::Rows(rows) => {
                rows.pace.wait().await;
                if store.chain_at(rows.after).is_none() {
                    return Ok(Part::Lost);
                }
                let Some(part) = rows.parts.recv().await else {
                    return Err(SessionError::Unfit("the rows broke off here".to_owned()));
                };
                let bytes = part.bytes();
                rows.bytes += bytes;
                rows.pace.spend(bytes);
                if let Installing::Done(head) = &part {
                    let (bytes, took) = (rows.bytes, rows.began.elapsed());
                    tracing::info!(
                        bytes,
                        ?took,
                        "the other node has been given all rows that it lacked"
                    );
                    *self = Self::Frames(head.position.seq + 1);
                }
                Ok(Part::Rows(part))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        model::{clock::Clock, pair::StoreId},
        store::{
            SubmitError,
            change::{epoch::BeginEpoch, setting::SetSetting},
            row::setting::Scope,
            tests::{config, name},
        },
    };

    fn open(dir: &tempfile::TempDir, journal_bytes: u64) -> Store {
        let config = crate::store::Config {
            journal_bytes,
            checkpoint_bytes: 300,
            paired: true,
            ..config(dir.path())
        };
        Store::open(&config, Clock::system()).unwrap()
    }

    async fn lead(store: &Store, epoch: u64) {
        store.lead(epoch, None).await.unwrap();
        store.submit(BeginEpoch { owner: StoreId([1; 16]) }).await.unwrap();
    }

    async fn set(store: &Store, number: u64) -> Result<(), SubmitError> {
        let json = format!("\"{number:0100}\"");
        let set = SetSetting { scope: Scope::Global, name: name("s"), json };
        store.submit(set).await.map(drop)
    }

    /// A primary died with a last frame that the other node never had, and comes back when that has kept more frames than
    /// its journal holds: one frame is set aside, and no more.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_last_frame_that_was_not_shown_goes_first_also_when_the_journal_is_out_of_reach() {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let (old, new) = (open(&dirs[0], u64::MAX), open(&dirs[1], 2000));
        lead(&old, 1).await;
        for number in 0..3 {
            set(&old, number).await.unwrap();
        }
        let (mut frames, mut chain) = (Vec::new(), Chain::default());
        old.journal(0, |frame| {
            let frame = Bytes::copy_from_slice(frame);
            let before = chain;
            chain = before.next(&frame);
            frames.push((before, frame));
            true
        })
        .unwrap();
        let (both, _) = new.take(frames, old.journal_head().0.seq).await.unwrap();
        assert_eq!(both, old.journal_head().0);
        // Its gate lets nothing through.
        old.lead(1, Some(Arc::new(Gate::default()))).await.unwrap();
        assert!(matches!(set(&old, 9).await, Err(SubmitError::NotPrimary)));
        let gate = Gate::default();
        let asks = |tips: Vec<Tip>| plan(&new, &gate, 2, &tips).1;
        assert_eq!(old.tips().len(), 2);

        lead(&new, 2).await;
        let is_cut = |said| matches!(said, Some(Said::Cut { epoch: 2 }));
        assert!(is_cut(asks(old.tips())), "what both have is within reach");
        let mut number = 10;
        while new.chain_at(both.seq).is_some() {
            set(&new, number).await.unwrap();
            number += 1;
        }
        assert!(is_cut(asks(old.tips())), "it is not any more");
        assert!(old.cut_last().await.unwrap().is_some());
        let is_past = |said| matches!(said, Some(Said::Rows { diverged: false, .. }));
        assert!(is_past(asks(old.tips())), "nothing of the store is set aside");

        // What showed there after the nodes parted is not in the past.
        lead(&old, 1).await;
        set(&old, 11).await.unwrap();
        set(&old, 12).await.unwrap();
        assert!(matches!(asks(old.tips()), Some(Said::Rows { diverged: true, .. })));
    }
}
