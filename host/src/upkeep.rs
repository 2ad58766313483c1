//! Finished messages move into segments, and go when their time is over.
//!
//! ```text
//! tally   which messages are finished, and how much they take           reads
//! decide  whose messages move, how many, and what is too old            pure
//! pack    writes them into a segment's file                             a file beside the store
//! sweep   the store takes the segment in and lets its messages go       changes, a few messages at a time
//! ```
//!
//! A node may die anywhere between: a file that no row names is deleted, a sweep that was not finished goes on.

use std::{collections::BTreeSet, time::Duration};

use tokio::{sync::watch, time::Instant};

use self::{
    decide::{Facts, Move, decide, expired},
    pack::pack,
    tally::Tally,
};
use crate::{
    machine,
    model::{clock::Clock, message::MessageId},
    store::{
        ReadError, Store, SubmitError,
        change::archive::{Expire, Seal, Sweep, Swept},
        row::segment::SegmentKey,
        segment::SegmentError,
        table::Table,
    },
};

mod decide;
mod pack;
mod tally;
#[cfg(test)]
mod tests;

/// Between two looks at what is finished.
const PAUSE: Duration = Duration::from_millis(500);
/// A look may take this part of the time at most.
const SHARE: u32 = 4;
/// Between two looks at what is too old.
const RETENTION_PAUSE: Duration = Duration::from_mins(1);
/// Everything is tallied anew this often: an id that lies below others, because the clock was set back, is found then.
const AFRESH: Duration = Duration::from_mins(10);
/// After something went wrong.
const PAUSE_AFTER_FAULT: Duration = Duration::from_secs(30);
/// Messages that one change deletes.
const SWEEP: usize = 512;

/// How much stays among the live messages.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// Rows of finished messages, in bytes, beyond which the oldest move into segments.
    pub live_bytes: u64,
}

