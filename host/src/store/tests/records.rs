//! A list of messages is the same whether they are live, in segments, or in both.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;

use super::{attempt, config, name};
use crate::{
    model::{clock::Clock, message::MessageId, position::Position},
    store::{
        Change, Store,
        change::{ChangeError, archive::Seal},
        records::Wanted,
        row::{
            Row,
            life::{LifeRow, StatusRow},
            message::MessageRow,
            segment::{SegmentKey, SegmentRow},
        },
        segment::{Entry, Record, SegmentWriter},
        sequencer::Sequencer,
        table::Table,
    },
};

const SEGMENTS: u8 = 3;
const KEYS: u8 = 3;

/// A message that is somewhere.
#[derive(Debug, Clone)]
struct Placed {
    id: u8,
    /// The solution: `a` is 1, `b` is 2; 0 are those for nobody, whatever the name.
    no: u32,
    name: &'static str,
    key: Option<u8>,
    bytes: usize,
    live: bool,
    /// Which of the solution's segments it is in, one bit for each.
    segments: u8,
}

fn placed() -> impl Strategy<Value = Placed> {
    let solution = prop_oneof![Just((1, "a")), Just((2, "b")), Just((0, "a")), Just((0, "x"))];
    let bytes = prop_oneof![4 => Just(10_usize), 1 => Just(40_000_usize), 1 => Just(90_000_usize)];
    let key = prop::option::of(0..KEYS);
    (any::<u8>(), solution, key, bytes, any::<bool>(), 0_u8..(1 << SEGMENTS)).prop_map(
        |(id, (no, name), key, bytes, live, segments)| {
            // Somewhere it is.
            let live = live || segments == 0;
            Placed { id, no, name, key, bytes, live, segments }
        },
    )
}

fn id(number: u8) -> MessageId {
    let mut id = [3; 16];
    id[7] = number;
    MessageId(id)
}

fn key(number: u8) -> String {
    format!("key-{number}")
}

impl Placed {
    fn record(&self) -> Record {
        let message = MessageRow {
            solution: name(self.name),
            solution_no: self.no,
            source: name("in"),
            time_ms: 1,
            position: Position { epoch: 1, seq: 1 },
            parent: None,
            due_ms: None,
            headers: Vec::new(),
            content_type: None,
            key: self.key.map(key),
            body: vec![self.id; self.bytes].into(),
        };
        let life = Some(LifeRow { status: StatusRow::Done, attempts: vec![attempt()] });
        Record { id: id(self.id), message, life, deliveries: Vec::new() }
    }

    fn entry(&self) -> Entry {
        let Record { id, message, life, .. } = self.record();
        let (message, life) = (message.encode(), life.unwrap().encode());
        Entry { id: id.0, message: message.into(), life: life.into(), deliveries: Vec::new() }
    }
}

/// Messages that nobody accepted.
struct Put(Vec<Entry>);

impl Change for Put {
    type Answer = ();

    fn sequence(self, seq: &mut Sequencer<'_, '_>) -> Result<(), ChangeError> {
        for Entry { id, message, life, .. } in self.0 {
            seq.put_bytes(Table::Messages, &id, &message);
            seq.put_bytes(Table::Lives, &id, &life);
        }
        Ok(())
    }
}

/// A store with these messages, each where it belongs.
async fn store(dir: &std::path::Path, placed: &BTreeMap<u8, Placed>) -> Store {
    let disk = redb::backends::InMemoryBackend::new();
    let journal = Box::new(redb::backends::InMemoryBackend::new());
    let store = Store::open_on(disk, journal, &config(dir), Clock::manual(1)).unwrap();
    let live = placed.values().filter(|placed| placed.live).map(Placed::entry).collect();
    store.submit(Put(live)).await.unwrap();
    for (no, segment) in (0..3).flat_map(|no| (0..SEGMENTS).map(move |segment| (no, segment))) {
        let within = |placed: &&Placed| placed.no == no && placed.segments & (1 << segment) != 0;
        let entries: Vec<_> = placed.values().filter(within).collect();
        let Some(first) = entries.first() else { continue };
        let key = SegmentKey { solution_no: no, first: id(first.id) };
        let mut writer = SegmentWriter::create(&store.archive().place(key).unwrap()).unwrap();
        for placed in &entries {
            writer.add(&placed.entry(), placed.key.map(self::key).as_deref()).unwrap();
        }
        let (sealed, ids) = (writer.seal().unwrap(), entries.iter().map(|p| id(p.id).0).collect());
        let segment = SegmentRow {
            solution: name(first.name),
            last: id(entries.last().unwrap().id).0,
            messages: u32::try_from(entries.len()).unwrap(),
            bytes: sealed.bytes,
            content: sealed.content,
        };
        store.submit(Seal { key, segment, ids }).await.unwrap();
    }
    store
}

