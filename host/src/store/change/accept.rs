//! A message is taken in: from a web hook, or as a schedule's tick.

use super::{Change, ChangeError, Refusal};
use crate::{
    contract::manifest::{Manifest, SourceKind},
    model::{
        clock::UnixMs,
        message::{Content, MessageId},
        name::Name,
    },
    store::{
        catalogue::Solution,
        row::{
            SolutionNo,
            message::MessageRow,
            ready::{ReadyRow, ready_key},
            schedule::{ScheduleRow, schedule_key},
            timer::{TimerRow, timer_key},
        },
        sequencer::Sequencer,
        table::Table,
    },
};

/// A message from outside, for the web-hook source that its content names.
#[derive(Debug)]
pub struct Accept {
    pub solution: Name,
    pub content: Content,
}

impl Change for Accept {
    type Answer = MessageId;

    fn sequence(self, seq: &mut Sequencer<'_, '_>) -> Result<MessageId, ChangeError> {
        let Self { solution, content } = self;
        let catalogue = seq.catalogue();
        let solution = catalogue
            .solution(solution.as_str())
            .ok_or_else(|| Refusal::UnknownSolution(solution.to_string()))?;
        check_source(solution, &content.source, "webhook")?;
        has_room(seq, solution, &content.source, 1)?;
        let id = seq.new_id();
        let time_ms = seq.now_ms();
        keep(seq, solution, NewMessage { id, time_ms, parent: None, content, due: None });
        Ok(id)
    }
}

/// A schedule's tick, at most once per nominal time.
#[derive(Debug)]
pub struct Tick {
    pub solution: Name,
    pub nominal_ms: UnixMs,
    pub content: Content,
}

impl Change for Tick {
    type Answer = MessageId;

    fn sequence(self, seq: &mut Sequencer<'_, '_>) -> Result<MessageId, ChangeError> {
        let Self { solution, nominal_ms, content } = self;
        let catalogue = seq.catalogue();
        let solution = catalogue
            .solution(solution.as_str())
            .ok_or_else(|| Refusal::UnknownSolution(solution.to_string()))?;
        let key = schedule_key(solution.no, &content.source);
        let last = seq.get::<ScheduleRow>(Table::Schedules, &key)?;
        let id = MessageId::of_tick(&solution.name, &content.source, nominal_ms);
        // A solution that was removed and deployed anew has no row, but the same ids: those of messages that are still
        // in the tables are not given again. Older ones can only come if the clock goes back as far.
        let is_kept = || seq.contains(Table::Messages, &id.0);
        if last.is_some_and(|row| row.last_ms >= nominal_ms) || is_kept()? {
            return Err(Refusal::AlreadyFired.into());
        }
        check_source(solution, &content.source, "schedule")?;
        has_room(seq, solution, &content.source, 1)?;
        seq.put(Table::Schedules, &key, &ScheduleRow { last_ms: nominal_ms });
        keep(
            seq,
            solution,
            NewMessage { id, time_ms: nominal_ms, parent: None, content, due: None },
        );
        Ok(id)
    }
}

/// Whether so many messages may come in through this source now.
pub(super) fn has_room(
    seq: &Sequencer<'_, '_>,
    solution: &Solution,
    source_name: &Name,
    messages: usize,
) -> Result<(), Refusal> {
    if let Some(reason) = solution.paused_sources.get(source_name) {
        return Err(Refusal::SourcePaused {
            solution: solution.name.clone(),
            source_name: source_name.clone(),
            reason: reason.clone(),
        });
    }
    let bound = solution.manifest.as_ref().map_or(u64::MAX, |manifest| manifest.limits.queue);
    if seq.queued(solution.no).saturating_add(messages as u64) > bound {
        return Err(Refusal::QueueFull { solution: solution.name.clone(), bound });
    }
    seq.needs_room()
}

/// Whether the solution has a source of that name and kind.
pub fn check_source(
    solution: &Solution,
    source_name: &Name,
    wanted: &'static str,
) -> Result<(), Refusal> {
    let sources = |manifest: &Manifest| manifest.sources.iter().map(|s| s.name.clone()).collect();
    // A manifest that cannot be read any more must not cost messages: they are kept until it can.
    let Ok(manifest) = &solution.manifest else { return Ok(()) };
    let Some(source) = manifest.source(source_name.as_str()) else {
        return Err(Refusal::UnknownSource {
            solution: solution.name.clone(),
            source_name: source_name.to_string(),
            known: sources(manifest),
        });
    };
    let right = matches!(
        (&source.kind, wanted),
        (SourceKind::Webhook { .. }, "webhook")
            | (SourceKind::Schedule(_), "schedule")
            | (SourceKind::Message, "message")
    );
    if right {
        return Ok(());
    }
    Err(Refusal::WrongSourceKind {
        solution: solution.name.clone(),
        source_name: source_name.clone(),
        kind: source.kind.word(),
        wanted,
    })
}

pub(super) struct NewMessage {
    pub id: MessageId,
    pub time_ms: UnixMs,
    pub parent: Option<MessageId>,
    pub content: Content,
    /// Not handled before this time.
    pub due: Option<UnixMs>,
}

/// Writes the rows of a new message and puts it into the solution's queue.
pub(super) fn keep(seq: &mut Sequencer<'_, '_>, solution: &Solution, message: NewMessage) {
    let (id, due) = (message.id, message.due);
    keep_row(seq, &solution.name, solution.no, message);
    queue(seq, solution.no, id, 0, due);
    seq.count_queued(solution.no, 1);
    seq.count_accepted();
}

/// Writes the message only; it is in no queue.
pub(super) fn keep_row(
    seq: &mut Sequencer<'_, '_>,
    solution: &Name,
    solution_no: SolutionNo,
    message: NewMessage,
) {
    let NewMessage { id, time_ms, parent, content, due } = message;
    let headers = content.headers.into_iter().map(|(name, value)| (name, value.into())).collect();
    let row = MessageRow {
        solution: solution.clone(),
        solution_no,
        source: content.source,
        time_ms,
        position: seq.position(),
        parent: parent.map(|id| id.0),
        due_ms: due,
        headers,
        content_type: content.content_type,
        key: content.key,
        body: content.body,
    };
    seq.put(Table::Messages, &id.0, &row);
}

/// Makes a message ready now, or at its time. Does not count it.
pub(super) fn queue(
    seq: &mut Sequencer<'_, '_>,
    solution_no: SolutionNo,
    id: MessageId,
    attempts: u32,
    due: Option<UnixMs>,
) {
    if let Some(due_ms) = due {
        seq.put(Table::Timers, &timer_key(due_ms, id), &TimerRow { solution_no, attempts });
        seq.wake_timers();
    } else {
        let key = ready_key(solution_no, seq.new_ordinal());
        seq.put(Table::Ready, &key, &ReadyRow { id: id.0, attempts, not_before_ms: 0 });
        seq.wake_dispatch(solution_no);
    }
}
