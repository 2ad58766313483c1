//! A solution is deployed, rolled back, paused, resumed or removed.

use bytes::Bytes;

use super::{Change, ChangeError, Refusal, schedules};
use crate::{
    model::name::{Digest, Name},
    store::{
        row::{
            solution::{NEXT_SOLUTION_KEY, NextSolutionRow, SolutionRow, VersionRow},
            state::state_key,
        },
        sequencer::Sequencer,
        table::Table,
    },
};

/// Versions that are kept for going back to.
const VERSIONS_KEPT: usize = 10;

/// A manifest and a component that were checked.
#[derive(Debug)]
pub struct Deploy {
    pub name: Name,
    /// Text of `solution.toml`.
    pub manifest: String,
    pub component: Bytes,
    pub digest: Digest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deployed {
    pub revision: u32,
    /// False if just this manifest and component were active already.
    pub changed: bool,
}

impl Change for Deploy {
    type Answer = Deployed;

    fn sequence(self, seq: &mut Sequencer<'_, '_>) -> Result<Deployed, ChangeError> {
        let Self { name, manifest, component, digest } = self;
        let existing = seq.get::<SolutionRow>(Table::Solutions, name.as_str().as_bytes())?;
        if let Some(row) = &existing {
            let active = row.versions.iter().find(|version| version.revision == row.active);
            if active.is_some_and(|a| a.digest == digest && a.manifest == manifest) {
                return Ok(Deployed { revision: row.active, changed: false });
            }
        }
        seq.needs_room()?;
        let mut row = match existing {
            Some(row) => row,
            None => new_row(seq)?,
        };
        let revision = row.versions.iter().map(|version| version.revision).max().unwrap_or(0) + 1;
        schedules::activate(seq, &name, row.no, &manifest)?;
        row.versions.push(VersionRow { revision, digest, manifest, deployed_ms: seq.now_ms() });
        row.active = revision;
        let surplus = row.versions.len().saturating_sub(VERSIONS_KEPT);
        let dropped: Vec<_> = row.versions.drain(..surplus).map(|version| version.digest).collect();
        if !seq.contains(Table::Blobs, &digest.0)? {
            seq.put_bytes(Table::Blobs, &digest.0, &component);
        }
        for digest in dropped {
            delete_blob_unless_used(seq, &name, &row, digest);
        }
        seq.put(Table::Solutions, name.as_str().as_bytes(), &row);
        seq.catalogue_changed();
        // Messages may have waited for a component that works.
        seq.wake_dispatch(row.no);
        Ok(Deployed { revision, changed: true })
    }
}

fn new_row(seq: &mut Sequencer<'_, '_>) -> Result<SolutionRow, ChangeError> {
    let next = seq.get::<NextSolutionRow>(Table::Solutions, NEXT_SOLUTION_KEY)?;
    // 0 stands for "none" in dead letters of solutions that were never deployed.
    let no = next.map_or(1, |row| row.no);
    seq.put(Table::Solutions, NEXT_SOLUTION_KEY, &NextSolutionRow { no: no + 1 });
    Ok(SolutionRow {
        no,
        active: 0,
        versions: Vec::new(),
        paused: None,
        paused_sources: std::collections::BTreeMap::new(),
    })
}

/// `row` is what solution `name` will be; the others are as they are.
fn delete_blob_unless_used(
    seq: &mut Sequencer<'_, '_>,
    name: &Name,
    row: &SolutionRow,
    digest: Digest,
) {
    let catalogue = seq.catalogue();
    let mut others = catalogue.solutions.values().filter(|solution| solution.name != *name);
    let used = row.versions.iter().any(|version| version.digest == digest)
        || others.any(|solution| solution.versions.iter().any(|v| v.digest == digest));
    if !used {
        seq.delete(Table::Blobs, &digest.0);
    }
}

/// Goes back to an earlier revision; nothing is built or compiled anew.
#[derive(Debug)]
pub struct Rollback {
    pub name: Name,
    /// Without it the one before the active.
    pub revision: Option<u32>,
}

impl Change for Rollback {
    type Answer = u32;

