//! What a handler sees: the last committed rows, and over them what earlier attempts of its lane wrote.

use std::{collections::BTreeMap, ops::Bound};

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

/// Writes that are sequenced but may not be on disk yet: the pending state of one solution.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// Value (none: deleted) and the batch that wrote it last.
    writes: BTreeMap<String, (Option<Bytes>, u64)>,
}

impl Pending {
    pub fn write(&mut self, batch: u64, writes: &[(String, Option<Bytes>)]) {
        for (key, value) in writes {
            self.writes.insert(key.clone(), (value.clone(), batch));
        }
    }

    /// Lets go what a snapshot that is opened from now on shows by itself.
    pub fn forget_up_to(&mut self, batch: u64) {
        self.writes.retain(|_, (_, written_by)| *written_by > batch);
    }

    fn get(&self, key: &str) -> Option<&Option<Bytes>> {
        self.writes.get(key).map(|(value, _)| value)
    }

    /// Writes whose key begins with `prefix` and comes after `after`.
    fn range<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
    ) -> impl Iterator<Item = (&'a str, &'a Option<Bytes>)> {
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        self.writes
            .range::<str, _>((from, Bound::Unbounded))
            .map(|(key, (value, _))| (key.as_str(), value))
            .take_while(move |(key, _)| key.starts_with(prefix))
    }
}

/// One lane's view during one run.
#[derive(Debug)]
pub(super) struct LaneView<'a> {
    pub state: &'a SnapshotTable,
    pub pending: &'a Pending,
    pub catalogue: &'a Catalogue,
    pub solution: &'a Name,
    pub no: SolutionNo,
}

impl View for LaneView<'_> {
    fn state_get(&self, key: &str) -> Result<Option<Bytes>, ViewError> {
        match self.pending.get(key) {
            Some(value) => Ok(value.clone()),
            None => self.state.get_bytes(&state_key(self.no, key)).map_err(unreadable),
        }
    }

    fn state_list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Bytes)>, ViewError> {
        let pending: Vec<_> = self.pending.range(prefix, after).collect();
        // Each pending deletion can hide one stored entry.
        let wanted = limit + pending.len();
        let stored = self.state.state_list(self.no, prefix, after, wanted).map_err(unreadable)?;
        // If there are more stored entries, nothing beyond the last one read may be shown yet.
        let last =
            (stored.len() == wanted).then(|| stored.last().map(|(key, _)| key.clone())).flatten();
        let mut merged: BTreeMap<String, Bytes> = stored.into_iter().collect();
        for (key, value) in pending {
            if last.as_deref().is_some_and(|last| key > last) {
                break;
            }
            match value {
                Some(value) => drop(merged.insert(key.to_owned(), value.clone())),
                None => drop(merged.remove(key)),
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
