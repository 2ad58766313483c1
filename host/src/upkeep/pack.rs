//! Writes finished messages into a segment's file.

use super::{UpkeepError, decide::Move};
use crate::{
    model::message::MessageId,
    store::{
        Snapshot, Store,
        row::{
            Row,
            message::MessageRow,
            segment::{SegmentKey, SegmentRow},
        },
        segment::{Entry, SegmentWriter},
        table::Table,
    },
};

/// A file that is on disk and not yet part of the store.
pub(super) struct Packed {
    pub key: SegmentKey,
    pub row: SegmentRow,
    /// What is in it, with the indexes of deliveries.
    pub messages: Vec<(MessageId, Vec<u16>)>,
}

/// None if none of the messages is there any more.
pub(super) fn pack(store: &Store, what: &Move) -> Result<Option<Packed>, UpkeepError> {
    let snapshot = store.read()?;
    let mut ids = what.ids.iter();
    let Some((first, head)) = ids.find_map(|id| read(&snapshot, *id).transpose()).transpose()?
    else {
        return Ok(None);
    };
    let key = SegmentKey { solution_no: what.solution_no, first: MessageId(first.id) };
    let mut writer = SegmentWriter::create(&store.archive().place(key)?)?;
    let mut messages = Vec::with_capacity(what.ids.len());
    let mut add = |entry: &Entry, message: &MessageRow| {
        let deliveries = entry.deliveries.iter().map(|(index, _)| *index).collect();
        messages.push((MessageId(entry.id), deliveries));
        writer.add(entry, message.key.as_deref())
    };
    add(&first, &head)?;
    for id in ids {
        if let Some((entry, message)) = read(&snapshot, *id)? {
            add(&entry, &message)?;
        }
    }
    let sealed = writer.seal()?;
    let row = SegmentRow {
        solution: head.solution,
        last: messages.last().map_or(first.id, |(id, _)| id.0),
        messages: u32::try_from(messages.len()).unwrap_or(u32::MAX),
        bytes: sealed.bytes,
        content: sealed.content,
    };
    Ok(Some(Packed { key, row, messages }))
}

fn read(snapshot: &Snapshot, id: MessageId) -> Result<Option<(Entry, MessageRow)>, UpkeepError> {
    let rows = (
        snapshot.table(Table::Messages)?.get_bytes(&id.0)?,
        snapshot.table(Table::Lives)?.get_bytes(&id.0)?,
    );
    let (Some(message), Some(life)) = rows else { return Ok(None) };
    let row = MessageRow::decode(&message).map_err(crate::store::ReadError::from)?;
    let deliveries = snapshot.delivery_rows(id)?;
    Ok(Some((Entry { id: id.0, message, life, deliveries }, row)))
}
