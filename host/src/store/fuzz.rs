//! What a fuzzer runs on bytes that are stored: frames, the journal, rows and their keys, rows on their way in.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    io,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use redb::{Database, ReadableDatabase, ReadableTable, StorageBackend};

use super::{
    Config,
    archive::Archive,
    content::Content,
    frame::{Frame, FrameBuilder, FrameError, Op, VERSIONS},
    journal::Journal,
    open, pieces,
    recover::Apart,
    row::{
        Row,
        breaker::BreakerRow,
        dead_letter::DeadLetterRow,
        dedupe::{self, DedupeExpiryRow, DedupeRow},
        delivery::{DeliveryRow, delivery_key, read_delivery_key},
        epoch::EpochRow,
        head::{HEAD_KEY, HeadRow, IdentityRow, TAIL_KEY, TailRow},
        life::LifeRow,
        message::{MessageHead, MessageRow},
        outbox::{OutboxKey, OutboxRow},
        ready::{ReadyRow, read_ready_key, ready_key},
        schedule::ScheduleRow,
        segment::{SegmentKey, SegmentRow, SweepRow},
        setting::{SettingRow, read_setting_key, setting_key},
        solution::{NextSolutionRow, SolutionRow},
        state::{read_state_key, state_key},
        timer::{TimerRow, read_timer_key, timer_key},
    },
    segment::Entry,
    staging::{Installing, Staging},
    table::{self, NODE, PIECES, Table},
};
use crate::model::{
    fuzz::Input,
    position::{Chain, Position},
};

const CACHE_BYTES: usize = 1 << 20;

/// A frame that is read is written again as the same operations.
pub fn frame(mut input: Input<'_>) {
    let bytes = input.rest();
    let Ok(frame) = Frame::decode(bytes) else { return };
    let ops: Result<Vec<Op<'_>>, FrameError> = frame.ops().collect();
    let Ok(ops) = ops else { return };
    let mut builder = FrameBuilder::default();
    builder.begin(frame.version, frame.position, frame.time_ms);
    for op in &ops {
        match op {
            Op::Put { table, key, value } => builder.put(*table, key, value),
            Op::Delete { table, key } => builder.delete(*table, key),
        }
    }
    assert!(builder.len() <= bytes.len(), "it is written as short as can be");
    let again = Frame::decode(builder.bytes()).expect("what was read can be written");
    assert_eq!(
        (again.version, again.position, again.time_ms),
        (frame.version, frame.position, frame.time_ms)
    );
    assert_eq!(again.ops().collect::<Result<Vec<_>, _>>().expect("it was written"), ops);
}

/// A value of each kind, by number: if it is read, it is written again as the same row.
pub fn row(mut input: Input<'_>) {
    let kind = input.byte();
    let value = input.rest();
    match kind {
        0 => same::<BreakerRow>(value),
        1 => same::<DeadLetterRow>(value),
        2 => same::<DedupeRow>(value),
        3 => same::<DedupeExpiryRow>(value),
        4 => same::<DeliveryRow>(value),
        5 => same::<EpochRow>(value),
        6 => same::<HeadRow>(value),
        7 => same::<TailRow>(value),
        8 => same::<IdentityRow>(value),
        9 => same::<LifeRow>(value),
        10 => message(value),
        11 => same::<OutboxRow>(value),
        12 => same::<ReadyRow>(value),
        13 => same::<ScheduleRow>(value),
        14 => same::<SegmentRow>(value),
        15 => same::<SweepRow>(value),
        16 => same::<SettingRow>(value),
        17 => same::<SolutionRow>(value),
        18 => same::<NextSolutionRow>(value),
        19 => same::<TimerRow>(value),
        20 => entry(value),
        21 => apart(value),
        _ => key(kind, value),
    }
}

fn same<R: Row + PartialEq + Debug>(value: &[u8]) {
    let Ok(row) = R::decode(value) else { return };
    let written = row.encode();
    assert!(written.len() <= value.len(), "bytes of a {} row were not read", R::KIND);
    assert_eq!(R::decode(&written).as_ref(), Ok(&row));
    assert_eq!(row.encode(), written, "a {} row is written in one way", R::KIND);
    let with_more = [value, &[0]].concat();
    assert!(R::decode(&with_more).is_err(), "a {} row with something behind it was read", R::KIND);
}

fn message(value: &[u8]) {
    same::<MessageRow>(value);
    if let Ok(row) = MessageRow::decode(value) {
        let head = MessageHead::decode(value).expect("a message begins with its head");
        assert_eq!((head.solution, head.solution_no), (row.solution, row.solution_no));
    }
}