#[derive(Debug, thiserror::Error)]
enum UpkeepError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Segment(#[from] SegmentError),
    #[error("the archive's folder cannot be cleaned: {0}")]
    Clean(std::io::Error),
    #[error(transparent)]
    Submit(#[from] SubmitError),
}

/// Runs until it is told to stop.
pub async fn run(config: Config, store: Store, clock: Clock, mut stop: watch::Receiver<bool>) {
    let mut upkeep = Upkeep::new(config, store, clock);
    tokio::select! {
        biased;
        // Between any two steps: what is left is done after the next start.
        _ = stop.wait_for(|&stop| stop) => {}
        () = upkeep.work() => {}
    }
}

struct Upkeep {
    config: Config,
    store: Store,
    clock: Clock,
    tally: Tally,
    tallied_afresh: Instant,
    /// None until the first round, which also finishes what a crash left.
    retained: Option<Instant>,
}

impl Upkeep {
    fn new(config: Config, store: Store, clock: Clock) -> Self {
        let tallied_afresh = Instant::now();
        Self { config, store, clock, tally: Tally::default(), tallied_afresh, retained: None }
    }

    /// Until the store closes.
    async fn work(&mut self) {
        loop {
            let pause = match self.round().await {
                Ok(look) => PAUSE.max(look * SHARE),
                Err(UpkeepError::Submit(SubmitError::NotPrimary | SubmitError::Closed(_))) => {
                    return;
                }
                Err(error) => {
                    tracing::error!(%error, "finished messages stay where they are; trying again soon");
                    self.tally = Tally::default();
                    PAUSE_AFTER_FAULT
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Tallies and does what is to be done; returns how long the look took.
    async fn round(&mut self) -> Result<Duration, UpkeepError> {
        if self.retained.is_none() {
            self.finish_sweeps().await?;
        }
        if self.tallied_afresh.elapsed() > AFRESH {
            self.tally = Tally::default();
            self.tallied_afresh = Instant::now();
        }
        let snapshot = self.store.read()?;
        let began = Instant::now();
        machine::in_place(|| self.tally.look(&snapshot))?;
        let look = began.elapsed();
        drop(snapshot);
        if self.retained.is_none_or(|at| at.elapsed() > RETENTION_PAUSE) {
            self.let_go().await?;
            self.retained = Some(Instant::now());
        }
        while let Some(next) = decide(&self.tally, &self.facts()) {
            self.move_into_segment(&next).await?;
        }
        Ok(look)
    }

    fn facts(&self) -> Facts {
        let catalogue = self.store.catalogue().borrow().clone();
        Facts { now_ms: self.clock.now_ms(), live_bytes: self.config.live_bytes, catalogue }
    }

    async fn move_into_segment(&mut self, next: &Move) -> Result<(), UpkeepError> {
        let Some(packed) = machine::in_place(|| pack(&self.store, next))? else {
            self.tally.moved(next);
            return Ok(());
        };
        let key = packed.key;
        let ids = packed.messages.iter().map(|(id, _)| id.0).collect();
        self.store.submit(Seal { key, segment: packed.row, ids }).await?;
        self.tally.moved(next);
        self.sweep(packed.messages).await?;
        self.store.submit(Swept { key }).await?;
        Ok(())
    }

    /// Deletes messages a few at a time: other changes share the commits.
    async fn sweep(&self, messages: Vec<(MessageId, Vec<u16>)>) -> Result<(), UpkeepError> {
        let mut messages = messages.into_iter();
        loop {
            let some: Vec<_> = messages.by_ref().take(SWEEP).collect();
            if some.is_empty() {
                return Ok(());
            }
            self.store.submit(Sweep { messages: some }).await?;
        }
    }

    /// Goes on where a crash came between.
    async fn finish_sweeps(&self) -> Result<(), UpkeepError> {
        let mut sweeps = Vec::new();
        self.store.read()?.table(Table::Sweeps)?.scan(&[], |key, _| {
            sweeps.push(SegmentKey::from_bytes(key).ok_or(ReadError::Key("sweeps"))?);
            Ok(true)
        })?;
        for key in sweeps {
            match self.finish_sweep(key).await {
                Err(UpkeepError::Segment(error)) => {
                    tracing::error!(%error, "messages of it that are still live move once more");
                }
                other => other?,
            }
        }
        Ok(())
    }

    /// In order, and only what was read: what a damaged file does not give back stays, and so does all behind it.
    async fn finish_sweep(&self, key: SegmentKey) -> Result<(), UpkeepError> {
        let segment = self.store.archive().open(key)?;
        for block in 0..segment.blocks() {
            let indexes = |deliveries: Vec<(u16, _)>| deliveries.into_iter().map(|(n, _)| n);
            let entries = segment.block(block)?.into_iter();
            let messages = entries.map(|e| (MessageId(e.id), indexes(e.deliveries).collect()));
            self.sweep(messages.collect()).await?;
        }
        self.store.submit(Swept { key }).await?;
        Ok(())
    }

    /// What is too old goes: segments whole, and finished messages that never came into one.
    async fn let_go(&mut self) -> Result<(), UpkeepError> {
        // Files of segments that went the last time, when nobody reads them any more.
        self.clean()?;
        let facts = self.facts();
        let segments = expired(&self.store.read()?.segments()?, &facts);
        if !segments.is_empty() {
            tracing::info!(segments = segments.len(), "finished messages: their time is over");
            self.store.submit(Expire { segments }).await?;
        }
        let old = self.tally.take_old(&facts);
        let snapshot = self.store.read()?;
        let with_deliveries = |id: MessageId| {
            let rows = snapshot.delivery_rows(id)?.into_iter();
            Ok((id, rows.map(|(index, _)| index).collect()))
        };
        let messages = old.into_iter().map(with_deliveries).collect::<Result<_, ReadError>>()?;
        drop(snapshot);
        self.sweep(messages).await
    }

    fn clean(&self) -> Result<(), UpkeepError> {
        let segments = self.store.read()?.segments()?;
        let known: BTreeSet<SegmentKey> = segments.into_iter().map(|(key, _)| key).collect();
        self.store.archive().clean(&known).map_err(UpkeepError::Clean)
    }
}
