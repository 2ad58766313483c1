//! Messages as bytes. Kinds: 1 what is said, 2 a frame, 3 rows, 4 recovered messages,
//! 5 a segment of the archive.

#[cfg(any(test, fuzzing))]
pub mod fuzz;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::SessionError;
use crate::{
    model::{pair::talk::Said, position::Chain},
    net::link::LinkSender,
    store::{
        packed::unpack,
        recover::Apart,
        replicate::{Installing, Span},
        row::Row,
        row::head::HeadRow,
        row::segment::SegmentKey,
    },
};

pub const SAID: u8 = 1;
/// Epoch of the primary (8 bytes), last frame that is shown (8), chain hash before the frame (32), how the frame is packed
/// (1), frame.
pub const FRAME: u8 = 2;
pub const ROWS: u8 = 3;
/// Length of a name (1 byte), name, messages packed.
pub const RECOVERED: u8 = 4;
/// Key of a segment (20 bytes), its file.
pub const SEGMENT: u8 = 5;

const PLAIN: u8 = 0;
const LZ4: u8 = 1;
/// From so many bytes on, packing a frame is quicker than sending it.
const PACKED_FROM: usize = 32 << 10;
/// What an unpacked frame may take.
const FRAME_MAX: usize = 1 << 30;

pub async fn say(sender: &mut LinkSender, said: &Said) -> Result<(), SessionError> {
    let bytes = postcard::to_stdvec(said)?;
    Ok(sender.send(SAID, &[&bytes]).await?)
}

pub async fn frame(
    sender: &mut LinkSender,
    (epoch, shown): (u64, u64),
    before: Chain,
    frame: &Bytes,
) -> Result<(), SessionError> {
    let (epoch, shown) = (epoch.to_be_bytes(), shown.to_be_bytes());
    if frame.len() >= PACKED_FROM {
        let packed = lz4_flex::compress_prepend_size(frame);
        if packed.len() < frame.len() - frame.len() / 8 {
            return Ok(sender.send(FRAME, &[&epoch, &shown, &before.0, &[LZ4], &packed]).await?);
        }
    }
    Ok(sender.send(FRAME, &[&epoch, &shown, &before.0, &[PLAIN], frame]).await?)
}

/// A frame as it came.
pub struct FrameCame {
    pub epoch: u64,
    pub shown: u64,
    /// The chain hash before it.
    pub before: Chain,
    pub frame: Bytes,
}

pub fn read_frame(payload: &Bytes) -> Result<FrameCame, SessionError> {
    let short = || SessionError::Unfit("a frame came without its head".to_owned());
    let (epoch, rest) = payload.split_first_chunk().ok_or_else(short)?;
    let (shown, rest) = rest.split_first_chunk().ok_or_else(short)?;
    let (before, rest) = rest.split_first_chunk().ok_or_else(short)?;
    let before = Chain(*before);
    let (&packing, packed) = rest.split_first().ok_or_else(short)?;
    let frame = match packing {
        PLAIN => payload.slice_ref(packed),
        LZ4 => {
            let garbled = || SessionError::Unfit("a frame cannot be unpacked".to_owned());
            unpack(packed, FRAME_MAX).ok_or_else(garbled)?.into()
        }
        other => return Err(SessionError::Unfit(format!("packing {other} is not known here"))),
    };
    let (epoch, shown) = (u64::from_be_bytes(*epoch), u64::from_be_bytes(*shown));
    Ok(FrameCame { epoch, shown, before, frame })
}

/// [`Installing`] as it is sent.
#[derive(Serialize, Deserialize)]
enum Part {
    Rows { table: u8, rows: Vec<(Bytes, Bytes)>, upto: Option<Bytes> },
    Same { table: u8, upto: Bytes },
    Done(Vec<u8>),
}

pub async fn rows(sender: &mut LinkSender, rows: &Installing) -> Result<(), SessionError> {
    let part = match rows {
        Installing::Rows { table, rows, upto } => {
            Part::Rows { table: *table, rows: rows.clone(), upto: upto.clone() }
        }
        Installing::Same { table, upto } => Part::Same { table: *table, upto: upto.clone() },
        Installing::Done(head) => Part::Done(head.encode()),
    };
    let bytes = postcard::to_stdvec(&part)?;
    Ok(sender.send(ROWS, &[&bytes]).await?)
}

pub fn read_rows(payload: &[u8]) -> Result<Installing, SessionError> {
    Ok(match postcard::from_bytes(payload)? {
        Part::Rows { table, rows, upto } => Installing::Rows { table, rows, upto },
        Part::Same { table, upto } => Installing::Same { table, upto },
        Part::Done(head) => Installing::Done(
            HeadRow::decode(&head).map_err(|error| SessionError::Unfit(error.to_string()))?,
        ),
    })
}

pub fn holds(spans: &[Span]) -> Result<Said, SessionError> {
    Ok(Said::Holds { spans: postcard::to_stdvec(spans)? })
}

pub fn read_holds(spans: &[u8]) -> Result<Vec<Span>, SessionError> {
    Ok(postcard::from_bytes(spans)?)
}

pub async fn recovered(
    sender: &mut LinkSender,
    name: &str,
    messages: &[u8],
) -> Result<(), SessionError> {
    let length = u8::try_from(name.len()).unwrap_or(u8::MAX);
    let name = &name.as_bytes()[..usize::from(length)];
    Ok(sender.send(RECOVERED, &[&[length], name, messages]).await?)
}

pub fn read_recovered(payload: &[u8]) -> Result<(String, Apart), SessionError> {
    let read = || {
        let (&length, rest) = payload.split_first()?;
        let (name, messages) = rest.split_at_checked(usize::from(length))?;
        let apart = Apart::unpack(messages).ok()?;
        Some((String::from_utf8_lossy(name).into_owned(), apart))
    };
    read().ok_or_else(|| SessionError::Unfit("recovered messages cannot be read".to_owned()))
}

pub async fn segment(
    sender: &mut LinkSender,
    key: SegmentKey,
    file: &[u8],
) -> Result<(), SessionError> {
    Ok(sender.send(SEGMENT, &[&key.to_bytes(), file]).await?)
}

pub fn read_segment(payload: &[u8]) -> Result<(SegmentKey, &[u8]), SessionError> {
    let read = || {
        let (key, file) = payload.split_first_chunk::<20>()?;
        Some((SegmentKey::from_bytes(key)?, file))
    };
    read().ok_or_else(|| SessionError::Unfit("a segment came without its key".to_owned()))
}
