//! The journal: a frame for each commit, in a file of its own. A commit is durable when its frame is.
//!
//! ```text
//! record = length u32 · chain (32) · frame · jump          integers big-endian; length is the frame's
//! jump   = u32 with all bits set · offset u64              where the next record is, if it is not right here
//! ```
//!
//! The tables' file takes many commits at once (a *checkpoint*); whatever it does not have when it is opened is applied
//! again from here. Records go round in the file: old ones are overwritten once the tables have them and there are
//! enough younger ones for a standby to catch up from. A record counts if its chain hash continues that of the record
//! before it, so neither what an earlier round left nor a torn write is ever taken for one.

use std::{collections::BTreeMap, fmt, io};

use redb::StorageBackend;

use super::{
    frame::{Frame, FrameError},
    row::head::TailRow,
};
use crate::model::position::{Chain, Position};

const HEADER_LEN: usize = 4 + 32;
const HEADER_BYTES: u64 = HEADER_LEN as u64;
const JUMP: u32 = u32::MAX;
const JUMP_LEN: usize = 4 + 8;
const JUMP_BYTES: u64 = JUMP_LEN as u64;
/// The file grows by at least this much, in zeros: a sync of bytes that are there already is much faster.
const GROWTH_BYTES: u64 = 4 << 20;
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// The journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum JournalError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("a record holds no frame: {0}")]
    Frame(#[from] FrameError),
    #[error("it ends at frame {found}, and the tables have frame {expected}")]
    Short { found: u64, expected: u64 },
    #[error("its frame {0} is not the one that the tables have")]
    Another(u64),
    #[error("frame {found} is where frame {expected} should be")]
    Order { found: u64, expected: u64 },
}

/// A record that may not be overwritten.
#[derive(Debug, Clone, Copy)]
struct Record {
    at: u64,
    frame_bytes: u32,
    /// The chain hash before it.
    before: Chain,
}

impl Record {
    fn end(self) -> u64 {
        self.at + HEADER_BYTES + u64::from(self.frame_bytes)
    }
}

/// A record that was read, and the chain hash after it.
struct Found {
    record: Record,
    chain: Chain,
    frame: Vec<u8>,
}

pub(super) struct Journal {
    disk: Box<dyn StorageBackend>,
    /// Bytes of the file.
    len: u64,
    /// By sequence number.
    records: BTreeMap<u64, Record>,
    /// Where they are: offset to sequence number.
    places: BTreeMap<u64, u64>,
    frame_bytes: u64,
    /// Where the next record goes, if there is room.
    end: u64,
    position: Position,
    chain: Chain,
    /// Frames beyond so many bytes need not be kept for a standby.
    bound: u64,
    /// Where the oldest record would be if there were none.
    first_at: u64,
}

impl Journal {
    /// An empty one, after the frame at `head`.
    pub fn create(
        disk: Box<dyn StorageBackend>,
        head: (Position, Chain),
        bound: u64,
    ) -> io::Result<Self> {
        let mut journal = Self::new(disk, TailRow::first(), head, bound);
        journal.disk.set_len(0)?;
        journal.grow(GROWTH_BYTES.min(bound))?;
        journal.disk.sync_data()?;
        Ok(journal)
    }

    /// Reads what the file holds, from the tail that the tables remember to its end. It must come to `head`, where the
    /// tables are.
    pub fn open(
        disk: Box<dyn StorageBackend>,
        tail: TailRow,
        head: (Position, Chain),
        bound: u64,
    ) -> Result<Self, JournalError> {
        let before = (Position { seq: tail.before_seq, ..Position::default() }, tail.before_chain);
        let mut journal = Self::new(disk, tail, before, bound);
        journal.len = journal.disk.len()?;
        while let Some(Found { record, chain, frame }) = journal.record_at(journal.end)? {
            let position = Frame::decode(&frame)?.position;
            let expected = journal.position.seq.saturating_add(1);
            if position.seq != expected {
                return Err(JournalError::Order { found: position.seq, expected });
            }
            journal.take_in(position, record, chain);
        }
        let (expected, found) = (head.0.seq, journal.position.seq);
        if found < expected {
            return Err(JournalError::Short { found, expected });
        }
        if journal.chain_at(expected) != Some(head.1) {
            return Err(JournalError::Another(expected));
        }
        if journal.end + JUMP_BYTES > journal.len {
            // Of a file that was cut off, or is empty: there is room for a jump always.
            journal.grow(journal.end + JUMP_BYTES - journal.len)?;
        }
        if found == expected {
            // An empty journal does not tell the epoch.
            journal.position = head.0;
        } else {
            journal.write_again(expected, tail.at)?;
        }
        Ok(journal)
    }