/// No two segments of a solution begin with the same message: they would be the same segment.
fn made_possible(placed: Vec<Placed>) -> BTreeMap<u8, Placed> {
    let mut begun = BTreeMap::<(u32, u8), bool>::new();
    let mut by_id: BTreeMap<_, _> = placed.into_iter().map(|placed| (placed.id, placed)).collect();
    for placed in by_id.values_mut() {
        let mut begins = false;
        for segment in 0..SEGMENTS {
            let begun = begun.entry((placed.no, segment)).or_default();
            if placed.segments & (1 << segment) == 0 || *begun {
                continue;
            }
            if std::mem::replace(&mut begins, true) {
                placed.segments &= !(1 << segment);
            } else {
                *begun = true;
            }
        }
    }
    by_id
}

#[test]
fn a_stub_of_the_model_is_itself_a_message() {
    let placed = Placed { id: 1, no: 1, name: "a", key: None, bytes: 10, live: true, segments: 1 };
    assert_eq!(placed.entry().record().unwrap(), placed.record());
    assert_eq!(placed.record().message.body, Bytes::from_static(&[1; 10]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn where_messages_are_makes_no_difference(placed in prop::collection::vec(placed(), 0..60)) {
        let placed = made_possible(placed);
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let store = runtime.block_on(store(dir.path(), &placed));
        let snapshot = store.read().unwrap();
        for number in 0..=u8::MAX {
            let found = snapshot.record(id(number)).unwrap();
            prop_assert_eq!(found, placed.get(&number).map(Placed::record));
        }
        let belows = placed.keys().step_by(9).flat_map(|id| [*id, id.saturating_add(1)]);
        for below in belows.map(Some).chain([None, Some(0)]) {
            for solution in [None, Some("a"), Some("b"), Some("x")] {
                for number in [None, Some(0), Some(1), Some(KEYS)] {
                    let text = number.map(key);
                    let below = below.map(id);
                    let wanted = Wanted { solution, key: text.as_deref(), unfinished: false, below };
                    let listed: Result<Vec<_>, _> = snapshot.records(&wanted).unwrap().collect();
                    let mut listed = listed.unwrap();
                    prop_assert!(listed.is_sorted_by(|a, b| a.id > b.id));
                    prop_assert!(listed.iter().all(|r| below.is_none_or(|below| r.id < below)));
                    listed.retain(|record| {
                        solution.is_none_or(|name| record.message.solution.as_str() == name)
                            && text.as_ref().is_none_or(|key| record.message.key.as_ref() == Some(key))
                    });
                    let expected = placed.values().rev().filter(|placed| {
                        solution.is_none_or(|name| placed.name == name)
                            && number.is_none_or(|number| placed.key == Some(number))
                            && below.is_none_or(|below| id(placed.id) < below)
                    });
                    prop_assert_eq!(listed, expected.map(Placed::record).collect::<Vec<_>>());
                }
            }
        }
        let unfinished = Wanted { unfinished: true, ..Wanted::default() };
        let live: Vec<_> = snapshot.records(&unfinished).unwrap().map(|r| r.unwrap().id).collect();
        let expected = placed.values().rev().filter(|placed| placed.live).map(|p| id(p.id));
        prop_assert_eq!(live, expected.collect::<Vec<_>>());
    }
}

/// A node whose archive has a hole is to follow the other all the same.
#[tokio::test]
async fn what_of_the_archive_cannot_be_read_is_left_out_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let (no, name, key, bytes) = (1, "a", None, 10);
    let placed = |id, segments| {
        let live = segments == 0;
        (id, Placed { id, no, name, key, bytes, live, segments })
    };
    let store = store(dir.path(), &[placed(1, 1), placed(2, 2), placed(3, 0)].into()).await;
    let gone = SegmentKey { solution_no: no, first: id(1) };
    std::fs::remove_file(store.archive().place(gone).unwrap()).unwrap();
    let accepted = store.accepted_after(0, &Wanted::default()).unwrap();
    let ids: Vec<_> = accepted.apart.messages.iter().map(|recovered| recovered.id).collect();
    assert_eq!((ids, accepted.unreadable), (vec![id(2), id(3)], 1));
}