    fn sequence(self, seq: &mut Sequencer<'_, '_>) -> Result<u32, ChangeError> {
        let Self { name, revision } = self;
        let mut row = find(seq, &name)?;
        let known: Vec<u32> = row.versions.iter().map(|version| version.revision).collect();
        let wanted = match revision {
            Some(revision) if known.contains(&revision) => revision,
            Some(revision) => {
                return Err(Refusal::UnknownRevision { solution: name, revision, known }.into());
            }
            None => known
                .into_iter()
                .rfind(|&revision| revision < row.active)
                .ok_or(Refusal::NothingToRollBackTo(name.clone()))?,
        };
        if let Some(version) = row.versions.iter().find(|version| version.revision == wanted) {
            schedules::activate(seq, &name, row.no, &version.manifest)?;
        }
        row.active = wanted;
        keep_row(seq, &name, &row);
        Ok(wanted)
    }
}

/// Pauses handling, or one source; or resumes it (`reason` is none).
#[derive(Debug)]
pub struct Pause {
    pub name: Name,
    pub source: Option<Name>,
    pub reason: Option<String>,
}

impl Change for Pause {
    type Answer = ();

    fn sequence(self, seq: &mut Sequencer<'_, '_>) -> Result<(), ChangeError> {
        let Self { name, source, reason } = self;
        let mut row = find(seq, &name)?;
        match (source, reason) {
            (None, reason) => row.paused = reason,
            (Some(source), Some(reason)) => {
                let catalogue = seq.catalogue();
                if let Some(Ok(manifest)) = catalogue.solution(name.as_str()).map(|s| &s.manifest)
                    && manifest.source(source.as_str()).is_none()
                {
                    let known = manifest.sources.iter().map(|s| s.name.clone()).collect();
                    let source_name = source.to_string();
                    return Err(
                        Refusal::UnknownSource { solution: name, source_name, known }.into()
                    );
                }
                row.paused_sources.insert(source, reason);
            }
            (Some(source), None) => {
                if row.paused_sources.remove(&source).is_some() {
                    schedules::resume(seq, &name, row.no, &source)?;
                }
            }
        }
        keep_row(seq, &name, &row);
        Ok(())
    }
}

/// Removes a solution with its state, settings excepted. Its messages stay for looking up.
#[derive(Debug)]
pub struct Remove {
    pub name: Name,
}

impl Change for Remove {
    type Answer = ();

    fn sequence(self, seq: &mut Sequencer<'_, '_>) -> Result<(), ChangeError> {
        let name = self.name;
        let mut row = find(seq, &name)?;
        let queued = seq.queued(row.no);
        if queued > 0 {
            return Err(Refusal::StillQueued { solution: name, queued }.into());
        }
        // How they are made, and whether they may be made again, is in the manifest.
        let undelivered = seq.undelivered(row.no);
        if undelivered > 0 {
            return Err(Refusal::StillUndelivered { solution: name, undelivered }.into());
        }
        let prefix = state_key(row.no, "");
        let mut keys = Vec::new();
        seq.scan(Table::State, &prefix, |key, _| {
            let ours = key.starts_with(&prefix);
            if ours {
                keys.push(key.to_vec());
            }
            ours
        })?;
        for key in keys {
            seq.delete(Table::State, &key);
        }
        for version in std::mem::take(&mut row.versions) {
            delete_blob_unless_used(seq, &name, &row, version.digest);
        }
        seq.delete(Table::Solutions, name.as_str().as_bytes());
        seq.catalogue_changed();
        Ok(())
    }
}

fn find(seq: &Sequencer<'_, '_>, name: &Name) -> Result<SolutionRow, ChangeError> {
    let row = seq.get(Table::Solutions, name.as_str().as_bytes())?;
    Ok(row.ok_or_else(|| Refusal::UnknownSolution(name.to_string()))?)
}

fn keep_row(seq: &mut Sequencer<'_, '_>, name: &Name, row: &SolutionRow) {
    seq.put(Table::Solutions, name.as_str().as_bytes(), row);
    seq.catalogue_changed();
    seq.wake_dispatch(row.no);
}