    fn new(
        disk: Box<dyn StorageBackend>,
        tail: TailRow,
        (position, chain): (Position, Chain),
        bound: u64,
    ) -> Self {
        Self {
            disk,
            len: 0,
            records: BTreeMap::new(),
            places: BTreeMap::new(),
            frame_bytes: 0,
            end: tail.at,
            position,
            chain,
            bound,
            first_at: tail.at,
        }
    }

    /// The record at `at`, or where a jump there leads, if it continues the chain.
    fn record_at(&self, mut at: u64) -> io::Result<Option<Found>> {
        let mut header = [0; HEADER_LEN];
        let Some(first) = self.read_u32(at)? else { return Ok(None) };
        if first == JUMP {
            let mut jump = [0; JUMP_LEN];
            self.disk.read(at, &mut jump)?;
            at = u64::from_be_bytes(jump[4..].try_into().expect("eight bytes"));
        }
        if at.saturating_add(HEADER_BYTES) > self.len {
            return Ok(None);
        }
        self.disk.read(at, &mut header)?;
        let (length, chain) = header.split_first_chunk::<4>().expect("36 bytes");
        let frame_bytes = u32::from_be_bytes(*length);
        let record = Record { at, frame_bytes, before: self.chain };
        if frame_bytes == 0 || record.end().saturating_add(JUMP_BYTES) > self.len {
            return Ok(None);
        }
        let mut frame = vec![0; frame_bytes as usize];
        self.disk.read(at + HEADER_BYTES, &mut frame)?;
        let continued = self.chain.next(&frame);
        Ok((continued.0 == chain).then_some(Found { record, chain: continued, frame }))
    }

    fn read_u32(&self, at: u64) -> io::Result<Option<u32>> {
        if at.saturating_add(JUMP_BYTES) > self.len {
            return Ok(None);
        }
        let mut bytes = [0; 4];
        self.disk.read(at, &mut bytes)?;
        Ok(Some(u32::from_be_bytes(bytes)))
    }

    fn take_in(&mut self, position: Position, record: Record, chain: Chain) {
        self.chain = chain;
        self.position = position;
        self.end = record.end();
        self.frame_bytes += u64::from(record.frame_bytes);
        self.records.insert(position.seq, record);
        self.places.insert(record.at, position.seq);
    }

