//! Where schedules begin: ticks before that were not missed, they never were.

use super::ChangeError;
use crate::{
    contract::manifest::{Manifest, SourceKind, parse},
    model::name::Name,
    store::{
        row::{
            SolutionNo,
            schedule::{ScheduleRow, schedule_key},
        },
        sequencer::Sequencer,
        table::Table,
    },
};

/// A version becomes active: its schedules begin now, but for those that go on as they were.
pub(super) fn activate(
    seq: &mut Sequencer<'_, '_>,
    solution: &Name,
    no: SolutionNo,
    manifest: &str,
) -> Result<(), ChangeError> {
    let Ok(manifest) = parse::parse(manifest) else { return Ok(()) };
    let catalogue = seq.catalogue();
    let before: Option<&Manifest> =
        catalogue.solution(solution.as_str()).and_then(|solution| solution.manifest.as_ref().ok());
    for source in &manifest.sources {
        let SourceKind::Schedule(_) = &source.kind else { continue };
        let goes_on = before.and_then(|before| before.source(source.name.as_str())) == Some(source);
        let key = schedule_key(no, &source.name);
        if !goes_on || !seq.contains(Table::Schedules, &key)? {
            begin_now(seq, &key)?;
        }
    }
    Ok(())
}

/// A source is resumed: what was due while it was paused does not come.
pub(super) fn resume(
    seq: &mut Sequencer<'_, '_>,
    solution: &Name,
    no: SolutionNo,
    source_name: &Name,
) -> Result<(), ChangeError> {
    let catalogue = seq.catalogue();
    let manifest = catalogue.solution(solution.as_str()).and_then(|s| s.manifest.as_ref().ok());
    let source = manifest.and_then(|manifest| manifest.source(source_name.as_str()));
    if source.is_some_and(|source| matches!(source.kind, SourceKind::Schedule(_))) {
        begin_now(seq, &schedule_key(no, source_name))?;
    }
    Ok(())
}

fn begin_now(seq: &mut Sequencer<'_, '_>, key: &[u8]) -> Result<(), ChangeError> {
    let row = seq.get::<ScheduleRow>(Table::Schedules, key)?;
    // Never back, whatever the clock says: what was fired is not fired again.
    let last_ms = row.map_or(0, |row| row.last_ms).max(seq.now_ms());
    seq.put(Table::Schedules, key, &ScheduleRow { last_ms });
    Ok(())
}
