//! One journal frame: what one commit did to which rows, in a form that another node can apply.
//!
//! ```text
//! frame  = version u8 · epoch u64 · seq u64 · time_ms u64 · op*           integers big-endian
//! op     = table u8 · kind u8 (1 put, 2 delete) · key · value if put          bytes = length LEB128 · bytes
//! chain' = BLAKE3(chain · frame)
//! ```
//!
//! Operations are values, not statements: applying them needs no decision, so primary and standby run the same lines.

use super::table::Table;
use crate::model::{clock::UnixMs, position::Position};

/// Versions of frames that this program writes and takes: from the first to the second.
#[cfg(not(test))]
pub const VERSIONS: (u8, u8) = (1, 1);
/// In tests there is a next one, which looks the same.
#[cfg(test)]
pub const VERSIONS: (u8, u8) = (1, 2);
const HEADER_BYTES: usize = 1 + 8 + 8 + 8;
const PUT: u8 = 1;
const DELETE: u8 = 2;

/// A frame as it is being written.
#[derive(Debug, Default)]
pub struct FrameBuilder {
    bytes: Vec<u8>,
}

/// A frame as it was written.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    pub version: u8,
    pub position: Position,
    pub time_ms: UnixMs,
    ops: &'a [u8],
}

/// What happens to one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op<'a> {
    Put { table: Table, key: &'a [u8], value: &'a [u8] },
    Delete { table: Table, key: &'a [u8] },
}

/// The bytes are no frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("frame version {0} is not known to this program")]
    Version(u8),
    #[error("the frame ends early")]
    Short,
    #[error("table {0} is not known to this program")]
    Table(u8),
    #[error("operation {0} is not known to this program")]
    Op(u8),
}

impl FrameBuilder {
    /// Begins anew, in one of [`VERSIONS`], keeping the memory.
    pub fn begin(&mut self, version: u8, position: Position, time_ms: UnixMs) {
        debug_assert!((VERSIONS.0..=VERSIONS.1).contains(&version), "version {version}");
        self.bytes.clear();
        self.bytes.push(version);
        for field in [position.epoch, position.seq, time_ms] {
            self.bytes.extend_from_slice(&field.to_be_bytes());
        }
    }

    pub fn put(&mut self, table: Table, key: &[u8], value: &[u8]) {
        self.bytes.extend_from_slice(&[table as u8, PUT]);
        write_bytes(&mut self.bytes, key);
        write_bytes(&mut self.bytes, value);
    }

    pub fn delete(&mut self, table: Table, key: &[u8]) {
        self.bytes.extend_from_slice(&[table as u8, DELETE]);
        write_bytes(&mut self.bytes, key);
    }

    /// A mark to come back to with [`FrameBuilder::back_to`].
    pub fn mark(&self) -> usize {
        self.bytes.len()
    }

    /// Forgets what was written after the mark.
    pub fn back_to(&mut self, mark: usize) {
        self.bytes.truncate(mark);
    }

    /// What was written after the mark.
    pub fn ops_since(&self, mark: usize) -> Ops<'_> {
        Ops(&self.bytes[mark..])
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.len() <= HEADER_BYTES
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Gives memory back after an unusually large frame.
    pub fn shrink(&mut self, to: usize) {
        self.bytes.clear();
        self.bytes.shrink_to(to);
    }
}

impl<'a> Frame<'a> {
    pub fn decode(bytes: &'a [u8]) -> Result<Self, FrameError> {
        let (&version, rest) = bytes.split_first().ok_or(FrameError::Short)?;
        if !(VERSIONS.0..=VERSIONS.1).contains(&version) {
            return Err(FrameError::Version(version));
        }
        let (epoch, rest) = read_u64(rest)?;
        let (seq, rest) = read_u64(rest)?;
        let (time_ms, ops) = read_u64(rest)?;
        Ok(Self { version, position: Position { epoch, seq }, time_ms, ops })
    }

    pub fn ops(&self) -> Ops<'a> {
        Ops(self.ops)
    }
}

/// The operations of a frame, in order.
#[derive(Debug, Clone)]
pub struct Ops<'a>(&'a [u8]);

impl Ops<'_> {
    /// Bytes that were not read yet.
    pub fn rest(&self) -> usize {
        self.0.len()
    }
}