    /// Adds a frame; it is durable after the next [`Journal::sync`].
    pub fn append(&mut self, position: Position, frame: &[u8]) -> io::Result<Chain> {
        let frame_bytes = u32::try_from(frame.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let at = self.place(HEADER_BYTES + u64::from(frame_bytes) + JUMP_BYTES)?;
        let record = Record { at, frame_bytes, before: self.chain };
        let chain = self.chain.next(frame);
        self.write(self.end, record, chain, frame)?;
        self.take_in(position, record, chain);
        Ok(chain)
    }

    /// Makes all that was added durable.
    pub fn sync(&self) -> io::Result<()> {
        self.disk.sync_data()
    }

    /// Shows that the disk still takes what it is given, when there is nothing to give it.
    pub fn prove(&self) -> io::Result<()> {
        // Behind the last record is room for a jump; no record begins with zeros.
        if self.end + JUMP_BYTES <= self.len {
            self.disk.write(self.end, &[0; 4])?;
        }
        self.disk.sync_data()
    }

    /// Forgets the last frame: its place is the next one's.
    pub fn cut_last(&mut self, position_before: Position) {
        let Some((_, record)) = self.records.pop_last() else { return };
        self.places.remove(&record.at);
        self.frame_bytes -= u64::from(record.frame_bytes);
        self.chain = record.before;
        self.position = position_before;
        // Where the record before it ends; the jump there, if there was one, is overwritten with it.
        self.end = self.records.last_key_value().map_or(self.first_at, |(_, last)| last.end());
    }

    /// Begins anew behind `head`, with no frame. The tables' file must remember [`TailRow::after`] before that.
    pub fn begin_after(&mut self, (position, chain): (Position, Chain)) {
        self.records.clear();
        self.places.clear();
        self.frame_bytes = 0;
        (self.end, self.first_at) = (0, 0);
        (self.position, self.chain) = (position, chain);
    }

    /// Writes a record, and the jump to it if it is not right behind the one before.
    fn write(&self, before: u64, record: Record, chain: Chain, frame: &[u8]) -> io::Result<()> {
        if record.at != before {
            let jump = [&JUMP.to_be_bytes()[..], &record.at.to_be_bytes()].concat();
            self.disk.write(before, &jump)?;
        }
        let mut bytes = Vec::with_capacity(HEADER_LEN + frame.len());
        bytes.extend_from_slice(&record.frame_bytes.to_be_bytes());
        bytes.extend_from_slice(&chain.0);
        bytes.extend_from_slice(frame);
        self.disk.write(record.at, &bytes)
    }

    /// Makes the frames after `seq` durable before anything is built on them: a process that died, or failed, between
    /// writing and syncing left them where a power cut would still take them from.
    fn write_again(&self, seq: u64, first_at: u64) -> io::Result<()> {
        let mut before = self.records.range(..=seq).next_back().map_or(first_at, |(_, r)| r.end());
        for record in self.records.range(seq + 1..).map(|(_, record)| record) {
            let mut frame = vec![0; record.frame_bytes as usize];
            self.disk.read(record.at + HEADER_BYTES, &mut frame)?;
            self.write(before, *record, record.before.next(&frame), &frame)?;
            before = record.end();
        }
        self.disk.sync_data()
    }

    /// Where so many bytes overwrite nothing that is needed: right here, else at the file's beginning, else in new room.
    fn place(&mut self, bytes: u64) -> io::Result<u64> {
        let free = |at: u64| {
            let after = self.places.range(at..).next().map_or(u64::MAX, |(next, _)| *next);
            let before = self.places.range(..at).next_back();
            let before = before.map_or(0, |(_, seq)| self.records[seq].end());
            // The end of the last record has room for a jump, which nothing else may take.
            let before = if at == self.end { before } else { before + JUMP_BYTES };
            // Where reading begins is a jump, if the first record is elsewhere.
            let begin = (self.first_at, self.first_at + JUMP_BYTES);
            let leads =
                at + bytes <= begin.0 || begin.1 <= at || self.records.is_empty() && at == begin.0;
            (at == 0 || before <= at) && at + bytes <= after && leads
        };
        if free(self.end) && self.end + bytes <= self.len {
            return Ok(self.end);
        }
        if free(0) && bytes <= self.len && self.len >= self.bound {
            return Ok(0);
        }
        let at = if free(self.end) && self.places.range(self.end..).next().is_none() {
            self.end
        } else {
            self.len
        };
        self.grow((at + bytes - self.len).max(GROWTH_BYTES.min(self.bound)))?;
        Ok(at)
    }

    fn grow(&mut self, by: u64) -> io::Result<()> {
        let len = self.len + by;
        self.disk.set_len(len)?;
        while self.len < len {
            let bytes = (len - self.len).min(ZEROS.len() as u64);
            let zeros = &ZEROS[..usize::try_from(bytes).expect("at most 64 KiB")];
            self.disk.write(self.len, zeros)?;
            self.len += bytes;
        }
        Ok(())
    }

    /// Where reading would have to begin if all older frames that are not needed were gone. Those after `shown` are: no
    /// table has them.
    pub fn tail(&self, shown: u64) -> TailRow {
        let mut beyond = self.frame_bytes.saturating_sub(self.bound);
        let first = self.records.iter().find(|(seq, record)| {
            let stays = beyond == 0 || **seq > shown || **seq == self.position.seq;
            beyond = beyond.saturating_sub(u64::from(record.frame_bytes));
            stays
        });
        let at_end = (self.position.seq, self.chain, self.end);
        let (before_seq, before_chain, at) =
            first.map_or(at_end, |(seq, record)| (seq - 1, record.before, record.at));
        TailRow { before_seq, before_chain, at }
    }

    /// What is before `tail` may be overwritten: the tables have it, and remember to begin there.
    pub fn forget_before(&mut self, tail: TailRow) {
        while let Some(first) = self.records.first_entry()
            && *first.key() <= tail.before_seq
        {
            let record = first.remove();
            self.places.remove(&record.at);
            self.frame_bytes -= u64::from(record.frame_bytes);
        }
        self.first_at = tail.at;
    }

    /// The last frame's position and the chain hash after it.
    pub fn head(&self) -> (Position, Chain) {
        (self.position, self.chain)
    }

    /// The chain hash after frame `seq`, if it is known here.
    pub fn chain_at(&self, seq: u64) -> Option<Chain> {
        match self.records.get(&(seq + 1)) {
            Some(next) => Some(next.before),
            None => (seq == self.position.seq).then_some(self.chain),
        }
    }

    /// The frame with that number, or the first after it; none if there is none.
    pub fn frame_from(&self, seq: u64) -> io::Result<Option<(u64, Vec<u8>)>> {
        let Some((seq, record)) = self.records.range(seq..).next() else { return Ok(None) };
        let mut frame = vec![0; record.frame_bytes as usize];
        self.disk.read(record.at + HEADER_BYTES, &mut frame)?;
        Ok(Some((*seq, frame)))
    }

    /// Whether this program can have written it: behind each record is room for a jump, or the next one, and the jump that
    /// leads to the first is under none. Of what somebody made up nobody says that it goes on.
    #[cfg(any(test, fuzzing))]
    pub fn is_of_ours(&self) -> bool {
        let (begin, end) = (self.first_at, self.first_at.saturating_add(JUMP_BYTES));
        let over = |record: &Record| record.at < end && begin < record.end() + JUMP_BYTES;
        let leads = self.records.values().next().is_none_or(|first| first.at == begin)
            || !self.records.values().any(over);
        let places: Vec<_> = self.places.values().map(|seq| (*seq, self.records[seq])).collect();
        let has_room = |two: &[(u64, Record)]| {
            let [(seq, record), (next_seq, next)] = two else { return true };
            let follows = next.at == record.end() && *next_seq == seq + 1;
            follows || record.end() + JUMP_BYTES <= next.at
        };
        leads && places.windows(2).all(has_room)
    }

    /// Bytes of the frames it holds.
    pub fn frame_bytes(&self) -> u64 {
        self.frame_bytes
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").field("position", &self.position).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use redb::backends::InMemoryBackend;

    use super::*;
    use crate::store::{frame::FrameBuilder, table::Table};

    const BOUND: u64 = 20_000;

    /// A disk that outlives its journal.
    #[derive(Debug, Clone, Default)]
    struct Disk(std::sync::Arc<InMemoryBackend>);

    impl StorageBackend for Disk {
        fn len(&self) -> io::Result<u64> {
            self.0.len()
        }
        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            self.0.read(offset, out)
        }
        fn set_len(&self, len: u64) -> io::Result<()> {
            self.0.set_len(len)
        }
        fn sync_data(&self) -> io::Result<()> {
            self.0.sync_data()
        }
        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            self.0.write(offset, data)
        }
    }

