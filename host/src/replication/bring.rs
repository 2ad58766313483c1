//! What was set aside goes to the primary: piece by piece, each when the one before it is there.
//!
//! A primary whose program knows no pieces takes each for all there is, and answers with the name that it came with.

use std::{io, sync::Arc};

use tokio::{sync::mpsc, task::JoinSet};

use super::Quarantine;
use crate::{
    machine,
    store::recover::{Apart, Fate},
};

/// What is being brought on one link.
pub(super) struct Bringing {
    /// What the primary says of pieces, by their names.
    answers: mpsc::Receiver<(String, Vec<Fate>)>,
    /// One task at most.
    reading: JoinSet<io::Result<Entry>>,
    entry: Option<Entry>,
    /// Pieces that were brought on this link: each has a name of its own.
    brought: u64,
}

/// Of the quarantine.
struct Entry {
    id: String,
    /// The next is last.
    left: Vec<Apart>,
    /// The name of the piece that is on its way.
    awaited: Option<String>,
    /// What became of those before it.
    fates: Vec<Fate>,
}

impl Bringing {
    pub fn new(answers: mpsc::Receiver<(String, Vec<Fate>)>) -> Self {
        Self { answers, reading: JoinSet::new(), entry: None, brought: 0 }
    }

    /// Begins with the oldest entry that is not settled, if none is being brought.
    pub fn begin(&mut self, quarantine: &Arc<Quarantine>) -> io::Result<()> {
        if self.entry.is_some() || !self.reading.is_empty() {
            return Ok(());
        }
        if let Some(id) = quarantine.pending()? {
            let quarantine = quarantine.clone();
            self.reading.spawn(machine::blocking(move || {
                let mut left = quarantine.pieces(&id)?;
                left.reverse();
                Ok(Entry { id, left, awaited: None, fates: Vec::new() })
            }));
        }
        Ok(())
    }

    /// Another is primary, or another again: what is on its way may never be answered.
    pub fn forget(&mut self) {
        (self.entry, self.reading) = (None, JoinSet::new());
    }

    /// The next piece and its name, when it may go. May be dropped while it waits.
    pub async fn next(&mut self, quarantine: &Quarantine) -> io::Result<(String, Vec<u8>)> {
        loop {
            tokio::select! {
                biased;
                Some(read) = self.reading.join_next() => {
                    self.entry = Some(read.unwrap_or_else(|error| Err(error.into()))?);
                }
                Some((name, fates)) = self.answers.recv() => {
                    if let Some(entry) = &mut self.entry
                        && entry.awaited.take_if(|awaited| *awaited == name).is_some()
                    {
                        entry.fates.extend(fates);
                    }
                }
                else => std::future::pending().await,
            }
            if let Some(piece) = self.next_now(quarantine)? {
                return Ok(piece);
            }
        }
    }

    /// The next piece, if none is on its way. Behind the last one the entry is settled.
    fn next_now(&mut self, quarantine: &Quarantine) -> io::Result<Option<(String, Vec<u8>)>> {
        let Some(entry) = self.entry.as_mut().filter(|entry| entry.awaited.is_none()) else {
            return Ok(None);
        };
        let Some(piece) = entry.left.pop() else {
            quarantine.settle(&entry.id, &entry.fates)?;
            self.entry = None;
            return Ok(None);
        };
        self.brought += 1;
        let name = format!("{}/{}", entry.id, self.brought);
        entry.awaited = Some(name.clone());
        Ok(Some((name, piece.pack().map_err(io::Error::other)?)))
    }
}
