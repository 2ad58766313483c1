//! What a fuzzer runs on files of the archive.

use std::{cell::RefCell, fs, path::Path};

use super::{Block, Entry, Index, MAGIC, Part, Segment, check, key_hash};
use crate::model::{fuzz::Input, message::MessageId};

/// Any file is an error or a segment; a segment gives its entries or says what is damaged, and does not change its mind.
pub fn file(mut input: Input<'_>) {
    let bytes = if input.byte() & 1 == 0 { input.rest().to_vec() } else { made(&mut input) };
    // One file for all inputs of a thread.
    thread_local! {
        static FOLDER: RefCell<Option<tempfile::TempDir>> = const { RefCell::new(None) };
    }
    FOLDER.with_borrow_mut(|folder| {
        let folder = folder.get_or_insert_with(|| {
            let shared_memory = Path::new("/dev/shm");
            let made = tempfile::tempdir_in(shared_memory).or_else(|_| tempfile::tempdir());
            made.expect("there is a folder for temporary files")
        });
        let path = folder.path().join("a.seg");
        fs::write(&path, &bytes).expect("a small file can be written");
        if let Ok(segment) = Segment::open(&path) {
            read(&segment);
        }
    });
}

fn read(segment: &Segment) {
    for number in 0..segment.blocks().min(16) {
        let Ok(entries) = segment.block(number) else { continue };
        for entry in &entries {
            drop(segment.decode(entry));
        }
        assert_eq!(segment.block(number).expect("it was read"), entries);
    }
    for id in [[0; 16], [7; 16], [255; 16]] {
        if let Ok(Some(entry)) = segment.get(MessageId(id)) {
            assert_eq!(entry.id, id);
        }
    }
    if let Ok(blocks) = segment.blocks_with_key("k") {
        for block in blocks {
            drop(segment.block(block));
        }
    }
}

/// A file whose checks are right and whose contents are made up.
fn made(input: &mut Input<'_>) -> Vec<u8> {
    let mut file = MAGIC.to_vec();
    let mut blocks = Vec::new();
    for _ in 0..input.byte() % 4 {
        let mut first = [input.byte(); 16];
        first[0] = input.byte();
        let part = part(&mut file, input);
        blocks.push(Block { first, part });
    }
    let index = if input.byte().is_multiple_of(4) {
        input.some().to_vec()
    } else {
        let keys = if input.byte() & 1 == 0 {
            part(&mut file, input)
        } else {
            // A key that is looked for, in whatever block.
            let keys = vec![(key_hash("k"), u32::from(input.short()))];
            add(&mut file, &postcard::to_stdvec(&keys).expect("it is plain data"))
        };
        postcard::to_stdvec(&Index { blocks, keys }).expect("it is plain data")
    };
    let offset = file.len() as u64;
    file.extend_from_slice(&index);
    file.extend_from_slice(&offset.to_be_bytes());
    file.extend_from_slice(&u32::try_from(index.len()).expect("it is short").to_be_bytes());
    file.extend_from_slice(blake3::hash(&index).as_bytes());
    file
}

/// Bytes that are packed as they should be, or as they come; where they lie, or where they are said to.
fn part(file: &mut Vec<u8>, input: &mut Input<'_>) -> Part {
    let how = input.byte();
    let bytes = match how % 4 {
        0 => lz4_flex::compress_prepend_size(input.some()),
        1 => {
            let entry = Entry {
                id: [input.byte(); 16],
                message: input.some().to_vec().into(),
                life: input.few().to_vec().into(),
                deliveries: vec![(0, input.few().to_vec().into())],
            };
            lz4_flex::compress_prepend_size(&postcard::to_stdvec(&entry).expect("it is plain data"))
        }
        _ => input.some().to_vec(),
    };
    let there = add(file, &bytes);
    if how & 0x80 == 0 {
        return there;
    }
    let bytes = u32::from(input.short()) << (how & 15);
    Part { offset: input.long(), bytes, ..there }
}

fn add(file: &mut Vec<u8>, bytes: &[u8]) -> Part {
    let offset = file.len() as u64;
    file.extend_from_slice(bytes);
    Part { offset, bytes: u32::try_from(bytes.len()).expect("it is short"), check: check(bytes) }
}