    fn frame(seq: u64, bytes: usize) -> Vec<u8> {
        let mut frame = FrameBuilder::default();
        frame.begin(1, Position { epoch: 1, seq }, 0);
        frame.put(Table::State, &seq.to_be_bytes(), &vec![7; bytes]);
        frame.bytes().to_vec()
    }

    fn first() -> (Position, Chain) {
        (Position { epoch: 1, seq: 0 }, Chain::default())
    }

    fn held(journal: &Journal) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        let mut next = 0;
        while let Some((seq, frame)) = journal.frame_from(next).unwrap() {
            frames.push(frame);
            next = seq + 1;
        }
        frames
    }

    #[derive(Debug, Clone)]
    enum Step {
        Append(usize),
        /// The last frame, if no table has it, goes, and another takes its place.
        Replace(usize),
        Checkpoint,
        Reopen,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            12 => (1_usize..2_000).prop_map(Step::Append),
            1 => (10_000_usize..60_000).prop_map(Step::Append),
            2 => (1_usize..3_000).prop_map(Step::Replace),
            3 => Just(Step::Checkpoint),
            1 => Just(Step::Reopen),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn frames_go_round_and_none_that_is_needed_is_lost(
            steps in prop::collection::vec(step(), 1..120),
        ) {
            let disk = Disk::default();
            let mut journal = Journal::create(Box::new(disk.clone()), first(), BOUND).unwrap();
            let mut frames: Vec<Vec<u8>> = Vec::new();
            // What the tables have: their head, and where the journal begins.
            let (mut head, mut tail) = (first(), TailRow::first());
            for step in steps {
                match step {
                    Step::Append(bytes) => {
                        let seq = frames.len() as u64 + 1;
                        let frame = frame(seq, bytes);
                        journal.append(Position { epoch: 1, seq }, &frame).unwrap();
                        frames.push(frame);
                    }
                    Step::Replace(bytes) if frames.len() as u64 > head.0.seq => {
                        frames.pop();
                        let seq = frames.len() as u64 + 1;
                        journal.cut_last(Position { epoch: 1, seq: seq - 1 });
                        journal.prove().unwrap();
                        let frame = frame(seq, bytes);
                        journal.append(Position { epoch: 1, seq }, &frame).unwrap();
                        frames.push(frame);
                    }
                    Step::Replace(_) => journal.prove().unwrap(),
                    Step::Checkpoint => {
                        (head, tail) = (journal.head(), journal.tail(u64::MAX));
                        journal.forget_before(tail);
                        let largest = frames.iter().map(Vec::len).max().unwrap_or(0) as u64;
                        prop_assert!(journal.frame_bytes() <= BOUND + largest);
                    }
                    Step::Reopen => {
                        journal =
                            Journal::open(Box::new(disk.clone()), tail, head, BOUND).unwrap();
                    }
                }
                let held = held(&journal);
                prop_assert_eq!(&held[..], &frames[frames.len() - held.len()..]);
                let needed = frames.len() as u64 - head.0.seq;
                prop_assert!(held.len() as u64 >= needed, "{} of {needed}", held.len());
                prop_assert_eq!(journal.head().0.seq, frames.len() as u64);
                prop_assert!(journal.is_of_ours());
            }
        }
    }

    /// Thousands of small frames: the file stays near its bound.
    #[test]
    fn the_file_has_a_bound() {
        let disk = Disk::default();
        let mut journal = Journal::create(Box::new(disk.clone()), first(), BOUND).unwrap();
        for seq in 1..5_000 {
            journal.append(Position { epoch: 1, seq }, &frame(seq, 300)).unwrap();
            if seq % 10 == 0 {
                let tail = journal.tail(journal.position.seq);
                journal.forget_before(tail);
            }
        }
        assert!(disk.len().unwrap() <= 3 * BOUND, "{}", disk.len().unwrap());
    }

    #[test]
    fn a_journal_that_does_not_come_to_the_tables_is_refused() {
        let disk = Disk::default();
        let mut journal = Journal::create(Box::new(disk.clone()), first(), BOUND).unwrap();
        for seq in 1..4 {
            journal.append(Position { epoch: 1, seq }, &frame(seq, 100)).unwrap();
        }
        let (tail, head) = (TailRow::first(), journal.head());
        let open = |disk: &Disk, head| {
            Journal::open(Box::new(disk.clone()), tail, head, BOUND).map_err(|e| e.to_string())
        };
        assert!(open(&disk, head).is_ok());
        let other = open(&disk, (head.0, Chain([1; 32]))).unwrap_err();
        assert_eq!(other, "its frame 3 is not the one that the tables have");
        disk.write(HEADER_BYTES + 3, b"x").unwrap();
        let short = open(&disk, head).unwrap_err();
        assert_eq!(short, "it ends at frame 0, and the tables have frame 3");
        // What comes after the tables' head may end anywhere: it was not acknowledged, or its sync lied.
        assert_eq!(open(&disk, first()).unwrap().head(), first());
    }

    /// Found by a fuzzer: such a journal was opened, and what was in its gap was never missed.
    #[test]
    fn a_journal_with_a_gap_in_it_is_refused() {
        let disk = Disk::default();
        let mut journal = Journal::create(Box::new(disk.clone()), first(), BOUND).unwrap();
        for seq in [1, 2, 4] {
            journal.append(Position { epoch: 1, seq }, &frame(seq, 100)).unwrap();
        }
        let opened = Journal::open(Box::new(disk), TailRow::first(), first(), BOUND);
        assert_eq!(opened.unwrap_err().to_string(), "frame 4 is where frame 3 should be");
    }

    /// Found by a fuzzer: the first record lay elsewhere because there was no room for it where reading begins, and later
    /// ones were written over the jump that leads to it.
    #[test]
    fn the_way_to_the_first_record_stays() {
        let disk = Disk::default();
        let mut journal = Journal::create(Box::new(disk.clone()), first(), BOUND).unwrap();
        let append = |journal: &mut Journal, seq: u64, bytes: usize| {
            journal.append(Position { epoch: 1, seq }, &frame(seq, bytes)).unwrap();
        };
        // The last frame of all, near the file's end, is where reading begins.
        append(&mut journal, 1, 19_000);
        append(&mut journal, 2, 100);
        let tail = TailRow {
            before_seq: 1,
            before_chain: journal.records[&2].before,
            at: journal.records[&2].at,
        };
        let head = (Position { epoch: 1, seq: 1 }, tail.before_chain);
        journal.forget_before(tail);
        // Another, longer one takes its place: at the file's beginning.
        journal.cut_last(head.0);
        append(&mut journal, 2, 2_000);
        assert_eq!(journal.records[&2].at, 0);
        for seq in 3..30 {
            append(&mut journal, seq, 2_000);
            let again = Journal::open(Box::new(disk.clone()), tail, head, BOUND).unwrap();
            assert_eq!(again.head(), journal.head(), "the journal is not there after frame {seq}");
        }
    }
}
