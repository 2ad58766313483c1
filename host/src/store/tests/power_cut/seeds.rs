//! Real bytes for a fuzzer to begin with: what a store writes while it works.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use super::{history::History, record};
use crate::{
    model::position::{Chain, Position},
    store::{
        frame::{Frame, FrameBuilder, Op},
        row::{
            Row as _,
            head::{HeadRow, IdentityRow, TailRow},
            segment::SegmentKey,
        },
        segment::{Entry, SegmentWriter},
        table::Table,
    },
};

/// Inputs are small: the fuzzer makes larger ones itself.
const INPUT_MAX: usize = 1_200;
/// Rows of a table.
const ROWS: usize = 3;

fn keep(target: &str, name: &str, parts: &[&[u8]]) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus");
    let folder: PathBuf = corpus.join(target);
    let input = parts.concat();
    if input.len() <= INPUT_MAX {
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), input).unwrap();
    }
}

/// The numbers that `store::fuzz::row` has for a table's values and keys.
fn kinds(table: Table, key: &[u8]) -> (Option<u8>, Option<u8>) {
    match table {
        Table::Solutions if key.is_empty() => (Some(18), None),
        Table::Solutions => (Some(17), None),
        Table::Blobs => (None, None),
        Table::Settings => (Some(16), Some(27)),
        Table::Messages => (Some(10), None),
        Table::Ready => (Some(12), Some(22)),
        Table::Timers => (Some(19), Some(23)),
        Table::Lives => (Some(9), None),
        Table::State => (None, Some(28)),
        Table::Outbox => (Some(11), Some(25)),
        Table::Deliveries => (Some(4), Some(24)),
        Table::DeadLetters => (Some(1), None),
        Table::Schedules => (Some(13), None),
        Table::Breakers => (Some(0), None),
        Table::Dedupe => (Some(2), Some(30)),
        Table::DedupeExpiry => (Some(3), Some(29)),
        Table::Segments => (Some(14), Some(26)),
        Table::Sweeps => (Some(15), None),
        Table::Epochs => (Some(5), None),
    }
}

#[test]
#[ignore = "it writes tests/fuzz/corpus: cargo test -p tandem --lib -- --ignored bytes_for_a_fuzzer"]
fn bytes_for_a_fuzzer() {
    let History { commits, segments, store_id, .. } = record(7, false).history;
    let frames: Vec<_> =
        commits.iter().map(|kept| &kept.frame[..]).filter(|f| !f.is_empty()).collect();
    rows(&frames);
    let head = HeadRow {
        position: Position { epoch: 1, seq: 300 },
        chain: Chain([7; 32]),
        ..HeadRow::decode(&[&[1, 1, 2][..], &[3; 32], &[0]].concat()).unwrap()
    };
    keep("rows", "head", &[&[0, 6], &head.encode()]);
    keep("rows", "tail", &[&[0, 7], &TailRow::after(&head).encode()]);
    keep("rows", "identity", &[&[0, 8], &IdentityRow { store_id }.encode()]);
    let small: Vec<_> = frames.iter().filter(|frame| frame.len() < 500).take(12).collect();
    for (at, frame) in small.iter().enumerate() {
        keep("frames", &format!("frame-{at}"), &[&[1], frame]);
        let position = [
            &1_u64.to_be_bytes()[..],
            &7_u64.to_be_bytes(),
            &[u8::try_from(at).unwrap(); 32],
            &[0],
        ]
        .concat();
        keep("frames", &format!("sent-{at}"), &[&[2, 2], &position, frame]);
        let packed = lz4_flex::compress_prepend_size(frame);
        keep("frames", &format!("packed-{at}"), &[&[2, 2], &position[..48], &[1], &packed]);
    }
    for count in 1..8 {
        let file = file(&small[..count]);
        for recovers in [0, 1] {
            keep(
                "journal",
                &format!("records-{count}-{recovers}"),
                &[&[0, recovers, 0x4e, 0x20, 0], &file, &[0; 40]],
            );
        }
    }
    archive(&segments.into_iter().map(|(key, entries)| (key, entries.to_vec())).collect());
}

fn rows(frames: &[&[u8]]) {
    let mut kept = BTreeMap::<u8, usize>::new();
    let puts =
        frames.iter().flat_map(|frame| Frame::decode(frame).unwrap().ops().map(Result::unwrap));
    for op in puts {
        let Op::Put { table, key, value } = op else { continue };
        let (of_value, of_key) = kinds(table, key);
        for (kind, bytes) in [(of_value, value), (of_key, key)] {
            let Some(kind) = kind.filter(|_| bytes.len() < INPUT_MAX) else { continue };
            let number = kept.entry(kind).or_default();
            *number += 1;
            if *number <= ROWS {
                keep("rows", &format!("row-{kind}-{number}"), &[&[0, kind], bytes]);
            }
        }
    }
}

/// These frames' rows, as a journal that begins with them.
fn file(frames: &[&&[u8]]) -> Vec<u8> {
    let (mut file, mut chain) = (Vec::new(), Chain::default());
    for (at, frame) in frames.iter().enumerate() {
        let mut builder = FrameBuilder::default();
        builder.begin(1, Position { epoch: 1, seq: at as u64 + 1 }, 0);
        for op in Frame::decode(frame).unwrap().ops().map(Result::unwrap) {
            match op {
                Op::Put { table, key, value } => builder.put(table, key, value),
                Op::Delete { table, key } => builder.delete(table, key),
            }
        }
        chain = chain.next(builder.bytes());
        file.extend(u32::try_from(builder.len()).unwrap().to_be_bytes());
        file.extend(chain.0);
        file.extend(builder.bytes());
    }
    file
}

fn archive(segments: &BTreeMap<SegmentKey, Vec<Entry>>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.seg");
    for (at, (key, entries)) in segments.iter().take(4).enumerate() {
        let mut writer = SegmentWriter::create(&path).unwrap();
        let small = |entry: &&Entry| entry.message.len() + entry.life.len() < 300;
        for entry in entries.iter().filter(small).take(3) {
            writer.add(entry, Some("k")).unwrap();
            keep("rows", &format!("entry-{at}"), &[&[0, 20], &postcard::to_stdvec(entry).unwrap()]);
        }
        writer.seal().unwrap();
        let file = fs::read(&path).unwrap();
        keep("rows", &format!("segment-{at}"), &[&[1, 0], &file]);
        keep("frames", &format!("segment-{at}"), &[&[2, 5], &key.to_bytes(), &file]);
    }
}