fn entry(value: &[u8]) {
    let Ok(entry) = postcard::from_bytes::<Entry>(value) else { return };
    if let Ok(record) = entry.record() {
        assert_eq!(record.deliveries.len(), entry.deliveries.len());
    }
}

fn apart(value: &[u8]) {
    let Ok(apart) = Apart::unpack(value) else { return };
    let packed = apart.pack().expect("what was read can be written");
    assert_eq!(Apart::unpack(&packed).expect("it was written"), apart);
}

/// What a key says makes the same key again.
fn key(kind: u8, key: &[u8]) {
    let again = match kind {
        22 => read_ready_key(key).map(|(no, ordinal)| ready_key(no, ordinal).to_vec()),
        23 => read_timer_key(key).map(|(due, id)| timer_key(due, id).to_vec()),
        24 => read_delivery_key(key).map(|(id, index)| delivery_key(id, index).to_vec()),
        25 => OutboxKey::from_bytes(key).map(|key| key.to_bytes().to_vec()),
        26 => SegmentKey::from_bytes(key).map(|key| key.to_bytes().to_vec()),
        27 => read_setting_key(key).map(|(scope, name)| setting_key(&scope, &name)),
        28 => read_state_key(key).map(|(no, name)| state_key(no, name)),
        29 => {
            dedupe::read_dedupe_expiry_key(key).map(|(ms, key)| dedupe::dedupe_expiry_key(ms, key))
        }
        _ => dedupe::read_dedupe_key(key).map(|_| key.to_vec()),
    };
    assert!(
        again.is_none_or(|again| again == key),
        "the key of kind {kind} is written differently"
    );
}

/// A disk in memory that outlives who opens it.
#[derive(Debug, Clone, Default)]
struct Disk(Arc<Mutex<Vec<u8>>>);

impl Disk {
    fn with<T>(&self, then: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        then(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// So large a file makes no journal of these inputs: the one that wants it has lost count.
const DISK_MAX: usize = 64 << 20;

fn at(offset: u64, length: usize) -> std::ops::Range<usize> {
    let offset = usize::try_from(offset).unwrap_or(usize::MAX);
    offset..offset.saturating_add(length)
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.with(|bytes| bytes.len() as u64))
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let range = at(offset, out.len());
        self.with(|bytes| {
            let there = bytes.get(range).ok_or(io::ErrorKind::UnexpectedEof)?;
            out.copy_from_slice(there);
            Ok(())
        })
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = at(len, 0).start;
        assert!(len <= DISK_MAX, "the journal grew to {len} bytes");
        self.with(|bytes| bytes.resize(len, 0));
        Ok(())
    }
    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let range = at(offset, data.len());
        assert!(range.end <= DISK_MAX, "the journal is written at {offset}");
        self.with(|bytes| {
            bytes.resize(bytes.len().max(range.end), 0);
            bytes[range].copy_from_slice(data);
        });
        Ok(())
    }
}

/// A journal's file, and what the tables say of it.
struct Image {
    bytes: Vec<u8>,
    tail: TailRow,
    head: (Position, Chain),
}

/// The file as it lies there, or made of records that continue each other, and then damaged.
fn image(input: &mut Input<'_>) -> Image {
    let mut head = (Position { epoch: 1, seq: 0 }, Chain::default());
    let how = input.byte();
    let tail =
        TailRow { at: if how & 1 == 0 { 0 } else { input.short().into() }, ..TailRow::first() };
    if how & 2 == 0 {
        return Image { bytes: input.rest().to_vec(), tail, head };
    }
    let mut bytes = vec![0; usize::from(input.short())];
    let (mut seq, mut chain, mut end) = (0_u64, Chain::default(), at(tail.at, 0).start);
    let write = |bytes: &mut Vec<u8>, at: usize, what: &[u8]| {
        let at = at.min(1 << 17);
        bytes.resize(bytes.len().max(at + what.len()), 0);
        bytes[at..at + what.len()].copy_from_slice(what);
    };
    for _ in 0..input.byte() % 12 {
        match input.byte() % 8 {
            0 => {
                let to = u64::from(input.short());
                write(&mut bytes, end, &[&u32::MAX.to_be_bytes()[..], &to.to_be_bytes()].concat());
                end = at(to, 0).start;
            }
            1 => {
                let (place, what) = (input.short(), input.few());
                write(&mut bytes, place.into(), what);
            }
            2 => {
                let to = u64::from(input.short());
                write(
                    &mut bytes,
                    end,
                    &[&u32::MAX.to_be_bytes()[..], &(u64::MAX - to).to_be_bytes()].concat(),
                );
            }
            kind => {
                seq = if kind == 3 { input.long() } else { seq.wrapping_add(1) };
                let frame = frame_of(input, seq, kind);
                chain = chain.next(&frame);
                let length = u32::try_from(frame.len()).expect("it is short");
                write(&mut bytes, end, &[&length.to_be_bytes()[..], &chain.0, &frame].concat());
                end += 36 + frame.len();
                if input.byte().is_multiple_of(4) {
                    head = (Position { epoch: 1, seq }, chain);
                }
            }
        }
    }
    bytes.resize(bytes.len() + usize::from(input.byte()), 0);
    Image { bytes, tail, head }
}