impl<'a> Iterator for Ops<'a> {
    type Item = Result<Op<'a>, FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let read = read_op(self.0);
        self.0 = read.as_ref().map_or(&[], |(_, rest)| rest);
        Some(read.map(|(op, _)| op))
    }
}

fn read_op(bytes: &[u8]) -> Result<(Op<'_>, &[u8]), FrameError> {
    let [table, kind, rest @ ..] = bytes else { return Err(FrameError::Short) };
    let table = Table::from_number(*table).ok_or(FrameError::Table(*table))?;
    let (key, rest) = read_bytes(rest)?;
    match *kind {
        PUT => {
            let (value, rest) = read_bytes(rest)?;
            Ok((Op::Put { table, key, value }, rest))
        }
        DELETE => Ok((Op::Delete { table, key }, rest)),
        other => Err(FrameError::Op(other)),
    }
}

fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut length = bytes.len();
    loop {
        let low = u8::try_from(length & 0x7f).expect("seven bits");
        length >>= 7;
        out.push(if length == 0 { low } else { low | 0x80 });
        if length == 0 {
            break;
        }
    }
    out.extend_from_slice(bytes);
}

fn read_bytes(bytes: &[u8]) -> Result<(&[u8], &[u8]), FrameError> {
    let mut length = 0_usize;
    for (place, &byte) in bytes.iter().enumerate().take(5) {
        length |= usize::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return bytes[place + 1..].split_at_checked(length).ok_or(FrameError::Short);
        }
    }
    Err(FrameError::Short)
}

fn read_u64(bytes: &[u8]) -> Result<(u64, &[u8]), FrameError> {
    let (first, rest) = bytes.split_first_chunk().ok_or(FrameError::Short)?;
    Ok((u64::from_be_bytes(*first), rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_format_is_as_documented() {
        let mut frame = FrameBuilder::default();
        frame.begin(1, Position { epoch: 1, seq: 2 }, 3);
        assert!(frame.is_empty());
        frame.put(Table::State, b"k", b"v");
        frame.delete(Table::Ready, b"r");
        let expected = [
            [1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3].as_slice(),
            &[8, 1, 1, b'k', 1, b'v'],
            &[5, 2, 1, b'r'],
        ]
        .concat();
        assert_eq!(frame.bytes(), expected);
    }

    #[test]
    fn damage_is_an_error_and_never_a_panic() {
        let mut frame = FrameBuilder::default();
        frame.begin(1, Position { epoch: 1, seq: 2 }, 3);
        frame.put(Table::State, b"key", &[7; 300]);
        for cut in 0..frame.len() {
            let outcome =
                Frame::decode(&frame.bytes()[..cut]).map(|f| f.ops().all(|op| op.is_ok()));
            // Cut right after the header it is an empty frame; everywhere else it shows.
            assert!(outcome != Ok(true) || cut == HEADER_BYTES, "cut at {cut}");
        }
        for version in [0, 3, 9] {
            let unknown = FrameError::Version(version);
            assert_eq!(Frame::decode(&[version]).unwrap_err(), unknown);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            epoch: u64, seq: u64, time_ms: u64,
            ops in prop::collection::vec((1_u8..=18, prop::collection::vec(any::<u8>(), 0..300), prop::option::of(prop::collection::vec(any::<u8>(), 0..300))), 0..20),
        ) {
            let mut builder = FrameBuilder::default();
            builder.begin(VERSIONS.1, Position { epoch, seq }, time_ms);
            for (table, key, value) in &ops {
                let table = Table::from_number(*table).unwrap();
                match value {
                    Some(value) => builder.put(table, key, value),
                    None => builder.delete(table, key),
                }
            }
            let frame = Frame::decode(builder.bytes()).unwrap();
            prop_assert_eq!(frame.position, Position { epoch, seq });
            prop_assert_eq!(frame.time_ms, time_ms);
            let read: Vec<_> = frame.ops().map(Result::unwrap).collect();
            prop_assert_eq!(read.len(), ops.len());
            for (op, (number, key, value)) in read.into_iter().zip(&ops) {
                let table = Table::from_number(*number).unwrap();
                let expected = match value {
                    Some(value) => Op::Put { table, key, value },
                    None => Op::Delete { table, key },
                };
                prop_assert_eq!(op, expected);
            }
        }

        #[test]
        fn any_bytes_are_refused_or_read(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(frame) = Frame::decode(&bytes) {
                frame.ops().for_each(drop);
            }
        }
    }
}
