//! What a handler sees: the last committed rows, and over them what earlier attempts of its lane wrote.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::{PoisonError, RwLock, RwLockReadGuard},
};

use bytes::Bytes;

use crate::{
    contract::handler::{View, ViewError},
    model::name::Name,
    store::{
        Catalogue, ReadError,
        row::{SolutionNo, state::state_key},
        snapshot::SnapshotTable,
    },
};

/// Counts the writes of a lane: what was read is stale if it was written at a later version.
pub(super) type Version = u64;

/// A write that may not be on disk yet.
#[derive(Debug)]
struct Write {
    /// None deletes.
    value: Option<Bytes>,
    /// The batch that takes it to the store.
    batch: u64,
    version: Version,
}

/// Writes that are sequenced but may not be on disk yet: the pending state of one solution.
#[derive(Debug, Default)]
pub(super) struct Pending {
    writes: BTreeMap<String, Write>,
    version: Version,
}

impl Pending {
    /// The version that whoever begins to read now has seen.
    pub fn version(&self) -> Version {
        self.version
    }

    pub fn write(&mut self, batch: u64, writes: &[(String, Option<Bytes>)]) {
        if writes.is_empty() {
            return;
        }
        self.version += 1;
        for (key, value) in writes {
            let write = Write { value: value.clone(), batch, version: self.version };
            self.writes.insert(key.clone(), write);
        }
    }

    /// Lets go what every snapshot that is still in use shows by itself.
    pub fn forget_up_to(&mut self, batch: u64) {
        self.writes.retain(|_, write| write.batch > batch);
    }

    /// Whether anything that was read has been written since `version`.
    pub fn is_stale(&self, reads: &Reads, version: Version) -> bool {
        let is_later = |write: &Write| write.version > version;
        let below = |prefix: &str| {
            let from = (Bound::Included(prefix), Bound::Unbounded);
            let mut writes =
                self.writes.range::<str, _>(from).take_while(|(key, _)| key.starts_with(prefix));
            writes.any(|(_, write)| is_later(write))
        };
        self.version > version
            && (reads.keys.iter().any(|key| self.writes.get(key).is_some_and(is_later))
                || reads.prefixes.iter().any(|prefix| below(prefix)))
    }

    /// Writes whose key begins with `prefix` and comes after `after`.
    fn range(&self, prefix: &str, after: Option<&str>) -> Vec<(String, Option<Bytes>)> {
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        self.writes
            .range::<str, _>((from, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, write)| (key.clone(), write.value.clone()))
            .collect()
    }
}

/// What a handler has read.
#[derive(Debug, Default)]
pub(super) struct Reads {
    keys: BTreeSet<String>,
    prefixes: BTreeSet<String>,
}

/// One lane's view during one attempt.
#[derive(Debug)]
pub(super) struct LaneView<'a> {
    pub state: &'a SnapshotTable,
    /// Others may write to it while this attempt runs.
    pub pending: &'a RwLock<Pending>,
    /// Where to note what is read; none where nobody else runs at the same time.
    pub reads: Option<RefCell<Reads>>,
    pub catalogue: &'a Catalogue,
    pub solution: &'a Name,
    pub no: SolutionNo,
}

impl LaneView<'_> {
    fn pending(&self) -> RwLockReadGuard<'_, Pending> {
        self.pending.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl View for LaneView<'_> {
    fn state_get(&self, key: &str) -> Result<Option<Bytes>, ViewError> {
        if let Some(reads) = &self.reads {
            reads.borrow_mut().keys.insert(key.to_owned());
        }
        if let Some(write) = self.pending().writes.get(key) {
            return Ok(write.value.clone());
        }
        self.state.get_bytes(&state_key(self.no, key)).map_err(unreadable)
    }

    fn state_list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Bytes)>, ViewError> {
        if let Some(reads) = &self.reads {
            reads.borrow_mut().prefixes.insert(prefix.to_owned());
        }
        let pending = self.pending().range(prefix, after);
        // Each pending deletion can hide one stored entry.
        let wanted = limit + pending.len();
        let stored = self.state.state_list(self.no, prefix, after, wanted).map_err(unreadable)?;
        // If there are more stored entries, nothing beyond the last one read may be shown yet.
        let last =
            (stored.len() == wanted).then(|| stored.last().map(|(key, _)| key.clone())).flatten();
        let mut merged: BTreeMap<String, Bytes> = stored.into_iter().collect();
        for (key, value) in pending {
            if last.as_deref().is_some_and(|last| key.as_str() > last) {
                break;
            }
            match value {
                Some(value) => drop(merged.insert(key, value)),
                None => drop(merged.remove(&key)),
            }
        }
        Ok(merged.into_iter().take(limit).collect())
    }

    fn setting(&self, name: &str) -> Option<String> {
        self.catalogue.setting(self.solution, name).map(|json| json.as_ref().to_owned())
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is what map_err hands over")]
fn unreadable(error: ReadError) -> ViewError {
    ViewError(error.to_string())
}