/// The frame with that number: of operations on made-up rows, or of any bytes.
fn frame_of(input: &mut Input<'_>, seq: u64, kind: u8) -> Vec<u8> {
    if kind == 4 {
        return input.few().to_vec();
    }
    let mut frame = FrameBuilder::default();
    frame.begin(VERSIONS.0, Position { epoch: 1, seq }, 0);
    for _ in 0..input.byte() % 6 {
        let table = Table::ALL[usize::from(input.byte()) % Table::ALL.len()];
        match input.byte() % 4 {
            0 => frame.delete(table, input.few()),
            1 => frame.put(table, input.few(), &vec![input.byte(); usize::from(input.short()) * 3]),
            _ => frame.put(table, input.few(), input.some()),
        }
    }
    frame.bytes().to_vec()
}

/// Any bytes are an error or a journal; a journal goes on, and is there again when it is opened again.
pub fn journal(mut input: Input<'_>) {
    let recovers = input.byte() & 1 == 1;
    let bound = u64::from(input.short());
    let Image { bytes, tail, head } = image(&mut input);
    let disk = Disk(Arc::new(Mutex::new(bytes)));
    if recovers {
        return recover(&disk, tail, head, bound);
    }
    let Ok(mut journal) = Journal::open(Box::new(disk.clone()), tail, head, bound) else { return };
    let frames = frames_of(&journal);
    assert_eq!(
        frames.iter().map(|(_, frame)| frame.len() as u64).sum::<u64>(),
        journal.frame_bytes()
    );
    let seqs: Vec<u64> = frames.iter().map(|(seq, _)| *seq).collect();
    assert!(seqs.windows(2).all(|two| two[0] + 1 == two[1]), "a frame is missing: {seqs:?}");
    let (last, chain) = journal.head();
    assert!(last.seq >= head.0.seq, "what the tables have is not there");
    if !journal.is_of_ours() {
        return;
    }
    let new = Position { epoch: last.epoch, seq: last.seq + 1 };
    let mut frame = FrameBuilder::default();
    frame.begin(VERSIONS.0, new, 0);
    frame.put(Table::State, b"key", &vec![1; usize::from(input.short())]);
    let after = journal.append(new, frame.bytes()).expect("the disk has room");
    journal.sync().expect("the disk works");
    assert_eq!(after, chain.next(frame.bytes()));
    let again =
        Journal::open(Box::new(disk.clone()), tail, head, bound).expect("it was opened before");
    assert_eq!(again.head(), (new, after), "what was added is not there");
    assert_eq!(frames_of(&again).len(), frames.len() + 1);
    // A checkpoint: older frames go, the new ones stay.
    let tail = journal.tail(new.seq);
    journal.forget_before(tail);
    let kept = frames_of(&journal);
    let again =
        Journal::open(Box::new(disk), tail, (new, after), bound).expect("it was checkpointed");
    assert_eq!(frames_of(&again), kept);
    journal.cut_last(last);
    assert_eq!(journal.head().0, last);
}

fn frames_of(journal: &Journal) -> Vec<(u64, Vec<u8>)> {
    let mut frames = Vec::new();
    let mut next = 0;
    while let Some((seq, frame)) = journal.frame_from(next).expect("it was read before") {
        frames.push((seq, frame));
        let Some(after) = seq.checked_add(1) else { break };
        next = after;
    }
    frames
}

/// The tables take what the journal has and they have not, once and for all, or say why not.
fn recover(disk: &Disk, tail: TailRow, (position, chain): (Position, Chain), bound: u64) {
    // What the tables had before is not here: it begins with nothing.
    if position.seq > 0 {
        return;
    }
    let db = database();
    let head = HeadRow { position, chain, content: Content::default() };
    node(&db, &[(HEAD_KEY, &head.encode()), (TAIL_KEY, &tail.encode())]);
    let config = config(bound);
    let Ok((journal, _)) = open::open_journal(&db, Box::new(disk.clone()), &config) else { return };
    let (end, _) = journal.head();
    let (head, _) = open::read_node(&db).expect("it was written");
    assert_eq!(head.position.seq, end.seq, "not all was applied");
    assert_eq!(head.content, content_of(&db), "the content hash is not that of the rows");
    let (again, _) =
        open::open_journal(&db, Box::new(disk.clone()), &config).expect("it was opened before");
    assert_eq!(again.head(), journal.head());
    // What rows say is not known to be right; reading them is an error or it is not.
    let archive = Arc::new(Archive::new(config.dir));
    drop(open::read_memory(&db, &archive));
    read_all(&db);
}

fn config(journal_bytes: u64) -> Config {
    Config {
        dir: "/nowhere".into(),
        cache_bytes: CACHE_BYTES,
        reserve_bytes: 0,
        journal_bytes,
        kept_bytes: 0,
        checkpoint_bytes: 1 << 20,
        paired: false,
    }
}

/// An empty store's tables. They are made once and copied: making them takes longer than most of what is done with them.
fn database() -> Database {
    thread_local! {
        static EMPTY: Vec<u8> = {
            let disk = Disk::default();
            let db = open_tables(disk.clone());
            open::create(&db).expect("memory can be written");
            drop(db);
            disk.with(std::mem::take)
        };
    }
    open_tables(EMPTY.with(|empty| Disk(Arc::new(Mutex::new(empty.clone())))))
}

fn open_tables(disk: Disk) -> Database {
    let opened = Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(disk);
    opened.expect("memory can be written")
}

fn node(db: &Database, rows: &[(&[u8], &[u8])]) {
    let txn = db.begin_write().expect("memory can be written");
    for (key, value) in rows {
        txn.open_table(NODE)
            .expect("it was made")
            .insert(*key, *value)
            .expect("memory can be written");
    }
    txn.commit().expect("memory can be written");
}

fn read_all(db: &Database) {
    let txn = db.begin_read().expect("memory can be read");
    let parts = txn.open_table(PIECES).expect("it was made");
    for table in Table::ALL {
        for row in
            txn.open_table(table.definition()).expect("it was made").iter().expect("it is there")
        {
            let (key, value) = row.expect("it is there");
            // A stub without its pieces is an error.
            drop(pieces::join(&parts, table, key.value(), value.value()));
        }
    }
}

/// Counted anew, over all rows.
fn content_of(db: &Database) -> Content {
    let txn = db.begin_read().expect("memory can be read");
    let mut content = Content::default();
    for (number, definition) in table::all() {
        for row in txn.open_table(definition).expect("it was made").iter().expect("it is there") {
            let (key, value) = row.expect("it is there");
            content.add(Content::of(number, key.value(), value.value()));
        }
    }
    content
}

/// Parts of another node's rows, as they may come: in any order, and broken off.
pub fn staging(mut input: Input<'_>) {
    let db = database();
    let mut own = BTreeMap::new();
    for _ in 0..input.byte() % 8 {
        own.insert(input.few().to_vec(), input.few().to_vec());
    }
    let txn = db.begin_write().expect("memory can be written");
    for (key, value) in &own {
        let mut table = txn.open_table(Table::State.definition()).expect("it was made");
        table.insert(key.as_slice(), value.as_slice()).expect("memory can be written");
    }
    txn.commit().expect("memory can be written");
    while !input.is_empty() {
        let mut staging = Staging::open(&db, true, &|| ()).expect("memory can be read");
        let spans = staging.spans();
        let txn = db.begin_write().expect("memory can be written");
        Staging::make(&txn).expect("memory can be written");
        for _ in 0..=input.byte() % 6 {
            let part = part(&mut input, &spans);
            if staging.take(&txn, &part).expect("memory can be written").is_err() {
                break;
            }
        }
        txn.commit().expect("memory can be written");
        let counted = Staging::open(&db, false, &|| ()).expect("memory can be read").content();
        assert_eq!(staging.content(), counted, "the content hash is not that of the rows");
    }
}

fn part(input: &mut Input<'_>, spans: &[super::staging::Span]) -> Installing {
    let table = [Table::State as u8, Table::Messages as u8, 0, 77][usize::from(input.byte() % 4)];
    match input.byte() % 4 {
        0 if !spans.is_empty() => {
            let span = &spans[usize::from(input.byte()) % spans.len()];
            Installing::Same { table: span.table, upto: span.last.clone() }
        }
        0 | 1 => Installing::Same { table, upto: Bytes::copy_from_slice(input.few()) },
        more => {
            let mut rows: Vec<(Bytes, Bytes)> = Vec::new();
            for _ in 0..input.byte() % 5 {
                rows.push((
                    Bytes::copy_from_slice(input.few()),
                    Bytes::copy_from_slice(input.few()),
                ));
            }
            if more == 2 {
                rows.sort();
                rows.dedup_by(|one, other| one.0 == other.0);
            }
            let upto = (input.byte() & 1 == 0).then(|| Bytes::copy_from_slice(input.few()));
            Installing::Rows { table, rows, upto }
        }
    }
}
